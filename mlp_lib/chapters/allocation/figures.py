"""Figures and tables of the chapter on allocation and on the price of a prior, from `scaling.Scaling`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters import scaling
from mlp_lib.chapters.allocation import rules
from mlp_lib.errors import UserError
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, label_ends, say_not_run
from mlp_lib.records.behind import note
from mlp_lib.stats.intervals import Estimate
from mlp_lib.stats.laws.allocate import Exponents, Recommendation, recommend
from mlp_lib.stats.laws.grids import Isoflop, isoflop
from mlp_lib.stats.laws.joint import Joint
from mlp_lib.stats.laws.worth import Worth, what_is_a_bias_worth

PRIOR, WITHOUT = "CNN", ("B-MLP", "S-MLP")
PAPERS = {"B-MLP": "0.35 / 0.65", "transformers (Hoffmann et al. 2022)": "0.5 / 0.5"}
PAID_IN = ("training images", "training compute")
LEVELS = 12  # errors at which a price is read


def exponents_of(points: pd.DataFrame) -> dict[str, dict[str, Exponents | None]]:
    """The exponents of P*(C) and N*(C) of every family that has points, by every method."""
    runs = {
        family: rules.runs_of(scaling.of_family(points, family))
        for family in scaling.FAMILIES
        if (points["family"] == family).any()
    }
    return {family: {method: rules.exponents(own, method) for method in rules.METHODS} for family, own in runs.items()}


def exponents_beside(points: pd.DataFrame, wider: pd.DataFrame) -> dict[str, dict[str, Exponents | None]]:
    """`exponents_of` the chapter's own points, then of what `wider` adds to them: more widths of a family, or another
    family."""
    own = exponents_of(points)
    widened = wider.loc[~wider["model"].isin(points["model"]), "family"]
    beside = exponents_of(wider[wider["family"].isin(widened)])
    return own | {f"{name} with narrower widths" if name in own else name: found for name, found in beside.items()}


def table_of_exponents(exponents: dict[str, dict[str, Exponents | None]]) -> pd.DataFrame:
    """P* ~ C^a, N* ~ C^b of every family by every method (`exponents_of`), with bootstrap intervals, and what limits
    them."""
    rows = []
    for family, by_method in exponents.items():
        for method, found in by_method.items():
            known = found is not None and np.isfinite(found.params)
            rows.append(
                {
                    "family": family,
                    "method": rules.METHODS[method],
                    "a, of parameters [95%]": _span(found.params, found.params_interval) if known else "none",
                    "b, of images [95%]": _span(found.examples, found.examples_interval) if known else "none",
                    "note": found.note if found else "too few cells",
                }
            )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"method": ["not run"]})


def _span(value: float, ends: tuple[float, float]) -> str:
    return f"{value:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"


def table_of_sensitivity(points: pd.DataFrame) -> pd.DataFrame:
    """The B-MLP's exponent of parameters by the joint law, under other ways to count and other choices of runs."""
    mlp = scaling.of_family(points, rules.JUDGED)
    smallest = mlp["params"] > mlp["params"].min() if len(mlp) else mlp["params"] > 0
    fewest = mlp["examples"] > mlp["examples"].min() if len(mlp) else mlp["examples"] > 0
    settings = {
        "as judged": rules.runs_of(mlp),
        "parameters without embedding and head": rules.runs_of(mlp, params="body"),
        "loss instead of error": rules.runs_of(mlp, "loss"),
        "after 1 pass": rules.runs_of(mlp, epoch=1),
        "after 3 passes": rules.runs_of(mlp, epoch=3),
        "without the smallest model": rules.runs_of(mlp[smallest]),
        "without the fewest images": rules.runs_of(mlp[fewest]),
    }
    rows = []
    for name, runs in settings.items():
        found = rules.exponents(runs)
        rows.append(
            {
                "setting": name,
                "a, of parameters [95%]": _exponent_or_none(found),
                "note": found.note if found else "",
            }
        )
    return pd.DataFrame(rows)


def _exponent_or_none(found: Exponents | None) -> str:
    if found is None:
        return "too few cells"
    return _span(found.params, found.params_interval) if np.isfinite(found.params) else "none"


def consistent_exponents(alpha: float, beta: float) -> tuple[float, float]:
    """What an additive law L = E + A / P^alpha + B / N^beta implies for P* ~ C^a, N* ~ C^b where C ~ P N."""
    return beta / (alpha + beta), alpha / (alpha + beta)


