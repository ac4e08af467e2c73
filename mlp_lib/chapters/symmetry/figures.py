"""Error against new examples, the price of a prior by how far objects move, and what repetition costs.

Frames are those of `study.Results`; points are `points_of` them.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.symmetry.study import Results
from mlp_lib.errors import UserError
from mlp_lib.plots.style import WIDTH, say_not_run, t_bounds
from mlp_lib.records.frames import curves
from mlp_lib.stats.equivalent_examples import Equivalent, equivalent_examples
from mlp_lib.stats.intervals import t_interval
from mlp_lib.stats.laws.worth import Worth, what_is_a_bias_worth

PRIOR, WITHOUT = "CNN", "B-MLP"
REACH_COLOURS = ("#B8860B", "#1B3A8A", "#C4302B", "#2AA198")  # a colour a range of positions, from the least


def points_of(results: Results) -> pd.DataFrame:
    """One row a training and point of its curve: model, family, reach, repeated, seed, seen (images the network has
    been trained on so far, those that came again counted again), error (of validation, in percent) and top1."""
    rows = curves(results.frame[results.frame["status"] == "ok"])
    columns = ["model", "family", "dataset", "reach", "repeated", "seed", "seen", "error", "top1"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    seen = rows["step"].astype(int) * rows["batch_size"].astype(int)
    return rows.assign(seen=seen, error=100 - rows["val_top1"], top1=rows["val_top1"])[columns]


def price(points: pd.DataFrame, reach: float, a: str = WITHOUT, b: str = PRIOR) -> Worth | None:
    """How many times the new images of `b` that `a` needs for the same error, on shapes that reach so far; the first
    model of each family. None where either has not run, or they have no error in common."""
    own = points[(points["reach"] == reach) & (points["repeated"] == 0) & (points["error"] > 0)]
    sides = [own[own["model"] == first_model(own, family)] for family in (a, b)]
    try:
        return what_is_a_bias_worth(*(side.rename(columns={"seen": "x"})[["x", "error", "seed"]] for side in sides))
    except UserError:
        return None


def first_model(points: pd.DataFrame, family: str) -> str:
    """The family's model that is named first; empty where there is none."""
    own = points.loc[points["family"] == family, "model"]
    return "" if own.empty else own.iloc[0]


def at_lowest_error(found: Worth | None) -> str:
    """The price at the lowest error that both reach with an interval, as "12 [9, 15] at 20% error"."""
    if found is None:
        return "not run"
    known = np.flatnonzero(np.isfinite(found.low))
    if not len(known):
        return "no error in common"
    at = known[np.argmin(found.errors[known])]
    low, high = _digits(found.low[at]), _digits(found.high[at])
    return f"{_digits(found.ratio[at])} [{low}, {high}] at {found.errors[at]:.0f}% error"


