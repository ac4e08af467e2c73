"""Figures and tables of the chapter on scaling laws, from `scaling.Scaling`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mlp_lib.chapters import scaling
from mlp_lib.chapters.laws import rules
from mlp_lib.chapters.tuning import Choice
from mlp_lib.errors import UserError
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, say_not_run
from mlp_lib.records.architectures import family_of
from mlp_lib.records.behind import note, with_runs
from mlp_lib.stats.intervals import Estimate, t_interval, unpaired_difference
from mlp_lib.stats.laws.compare import compare_curves
from mlp_lib.stats.laws.curves import Curve, fit_curve, fit_power, fit_saturating
from mlp_lib.stats.laws.joint import CONSTANTS, Joint

# Exponents of E(C) that the paper states: (text, how sure). Three downstream tasks, and the S-MLP beside the B-MLP.
PAPERS_EXPONENTS = {"B-MLP": "0.25 on CIFAR-100; 0.12 to 0.35 over its tasks", "S-MLP": "0.22 on CIFAR-100"}
LAW_NAMES = {
    "power": "pure power law",
    "saturating": "saturating power law",
    "m4": "with a plateau at chance (M4)",
    "one_break": "one break (BNSL)",
}


def families_in(points: pd.DataFrame) -> list[str]:
    """The families that have points, in the study's order."""
    return [family for family in scaling.FAMILIES if (points["family"] == family).any()]


def fitted_envelope(points: pd.DataFrame) -> tuple[pd.DataFrame, Curve | None]:
    """The lower envelope of one family's error over compute, seeds averaged, and the saturating law through it; None
    where there are too few points for one."""
    edge = rules.envelope(points)
    try:
        return edge, fit_saturating(edge["compute"], edge["loss"])
    except UserError:
        return edge, None


def error_against_compute(points: pd.DataFrame, family: str, measured: str = "validation error") -> Figure:
    """Error over training compute in the paper's manner: a colour a model, a marker a number of images, lines join the
    passes over them; with the lower envelope and the saturating law through it. `measured`: what `error` is."""
    figure, axis = plt.subplots(figsize=(WIDTH, 4.4))
    own = scaling.of_family(points, family)
    if own.empty:
        say_not_run(axis)
        plt.close(figure)
        return figure
    means = own.groupby(["model", "params", "examples", "epoch"], as_index=False)[["compute", "error"]].mean()
    models = means.sort_values("params")["model"].unique()
    sizes = sorted(means["examples"].unique())
    markers = dict(zip(sizes, "osD^vPX", strict=False))
    for model, colour in zip(models, sns.color_palette("viridis", len(models)), strict=True):
        for size in sizes:
            line = means[(means["model"] == model) & (means["examples"] == size)].sort_values("epoch")
            axis.plot(line["compute"], 100 * line["error"], color=colour, lw=1, alpha=0.7, marker=markers[size], ms=4)
        axis.plot([], [], color=colour, label=model)
    for size in sizes:
        axis.plot([], [], color="#555555", ls="", marker=markers[size], ms=5, label=f"{size:,.0f} images")
    edge, law = fitted_envelope(own)
    axis.plot(edge["compute"], 100 * edge["loss"], color="black", lw=1, ls=":", label="envelope")
    if law is not None:
        places = np.geomspace(edge["compute"].min(), edge["compute"].max(), 200)
        axis.plot(places, 100 * law.predict(places), color="#CC3311", lw=2.2, label="saturating law")
        axis.fill_between(places, *(100 * end for end in law.band(places)), color="#CC3311", alpha=0.2, lw=0)
    axis.set(xscale="log", yscale="log", xlabel="training compute (FLOPs)", ylabel=f"{measured} (%)")
    axis.set_title(f"{family}: error against compute, and the envelope's law", fontsize=10)
    axis.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}" if value % 10 == 0 else ""))
    axis.legend(fontsize=7.5, ncols=2, loc="lower left")
    plt.close(figure)
    return figure


def _by_seed(points: pd.DataFrame, compute: str) -> pd.DataFrame:
    """The saturating law's exponent and limit of each seed's own envelope: a row a seed."""
    rows = {}
    for seed, own in points.groupby("seed"):
        edge = rules.envelope(own, compute=compute)
        try:
            rows[seed] = fit_saturating(edge["compute"], edge["loss"], draws=0).constants
        except UserError:
            continue
    return pd.DataFrame.from_dict(rows, orient="index", columns=["alpha", "E_inf"])


def table_of_exponents(points: pd.DataFrame) -> pd.DataFrame:
    """The saturating law of every family's envelope in both FLOP conventions: exponent and limit with t-intervals
    between seeds, which of them the data identify, and the paper's exponent."""
    rows = []
    for family in families_in(points):
        own = scaling.of_family(points, family)
        law = fitted_envelope(own)[1]
        both = {name: _by_seed(own, name) for name in ("compute", "paper_compute")}
        known = law.identified if law else {}
        rows.append(
            {
                "family": family,
                "exponent alpha [95%]": t_interval(both["compute"]["alpha"]).of_runs(own).text(2),
                "the same, a multiply-add as one FLOP": t_interval(both["paper_compute"]["alpha"]).of_runs(own).text(2),
                "limit E_inf, % [95%]": t_interval(100 * both["compute"]["E_inf"]).of_runs(own).text(),
                "identified": ", ".join(name for name in ("alpha", "E_inf", "b") if known.get(name)) or "none",
                "R²": f"{law.r2:.3f}" if law else "not fitted",
                "the paper's exponent": PAPERS_EXPONENTS.get(family, "none"),
            }
        )
    return pd.DataFrame(rows)


