"""Does the schedule change what the batch size does? The cosine control of chapter rq2-batch-size.

Frames are `study.Results.tuned`: LION at equal epochs, at a constant learning rate and under a cosine schedule, each
tuned for each batch size. The interaction is the effect of the batch size under the schedule minus that at a constant
rate.
"""

import pandas as pd

from mlp_lib.chapters.batch_size.comparisons import DIFFERENCE, difference, loss_by_seed
from mlp_lib.chapters.batch_size.presets import COSINE, JUDGE, JUDGED
from mlp_lib.plots import tables
from mlp_lib.records.frames import by_seed
from mlp_lib.records.record import FINISHED
from mlp_lib.stats import intervals
from mlp_lib.stats.intervals import paired_difference, t_interval

SCHEDULES = {"constant": "epochs", "cosine": COSINE.budget}  # and the budget under which its cells stand
FITTED = 99.0  # training top-1 in percent, from which on two trainings have both learnt their images


def complete(tuned: pd.DataFrame) -> bool:
    """Whether every run of the control has ended, and there is one."""
    runs = tuned[tuned["budget"] == COSINE.budget]
    return len(runs) > 0 and bool(runs["status"].isin(FINISHED).all())


def table_of_accuracies(tuned: pd.DataFrame) -> pd.DataFrame:
    """Test top-1 at every batch size under both schedules, a row an architecture and schedule."""
    rows = []
    for architecture in JUDGED:
        for schedule, budget in SCHEDULES.items():
            runs = _runs(tuned, architecture, schedule)
            rows.append(
                {
                    "architecture": architecture,
                    "learning rate": schedule,
                    **{f"batch {size:,}": t_interval(by_seed(runs, batch_size=size)).text() for size in _sizes(tuned)},
                    DIFFERENCE: difference(tuned, architecture, budget=budget).text(),
                }
            )
    return pd.DataFrame(rows)


def interactions(tuned: pd.DataFrame, quantity: str = "test_top1") -> pd.DataFrame:
    """A row an architecture and larger batch size: its `quantity` (test_top1 in points; test_loss, train_loss in nats)
    minus the smallest batch's, at a constant rate and under the schedule, and the interaction, the second minus the
    first.

    Columns: architecture, smaller, larger, the Estimates constant, cosine and interaction over the seeds that all four
    cells have, and `fitted`, the least training top-1 (%) of the four, means over seeds.
    """
    smaller, *sizes = _sizes(tuned)
    rows = []
    for architecture in JUDGED:
        runs = {schedule: _runs(tuned, architecture, schedule) for schedule in SCHEDULES}
        for larger in sizes:
            gains = {
                schedule: intervals.difference(_values(own, quantity, larger), _values(own, quantity, smaller))
                for schedule, own in runs.items()
            }
            both = gains["constant"].index.intersection(gains["cosine"].index)
            cells = [
                own[(own["batch_size"] == size) & (own["status"] == "ok")]
                for own in runs.values()
                for size in (smaller, larger)
            ]
            rows.append(
                {
                    "architecture": architecture,
                    "smaller": smaller,
                    "larger": larger,
                    **{schedule: t_interval(values.loc[both]) for schedule, values in gains.items()},
                    "interaction": paired_difference(gains["cosine"], gains["constant"]),
                    "fitted": min(cell["train_top1"].astype(float).mean() if len(cell) else 0.0 for cell in cells),
                }
            )
    return pd.DataFrame(rows, columns=["architecture", "smaller", "larger", *SCHEDULES, "interaction", "fitted"])


def table_of_interactions(tuned: pd.DataFrame) -> pd.DataFrame:
    """`interactions` of test top-1 for a page, with the training top-1 of the larger batch size under both."""
    rows = []
    for row in interactions(tuned).itertuples():
        larger = [_at(tuned, row.architecture, schedule, row.larger) for schedule in SCHEDULES]
        rows.append(
            {
                "architecture": row.architecture,
                "batch sizes": f"{row.smaller:,} to {row.larger:,}",
                "constant, points [95%]": row.constant.text(),
                "cosine": row.cosine.text(),
                "interaction: cosine - constant": row.interaction.text(),
                "training top-1 % of the larger": " and ".join(tables.percent(cell, "train_top1") for cell in larger),
            }
        )
    return pd.DataFrame(rows)


def at_equal_fit(tuned: pd.DataFrame, architecture: str) -> dict | None:
    """The row of `interactions` of the largest batch size at which all four cells have learnt their images (`FITTED`);
    None where there is no such batch size."""
    rows = interactions(tuned)
    rows = rows[(rows["architecture"] == architecture) & (rows["fitted"] >= FITTED)]
    return None if rows.empty else rows.iloc[-1].to_dict()


def _sizes(tuned: pd.DataFrame) -> list[int]:
    """The judged batch sizes: those of the control."""
    judged = tuned[(tuned["optimizer"] == JUDGE) & tuned["budget"].isin(SCHEDULES.values())]
    return sorted(int(size) for size in judged["batch_size"].unique())


def _runs(tuned: pd.DataFrame, architecture: str, schedule: str) -> pd.DataFrame:
    kept = (tuned["optimizer"] == JUDGE) & (tuned["budget"] == SCHEDULES[schedule])
    return tuned[kept & (tuned["architecture"] == architecture)]


def _at(tuned: pd.DataFrame, architecture: str, schedule: str, batch_size: int) -> pd.DataFrame:
    runs = _runs(tuned, architecture, schedule)
    return runs[runs["batch_size"] == batch_size]


def _values(runs: pd.DataFrame, quantity: str, batch_size: int) -> pd.Series:
    """By seed; a diverged run's accuracy is chance, and it has no loss."""
    if quantity == "test_top1":
        return by_seed(runs, batch_size=batch_size)
    return loss_by_seed(runs[runs["batch_size"] == batch_size], quantity)