def _digits(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def price_of_a_prior(points: pd.DataFrame) -> Figure:
    """Left: error against new images, B-MLP solid and CNN dashed, a colour a range of positions. Right: how many times
    the CNN's images the B-MLP needs, against the error that both reach, with 95% bootstrap bands over seeds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    fresh = points[points["repeated"] == 0]
    for reach, colour in zip(sorted(fresh["reach"].unique()), REACH_COLOURS, strict=False):
        for family, dashes in ((WITHOUT, "-"), (PRIOR, "--")):
            own = fresh[(fresh["reach"] == reach) & (fresh["model"] == first_model(fresh, family))]
            mean = own.groupby("seen")["error"].mean()
            left.plot(mean.index, mean, color=colour, ls=dashes, label=f"{family}, {_moves(reach)}")
        found = price(points, reach)
        if found is not None:
            right.plot(found.errors, found.ratio, color=colour, label=_moves(reach))
            right.fill_between(found.errors, found.low, found.high, color=colour, alpha=0.15, lw=0)
    left.set(xscale="log", yscale="log", xlabel="images, each seen once", ylabel="validation error (%)")
    left.set_title("Error falls with new images", fontsize=10)
    right.set(yscale="log", xlabel="validation error that both reach (%)", ylabel="images of the MLP / of the CNN")
    right.set_title("What the convolution is worth", fontsize=10)
    right.axhline(1, color="#777777", lw=1, ls=":")
    for axis in (left, right):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
        else:
            say_not_run(axis)
    right.invert_xaxis()
    plt.close(figure)
    return figure


def _moves(reach: float) -> str:
    return "all in the middle" if reach == 0 else f"moved by up to {reach:g}"


def table_of_prices(points: pd.DataFrame, levels: tuple[float, ...] = (70, 50, 30, 20, 10)) -> pd.DataFrame:
    """How many times the CNN's new images the B-MLP needs, a row a range of positions and a column an error."""
    rows = []
    for reach in sorted(points["reach"].unique()):
        own = points[(points["reach"] == reach) & (points["repeated"] == 0) & (points["error"] > 0)]
        row = {"positions": _moves(reach)}
        for level in levels:
            try:
                sides = [own[own["model"] == first_model(own, family)] for family in (WITHOUT, PRIOR)]
                tables = [side.rename(columns={"seen": "x"})[["x", "error", "seed"]] for side in sides]
                found = what_is_a_bias_worth(*tables, errors=[level])
            except UserError:
                row[f"at {level:g}% error"] = "not run"
                continue
            ends = f" [{_digits(found.low[0])}, {_digits(found.high[0])}]" if np.isfinite(found.low[0]) else ""
            edge = found.edge[0].replace("a:", f"{WITHOUT}").replace("b:", PRIOR)
            row[f"at {level:g}% error"] = f"{_digits(found.ratio[0])}{ends}" if np.isfinite(found.ratio[0]) else edge
        rows.append(row)
    return pd.DataFrame(rows) if rows else pd.DataFrame({"positions": ["not run"]})


def repetition(points: pd.DataFrame) -> Figure:
    """Error against images seen on the widest range: all new (black), and so many that come again (a colour each), a
    panel a family, with 95% bands over seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), sharey=True)
    widest = points[points["reach"] == points["reach"].max()]
    sizes = sorted(size for size in widest["repeated"].unique() if size)
    shades = dict(zip(sizes, plt.get_cmap("viridis")(np.linspace(0.1, 0.85, max(len(sizes), 1))), strict=False))
    for axis, family in zip(axes, (WITHOUT, PRIOR), strict=True):
        own = widest[widest["model"] == first_model(widest, family)]
        for size in [*sizes, 0]:
            rows = own[own["repeated"] == size]
            if rows.empty:
                continue
            band = rows.groupby("seen")["error"].agg(["mean", t_bounds])
            colour = shades.get(size, "black")
            axis.plot(band.index, band["mean"], color=colour, label=f"{size:,.0f} images" if size else "all new")
            low, high = zip(*band["t_bounds"], strict=True)
            axis.fill_between(band.index, low, high, color=colour, alpha=0.12, lw=0)
        axis.set_title(f"{family}: images that come again", fontsize=10)
        axis.set(xscale="log", xlabel="images seen, repeats counted")
        if axis.lines:
            axis.legend(fontsize=8)
        else:
            say_not_run(axis, ticks=True)
    axes[0].set_ylabel("validation error (%)")
    plt.close(figure)
    return figure


def effective_examples(points: pd.DataFrame, family: str, size: int) -> tuple[Equivalent, int]:
    """How many new images are worth as much as `size` images that come again, at their best point of the curve that
    the other seeds choose; and how many images, repeats counted, that point has seen in the median seed."""
    widest = points[points["reach"] == points["reach"].max()]
    own = widest[widest["model"] == first_model(widest, family)]
    table = own[own["repeated"] == size].pivot_table(index="seed", columns="seen", values="top1")
    curve = own[own["repeated"] == 0].pivot_table(index="seed", columns="seen", values="top1")
    if table.empty or len(table) < 2 or len(curve.columns) < 2:
        return Equivalent(float("nan"), None, 0, 0, 0), 0
    best = {seed: table.drop(index=seed).mean().idxmax() for seed in table.index}
    reached = pd.Series({seed: table.loc[seed, seen] for seed, seen in best.items()})
    return equivalent_examples(curve, reached), int(np.median(list(best.values())))


def table_of_repetition(points: pd.DataFrame) -> pd.DataFrame:
    """What images that come again are worth: a row a family and number of images; error after all steps and at the best
    point, and the number of new images that brings as much as that."""
    rows = []
    widest = points[points["reach"] == points["reach"].max()]
    for family in (WITHOUT, PRIOR):
        own = widest[widest["model"] == first_model(widest, family)]
        for size in sorted(own["repeated"].unique()):
            ends = own[(own["repeated"] == size) & (own["seen"] == own["seen"].max())]
            row = {"family": family, "images": f"{size:,.0f}" if size else "all new"}
            row["error after all steps % [95%]"] = t_interval(ends["error"]).text()
            if size:
                found, seen = effective_examples(points, family, size)
                row |= {"best after": f"{seen / size:.3g} passes", "worth, in new images": found.text()}
            rows.append(row)
    return pd.DataFrame(rows).fillna("") if rows else pd.DataFrame({"family": ["not run"]})
