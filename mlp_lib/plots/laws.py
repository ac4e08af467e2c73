"""Figures of the laws: a fit with its band, the joint law, frontier, isoFLOP minima, their bias, and a bias's worth."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.curves import Curve
from mlp_lib.stats.laws.grids import Frontier, Isoflop, cells_of, frontier, isoflop
from mlp_lib.stats.laws.joint import CONSTANTS, Joint, law_of
from mlp_lib.stats.laws.worth import Worth

WIDTH = 7.0  # inches
BLUE, RED, GREEN, GREY = "#4477AA", "#CC6677", "#228833", "#777777"
COLOURS = {"parabola": RED, "varpro": BLUE, "huber": GREEN, "frontier": "#CCBB44", "isoflop": RED}
SIZES = "viridis"


def _figure(columns: int = 1, rows: int = 1, height: float = 3.2):
    return plt.subplots(rows, columns, figsize=(WIDTH, height * rows), squeeze=False, constrained_layout=True)


def curve_figure(
    fits: Curve | list[Curve], x, error, label: str = "compute", held_out_from: float | None = None
) -> Figure:
    """Runs and fitted laws over x, both axes logarithmic; a band is the bootstrap interval of a law. x, error: (n,).

    held_out_from: the least x that a fit has not seen; a line marks it.
    """
    fits = fits if isinstance(fits, list) else [fits]
    figure, axes = _figure()
    axis = axes[0, 0]
    x, error = np.asarray(x, float), np.asarray(error, float)
    places = np.geomspace(x.min(), x.max(), 200)
    for fit, colour in zip(fits, [BLUE, RED, GREEN, "#AA3377"] * len(fits), strict=False):
        axis.plot(places, fit.predict(places), color=colour, label=fit.law.replace("_", " "))
        if len(next(iter(fit.draws.values()))):
            axis.fill_between(places, *fit.band(places), color=colour, alpha=0.2, lw=0)
    axis.scatter(x, error, s=14, color="black", zorder=3, label="runs")
    if held_out_from is not None:
        axis.axvline(held_out_from, color=GREY, ls=":", label="held out from here")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel=label,
        ylabel="error",
    )
    axis.set_title(f"Runs and fitted laws over {label}", fontsize="medium")
    axis.legend()
    return figure


def joint_figure(law: Joint, runs: pd.DataFrame) -> Figure:
    """Loss over examples, a colour a model size, with the law's curves; and log residuals over compute.

    runs: columns params, examples, loss, compute.
    """
    figure, axes = _figure(2)
    _losses(axes[0, 0], runs, [law.constants[name] for name in CONSTANTS])
    residual = np.log(runs["loss"] / law.predict(runs["params"], runs["examples"]))
    axes[0, 1].scatter(runs["compute"], residual, s=14, c=np.log(runs["params"]), cmap=SIZES)
    axes[0, 1].axhline(0, color=GREY, lw=1)
    axes[0, 1].set(
        xscale="log",
        xlabel="compute (operations)",
        ylabel="log(loss / law)",
    )
    axes[0, 1].set_title("What the law leaves", fontsize="medium")
    return figure


def _losses(axis, runs: pd.DataFrame, constants) -> None:
    sizes = np.sort(runs["params"].unique())
    shown = plt.get_cmap(SIZES)(np.linspace(0, 0.9, len(sizes)))
    for size, colour in zip(sizes, shown, strict=True):
        own = runs[runs["params"] == size]
        axis.scatter(own["examples"], own["loss"], s=14, color=colour)
        places = np.geomspace(runs["examples"].min(), runs["examples"].max(), 100)
        axis.plot(places, law_of(constants, size, places), color=colour, lw=1)
    axis.set(xscale="log", yscale="log", xlabel="examples", ylabel="loss")
    axis.set_title(f"{sizes[0]:.2g} (dark) to {sizes[-1]:.2g} parameters, and law", fontsize="medium")


def frontier_figure(runs: pd.DataFrame, found: Frontier) -> Figure:
    """Each size's loss over compute with the Pareto minima, and the size that owns the envelope at each compute."""
    figure, axes = _figure(2)
    _envelope(axes[0, 0], runs, found)
    axis = axes[0, 1]
    for edge, marker, label in ((False, "o", "counts"), (True, "x", "at an edge of the grid")):
        own = found.models[found.models["edge"] == edge]
        axis.scatter(own["compute"], own["params"], marker=marker, color=GREY if edge else BLUE, label=label)
        axis.hlines(own["params"], own["from"], own["to"], color=GREY if edge else BLUE, lw=1)
    axis.set(xscale="log", yscale="log", xlabel="compute (operations)", ylabel="best params")
    axis.set_title(f"params ~ C^{found.params_exponent:.2f}", fontsize="medium")
    axis.legend()
    return figure


def _envelope(axis, runs: pd.DataFrame, found: Frontier) -> None:
    cells, _ = cells_of(runs)
    groups = list(cells.groupby("params"))
    for (_, own), colour in zip(groups, plt.get_cmap(SIZES)(np.linspace(0, 0.9, len(groups))), strict=True):
        own = own.sort_values("compute")
        axis.plot(own["compute"], own["loss"], color=colour, lw=1, marker=".", ms=3)
    axis.plot(found.pareto["compute"], found.pareto["loss"], color="black", lw=1, marker="o", ms=3, mfc="white")
    axis.set(xscale="log", yscale="log", xlabel="compute (operations)", ylabel="loss")
    axis.set_title("Black: no cheaper run is as good", fontsize="medium")


