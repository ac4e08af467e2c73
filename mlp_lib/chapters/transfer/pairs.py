"""What pre-training brings between other data sets: the same chains at laptop size, a pair of sets a row.

`pairs` is `presets.Pair` -> `study.Results`.
"""

from collections.abc import Iterator, Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib import datasets
from mlp_lib.chapters.transfer.figures import at_judged_size, mark, read
from mlp_lib.chapters.transfer.presets import AUGMENTED, LONG, PLAIN, Pair
from mlp_lib.chapters.transfer.rules import FAR, between
from mlp_lib.chapters.transfer.study import Results
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed
from mlp_lib.records.record import FINISHED
from mlp_lib.stats.intervals import paired_difference, t_interval

Pairs = Mapping[Pair, Results]


def gains(pairs: Pairs) -> Figure:
    """Fine-tuned minus from scratch for as long as both, in points of test top-1, with 95% intervals: a row a pair, a
    mark a model."""
    names = [_title(pair).replace(" to ", "\nto ") for pair in pairs]
    figure, axis = plt.subplots(figsize=(WIDTH, 1.1 + 0.6 * len(names)))
    axis.axvline(0, color="0.4", lw=0.8)
    axis.axvline(FAR, color="0.6", lw=0.8, ls="--")
    named: set[str] = set()
    for y, pair in enumerate(pairs):
        finished = [(family, rows) for _, family, rows in _models(pairs[pair]) if not rows.empty]
        for offset, (family, rows) in enumerate(finished):
            found = between(rows, AUGMENTED, LONG)
            if not found.n:
                continue
            label = None if family in named else family
            named.add(family)
            look = dict(fmt="o" if offset == 0 else "s", color=FAMILY_COLOURS[family], label=label)
            mark(axis, found, y + 0.2 * offset, **look)
        if not finished:
            axis.annotate("not run", (0, y), xytext=(4, 0), textcoords="offset points", va="center", color="0.4")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel("fine-tuned minus from scratch (points of test top-1)")
    axis.set_title("What pre-training brings at equal compute, by pair of data sets", fontsize=10)
    axis.annotate(
        "far above", (FAR, -0.5), xytext=(-3, -3), textcoords="offset points", va="top", ha="right", color="0.4"
    )
    if named:
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    plt.close(figure)
    return figure


def table(pairs: Pairs) -> pd.DataFrame:
    """A row a pair and model that has run: test top-1 on the target, the differences of claims 8 and 9, and what
    augmentation upstream adds to the convex probe. In points, paired by seed."""
    rows = []
    for pair, results in pairs.items():
        for model, _, own in _models(results):
            if own.empty:
                continue
            probed = results.upstream[results.upstream["model"] == model]
            sides = [probed[probed["pre_training"] == start] for start in (AUGMENTED, PLAIN)]
            features = [with_runs(read(side, "probe_").set_axis(side["seed"]), side).dropna() for side in sides]
            rows.append(
                {
                    "upstream, target": _title(pair),
                    "model": model,
                    "from scratch, for as long": t_interval(by_seed(own, start=LONG)).text(),
                    "fine-tuned": t_interval(by_seed(own, start=AUGMENTED)).text(),
                    "difference": between(own, AUGMENTED, LONG).text(),
                    "without augmentation upstream": between(own, PLAIN, LONG).text(),
                    "augmentation, by probe": paired_difference(*features).text(),
                }
            )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"upstream, target": ["no pair has run"]})


def _title(pair: Pair) -> str:
    return " to ".join(datasets.facts(name).title for name in (pair.upstream, pair.target))


def _models(results: Results) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Every model with its family and its finished rows at the judged sizes."""
    frame = at_judged_size(results)
    for (model, family), rows in frame.groupby(["model", "family"], sort=False):
        yield model, family, rows[rows["status"].isin(FINISHED)]
