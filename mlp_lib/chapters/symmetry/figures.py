"""Error against new examples, the price of a prior by how far objects move, and what repetition costs.

Frames are those of `study.Results`; points are `points_of` them.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from mlp_lib.chapters.symmetry.study import Results
from mlp_lib.errors import UserError
from mlp_lib.plots.style import DASHES, WIDTH, label_ends, say_not_run, t_bounds
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import curves
from mlp_lib.stats.equivalent_examples import Equivalent, equivalent_examples
from mlp_lib.stats.intervals import Estimate, t_interval
from mlp_lib.stats.laws.worth import Worth, what_is_a_bias_worth

PRIOR, WITHOUT = "CNN", "B-MLP"
REACH_COLOURS = (
    "#E08214",
    "#8073AC",
    "#2D004B",
    "#737373",
)  # a colour a range of positions, from the least: no family's


def points_of(results: Results) -> pd.DataFrame:
    """One row a training and point of its curve: model, family, reach, repeated, seed, seen (images the network has
    been trained on so far, those that came again counted again), error (of validation, in percent) and top1."""
    rows = curves(results.frame[results.frame["status"] == "ok"])
    columns = ["model", "family", "dataset", "reach", "repeated", "seed", "seen", "error", "top1", "key"]
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


def at_common_error(points: pd.DataFrame) -> tuple[float, dict[float, str]]:
    """The lowest error that both networks reach, with an interval, on every range; and the price there by range, as
    "4.6 [4.2, 5.1]". nan and "not run" where a range has no price."""
    reaches = sorted(points["reach"].unique())
    found = {reach: price(points, reach) for reach in reaches}
    lowest = [one.errors[np.isfinite(one.low)].min() for one in found.values() if one and np.isfinite(one.low).any()]
    if not lowest or len(lowest) < len(reaches):
        return float("nan"), dict.fromkeys(reaches, "not run")
    level = max(lowest)
    return level, {reach: _price_texts(points, reach, [level])[0] for reach in reaches}


def _price_texts(points: pd.DataFrame, reach: float, levels: Sequence[float]) -> list[str]:
    """The price at each of these errors in percent, or which network has no such error."""
    own = points[(points["reach"] == reach) & (points["repeated"] == 0) & (points["error"] > 0)]
    sides = [own[own["model"] == first_model(own, family)] for family in (WITHOUT, PRIOR)]
    try:
        curves_of = [side.rename(columns={"seen": "x"})[["x", "error", "seed"]] for side in sides]
        found = what_is_a_bias_worth(*curves_of, errors=list(levels))
    except UserError:
        return ["not run"] * len(levels)
    return [_price_text(found, i) for i in range(len(levels))]


def _price_text(found: Worth, i: int) -> str:
    if not np.isfinite(found.ratio[i]):
        said = found.edge[i].replace("a:", WITHOUT).replace("b:", PRIOR)
        return said.replace("below its errors", "never that low").replace("above its errors", "starts lower")
    ends = f" [{_digits(found.low[i])}, {_digits(found.high[i])}]" if np.isfinite(found.low[i]) else ""
    return f"{_digits(found.ratio[i])}{ends}"


def error_after_all(points: pd.DataFrame, family: str, reach: float) -> str:
    """Validation error in percent after all new images, of the family's first model, as "55.1 [51.9, 58.3] n=3"."""
    own = points[(points["reach"] == reach) & (points["repeated"] == 0)]
    own = own[own["model"] == first_model(own, family)]
    return _at_the_end(own).text()


def _at_the_end(points: pd.DataFrame, kept: pd.Series | bool = True) -> Estimate:
    """Validation error (%) at the last point of these, of those that are kept."""
    ends = points[(points["seen"] == points["seen"].max()) & kept]
    return t_interval(with_runs(ends["error"], ends))


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
            left.plot(mean.index, mean, color=colour, ls=dashes)
        found = price(points, reach)
        if found is not None:
            right.plot(found.errors, found.ratio, color=colour, label=f"up to {reach:g}" if reach else "in the middle")
            right.fill_between(found.errors, found.low, found.high, color=colour, alpha=0.15, lw=0)
    left.set(xscale="log", yscale="log", xlabel="images, each seen once", ylabel="validation error (%)")
    left.set_title("Error against new images", fontsize=10)
    for family, dashes in ((WITHOUT, "-"), (PRIOR, "--")):
        left.plot([], [], color="#555555", ls=dashes, label=family)
    right.set(yscale="log", xlabel="validation error that both reach (%)", ylabel="B-MLP over CNN")
    right.set_title("Images of the B-MLP, times the CNN's", fontsize=10)
    right.axhline(1, color="#777777", lw=1, ls=":")
    right.invert_xaxis()
    right.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 3, 5, 10, 20, 50, 100]))
    right.yaxis.set_minor_locator(FixedLocator([]))
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if len(fresh):
        left.legend(fontsize=8, handlelength=DASHES)
        label_ends(right)
    else:
        say_not_run(left)
        say_not_run(right)
    plt.close(figure)
    return figure


def _moves(reach: float) -> str:
    return "all in the middle" if reach == 0 else f"moved by up to {reach:g}"


def table_of_prices(points: pd.DataFrame, levels: tuple[float, ...] = (70, 50, 30, 20, 10)) -> pd.DataFrame:
    """How many times the CNN's new images the B-MLP needs, a row a range of positions and a column an error."""
    names = [f"at {level:g}% error" for level in levels]
    rows = [
        {"positions": _moves(reach), **dict(zip(names, _price_texts(points, reach, levels), strict=True))}
        for reach in sorted(points["reach"].unique())
    ]
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
        axis.set_title(f"{family}: error against images seen", fontsize=10)
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
    curve, reached = (
        with_runs(values, own[own["repeated"] == again], by="seed") for values, again in ((curve, 0), (reached, size))
    )
    return equivalent_examples(curve, reached), int(np.median(list(best.values())))


def table_of_repetition(points: pd.DataFrame) -> pd.DataFrame:
    """What images that come again are worth: a row a family and number of images; error after all steps and at the best
    point, and the number of new images that brings as much as that."""
    rows = []
    widest = points[points["reach"] == points["reach"].max()]
    for family in (WITHOUT, PRIOR):
        own = widest[widest["model"] == first_model(widest, family)]
        for size in sorted(own["repeated"].unique()):
            row = {"family": family, "images": f"{size:,.0f}" if size else "all new"}
            row["error after all steps % [95%]"] = _at_the_end(own, own["repeated"] == size).text()
            if size:
                found, seen = effective_examples(points, family, size)
                row |= {"best after": f"{seen / size:.3g} passes", "worth, in new images": found.text()}
            rows.append(row)
    return pd.DataFrame(rows).fillna("") if rows else pd.DataFrame({"family": ["not run"]})