def isoflop_figure(found: Isoflop) -> Figure:
    """The best size at each budget; a cross at the foot is a budget whose minimum lies at an edge of the grid."""
    figure, axes = _figure()
    _minima(axes[0, 0], found)
    return figure


def _minima(axis, found: Isoflop) -> None:
    good = found.minima[found.minima["rejected"] == ""]
    bad = found.minima[found.minima["rejected"] != ""]
    axis.scatter(good["budget"], good["params"], color=RED, label=f"isoFLOP minima: C^{found.params_exponent:.2f}")
    foot = good["params"].min() if len(good) else 1.0
    if len(bad):
        axis.scatter(bad["budget"], np.full(len(bad), foot), marker="x", color=GREY, label="rejected: edge of the grid")
    axis.set(xscale="log", yscale="log", xlabel="compute (operations)", ylabel="best params")
    axis.set_title("Best size at a fixed budget", fontsize="medium")
    axis.legend(fontsize="x-small")


def isoflop_bias_figure(bias: pd.DataFrame) -> Figure:
    """By how much parabolas miss, over the grid's width: the size (left) and the exponent (right). bias: of
    `bias.isoflop_bias`."""
    figure, axes = _figure(2)
    left, right = axes[0]
    still = bias[bias["drift"].abs() == bias["drift"].abs().min()]
    shifts = np.sort(still["shift"].unique())
    for shift, style in zip(shifts, ["--", "-", ":", "-."] * len(shifts), strict=False):
        own = still[(still["shift"] == shift) & (still["method"] == "parabola")]
        left.plot(
            own["width"],
            own["params_ratio"],
            style,
            color=RED,
            marker="o",
            ms=4,
            label=f"parabola, centre x {shift:.2g}",
        )
    own = still[still["method"] == "varpro"].groupby("width")["params_ratio"].median()
    left.plot(own.index, own, color=BLUE, marker="s", ms=4, label="variable projection")
    left.set(
        xscale="log", yscale="log", xlabel="w: sizes from centre / w to centre × w", ylabel="found / true best size"
    )
    left.set_title("Best size, found over true", fontsize="medium")
    middle = shifts[np.abs(np.log(shifts)).argmin()]
    drifts = np.sort(bias["drift"].unique())
    for drift, style in zip(drifts, ["-", "--", ":", "-."] * len(drifts), strict=False):
        own = bias[(bias["drift"] == drift) & (bias["shift"] == middle) & (bias["method"] == "parabola")]
        right.plot(
            own["width"],
            own["exponent_error"],
            style,
            color=RED,
            marker="o",
            ms=4,
            label=f"parabola, drift {drift:.2g}",
        )
    own = bias[(bias["shift"] == middle) & (bias["method"] == "varpro")].groupby("width")["exponent_error"].median()
    right.plot(own.index, own, color=BLUE, marker="s", ms=4, label="variable projection")
    right.set(xscale="log", xlabel="w: sizes from centre / w to centre × w", ylabel="found − true exponent")
    right.set_title("Exponent, found minus true", fontsize="medium")
    widths = np.sort(bias["width"].unique())
    for axis in (left, right):
        axis.set_xticks(widths, [f"{width:g}" for width in widths])
        axis.minorticks_off()
        axis.legend(fontsize="x-small")
    left.yaxis.set_major_locator(FixedLocator([0.25, 0.5, 0.7, 1, 1.5, 2, 3, 4]))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    plt.close(figure)
    return figure


def worth_figure(found: Worth, a: str = "a", b: str = "b", x: str = "examples") -> Figure:
    """How many times the x of b family a needs for the same error; the band is the bootstrap interval over seeds."""
    figure, axes = _figure()
    axis = axes[0, 0]
    axis.plot(found.errors, found.ratio, color=BLUE, marker="o", ms=3)
    axis.fill_between(found.errors, found.low, found.high, color=BLUE, alpha=0.2, lw=0)
    axis.axhline(1, color=GREY, lw=1)
    axis.set(xscale="log", yscale="log", xlabel="error", ylabel=f"{x} of {a} / {x} of {b}")
    axis.set_title(f"{x.capitalize()} of {a} for each of {b}, at equal error", fontsize="medium")
    return figure


def report_figure(runs: pd.DataFrame, answer: dict) -> Figure:
    """Four panels of a report: runs and law, the frontier, isoFLOP minima, and the exponents by each method.

    runs: of `table.tidy`. answer: of `report.report`.
    """
    figure, axes = _figure(2, 2)
    _losses(axes[0, 0], runs, [answer["joint"]["varpro"][name] for name in CONSTANTS])
    for axis, find, show in (
        (axes[0, 1], frontier, lambda axis, found: _envelope(axis, runs, found)),
        (axes[1, 0], isoflop, _minima),
    ):
        try:
            show(axis, find(runs, draws=0))
        except UserError as why:  # the grid is too small for this method: the panel says so
            axis.text(
                0.5, 0.5, str(why), transform=axis.transAxes, ha="center", va="center", wrap=True, fontsize="small"
            )
            axis.set_axis_off()
    axis = axes[1, 1]
    named = list(answer["allocation"])
    for i, name in enumerate(named):
        own = answer["allocation"][name]
        low, high = own["intervals"]["params_exponent"]
        if low is not None:
            axis.hlines(i, low, high, color=COLOURS[name])
        if own["params_exponent"] is not None:
            axis.scatter(own["params_exponent"], i, color=COLOURS[name], zorder=3)
    axis.set_yticks(range(len(named)), named)
    axis.set(xlabel="exponent of best params in compute")
    axis.set_title("Share of growth for the model", fontsize="medium")
    return figure
