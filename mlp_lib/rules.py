"""The rules by which our runs judge the paper's claims: which comparison, in which unit, inside which bounds.

A rule is committed before the records that it judges. A later change of a rule is listed in `RULE_CHANGES`. A claim
whose chapter does not exist yet has no rule. No torch, no training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from mlp_lib.datasets import facts
from mlp_lib.records import FINISHED
from mlp_lib.stats import Estimate, paired_difference

RULE_CHANGES: tuple[tuple[str, int, str], ...] = ()  # (date, claim, what changed and why)

POINTS = "points of test top-1"


@dataclass(frozen=True)
class Rule:
    """How our runs judge a claim, in words and in code.

    `parts` turns a study's frame into comparisons by name. A part whose interval lies wholly inside its bounds supports
    the claim, one whose interval lies wholly outside refutes it.
    """

    words: str
    chapter: str  # the notebook that shows it
    parts: Callable[[pd.DataFrame], dict[str, Estimate]]
    low: float  # the bounds of every part,
    high: float = float("inf")
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # but for the parts that have their own
    unit: str = POINTS

    def bounds_of(self, name: str) -> tuple[float, float]:
        return self.bounds.get(name, (self.low, self.high))

    def supported_by(self, name: str, part: Estimate) -> bool:
        """Does the part's interval lie wholly inside its bounds?"""
        low, high = self.bounds_of(name)
        return part.interval is not None and part.interval[0] > low and part.interval[1] < high

    def refuted_by(self, name: str, part: Estimate) -> bool:
        """Does the part's interval lie wholly outside its bounds?"""
        low, high = self.bounds_of(name)
        return part.interval is not None and (part.interval[1] < low or part.interval[0] > high)

    def margin(self, name: str, part: Estimate) -> float:
        """How far the part's interval lies inside its bounds, in the rule's unit; negative where it reaches beyond."""
        low, high = self.bounds_of(name)
        first, last = part.interval or (part.mean, part.mean)
        return min(first - low, high - last)


def by_seed(frame: pd.DataFrame, **where) -> pd.Series:
    """Test top-1 by seed of one cell; diverged runs count as chance."""
    rows = frame
    for column, value in where.items():
        rows = rows[rows[column] == value]
    rows = rows[rows["status"].isin(FINISHED)]
    if rows.empty or rows["seed"].duplicated().any():  # of two models of one family, a claim does not say which
        return pd.Series(dtype=float)
    chance = rows["dataset"].map(lambda name: 100 / facts(name).num_classes)
    top1 = rows["test_top1"] if "test_top1" in rows else pd.Series(float("nan"), rows.index)
    return top1.fillna(chance).set_axis(rows["seed"])


def augmentation_gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """Augmented minus not, for each MLP."""
    return {
        family: paired_difference(
            by_seed(frame, family=family, augmented=True), by_seed(frame, family=family, augmented=False)
        )
        for family in ("S-MLP", "B-MLP")
    }


def bottleneck_gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """B-MLP minus S-MLP, with and without augmentation."""
    return {
        name: paired_difference(
            by_seed(frame, family="B-MLP", augmented=augmented), by_seed(frame, family="S-MLP", augmented=augmented)
        )
        for name, augmented in (("without augmentation", False), ("with augmentation", True))
    }


def convolution_gap(frame: pd.DataFrame) -> dict[str, Estimate]:
    """The convolutional control minus each MLP, all with augmentation."""
    return {
        f"CNN - {family}": paired_difference(
            by_seed(frame, family="CNN", augmented=True), by_seed(frame, family=family, augmented=True)
        )
        for family in ("S-MLP", "B-MLP")
    }


RULES = {
    1: Rule(
        "The gain in test top-1 is paired by seed, for S-MLP and for B-MLP. Roughly 20 is read as between 10 and 30: "
        "supported if both 95% intervals lie inside, not supported if either lies wholly outside.",
        "rq1-from-scratch", augmentation_gain, 10.0, 30.0,
    ),
    2: Rule(
        "B-MLP minus S-MLP at equal depth and width, paired by seed, with and without augmentation: supported if both "
        "95% intervals lie above 0, not supported if either lies wholly below.",
        "rq1-from-scratch", bottleneck_gain, 0.0,
    ),
    3: Rule(
        "The convolutional control minus each MLP, all with augmentation, paired by seed. Far is read as 10 points: "
        "supported if both 95% intervals lie above 10, not supported if either lies wholly below.",
        "rq1-from-scratch", convolution_gap, 10.0,
    ),
}  # fmt: skip
