"""Has a larger batch arrived elsewhere, or not arrived? Test accuracy beside the training loss, between batch sizes.

For chapter rq2-batch-size: LION at equal epochs, each batch size at its tuned learning rate. No torch.
"""

from itertools import pairwise

import pandas as pd

from mlp_lib.chapters.batch_size.study import JUDGE, JUDGED
from mlp_lib.plots import tables
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, paired_difference, sign

BETWEEN = " - ".join(JUDGED)
TEST, LOSS = "test top-1, points [95%]", "training loss, nats [95%]"


def changes(tuned: pd.DataFrame) -> pd.DataFrame:
    """A row an architecture and a pair of batch sizes, neighbours first and the two ends last.

    tuned: one row a run, with architecture, optimizer, budget, batch_size (`studies.batch_size.Results`). Columns:
    architecture, smaller, larger, steps (of both), `test` and `loss`, Estimates of larger - smaller paired by seed. The
    architecture `BETWEEN` is the first's change minus the second's, paired by seed, without a loss.
    """
    rows = tuned[(tuned["optimizer"] == JUDGE) & (tuned["budget"] == "epochs")]
    sizes = sorted(int(size) for size in rows["batch_size"].unique())
    pairs = list(pairwise(sizes))
    pairs += [(sizes[0], sizes[-1])] if len(sizes) > 2 else []
    found = []
    for smaller, larger in pairs:
        steps = tuple(int(rows[rows["batch_size"] == size]["total_steps"].iloc[0]) for size in (smaller, larger))
        pair = dict(smaller=smaller, larger=larger, steps=steps)
        moved = {}
        for architecture in JUDGED:
            own = rows[rows["architecture"] == architecture]
            cells = [own[own["batch_size"] == size] for size in (larger, smaller)]
            accuracies, losses = [by_seed(cell) for cell in cells], [loss_by_seed(cell) for cell in cells]
            moved[architecture] = (accuracies[0] - accuracies[1]).dropna()
            found.append(
                dict(
                    architecture=architecture,
                    **pair,
                    test=paired_difference(*accuracies),
                    loss=paired_difference(*losses),
                )
            )
        apart = paired_difference(*(moved[architecture] for architecture in JUDGED))
        found.append(dict(architecture=BETWEEN, **pair, test=apart, loss=None))
    return pd.DataFrame(found, columns=["architecture", "smaller", "larger", "steps", "test", "loss"])


def table_of_changes(tuned: pd.DataFrame) -> pd.DataFrame:
    """`changes` for a page, with a reading of each row: what its two intervals show, and nothing that they do not."""
    return pd.DataFrame(
        {
            "architecture": row.architecture,
            "batch sizes": f"{row.smaller:,} to {row.larger:,}",
            "steps": f"{row.steps[0]:,} to {row.steps[1]:,}",
            TEST: row.test.text(),
            LOSS: row.loss.text(2) if row.loss else "",
            "the larger batch": reading(row.test, row.loss) if row.loss else "",
        }
        for row in changes(tuned).itertuples()
    )


def fit_at_the_largest(tuned: pd.DataFrame) -> str:
    """For a sentence: each architecture's training top-1 in percent at the largest judged batch size, over seeds."""
    rows = tuned[(tuned["optimizer"] == JUDGE) & (tuned["budget"] == "epochs")]
    rows = rows[rows["batch_size"] == rows["batch_size"].max()]
    found = {name: tables.percent(cell, "train_top1") for name, cell in rows.groupby("architecture", sort=False)}
    return ", ".join(f"{name} {value}" for name, value in found.items())


def reading(test: Estimate, loss: Estimate) -> str:
    """What the intervals of two changes, of test accuracy and of training loss, show; a change whose interval holds
    zero is not shown. Empty without intervals."""
    if test.interval is None or loss.interval is None:
        return ""
    fits = {1: "fits less", -1: "fits more", 0: "fit: no difference shown"}[sign(loss)]
    generalises = {1: "generalises better", -1: "generalises worse", 0: "test: no difference shown"}[sign(test)]
    return f"{fits}; {generalises}"


def loss_by_seed(runs: pd.DataFrame, column: str = "train_loss") -> pd.Series:
    """A loss, in nats, by seed; a diverged run has none."""
    done = runs[runs["status"] == "ok"]
    return done.set_index("seed")[column].astype(float) if len(done) else pd.Series(dtype=float)