def isoflop_curves(points: pd.DataFrame, family: str = rules.JUDGED) -> Figure:
    """Error over parameters at equal compute, a colour a budget: dots are model sizes, a star a minimum inside of them.
    Beside it the optimal parameters over compute by isoFLOP and by the joint law, the two lines of the literature, and
    the sizes that were trained: what lies outside of them is extrapolated."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    runs = rules.runs_of(scaling.of_family(points, family))
    try:
        found = isoflop(runs, draws=200)
        law = scaling.joint_law(runs["params"], runs["examples"], runs["loss"])
    except UserError:
        say_not_run(left)
        say_not_run(right)
        plt.close(figure)
        return figure
    _minima(left, runs, found)
    budgets = np.geomspace(runs["compute"].min(), runs["compute"].max(), 40)
    per = float(np.mean(runs["compute"] / (runs["params"] * runs["examples"])))
    best = [recommend(law, budget, per).params for budget in budgets] if min(law.constants[c] for c in "AB") > 0 else []
    good = found.minima[found.minima["rejected"] == ""]
    if len(good):
        stars = dict(marker="*", s=70, color="#CC3311", zorder=3)
        right.scatter(good["budget"], good["params"], label="isoFLOP minima", **stars)
    if best:
        right.plot(budgets, best, color="black", label="joint law")
    middle = np.exp(np.log(budgets).mean())
    anchor = recommend(law, middle, per).params if best else np.exp(np.log(runs["params"]).mean())
    for slope, text, style in ((0.35, "slope 0.35, the paper", "--"), (0.5, "slope 0.5, transformers", ":")):
        right.plot(budgets, anchor * (budgets / middle) ** slope, color="#777777", ls=style, label=text)
    right.axhspan(runs["params"].min(), runs["params"].max(), color="#eeeeee", zorder=0)
    middle_size = np.exp(np.log([runs["params"].min(), runs["params"].max()]).mean())
    right.text(middle, middle_size, "sizes that were trained", ha="center", va="center", fontsize=8, color="#555555")
    right.set(xscale="log", yscale="log", xlabel="training compute (FLOPs)", ylabel="best number of parameters")
    right.set_title(f"{family}: best size by compute", fontsize=10)
    right.legend(fontsize=7.5, loc="lower right")
    plt.close(figure)
    return figure


def _minima(axis, runs: pd.DataFrame, found: Isoflop) -> None:
    cells = runs.groupby(["params", "examples"], as_index=False)[["compute", "loss"]].mean()
    for (_, row), colour in zip(
        found.minima.iterrows(), plt.get_cmap("viridis")(np.linspace(0, 0.9, len(found.minima))), strict=True
    ):
        xs, ys = [], []
        for size, line in cells.groupby("params"):
            line = line.sort_values("compute")
            if line["compute"].min() <= row["budget"] <= line["compute"].max():
                xs.append(size)
                logs = np.interp(np.log(row["budget"]), np.log(line["compute"]), np.log(line["loss"]))
                ys.append(100 * np.exp(logs))
        axis.plot(xs, ys, color=colour, marker="o", ms=3, lw=1.2)
        if xs:
            text = f"{row['budget']:.0e}".replace("e+", "e")
            axis.annotate(text, (xs[-1], ys[-1]), (4, 0), textcoords="offset points", va="center", fontsize=7)
        if row["rejected"] == "":
            axis.plot(row["params"], 100 * row["loss"], marker="*", ms=11, color=colour, mec="black", ls="")
    sizes = cells["params"]
    axis.set(xscale="log", xlabel="parameters", ylabel="validation error (%)")
    axis.set_xlim(0.7 * sizes.min(), 2.5 * sizes.max())
    axis.set_title("Error at equal compute (FLOPs at the lines)", fontsize=10)


def price_in_examples(points: pd.DataFrame, without: str = "B-MLP", prior: str = PRIOR) -> Worth | None:
    """How many times the training images a family without the prior needs for the error of one with it: the best model
    of each at each number of images, each run at the epoch that is best for the other seeds. None where they share no
    error."""
    return _price(scaling.at_best_epoch(points), "examples", without, prior)


def price_in_compute(points: pd.DataFrame, without: str = "B-MLP", prior: str = PRIOR) -> Worth | None:
    """The same in training FLOPs: the lower envelopes of both families' curves, those of every seed."""
    rows = []
    for (family, seed), own in points.groupby(["family", "seed"]):
        ordered = own.sort_values("compute")
        least = ordered["error"].cummin()
        rows.append(ordered[ordered["error"] == least].assign(family=family, seed=seed))
    edges = pd.concat(rows) if rows else points
    return _price(edges, "compute", without, prior)


def _price(points: pd.DataFrame, column: str, without: str, prior: str) -> Worth | None:
    curves = {}
    for family in (without, prior):
        own = scaling.of_family(points, family)
        if own.empty:
            return None
        if column == "examples":
            means = own.groupby(["model", "examples"])["error"].mean()
            best = means.groupby("examples").idxmin().map(lambda cell: cell[0])  # the best model by the mean of seeds
            own = own[own["model"] == own["examples"].map(best)]
        else:
            own = _on_common_compute(own)
        curves[family] = own.rename(columns={column: "x"})[["x", "error", "seed"]]
    try:
        found = what_is_a_bias_worth(curves[without], curves[prior], draws=0)
        errors = np.geomspace(*found.common, LEVELS)
        errors[[0, -1]] = found.common  # rounding must not put the ends beyond what both reach
        return what_is_a_bias_worth(curves[without], curves[prior], errors, draws=200)
    except UserError:
        return None