def table_of_laws(points: pd.DataFrame, family: str) -> pd.DataFrame:
    """Four laws of one family's envelope beside each other, by what they miss on the quarter with the most compute,
    which they have not seen, and by AICc."""
    edge = rules.envelope(scaling.of_family(points, family))
    try:
        found = compare_curves(edge["compute"], edge["loss"], share=rules.HELD_OUT, draws=0)
    except UserError as error:
        return pd.DataFrame({"law": ["not fitted"], "why": [str(error)]})
    return pd.DataFrame(
        {
            "law": found["law"].map(LAW_NAMES),
            "misses of the held-out points, %": [_percent(value) for value in found["held_out_rms_log"]],
            "of these, bias, %": [_percent(value) for value in found["held_out_mean_log"]],
            "AICc above the least": [f"{value:.1f}" for value in found["delta_aicc"]],
            "not identified": found["open"].fillna(""),
        }
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if np.isfinite(value) else "not fitted"


def along_each_axis(points: pd.DataFrame, label: str = "validation error") -> Figure:
    """Error over parameters at the most images, and over images at the largest model of each family: means over seeds
    at the best epoch, with 95% t-intervals, and the slope of a straight line."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), sharey=True)
    best = scaling.at_best_epoch(points)
    drawn = []
    for axis, column, other, words in (
        (axes[0], "params", "examples", "parameters"),
        (axes[1], "examples", "params", "training images"),
    ):
        for family in families_in(best):
            own = scaling.of_family(best, family)
            side = own[own[other] == own[other].max()]
            cells = side.groupby(column)["error"]
            mean = 100 * cells.mean()
            bounds = np.array([_bounds(100 * errors) for _, errors in cells]).T
            drawn += [*mean, *bounds.ravel()]
            found = slope(side[column], side["error"])
            text = f"{family}, slope {found:.2f}" if found is not None else family
            axis.errorbar(
                mean.index,
                mean,
                yerr=np.abs(bounds - mean.to_numpy()),
                color=FAMILY_COLOURS[family],
                marker="o",
                ms=4,
                capsize=2,
                label=text,
            )
        axis.set(xscale="log", yscale="log", xlabel=words)
        axis.set_title(f"At the {'most images' if other == 'examples' else 'largest model'}", fontsize=10)
        axis.legend(fontsize=8)
        axis.yaxis.set_minor_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}" if value % 10 == 0 else ""))
    if drawn:  # 0.8 leaves room for the legends
        axes[0].set_ylim(0.8 * min(drawn), 1.08 * max(drawn))
    axes[0].set_ylabel(f"{label} (%)")
    plt.close(figure)
    return figure


def _bounds(errors: pd.Series) -> tuple[float, float]:
    estimate = t_interval(errors)
    return estimate.interval or (estimate.mean, estimate.mean)


def slope(x: pd.Series, error: pd.Series) -> float | None:
    """The exponent of a pure power law through the errors; None where it cannot be fitted."""
    try:
        return fit_power(x, error, draws=0, relative=True).constants["alpha"]
    except UserError:
        return None


def table_of_joint_laws(points: pd.DataFrame) -> pd.DataFrame:
    """E = E_inf + A / P^alpha + B / N^beta of every family by both fits: exponents and limit with bootstrap intervals,
    and the constants that the data do not identify."""
    rows = []
    for family in families_in(points):
        own = scaling.of_family(points, family)
        for method, name in (("varpro", "variable projection"), ("huber", "Huber loss of the logarithm")):
            law, seeds = rules.exponents(own, method=method)
            if law is None:
                continue
            value = constants_of(law, seeds, own)
            rows.append(
                {
                    "family": family,
                    "fit": name,
                    "alpha, of parameters [95%]": text_of(value["alpha"]),
                    "beta, of images [95%]": text_of(value["beta"]),
                    "limit E_inf, % [95%]": text_of(_times(value["E"], 100), 1),
                    "not identified": not_identified(law),
                    "misses, %": f"{100 * law.rms_log:.1f}",
                }
            )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"joint law": ["not fitted: too few cells"]})


def constants_of(law: Joint, seeds: int, points: pd.DataFrame) -> dict[str, Estimate]:
    """The joint law's constants with bootstrap intervals. `points` are those that it was fitted to."""
    return {name: Estimate(law.constants[name], law.intervals[name], seeds).of_runs(points) for name in CONSTANTS}


def not_identified(law: Joint) -> str:
    """The constants that the data do not limit on both sides, for a table."""
    return ", ".join(name for name in CONSTANTS if not law.identified[name]).replace("E", "E_inf")


def _times(value: Estimate, factor: float) -> Estimate:
    return value._replace(mean=factor * value.mean, interval=tuple(factor * end for end in value.interval))


def exponent_of_images(points: pd.DataFrame, family: str) -> str:
    """beta of a family's joint law, by variable projection, with its bootstrap interval."""
    own = scaling.of_family(points, family)
    law, seeds = rules.exponents(own)
    return text_of(constants_of(law, seeds, own)["beta"]) if law else "not run"


def error_beyond(points: pd.DataFrame, first: str, second: str, images: int) -> Estimate:
    """Validation error of the first family's largest model at so many images minus that of the second's, in points, at
    each run's best epoch. The seeds of two architectures are no pairs."""
    best = scaling.at_best_epoch(points)
    sides = []
    for family in (first, second):
        own = scaling.of_family(best, family)
        cell = own[(own["params"] == own["params"].max()) & (own["examples"] == images)]
        sides.append(with_runs((100 * cell["error"]).set_axis(cell["seed"]), cell))
    return unpaired_difference(*sides)


def text_of(value: Estimate, digits: int = 2) -> str:
    """An estimate whose interval is a bootstrap's: without n, which counts seeds."""
    low, high = value.interval
    return note(f"{value.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]", value.runs)


def one_rate_for_all(choices: Mapping[str, Choice], points: pd.DataFrame, family: str = "B-MLP") -> Figure:
    """Validation error over parameters where every width takes its own best rate, and where all take one: from runs
    by which the rates were chosen, means over three seeds."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4))
    own = {model: choice for model, choice in choices.items() if family_of(model) == family and choice.final}
    params = points.drop_duplicates("model").set_index("model")["params"]
    models = [model for model in own if model in params.index]
    if not models:
        say_not_run(axis)
        plt.close(figure)
        return figure
    models.sort(key=lambda model: params[model])
    errors = pd.DataFrame(
        {model: (100 - own[model].grid.set_index("lr")["val_top1"].astype(float)) for model in models}
    ).sort_index()
    for (lr, line), colour in zip(errors.iterrows(), sns.color_palette("crest", len(errors)), strict=True):
        if line.notna().sum() > 1:
            axis.plot(params[models], line, color=colour, marker="o", ms=3, lw=1.2, ls="--", label=f"all at {lr:.2g}")
    best = [errors.loc[own[model].lr, model] for model in models]
    axis.plot(params[models], best, color="black", marker="s", ms=5, lw=2, label="each at its own best")
    axis.set(xscale="log", yscale="log", xlabel="parameters (logarithmic)", ylabel="validation error (%)")
    axis.set_xticks(params[models], [f"{model}\n{params[model] / 1e6:.2g} million" for model in models])
    axis.xaxis.set_minor_locator(plt.NullLocator())
    axis.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_title(f"{family}: one learning rate for all widths, or one for each", fontsize=10)
    axis.legend(fontsize=8, title="learning rate", title_fontsize=8)
    plt.close(figure)
    return figure


def table_of_choices(choices: Mapping[str, Choice]) -> pd.DataFrame:
    """Every model's rate, the grid behind it (mean validation top-1 over seeds), and what speaks against the choice."""
    return pd.DataFrame(
        {
            "model": model,
            "chosen lr": f"{choice.lr:.2g}" if choice.final else "open",
            "validation top-1 by lr, %": ", ".join(
                f"{row.lr:.2g}: {row.val_top1:.1f}" if row.val_top1 == row.val_top1 else f"{row.lr:.2g}: not run"
                for row in choice.grid.itertuples()
            ),
            "seeds": choice.seeds,
            "flags": "; ".join(choice.flags),
        }
        for model, choice in choices.items()
    )


def exponent_of(points: pd.DataFrame, family: str) -> Estimate:
    """The saturating law's exponent of a family's envelopes, one for each seed."""
    own = scaling.of_family(points, family)
    return t_interval(_by_seed(own, "compute")["alpha"]).of_runs(own)


def local_slopes(points: pd.DataFrame, family: str) -> pd.DataFrame:
    """Where the law bends: the slope of log error over log compute along the envelope, in thirds of its compute."""
    edge = rules.envelope(scaling.of_family(points, family))
    if len(edge) < 6:
        return pd.DataFrame({"compute": ["not run"]})
    logs = np.log(edge["compute"].to_numpy())
    cuts = np.linspace(logs[0], logs[-1], 4)
    rows = []
    for low, high in zip(cuts[:-1], cuts[1:], strict=True):
        part = edge[(logs >= low) & (logs <= high)]
        slope = None if len(part) < 3 else fit_curve("power", part["compute"], part["loss"], draws=0, relative=True)
        rows.append(
            {
                "compute, FLOPs": f"{np.exp(low):.1e} to {np.exp(high):.1e}",
                "error, %": f"{100 * part['loss'].max():.1f} to {100 * part['loss'].min():.1f}" if len(part) else "",
                "slope": f"{slope.constants['alpha']:.2f}" if slope else "too few points",
                "points": len(part),
            }
        )
    return pd.DataFrame(rows)
