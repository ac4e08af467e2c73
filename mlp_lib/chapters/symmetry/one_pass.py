"""The law of training without repetition: error against parameters and new images, each of which is seen once.

A training on new images at a constant rate is, at every point of its curve, what a training on so many images would
have given. So one run a width and seed gives a whole line of the law.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mlp_lib.chapters.scaling import joint_law
from mlp_lib.chapters.symmetry.figures import points_of
from mlp_lib.chapters.symmetry.study import Results
from mlp_lib.errors import UserError
from mlp_lib.plots.style import WIDTH, say_not_run
from mlp_lib.records.behind import note, with_runs
from mlp_lib.stats.intervals import Estimate, t_interval
from mlp_lib.stats.laws.allocate import of_law
from mlp_lib.stats.laws.joint import Joint

REPEATED = 5000  # images that come again, beside the new ones
# What makes the laptop preset train the widths.
CHANGES = {
    "datasets": ("shapes-moved",),
    "models": ("B-6/Wi-32", "B-6/Wi-64", "B-6/Wi-128", "B-6/Wi-256"),
    "repeated": (REPEATED,),
}
FROM = 10_000  # new images: before, a training has hardly left the level of chance, and no law of this form holds


def points(results: Results) -> pd.DataFrame:
    """`figures.points_of` with `params`, of every model and of images new and repeated."""
    own = points_of(results)
    if own.empty:
        return own.assign(params=pd.Series(dtype=float))
    params = results.frame.dropna(subset=["parameters"]).drop_duplicates("model").set_index("model")["parameters"]
    return own.assign(params=own["model"].map(params).astype(float))


def fitted(own: pd.DataFrame) -> pd.DataFrame:
    """The points that the law is fitted to: new images alone, from `FROM` on."""
    return own[(own["repeated"] == 0) & (own["seen"] >= FROM) & (own["error"] > 0)]


def law(own: pd.DataFrame) -> Joint | None:
    """E = E_inf + A / P^alpha + B / D^beta of the error (0 to 1) in parameters and new images; resamples keep a run's
    points together. None where there are too few."""
    used = fitted(own)
    if used["model"].nunique() < 3:
        return None
    runs = used["key"].astype("category").cat.codes.to_numpy()
    try:
        return joint_law(used["params"], used["seen"], used["error"] / 100, groups=runs)
    except UserError:
        return None


def figure(own: pd.DataFrame) -> Figure:
    """Error against new images, a colour a width: dots are means over seeds, lines the joint law."""
    drawn, axis = plt.subplots(figsize=(WIDTH, 4.0))
    fresh = own[own["repeated"] == 0]
    found = law(own)
    models = fresh.sort_values("params")["model"].unique()
    for model, colour in zip(models, sns.color_palette("viridis", len(models)), strict=True):
        mean = fresh[fresh["model"] == model].groupby("seen")["error"].mean()
        axis.plot(mean.index, mean, color=colour, ls="" if found else "-", marker="o", ms=4, label=model)
        if found is not None:
            places = np.geomspace(FROM, mean.index.max(), 50)
            size = fresh.loc[fresh["model"] == model, "params"].iloc[0]
            axis.plot(places, 100 * found.predict(size, places), color=colour, lw=1.5)
    axis.set(xscale="log", yscale="log", xlabel="new images, each seen once", ylabel="validation error (%)")
    axis.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}" if value % 10 == 0 else ""))
    axis.set_title("One pass: error against new images, and the joint law", fontsize=10)
    if len(models):
        axis.legend(fontsize=8)
    else:
        say_not_run(axis)
    plt.close(drawn)
    return drawn


def table_of_law(own: pd.DataFrame) -> pd.DataFrame:
    """The constants of the joint law with bootstrap intervals over runs, the share of compute that it gives to the
    parameters, and how far it misses."""
    found, runs = law(own), t_interval([]).of_runs(fitted(own)).runs
    if found is None:
        return pd.DataFrame({"constant": ["not run"]})
    names = {"alpha": "alpha, of parameters", "beta": "beta, of new images", "E": "limit E_inf, %"}
    rows = []
    for constant, name in names.items():
        factor, digits = (100, 1) if constant == "E" else (1, 2)
        low, high = (factor * end for end in found.intervals[constant])
        value = f"{factor * found.constants[constant]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        rows.append((name, note(value, runs), "yes" if found.identified[constant] else "no"))
    share = best_size(own)
    low, high = share.interval
    known = "yes" if "not identified" not in of_law(found).note else "no"
    value = f"{share.mean:.2f} [{low:.2f}, {high:.2f}]"
    rows.append(("exponent of the best number of parameters", note(value, runs), known))
    rows.append(("misses, %", f"{100 * found.rms_log:.1f}", ""))
    return pd.DataFrame(rows, columns=["constant", "value [95%]", "identified"])


def exponent(own: pd.DataFrame, name: str) -> Estimate:
    """One of the constants of `stats.laws.joint.Joint` with its bootstrap interval; n = 0 where no law was fitted."""
    found = law(own)
    if found is None:
        return t_interval([])
    used = fitted(own)
    return Estimate(found.constants[name], found.intervals[name], used["seed"].nunique()).of_runs(used)


def best_size(own: pd.DataFrame) -> Estimate:
    """The exponent with which the best number of parameters grows with compute, which is proportional to P D, with its
    bootstrap interval; n = 0 where no law was fitted."""
    found = law(own)
    if found is None:
        return t_interval([])
    used, share = fitted(own), of_law(found)
    return Estimate(share.params, share.params_interval, used["seed"].nunique()).of_runs(used)


def table_of_widths(own: pd.DataFrame) -> pd.DataFrame:
    """A row a width: the error after all new images, and after as many looks at `REPEATED` images, with t-intervals
    between seeds."""
    rows = []
    for model in own.sort_values("params")["model"].unique():
        mine = own[own["model"] == model]
        row = {"model": model, "parameters": f"{mine['params'].iloc[0]:,.0f}"}
        for repeated, name in ((0, "all new"), (REPEATED, f"{REPEATED:,} that come again")):
            side = mine[mine["repeated"] == repeated]
            last = side[side["seen"] == side["seen"].max()]
            row[f"error, {name}, % [95%]"] = t_interval(with_runs(last["error"], last)).text()
        rows.append(row)
    return pd.DataFrame(rows) if rows else pd.DataFrame({"model": ["not run"]})
