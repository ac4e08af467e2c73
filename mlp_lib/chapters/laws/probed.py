"""The laws where the paper measures them: of features that are learned on one data set and read on another.

B-MLPs at laptop size learn CIFAR-100, and the more images of TinyImageNet at 32 px (`rules.ELSEWHERE`). CNNs learn
CIFAR-100 (`scaling_grids.PROBED_CNN`). A linear probe reads the features of every cell on CIFAR-10, at the end of its
training, and those of the untrained networks; how they are in between, nobody has looked.
"""

from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters import scaling
from mlp_lib.chapters.laws import figures, rules
from mlp_lib.chapters.laws.figures import constants_of, not_identified, text_of
from mlp_lib.plots.style import FAMILY_COLOURS
from mlp_lib.records.behind import with_runs
from mlp_lib.stats.intervals import Estimate, t_interval


def corners(read: pd.DataFrame) -> dict[str, Estimate]:
    """Error (%) by the probe, between seeds, in three corners of the grid: "few" images with the most parameters,
    "many" images with the fewest, and the "least" of both."""
    largest, smallest = read["params"] == read["params"].max(), read["params"] == read["params"].min()
    fewest, most = read["examples"] == read["examples"].min(), read["examples"] == read["examples"].max()
    cells = {"few": read[largest & fewest], "many": read[smallest & most], "least": read[smallest & fewest]}
    return {name: t_interval(with_runs(100 * cell["error"], cell)) for name, cell in cells.items()}


def table(grids: Mapping[tuple[str, str], scaling.Scaling]) -> pd.DataFrame:
    """Of every grid, by family and what it learns: the joint law and the law of the envelope, of the validation error
    on the set that it learned, at the best pass and at the last one, and of the probe's error on the other set:
    exponents with bootstrap intervals, and how far the saturating law misses the largest compute."""
    rows = []
    for (family, learned), results in grids.items():
        last = results.points.loc[results.points.groupby("key")["epoch"].idxmax()]
        read = {
            "validation, the learned set, best pass": results.points,
            "validation, the learned set, last pass": last,
            "linear probe, the other set, last pass": scaling.by_probe(results),
        }
        for name, points in read.items():
            own = scaling.of_family(points, family)
            law, seeds = rules.exponents(own)
            if law is None:
                continue
            value = constants_of(law, seeds, own)
            miss = rules.law_holds_of(own)[rules.SATURATING]
            rows.append(
                {
                    "family": family,
                    "learned on": learned,
                    "measured by": name,
                    "error, % from": f"{100 * own['error'].max():.1f}",
                    "to": f"{100 * own['error'].min():.1f}",
                    "alpha, of parameters [95%]": text_of(value["alpha"]),
                    "beta, of images [95%]": text_of(value["beta"]),
                    "not identified": not_identified(law),
                    "law of compute misses, %": miss.text() if miss.n else "too few points",
                }
            )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"measured by": ["not run"]})


def as_it_starts(results: scaling.Scaling) -> dict[str, Estimate]:
    """The probe's error (%) after no training at all, by model, between seeds; n = 0 where it has not been read."""
    rows = scaling.as_they_start(results)
    cells = {model: rows[rows["model"] == model] for model in results.grid.chosen_models}
    return {model: t_interval(with_runs(100 * cell["error"], cell)) for model, cell in cells.items()}


def along_each_axis(grids: Iterable[scaling.Scaling]) -> Figure:
    """`figures.along_each_axis` of what the probe reads, and on the left, dotted, of the networks as they start."""
    grids = list(grids)
    figure = figures.along_each_axis(scaling.together(*map(scaling.by_probe, grids)), "error of the probe")
    axis = figure.axes[0]
    for results in grids:
        starts = scaling.as_they_start(results)
        for family, own in starts.groupby("family"):
            slope = figures.slope(own["params"], own["error"])
            mean = 100 * own.groupby("params")["error"].mean()
            text = f"{family} as it starts, slope {slope:.2f}" if slope is not None else f"{family} as it starts"
            axis.plot(mean.index, mean, ls=":", marker="o", mfc="white", color=FAMILY_COLOURS[family], label=text)
            top = max(axis.get_ylim()[1], 1.38 * mean.max())  # room for the legends
            axis.set_ylim(top=top)
    axis.legend(fontsize=7)
    return figure


def table_of_starts(grids: Mapping[tuple[str, str], scaling.Scaling]) -> pd.DataFrame:
    """The probe's error of every model as it starts, and after the fewest and the most images of its grid."""
    rows = []
    for (family, learned), results in grids.items():
        read, starts = scaling.by_probe(results), as_it_starts(results)
        for model in results.grid.chosen_models:
            own = read[read["model"] == model]
            after = {}
            for words, images in (("fewest", own["examples"].min()), ("most", own["examples"].max())):
                cell = own[own["examples"] == images]
                after[f"after the {words} images"] = t_interval(with_runs(100 * cell["error"], cell)).text()
            rows.append(
                {"family": family, "learned": learned, "model": model, "as it starts": starts[model].text(), **after}
            )
    return pd.DataFrame(rows)
