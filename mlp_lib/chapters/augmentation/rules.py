"""The rule of claim 12: do first-layer weights become local with more data, and only with augmentation?"""

import pandas as pd

from mlp_lib.chapters.rule import Rule
from mlp_lib.stats.intervals import Estimate, paired_difference

LOCAL = 1.0  # % of an even spread's radius: a smaller change counts as none (claim 12)
MORE_DATA = "with augmentation: fewest - most images"
WITH_DA = "most images: without - with augmentation"
ONLY_WITH_DA = "half of fewest - most with augmentation, minus fewest - most without"


def localised_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The B-MLP's rows with no and with all augmentation, at the fewest and the most images that have both; none where
    there is one such number of images, or no radius. Columns as in `localisation`."""
    wanted = {"radius", "augmentation", "label_smoothing"}
    rows = frame[(frame["family"] == "B-MLP") & (frame["label_smoothing"] == 0.3)] if wanted <= {*frame} else frame[:0]
    both = {n for n, cell in rows.groupby("train_examples") if {"none", "all"} <= {*cell["augmentation"]}}
    ends = {min(both), max(both)} if len(both) > 1 else set()
    return rows[rows["train_examples"].isin(ends) & rows["augmentation"].isin(("none", "all"))] if ends else rows[:0]


def localisation(frame: pd.DataFrame) -> dict[str, Estimate]:
    """How much the radius of the B-MLP's first-layer weights shrinks with data and with augmentation, in % of an even
    spread's. `frame` has radius, augmentation ("none", "all", parts of it) and label_smoothing (0.3, or varied)."""
    rows = localised_rows(frame)
    if rows.empty:
        return {
            name: paired_difference(pd.Series(dtype=float), pd.Series(dtype=float))
            for name in (MORE_DATA, WITH_DA, ONLY_WITH_DA)
        }
    fewest, most = rows["train_examples"].min(), rows["train_examples"].max()

    def radius(augmentation: str, examples: int) -> pd.Series:
        cell = rows[(rows["augmentation"] == augmentation) & (rows["train_examples"] == examples)]
        cell = cell[(cell["status"] == "ok") & ~cell["seed"].duplicated(keep=False)]
        return 100 * cell.set_index("seed")["radius"]

    shrinks = {name: radius(name, fewest) - radius(name, most) for name in ("none", "all")}
    return {
        MORE_DATA: paired_difference(radius("all", fewest), radius("all", most)),
        WITH_DA: paired_difference(radius("none", most), radius("all", most)),
        ONLY_WITH_DA: paired_difference(shrinks["all"] / 2, shrinks["none"]),
    }


RULES = {
    12: Rule(
        "The radius of the B-MLP's first-layer weights: how far a unit's squared weights (greatest over channels) lie "
        "from their centre, root mean square, mean over all units, in % of an even spread's. All runs take equally "
        "many steps; differences are paired by seed. Localised is read as a radius smaller by 1%, about twice the "
        "deviation between untrained units. With more data: fewest minus most images, both with augmentation. With "
        "augmentation: without minus with it, both at most images. Only with it: what more data do without "
        "augmentation is less than half of what they do with it. Supported if the 95% intervals of the first two lie "
        "above 1 and that of half the one minus the other lies above 0; not supported if any lies wholly below.",
        "rq2-augmentation",
        localisation,
        LOCAL,
        bounds={ONLY_WITH_DA: (0.0, float("inf"))},
        unit="% of an even spread's radius",
        rows=localised_rows,
        remark="the initial weights, which nothing decays, are still in it; the chapter says how far training came",
    ),
}
