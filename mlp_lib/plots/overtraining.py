"""What a fixed last step does to the gain of augmentation, and whether training overfits: tables and words of
rq2-augmentation, from its results (`studies.augmentation.Results`). No torch.

Read off the learning curves on validation images, which test images have not; they also stand where nothing has run.
"""

import pandas as pd

from mlp_lib.plots.augmentation import ALL, NONE, if_run
from mlp_lib.stats import Estimate, paired_difference, t_interval


def gains_over_the_best(results) -> dict[tuple[str, str], tuple[Estimate, Estimate, Estimate]]:
    """By model and family: what all of the augmentation brings, in points of validation top-1, paired by seed. At the
    last step of both; from the best point of the run without augmentation to the last step with it; and the difference
    of the two, what the run without lost since its best point.

    The best of several noisy points is a little too high, so the second is a lower bound and the third an upper one.
    """
    found = {}
    for (model, family), cells in results.compared.groupby(["model", "family"], sort=False):
        without, full = (_points(cells, name, "val_top1") for name in (NONE, ALL))
        paired = without[without.index.isin(full.index)]
        last, best, augmented = _last(paired), paired.max(axis=1), _last(full)
        found[model, family] = (
            paired_difference(augmented, last), paired_difference(augmented, best), paired_difference(best, last)
        )
    return found


def table_over_the_best(results) -> pd.DataFrame:
    """A row a model: its gain at the last step, that over the best point without augmentation, and the difference."""
    rows = []
    for (model, _), (at_last, over_best, lost) in gains_over_the_best(results).items():
        rows.append(
            {
                "model": model,
                "gain at the last step, points of validation top-1 [95%]": at_last.text(),
                "gain over the best point without [95%]": if_run(over_best.n, over_best.text()),
                "difference: lost since that point [95%]": if_run(lost.n, lost.text()),
            }
        )
    return pd.DataFrame(rows)


def protection(results) -> str:
    """For a sentence: each family's gain at the last step and over the best point, and what was lost between the two.
    "S-MLP 6.9, 5.7 [4.0, 7.4] n=3 and 1.2; ..."."""
    texts = []
    for (_, family), (at_last, over_best, lost) in gains_over_the_best(results).items():
        words = f"{at_last.mean:.1f}, {over_best.text()} and {lost.mean:.1f}"
        texts.append(f"{family} {words if over_best.n else 'not run'}")
    return "; ".join(texts)


def rises(results) -> dict[str, tuple[Estimate, Estimate, Estimate]]:
    """By family: how far the validation loss has risen at the end from its lowest point, in nats, without augmentation
    and with all of it, and the first minus the second, paired by seed."""
    found = {}
    for family, cells in results.compared.groupby("family", sort=False):
        points = {name: _points(cells, name, "val_loss") for name in (NONE, ALL)}
        without, full = (_last(curve) - curve.min(axis=1) for curve in points.values())
        found[family] = t_interval(without), t_interval(full), paired_difference(without, full)
    return found


def overfitting(results) -> dict[str, str]:
    """Whether training overfits, for sentences: of which families an interval of the rise lies above 0, `without` and
    `with` augmentation, and of which the difference of the two does (`less`: the rise is smaller with it)."""
    found = rises(results)
    words = {}
    for i, name in enumerate(("without", "with", "less")):
        texts: dict[str, list[str]] = {"yes": [], "no": [], "not run": []}
        for family, estimates in found.items():
            estimate = estimates[i]
            shown = "not run" if not estimate.n else "yes" if estimate.interval and estimate.interval[0] > 0 else "no"
            texts[shown].append(f"{family} {estimate.text(2)}" if estimate.n else family)
        parts = [f"for {', '.join(texts['yes']) or 'no model'}"]
        parts += [f"not shown for {', '.join(texts['no'])}"] if texts["no"] else []
        parts += [f"not run: {', '.join(texts['not run'])}"] if texts["not run"] else []
        words[name] = "; ".join(parts)
    return words


def _points(cells: pd.DataFrame, name: str, column: str) -> pd.DataFrame:
    """A column of the learning curves of runs with an augmentation: a row a seed, a column a step."""
    runs = cells[(cells["augmentation"] == name) & (cells["status"] == "ok")]
    curves = {row["seed"]: {point["step"]: point[column] for point in row["curve"] if column in point}
              for row in runs.to_dict("records")}  # fmt: skip
    return pd.DataFrame.from_dict(curves, orient="index", dtype=float).sort_index(axis=1)


def _last(points: pd.DataFrame) -> pd.Series:
    return points.iloc[:, -1] if len(points.columns) else pd.Series(dtype=float)
