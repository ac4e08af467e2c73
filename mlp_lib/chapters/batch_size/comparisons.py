"""The largest batch size minus the smallest: every such difference that chapter rq2-batch-size shows or judges.

`tuned` and `probes` are frames of `study.Results`: one row a run, with architecture, optimizer, budget and batch_size.
Differences are in points, paired by seed; a diverged run's test accuracy is chance.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from mlp_lib.chapters.batch_size.presets import BEYOND, JUDGE, JUDGED
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed, measures_of
from mlp_lib.stats import intervals
from mlp_lib.stats.intervals import Estimate, at_best_of_others, paired_difference, t_interval
from mlp_lib.stats.learning_curves import seeds_by_length

DIFFERENCE = "largest - smallest, points [95%]"  # a column
BEST = "best by the other seeds"  # in the place of a number of epochs
BETWEEN = " - ".join(JUDGED)


class Line(NamedTuple):
    """All batch sizes of one architecture, optimiser and budget: `name` says which, `rows` are its runs, `sizes` the
    smallest and the largest batch size of its preset, `scores` the test top-1 at these, by seed."""

    name: dict[str, str]
    rows: pd.DataFrame
    sizes: tuple[int, int]
    scores: tuple[pd.Series, pd.Series]

    @property
    def difference(self) -> Estimate:
        """n = 0 where there is one batch size only."""
        smallest, largest = self.scores
        return paired_difference(largest if self.sizes[0] < self.sizes[1] else largest.iloc[:0], smallest)


def lines(tuned: pd.DataFrame, only: dict[str, str] | None = None) -> Iterator[Line]:
    """Every line of a frame, also by `preset` where there is such a column, or the one of the name `only`. Batch sizes
    beyond the judged ones have lines, and ends, of their own."""
    keys = [key for key in ("preset", "optimizer", "budget", "architecture") if key in tuned]
    for values, part in tuned.groupby(keys, sort=False):
        name = dict(zip(keys, values, strict=True))
        if only is not None and name != only:
            continue
        alike = tuned[(tuned["budget"] == BEYOND.budget) == (name["budget"] == BEYOND.budget)]
        alike = alike[alike["preset"] == name["preset"]] if "preset" in name else alike
        sizes = int(alike["batch_size"].min()), int(alike["batch_size"].max())
        yield Line(name, part, sizes, tuple(by_seed(part, batch_size=size) for size in sizes))


def difference(tuned: pd.DataFrame, architecture: str, optimizer: str = JUDGE, budget: str = "epochs") -> Estimate:
    """Test top-1 at the largest batch size minus that at the smallest, of one line; n = 0 where there is none."""
    found = lines(tuned, dict(optimizer=optimizer, budget=budget, architecture=architecture))
    return next((line.difference for line in found), t_interval([]))


def judged_rows(tuned: pd.DataFrame) -> pd.DataFrame:
    """The rows of the comparison that the rule judges, of all architectures: LION at equal epochs."""
    return tuned[(tuned["optimizer"] == JUDGE) & (tuned["budget"] == "epochs")]


def means_by_length(tuned: pd.DataFrame) -> pd.DataFrame:
    """Validation top-1 by batch size, and the largest minus the smallest, at every length that all learning curves of
    an architecture have; last, where the other seeds of its batch size were at their best (`BEST`).

    Columns: architecture, epoch (or BEST), means (by judged batch size, nan without curves), difference (an Estimate;
    n = 0 where the smallest or the largest of *all* judged batch sizes has no curves: others are not the ends).
    """
    runs = judged_rows(tuned)
    sizes = sorted(int(size) for size in runs["batch_size"].unique())
    rows, nothing = [], pd.Series(dtype=float)
    for architecture in JUDGED:
        own = runs[runs["architecture"] == architecture]
        tables = {size: seeds_by_length(own[own["batch_size"] == size]) for size in sizes}
        tables = {size: table for size, table in tables.items() if len(table.columns)}
        lengths = sorted(set.intersection(*({*table.columns} for table in tables.values()))) if tables else []
        at_lengths = [(epoch, {size: table[epoch] for size, table in tables.items()}) for epoch in lengths]
        best = [(BEST, {size: at_best_of_others(table) for size, table in tables.items()})] if tables else []
        for epoch, scores in (*at_lengths, *best):
            means = {size: float(scores[size].mean()) if size in scores else float("nan") for size in sizes}
            largest, smallest = (scores.get(size, nothing) for size in (sizes[-1], sizes[0]))
            gain = paired_difference(largest, smallest if len(sizes) > 1 else nothing)
            rows.append(dict(architecture=architecture, epoch=epoch, means=means, difference=gain))
    return pd.DataFrame(rows, columns=["architecture", "epoch", "means", "difference"])


def at_lengths(tuned: pd.DataFrame, architecture: str) -> dict[float | str, Estimate]:
    """`means_by_length`'s difference of one architecture, by number of epochs and `BEST`."""
    rows = means_by_length(tuned)
    rows = rows[rows["architecture"] == architecture]
    return dict(zip(rows["epoch"], rows["difference"], strict=True))