def _on_common_compute(own: pd.DataFrame, places: int = 40) -> pd.DataFrame:
    """Every seed's envelope at the same computes, by interpolation in the logarithms, within what all seeds reach."""
    low = own.groupby("seed")["compute"].min().max()
    high = own.groupby("seed")["compute"].max().min()
    at = np.geomspace(low, high, places)
    rows = [
        pd.DataFrame(
            {
                "compute": at,
                "error": np.exp(np.interp(np.log(at), np.log(one["compute"]), np.log(one["error"]))),
                "seed": seed,
            }
        )
        for seed, one in own.sort_values("compute").groupby("seed")
    ]
    return pd.concat(rows, ignore_index=True)


def prices_of(points: pd.DataFrame) -> dict[tuple[str, str], Worth | None]:
    """The price of the prior by MLP family and by what is paid with (`PAID_IN`)."""
    reads = dict(zip(PAID_IN, (price_in_examples, price_in_compute), strict=True))
    return {(family, name): read(points, family) for family in WITHOUT for name, read in reads.items()}


def price_of_a_prior(prices: dict[tuple[str, str], Worth | None]) -> Figure:
    """How many times the images, and the compute, each MLP needs for the error of a small CNN (`prices_of`): a line a
    family over the error, with 95% bootstrap bands over seeds; 1 is no advantage."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True)
    for axis, name in zip(axes, PAID_IN, strict=True):
        there = False
        for family in WITHOUT:
            found = prices[family, name]
            if found is None:
                continue
            there = True
            colour = FAMILY_COLOURS[family]
            axis.plot(100 * found.errors, found.ratio, color=colour, marker="o", ms=3, label=family)
            axis.fill_between(100 * found.errors, found.low, found.high, color=colour, alpha=0.2, lw=0)
        axis.axhline(1, color="#777777", lw=1)
        axis.set(xlabel="validation error that both reach (%)")
        axis.set_title(f"{name.capitalize()}, times the {PRIOR}'s", fontsize=10)
        if there:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}×"))
            axis.invert_xaxis()
        else:
            say_not_run(axis)
    for axis in axes:
        label_ends(axis)  # when both have the limits that they share
    axes[0].set_ylabel(f"MLP over {PRIOR}")
    plt.close(figure)
    return figure


def table_of_prices(prices: dict[tuple[str, str], Worth | None]) -> pd.DataFrame:
    """The price of the prior from the highest error that both families reach to the lowest."""
    rows = []
    for (family, name), found in prices.items():
        if found is None:
            rows.append({"family": family, "in": name, "error": "none in common"})
            continue
        for i in (len(found.errors) - 1, 2 * len(found.errors) // 3, len(found.errors) // 3, 0):
            rows.append(
                {
                    "family": family,
                    "in": name,
                    "error": f"{100 * found.errors[i]:.0f}%",
                    f"times the {PRIOR}'s [95%]": price_text(found, i),
                }
            )
    return pd.DataFrame(rows)


def price_text(found: Worth, i: int) -> str:
    """A ratio with its bootstrap interval over seeds; without one where too few resamples reach that error."""
    ends = "" if np.isnan(found.low[i]) else f" [{found.low[i]:.2g}, {found.high[i]:.2g}]"
    return f"{found.ratio[i]:.2g}{ends}"


def behind_a_price(points: pd.DataFrame, without: str = "B-MLP") -> pd.DataFrame:
    """The points on which the prices of an MLP family rest: its own, and those of the family with the prior."""
    return points[points["family"].isin((without, PRIOR))]


def lowest_price(found: Worth | None) -> str:
    """The price at the lowest error that nearly all resamples of both families reach, with that error: "8.1 [6.2, 10]
    at 55%"; "not run" without one."""
    if found is None:
        return "not run"
    known = np.flatnonzero(np.isfinite(found.low))
    i = int(known[np.argmin(found.errors[known])]) if len(known) else int(np.argmin(found.errors))
    return f"{price_text(found, i)} at {100 * found.errors[i]:.0f}%"


def judged_law(points: pd.DataFrame) -> Joint | None:
    """The joint law on which the chapter's verdict and its calculator rest."""
    runs = rules.runs_of(scaling.of_family(points, rules.JUDGED))
    if runs["params"].nunique() < 3 or runs["examples"].nunique() < 3:
        return None
    return scaling.joint_law(runs["params"], runs["examples"], runs["loss"])


def recommendations(points: pd.DataFrame, budgets: Sequence[float]) -> list[Recommendation]:
    """What that law recommends for budgets in FLOPs; none where there is no law, or no optimum."""
    law = judged_law(points)
    if law is None:
        return []
    runs = rules.runs_of(scaling.of_family(points, rules.JUDGED))
    per = float(np.mean(runs["compute"] / (runs["params"] * runs["examples"])))
    try:
        return [recommend(law, float(budget), per, largest=float(runs["compute"].max())) for budget in budgets]
    except UserError:
        return []


def exponent_text(part: Estimate) -> str:
    """The judged exponent with its bootstrap interval, or that the data do not limit it."""
    if part.n == 0:
        return "not run"
    if part.interval is None or not np.isfinite(part.interval).all():
        return f"{part.mean:.2f}, not identified"
    return note(_span(part.mean, part.interval), part.runs)
