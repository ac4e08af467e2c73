"""The paper's claims, the rules by which our runs judge them, and the verdicts. No torch, no training.

A rule is committed before the records that it judges. A later change of a rule is listed in `RULE_CHANGES`.
Claims of chapters that do not exist yet are not here: they come with their chapters.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mlp_lib.datasets import facts
from mlp_lib.records import REPOSITORY
from mlp_lib.stats import Estimate, paired_difference

VERDICTS = ("supported", "not supported", "inconclusive at this scale", "not tested")
MIN_SEEDS = 3  # fewer seeds give numbers, not verdicts

# What the marks of data/paper/*.csv say about how sure a number is.
MARKS = {"T": "read in the paper", "R": "from the public code", "M": "reported, unverified", "C": "computed by us"}

RULE_CHANGES: tuple[tuple[str, int, str], ...] = ()  # (date, claim, what changed and why)


@dataclass(frozen=True)
class Verdict:
    """One claim judged. `parts` holds each comparison's estimate in points of test accuracy, by name."""

    claim: int
    verdict: str
    parts: dict[str, Estimate] = field(default_factory=dict)
    scale: str = ""

    @property
    def weakest(self) -> Estimate | None:
        """The comparison with the smallest estimate: what the verdict hangs on."""
        return min(self.parts.values(), key=lambda e: e.mean, default=None)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper (number as in the claims list of the preface), its rule in words, and in code."""

    number: int
    text: str
    rule: str
    chapter: str
    parts: Callable[[pd.DataFrame], dict[str, Estimate]]
    low: float  # points: a part whose interval lies wholly above supports,
    high: float = float("inf")  # unless it lies wholly above this; wholly below `low` or above `high` refutes


def _by_seed(frame: pd.DataFrame, **where) -> pd.Series:
    """Test top-1 by seed of one cell; diverged runs count as chance."""
    rows = frame
    for column, value in where.items():
        rows = rows[rows[column] == value]
    rows = rows[rows["status"].isin(["ok", "diverged"])]
    if rows.empty:
        return pd.Series(dtype=float)
    chance = rows["dataset"].map(lambda name: 100 / facts(name).num_classes)
    top1 = rows["test_top1"] if "test_top1" in rows else pd.Series(float("nan"), rows.index)
    return top1.fillna(chance).set_axis(rows["seed"])


def augmentation_gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """Augmented minus not, for each MLP."""
    return {
        family: paired_difference(
            _by_seed(frame, family=family, augmented=True), _by_seed(frame, family=family, augmented=False)
        )
        for family in ("S-MLP", "B-MLP")
    }


def bottleneck_gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """B-MLP minus S-MLP, with and without augmentation."""
    return {
        name: paired_difference(
            _by_seed(frame, family="B-MLP", augmented=augmented), _by_seed(frame, family="S-MLP", augmented=augmented)
        )
        for name, augmented in (("without augmentation", False), ("with augmentation", True))
    }


def convolution_gap(frame: pd.DataFrame) -> dict[str, Estimate]:
    """The convolutional control minus each MLP, all with augmentation."""
    return {
        f"CNN - {family}": paired_difference(
            _by_seed(frame, family="CNN", augmented=True), _by_seed(frame, family=family, augmented=True)
        )
        for family in ("S-MLP", "B-MLP")
    }


CLAIMS = (
    Claim(
        1, "Data augmentation lifts from-scratch accuracy by roughly 20 points.",
        "The gain in test top-1 is paired by seed, for S-MLP and for B-MLP. Roughly 20 is read as between 10 and 30: "
        "supported if both 95% intervals lie inside, not supported if either lies wholly outside.",
        "rq1-from-scratch", augmentation_gain, 10.0, 30.0,
    ),
    Claim(
        2, "B-MLP beats S-MLP everywhere.",
        "B-MLP minus S-MLP at equal depth and width, paired by seed, with and without augmentation: supported if both "
        "95% intervals lie above 0, not supported if either lies wholly below.",
        "rq1-from-scratch", bottleneck_gain, 0.0,
    ),
    Claim(
        3, "From scratch, an MLP stays far below a ResNet18.",
        "The convolutional control minus each MLP, all with augmentation, paired by seed. Far is read as 10 points: "
        "supported if both 95% intervals lie above 10, not supported if either lies wholly below.",
        "rq1-from-scratch", convolution_gap, 10.0,
    ),
)  # fmt: skip


def claim(number: int) -> Claim:
    return next(c for c in CLAIMS if c.number == number)


def judge(number: int, frame: pd.DataFrame) -> Verdict:
    """Judge one claim by its rule. `frame` has the columns of a chapter's results: family, augmented, seed, status,
    test_top1, dataset, train_examples, model, hardware."""
    c = claim(number)
    parts = c.parts(frame)
    scale = scale_of(frame)
    if any(part.n == 0 for part in parts.values()):
        return Verdict(number, "not tested", parts, scale)
    if any(part.n < MIN_SEEDS for part in parts.values()):
        return Verdict(number, "inconclusive at this scale", parts, scale)
    intervals = [part.interval for part in parts.values()]
    if all(low > c.low and high < c.high for low, high in intervals):
        return Verdict(number, "supported", parts, scale)
    if any(high < c.low or low > c.high for low, high in intervals):
        return Verdict(number, "not supported", parts, scale)
    return Verdict(number, "inconclusive at this scale", parts, scale)


def scale_of(frame: pd.DataFrame) -> str:
    """The scale that goes beside a verdict: data, models and lengths."""
    finished = frame[frame["status"].isin(["ok", "diverged"])]
    if finished.empty:
        return "no finished runs"
    examples = ", ".join(f"{n:,}" for n in sorted(finished["train_examples"].unique()))
    epochs = ", ".join(str(int(n)) for n in sorted(finished["epochs"].dropna().unique()))
    models = ", ".join(sorted(finished["model"].unique(), key=str))
    return f"{', '.join(finished['dataset'].unique())}, {examples} training images, {models}, {epochs} epochs"


def paper_table(name: str, folder: Path = REPOSITORY / "data" / "paper") -> pd.DataFrame:
    """One of the paper's tables, with the mark of each number spelled out in `source`."""
    table = pd.read_csv(folder / f"{name}.csv")
    return table.assign(source=table["mark"].map(MARKS))