def between_sizes(tuned: pd.DataFrame) -> pd.DataFrame:
    """A row an architecture and a pair of batch sizes, neighbours first and the smallest and largest last.

    Columns: architecture, smaller, larger, steps (of both), `test` and `loss`, Estimates of larger - smaller. The
    architecture `BETWEEN` is the first's difference minus the second's, paired by seed, without a loss.
    """
    rows = judged_rows(tuned)
    sizes = sorted(int(size) for size in rows["batch_size"].unique())
    pairs = list(pairwise(sizes))
    pairs += [(sizes[0], sizes[-1])] if len(sizes) > 2 else []
    found = []
    for smaller, larger in pairs:
        steps = tuple(int(rows[rows["batch_size"] == size]["total_steps"].iloc[0]) for size in (smaller, larger))
        pair = dict(smaller=smaller, larger=larger, steps=steps)
        gains = {}
        for architecture in JUDGED:
            own = rows[rows["architecture"] == architecture]
            cells = [own[own["batch_size"] == size] for size in (larger, smaller)]
            accuracies, losses = [by_seed(cell) for cell in cells], [loss_by_seed(cell) for cell in cells]
            gains[architecture] = intervals.difference(*accuracies)
            test, loss = paired_difference(*accuracies), paired_difference(*losses)
            found.append(dict(architecture=architecture, **pair, test=test, loss=loss))
        apart = paired_difference(*(gains[architecture] for architecture in JUDGED))
        found.append(dict(architecture=BETWEEN, **pair, test=apart, loss=None))
    return pd.DataFrame(found, columns=["architecture", "smaller", "larger", "steps", "test", "loss"])


def loss_by_seed(runs: pd.DataFrame, column: str = "train_loss") -> pd.Series:
    """A loss, in nats, by seed; a diverged run has none."""
    done = runs[runs["status"] == "ok"]
    return with_runs(done.set_index("seed")[column].astype(float), done) if len(done) else pd.Series(dtype=float)


def probe_accuracy(probes: pd.DataFrame) -> pd.Series:
    """The linear probe's test top-1 in percent for each row; nan where it was not measured."""
    found = [next((probe["test_top1"] for probe in probes_of(row)), np.nan) for row in probes.to_dict("records")]
    return pd.Series(found, probes.index, dtype=float)


def probes_of(row: dict) -> list[dict]:
    """What the linear probes of one run found."""
    return [measure for name, measure in measures_of(row).items() if name.startswith("probe_")]


def probe_by_seed(probes: pd.DataFrame, batch_size: int) -> pd.Series:
    """The probe's test top-1 by seed, of one upstream batch size."""
    kept = probes[probes["batch_size"] == batch_size]
    return with_runs(probe_accuracy(kept).set_axis(kept["seed"]), kept).dropna()


def probe_difference(probes: pd.DataFrame, architecture: str, budget: str, epochs: float | None = None) -> Estimate:
    """The probe's test top-1 at the largest upstream batch size minus that at the smallest. budget: "fixed", one
    learning rate for all batch sizes, or "tuned". epochs: of the upstream training, the longest when left out."""
    epochs = probes["epochs"].max() if epochs is None else epochs
    part = probes[(probes["architecture"] == architecture) & (probes["budget"] == budget)]
    part = part[part["epochs"] == epochs]
    smallest, largest = probes["batch_size"].min(), probes["batch_size"].max()
    if smallest == largest:
        return t_interval([])
    return paired_difference(probe_by_seed(part, largest), probe_by_seed(part, smallest))
