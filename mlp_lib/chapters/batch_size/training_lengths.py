"""Does the order of batch sizes hold at every training length? For chapter rq2-batch-size. No torch.

Learning curves of LION's runs at the learning rate tuned for each batch size, on the validation part. At a constant
learning rate one long run contains the shorter ones; under a schedule only its end counts.
"""

import numpy as np
import pandas as pd

from mlp_lib.chapters.batch_size.figures import CHANGE
from mlp_lib.chapters.batch_size.study import JUDGE, JUDGED
from mlp_lib.records.frames import curves
from mlp_lib.stats.intervals import Estimate, at_best_of_others, paired_difference, sign, t_interval

BEST = "best by the other seeds"


def changes_by_length(tuned: pd.DataFrame) -> pd.DataFrame:
    """Validation top-1 by batch size, and the largest minus the smallest, paired by seed, at every length of the
    judged runs that every batch size with curves has; last, where the other seeds of its batch size were at their best
    (`BEST`).

    tuned: one row a run, run or not (`studies.batch_size.Results`). Columns: architecture, epoch (or BEST), means (by
    judged batch size, nan without curves), change (an Estimate; n = 0 where the smallest or the largest of *all* judged
    batch sizes has no curves: others are not the ends).
    """
    runs = tuned[(tuned["optimizer"] == JUDGE) & (tuned["budget"] == "epochs") & tuned["architecture"].isin(JUDGED)]
    sizes = sorted(int(size) for size in runs["batch_size"].unique())
    points = curves(runs[runs["status"] == "ok"])
    if "val_top1" not in points:
        return pd.DataFrame(columns=["architecture", "epoch", "means", "change"])
    rows, nothing = [], pd.Series(dtype=float)
    for architecture in JUDGED:
        own = points[points["architecture"] == architecture].dropna(subset=["val_top1"])
        if own.empty:
            continue
        lengths = set.intersection(*({*part["epoch"]} for _, part in own.groupby("batch_size")))
        curve_of = {
            int(size): cell.pivot(index="seed", columns="epoch", values="val_top1")
            for size, cell in own.groupby("batch_size")
        }
        at = {epoch: {size: found[epoch] for size, found in curve_of.items()} for epoch in sorted(lengths)}
        best = {size: at_best_of_others(found) for size, found in curve_of.items()}
        for epoch, scores in [*at.items(), (BEST, best)]:
            means = {size: float(scores[size].mean()) if size in scores else float("nan") for size in sizes}
            largest, smallest = (scores.get(size, nothing) for size in (sizes[-1], sizes[0]))
            change = paired_difference(largest, smallest if len(sizes) > 1 else nothing)
            rows.append(dict(architecture=architecture, epoch=epoch, means=means, change=change))
    return pd.DataFrame(rows)


def table_by_length(tuned: pd.DataFrame) -> pd.DataFrame:
    """`changes_by_length` for a page: a row an architecture and length, a column a batch size."""
    rows = [
        {
            "architecture": row.architecture,
            "epochs": row.epoch if row.epoch == BEST else f"{row.epoch:g}",
            **{f"batch {size:,}": "not run" if np.isnan(mean) else f"{mean:.1f}" for size, mean in row.means.items()},
            CHANGE: row.change.text(),
        }
        for row in changes_by_length(tuned).itertuples()
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame({CHANGE: ["not run"]})


def reading_by_length(tuned: pd.DataFrame, architecture: str) -> str:
    """For a sentence: after which lengths the largest batch is shown to be worse than the smallest, after which better,
    and after which neither, and the difference at the best epochs. "not run" without intervals."""
    rows = changes_by_length(tuned)
    rows = rows[(rows["architecture"] == architecture) & rows["change"].map(lambda change: change.interval is not None)]
    lengths = rows[rows["epoch"] != BEST]
    words = []
    for shown, verdict in ((-1, "worse"), (1, "better"), (0, "neither worse nor better for certain")):
        epochs = [f"{row.epoch:g}" for row in lengths.itertuples() if sign(row.change) == shown]
        if epochs:
            words.append(f"{verdict} after {', '.join(epochs)} {'epoch' if epochs == ['1'] else 'epochs'}")
    if (best := change_at_best(tuned, architecture)).interval:
        words.append(f"each at the best epoch of the other seeds it differs by {best.text()} points")
    return "; ".join(words) or "not run"


def change_at_best(tuned: pd.DataFrame, architecture: str) -> Estimate:
    """Validation top-1 at the largest batch size minus that at the smallest, each run where the others were best."""
    rows = changes_by_length(tuned)
    found = rows[(rows["architecture"] == architecture) & (rows["epoch"] == BEST)]["change"]
    return found.iloc[0] if len(found) else t_interval([])


def floor_of_loss(classes: int, smoothing: float) -> float:
    """The training loss, in nats against hard labels, of a network that answers exactly what label smoothing asks for:
    -log(1 - smoothing + smoothing / classes). Below it a network is surer than it was taught to be."""
    return float(np.log(1 / (1 - smoothing + smoothing / classes)))
