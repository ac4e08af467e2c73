"""The rule of claim 10: does averaging over random crops at test time help, and most where objects are not centred?"""

import numpy as np
import pandas as pd

from mlp_lib.chapters.rule import Rule, Shown
from mlp_lib.chapters.test_time.presets import CENTRED, MOVED, SHAPES
from mlp_lib.datasets.shapes import SETS, sample
from mlp_lib.measures.right_or_wrong import unpack
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import measures_of
from mlp_lib.stats.intervals import Estimate, paired_difference, t_interval

MEASURE = "test_crops"
HELPS = "photographs: averaged - plain"
MOST_MOVED = "gain on moved shapes - gain on centred shapes"


def gain(row: dict, averaged: str = "logits", views: int | None = None) -> float:
    """Points of test top-1 of the mean over so many views (all that were measured when None) over the plain image, of
    a frame's row; nan where it was not measured."""
    found = measures_of(row).get(MEASURE)
    if not found:
        return float("nan")
    at = -1 if views is None else found["views"].index(views)
    return found[f"top1_{averaged}"][at] - found["top1_plain"]


def share_of_errors(row: dict) -> float:
    """The gain in percent of the errors that the plain image leaves; nan where it was not measured, or leaves none."""
    found = measures_of(row).get(MEASURE)
    if not found or found["top1_plain"] == 100:
        return float("nan")
    return 100 * gain(row) / (100 - found["top1_plain"])


def changed_by_distance(row: dict, parts: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The gain on a run's test shapes by their distance from the middle, in so many parts of equal size, the nearest
    first: mean distance in half sides of the picture, and points, (parts,) each. None where it was not measured, and of
    a run on anything but shapes that are moved."""
    found = measures_of(row).get(MEASURE)
    if not found or row["dataset"] != MOVED:
        return None
    count = found["images"]
    places = sample(SETS[MOVED].test, 1, SETS[MOVED].factors)
    distance = np.hypot(places["dx"], places["dy"])[:count]
    changed = unpack(found["right_logits"], count).astype(float) - unpack(found["right_plain"], count)
    cuts = np.array_split(np.argsort(distance, kind="stable"), parts)
    return np.array([distance[own].mean() for own in cuts]), np.array([100 * changed[own].mean() for own in cuts])


def far_minus_near(row: dict) -> float:
    """The gain on the half of a run's test shapes that lie farthest from the middle, minus that on the other half; nan
    where there is none."""
    found = changed_by_distance(row, 2)
    return float("nan") if found is None else float(found[1][1] - found[1][0])


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """What the rule compares: the B-MLP's runs that were trained with crops."""
    return frame[(frame["family"] == "B-MLP") & frame["augmented"]]


def of_runs(frame: pd.DataFrame, value, dataset: str | None = None, **where) -> pd.Series:
    """`value` of each measured row, by seed: of one data set, or, when None, of the photographs."""
    own = ~frame["dataset"].isin(SHAPES) if dataset is None else frame["dataset"] == dataset
    rows = frame[own]
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    if rows.empty or rows["seed"].duplicated().any():
        return pd.Series(dtype=float)
    return with_runs(
        pd.Series([value(row) for row in rows.to_dict("records")], rows["seed"], dtype=float), rows
    ).dropna()


def gains(frame: pd.DataFrame, value=gain) -> dict[str, Estimate]:
    """The rule's comparisons: what averaging gains on photographs, and how much more it gains on moved shapes than on
    centred ones, paired by seed."""
    rows = compared(frame)
    return {
        HELPS: t_interval(of_runs(rows, value)),
        MOST_MOVED: paired_difference(of_runs(rows, value, MOVED), of_runs(rows, value, CENTRED)),
    }


def checks(shown: Shown) -> dict[str, Estimate]:
    """The comparisons with probabilities averaged, with ten views, in percent of the errors, within the moved shapes,
    in the overnight preset, and the gain of the other models and of training without augmentation."""
    frame = shown.results.frame
    rows = compared(frame)
    found = {}
    for name, value in {
        "mean of the probabilities": lambda row: gain(row, "probabilities"),
        "ten views": lambda row: gain(row, views=10),
    }.items():
        found |= {f"{name}, {part}": estimate for part, estimate in gains(frame, value).items()}
    found["moved - centred shapes, in % of the errors"] = gains(frame, share_of_errors)[MOST_MOVED]
    found["moved shapes: far from the middle - near it"] = t_interval(of_runs(rows, far_minus_near, MOVED))
    for family in dict.fromkeys(frame["family"]):
        for augmented in (True, False):
            if (family, augmented) != ("B-MLP", True):
                how = "with" if augmented else "without"
                cell = of_runs(frame, gain, family=family, augmented=augmented)
                found[f"{family} trained {how} augmentation, photographs"] = t_interval(cell)
    if (larger := shown.at("overnight")) is not None:
        found |= {f"{name}, overnight": part for name, part in gains(larger.frame).items()}
    return found


RULES = {
    10: Rule(
        "A B-MLP trained with crops. Helps: test top-1 of the mean of the logits over all the random views that were "
        "measured, minus that of the plain image, of the same run, on photographs. Most where objects are not centred: "
        "that gain on shapes anywhere in the picture minus that on shapes in its middle, paired by seed. Supported if "
        "both 95% intervals lie above 0, not supported if either lies wholly below.",
        "rq5-test-time",
        gains,
        0.0,
        rows=compared,
        checks=checks,
    ),
}
