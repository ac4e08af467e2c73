"""What a fixed last step does to the gain of augmentation, and whether training overfits: tables of rq2-augmentation.

Read off the learning curves on validation images, which test images have not. The best point of a curve is chosen for
each run by the other seeds (`stats.intervals.at_best_of_others`): a run's own best of several noisy points is too good,
and the better the flatter its curve. So two seeds are needed. Everything also stands where nothing has run.
"""

from collections.abc import Iterator

import pandas as pd

from mlp_lib.chapters.augmentation.figures import if_run
from mlp_lib.chapters.augmentation.presets import ALL, NONE
from mlp_lib.records.behind import with_runs, with_those_of
from mlp_lib.stats.intervals import Estimate, at_best_of_others, difference, paired_difference, t_interval


def gains_over_the_best(results) -> dict[tuple[str, str], tuple[Estimate, Estimate, Estimate]]:
    """By model and family: what all of the augmentation brings, in points of validation top-1, paired by seed. At the
    last step of both; from the best point of the run without augmentation, chosen by the other seeds, to the last step
    with it; and the difference of the two, what the run without lost since that point.

    The last two have n = 0 for fewer than two seeds. A point that the others choose wrongly is not the best there is,
    so where the choice is unsure the second is a little too high and the third too low.
    """
    found = {}
    for (model, family), runs in _by_model(results):
        last, best, full = runs["last"], runs["best"], runs["augmented"]
        found[model, family] = (
            paired_difference(full, last),
            paired_difference(full, best),
            paired_difference(best, last),
        )
    return found


def between_over_the_best(results, first: str, second: str) -> Estimate:
    """One family's gain over the best point without augmentation minus another's, paired by seed."""
    gains = {family: difference(runs["augmented"], runs["best"]) for (_, family), runs in _by_model(results)}
    return paired_difference(gains[first], gains[second])


def _by_model(results) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """By model and family, a row a seed that has both sides: validation top-1 without augmentation at the `last` step
    and at the `best` point, and `augmented`, with all of it, at the last step."""
    for key, cells in results.compared.groupby(["model", "family"], sort=False):
        without, full = (_points(cells, name, "val_top1") for name in (NONE, ALL))
        paired = without[without.index.isin(full.index)]
        columns = {"last": _last(paired), "best": at_best_of_others(paired), "augmented": _last(full)}
        yield key, with_those_of(pd.DataFrame(columns, index=paired.index, dtype=float), without, full)


def table_over_the_best(results) -> pd.DataFrame:
    """A row a model: its gain at the last step, that over the point that is best without augmentation, and the
    difference, as in `gains_over_the_best`."""
    rows = []
    for (model, _), (at_last, over_best, lost) in gains_over_the_best(results).items():
        rows.append(
            {
                "model": model,
                "gain at the last step, points of validation top-1 [95%]": at_last.text(),
                "gain over the best point without, chosen by other seeds [95%]": if_run(over_best.n, over_best.text()),
                "difference: lost since that point [95%]": if_run(lost.n, lost.text()),
            }
        )
    return pd.DataFrame(rows)


def rises(results) -> dict[str, tuple[Estimate, Estimate, Estimate]]:
    """By family: how far the validation loss stands at the end above its lowest point, which the other seeds choose, in
    nats, without augmentation and with all of it, and the first minus the second, paired by seed."""
    found = {}
    for family, cells in results.compared.groupby("family", sort=False):
        points = (_points(cells, name, "val_loss") for name in (NONE, ALL))
        without, full = (difference(_last(curve), -at_best_of_others(-curve)) for curve in points)
        found[family] = t_interval(without), t_interval(full), paired_difference(without, full)
    return found


def table_of_overfitting(results) -> pd.DataFrame:
    """With and without augmentation: the gap between training and test images, and how far the validation loss stands
    at the end above the lowest point of its curve, as in `rises`, with how much less that is with augmentation."""
    rows, risen = [], rises(results)
    for (model, family), cells in results.compared.groupby(["model", "family"], sort=False):
        less = risen[family][2]
        for name, rise in zip((NONE, ALL), risen[family], strict=False):
            done = cells[(cells["augmentation"] == name) & (cells["status"] == "ok")]
            gap = t_interval(with_runs(done["train_top1"] - done["test_top1"], done) if len(done) else [])
            rows.append(
                {
                    "model": model,
                    "augmentation": name,
                    "train - test top-1, points [95%]": gap.text(),
                    "rise of the validation loss, nats [95%]": if_run(rise.n, rise.text(2)),
                    "smaller with it by [95%]": if_run(less.n if name == ALL else 0, less.text(2)),
                }
            )
    return pd.DataFrame(rows)


def _points(cells: pd.DataFrame, name: str, column: str) -> pd.DataFrame:
    """A column of the learning curves of runs with an augmentation: a row a seed, a column a step."""
    runs = cells[(cells["augmentation"] == name) & (cells["status"] == "ok")]
    curves = {
        row["seed"]: {point["step"]: point[column] for point in row["curve"] if column in point}
        for row in runs.to_dict("records")
    }
    return with_runs(pd.DataFrame.from_dict(curves, orient="index", dtype=float).sort_index(axis=1), runs)


def _last(points: pd.DataFrame) -> pd.Series:
    return points.iloc[:, -1] if len(points.columns) else pd.Series(dtype=float)
