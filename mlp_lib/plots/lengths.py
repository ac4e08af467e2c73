"""Does the order of batch sizes hold at every training length? For chapter rq2-batch-size. No torch.

Learning curves of LION's runs at the learning rate tuned for each batch size, on the validation part. At a constant
learning rate one long run contains the shorter ones; under a schedule only its end counts.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mlp_lib.records import FINISHED, curves
from mlp_lib.rules import by_seed
from mlp_lib.stats import Estimate, paired_difference, t_interval
from mlp_lib.studies.batch_size import BEYOND, COSINE, JUDGE, JUDGED

BEST = "each run's best point"
CHANGE = "largest - smallest, points [95%]"


def changes_by_length(tuned: pd.DataFrame) -> pd.DataFrame:
    """Validation top-1 by batch size, and the largest minus the smallest, paired by seed, at every length of the
    judged runs; last, where each run was at its best (`BEST`).

    tuned: one row a run (`studies.batch_size.Results`). Columns: architecture, epoch (or BEST), means (by batch size),
    change (an Estimate).
    """
    runs = _runs(tuned, "epochs")
    points = curves(runs)
    if "val_top1" not in points:
        return pd.DataFrame(columns=["architecture", "epoch", "means", "change"])
    rows = []
    for architecture in JUDGED:
        own = points[points["architecture"] == architecture].dropna(subset=["val_top1"])
        if own.empty:
            continue
        lengths = set.intersection(*({*part["epoch"]} for _, part in own.groupby("batch_size")))
        at = {epoch: own[own["epoch"] == epoch] for epoch in sorted(lengths)}
        best = own.groupby(["batch_size", "seed"], as_index=False)["val_top1"].max()
        for epoch, part in [*at.items(), (BEST, best)]:
            scores = {size: cell.set_index("seed")["val_top1"] for size, cell in part.groupby("batch_size")}
            means = {int(size): float(values.mean()) for size, values in scores.items()}
            change = paired_difference(scores[max(scores)], scores[min(scores)])
            rows.append(dict(architecture=architecture, epoch=epoch, means=means, change=change))
    return pd.DataFrame(rows)


def table_by_length(tuned: pd.DataFrame) -> pd.DataFrame:
    """`changes_by_length` for a page: a row an architecture and length, a column a batch size."""
    rows = [
        {
            "architecture": row.architecture,
            "epochs": row.epoch if row.epoch == BEST else f"{row.epoch:g}",
            **{f"batch {size:,}": f"{mean:.1f}" for size, mean in row.means.items()},
            CHANGE: row.change.text(),
        }
        for row in changes_by_length(tuned).itertuples()
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame({CHANGE: ["not run"]})


def reading_by_length(tuned: pd.DataFrame, architecture: str) -> str:
    """For a sentence: after which lengths the largest batch is shown to be worse than the smallest, after which better,
    and after which neither, and the difference where each run is at its best. "not run" without intervals."""
    rows = changes_by_length(tuned)
    rows = rows[(rows["architecture"] == architecture) & rows["change"].map(lambda change: change.interval is not None)]
    lengths = rows[rows["epoch"] != BEST]
    words = []
    for sign, verdict in ((-1, "worse"), (1, "better"), (0, "neither worse nor better for certain")):
        epochs = [f"{row.epoch:g}" for row in lengths.itertuples() if _sign(row.change) == sign]
        if epochs:
            words.append(f"{verdict} after {', '.join(epochs)} {'epoch' if epochs == ['1'] else 'epochs'}")
    if (best := change_at_best(tuned, architecture)).interval:
        words.append(f"each at its own best point it differs by {best.text()} points")
    return "; ".join(words) or "not run"


def change_at_best(tuned: pd.DataFrame, architecture: str) -> Estimate:
    """Validation top-1 at the largest batch size minus that at the smallest, each run at its best point."""
    rows = changes_by_length(tuned)
    found = rows[(rows["architecture"] == architecture) & (rows["epoch"] == BEST)]["change"]
    return found.iloc[0] if len(found) else t_interval([])


def changes_under_cosine(tuned: pd.DataFrame) -> dict[tuple[str, str], Estimate]:
    """Test top-1 at the largest batch size minus that at the smallest, paired by seed, by architecture and by schedule:
    of the control's seeds, the constant rate has more."""
    found = {}
    for architecture, schedule, runs in _schedules(tuned):
        found[architecture, schedule] = paired_difference(*(by_seed(runs, batch_size=size) for size in _ends(tuned)))
    return found


def table_under_cosine(tuned: pd.DataFrame) -> pd.DataFrame:
    """Test top-1 at every batch size under a constant rate and under a cosine schedule, each tuned for each batch size:
    a row an architecture and schedule."""
    changes, rows = changes_under_cosine(tuned), []
    for architecture, schedule, runs in _schedules(tuned):
        sizes = sorted(tuned.loc[tuned["budget"].isin(("epochs", COSINE.budget)), "batch_size"].unique())
        rows.append(
            {
                "architecture": architecture,
                "learning rate": schedule,
                **{f"batch {size:,}": t_interval(by_seed(runs, batch_size=size)).text() for size in sizes},
                CHANGE: changes[architecture, schedule].text(),
            }
        )
    return pd.DataFrame(rows)


def cosine_complete(tuned: pd.DataFrame) -> bool:
    """Whether every run of the control has ended, and there is one."""
    runs = tuned[tuned["budget"] == COSINE.budget]
    return len(runs) > 0 and bool(runs["status"].isin(FINISHED).all())


def floor_of_loss(classes: int, smoothing: float) -> float:
    """The training loss, in nats against hard labels, of a network that answers exactly what label smoothing asks for:
    -log(1 - smoothing + smoothing / classes). Below it a network is surer than it was taught to be."""
    return float(np.log(1 / (1 - smoothing + smoothing / classes)))


def _schedules(tuned: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for architecture in JUDGED:
        for budget, schedule in (("epochs", "constant"), (COSINE.budget, "cosine")):
            runs = tuned[(tuned["optimizer"] == JUDGE) & (tuned["budget"] == budget)]
            yield architecture, schedule, runs[runs["architecture"] == architecture]


def _runs(tuned: pd.DataFrame, budget: str) -> pd.DataFrame:
    kept = (tuned["optimizer"] == JUDGE) & (tuned["budget"] == budget) & tuned["architecture"].isin(JUDGED)
    return tuned[kept & (tuned["status"] == "ok")]


def _ends(tuned: pd.DataFrame) -> tuple[int, int]:
    """The largest and the smallest batch size, of the judged ones."""
    sizes = tuned.loc[tuned["budget"] != BEYOND.budget, "batch_size"]
    return int(sizes.max()), int(sizes.min())


def _sign(change: Estimate) -> int:
    low, high = change.interval
    return int(low > 0) - int(high < 0)
