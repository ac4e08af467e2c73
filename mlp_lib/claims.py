"""The paper's claims, the rules by which our runs judge them, and the verdicts. No torch, no training.

A rule is committed before the records that it judges. A later change of a rule is listed in `RULE_CHANGES`.
What the paper claims stands in data/paper/claims.csv. A claim whose chapter does not exist yet has no rule: it gets one
with its chapter, and is "not tested" until then.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from mlp_lib import studies
from mlp_lib.datasets import facts
from mlp_lib.errors import UserError
from mlp_lib.records import FINISHED, REPOSITORY, Store
from mlp_lib.stats import Estimate, paired_difference

VERDICTS = ("supported", "not supported", "inconclusive at this scale", "not tested")
NOT_TESTED = VERDICTS[-1]
MIN_SEEDS = 3  # fewer seeds give numbers, not verdicts

# What the marks of data/paper/*.csv say about how sure a number is.
MARKS = {"T": "read in the paper", "R": "from the public code", "M": "reported, unverified", "C": "computed by us"}

RULE_CHANGES: tuple[tuple[str, int, str], ...] = ()  # (date, claim, what changed and why)


@dataclass(frozen=True)
class Rule:
    """How our runs judge a claim, in words and in code."""

    words: str
    chapter: str  # the notebook that shows it
    parts: Callable[[pd.DataFrame], dict[str, Estimate]]
    low: float  # points: a part whose interval lies wholly above supports,
    high: float = float("inf")  # unless it lies wholly above this; wholly below `low` or above `high` refutes

    def refuted_by(self, part: Estimate) -> bool:
        """Does the part's interval lie wholly outside the bounds?"""
        return part.interval is not None and (part.interval[1] < self.low or part.interval[0] > self.high)

    def margin(self, part: Estimate) -> float:
        """How far the part's interval lies inside the bounds, in points; negative where it reaches beyond one."""
        low, high = part.interval or (part.mean, part.mean)
        return min(low - self.low, self.high - high)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, its number there with how sure that is (`MARKS`), and our rule if its chapter exists."""

    number: int
    text: str
    paper_number: str
    mark: str
    judged_by: Rule | None = None

    @property
    def rule(self) -> str:
        return self.judged_by.words if self.judged_by else ""

    @property
    def chapter(self) -> str:
        return self.judged_by.chapter if self.judged_by else ""


@dataclass(frozen=True)
class Verdict:
    """One claim judged. `parts` holds each comparison's estimate in points of test accuracy, by name."""

    claim: int
    verdict: str
    parts: dict[str, Estimate] = field(default_factory=dict)
    scale: str = ""

    @property
    def weakest(self) -> Estimate | None:
        """The comparison that the verdict hangs on: one with too few seeds, else one that refutes, else the one whose
        interval lies least far inside the rule's bounds."""
        rule = claim(self.claim).judged_by
        return min(
            self.parts.values(),
            key=lambda part: (min(part.n, MIN_SEEDS), not rule.refuted_by(part), rule.margin(part)),
            default=None,
        )


def _by_seed(frame: pd.DataFrame, **where) -> pd.Series:
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


@cache
def paper_claims() -> tuple[Claim, ...]:
    """All claims that the book has to judge, in order, with our rules where there are any."""
    table = pd.read_csv(REPOSITORY / "data" / "paper" / "claims.csv", keep_default_na=False)
    return tuple(
        Claim(row.claim, row.text, row.paper_number, row.mark, RULES.get(row.claim)) for row in table.itertuples()
    )


def claim(number: int) -> Claim:
    """Raises UserError for a number that no claim has."""
    for c in paper_claims():
        if c.number == number:
            return c
    raise UserError(f"there is no claim {number}; there are: 1 to {len(paper_claims())}")


def judge(number: int, frame: pd.DataFrame) -> Verdict:
    """Judge one claim by its rule. `frame` has the columns of a chapter's results: family, augmented, seed, status,
    test_top1, dataset, train_examples, model, hardware. A claim without a rule is "not tested"."""
    rule = claim(number).judged_by
    if rule is None:
        return Verdict(number, NOT_TESTED)
    parts = rule.parts(frame)
    scale = scale_of(frame)
    if any(part.n == 0 for part in parts.values()):
        return Verdict(number, NOT_TESTED, parts, scale)
    if any(part.n < MIN_SEEDS for part in parts.values()):
        return Verdict(number, "inconclusive at this scale", parts, scale)
    intervals = [part.interval for part in parts.values()]
    if all(low > rule.low and high < rule.high for low, high in intervals):
        return Verdict(number, "supported", parts, scale)
    if any(rule.refuted_by(part) for part in parts.values()):
        return Verdict(number, "not supported", parts, scale)
    return Verdict(number, "inconclusive at this scale", parts, scale)


def judge_all(store: Store | None = None, preset: str = "auto") -> list[Verdict]:
    """Every claim judged from records alone, each at the preset that its chapter shows. Nothing is trained."""
    store = store or Store()
    judged: dict[int, Verdict] = {}
    for study in studies.STUDIES.values():
        size = studies.pick_preset(study, preset, store)
        frame = study.collect(study.resolve(size), studies.from_records(store)).frame
        judged |= {number: judge(number, frame) for number in study.CLAIMS}
    return [judged.get(c.number) or Verdict(c.number, NOT_TESTED) for c in paper_claims()]


def summary(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values, for JSON: `estimate`, `interval` and `n` are those of the comparison it hangs on."""
    c = claim(verdict.claim)
    return {
        "claim": c.number, "text": c.text, "verdict": verdict.verdict, **_plain(verdict.weakest),
        "scale": verdict.scale, "chapter": c.chapter,
        "parts": {name: _plain(part) for name, part in verdict.parts.items()},
    }  # fmt: skip


def _plain(part: Estimate | None) -> dict[str, Any]:
    if part is None or part.n == 0:
        return {"estimate": None, "interval": None, "n": 0}
    return {"estimate": part.mean, "interval": part.interval and list(part.interval), "n": part.n}


def overview(verdicts: list[Verdict]) -> pd.DataFrame:
    """One row a claim: its text, the paper's number and how sure it is, ours (the comparison that the verdict hangs
    on, in points of test top-1), the scale, the verdict and the chapter's notebook."""
    rows = []
    for verdict in verdicts:
        c, ours = claim(verdict.claim), verdict.weakest
        tested = ours is not None and ours.n > 0
        rows.append(
            {
                "claim": c.number,
                "text": c.text,
                "the paper's": f"{c.paper_number} ({MARKS[c.mark]})" if c.mark else c.paper_number,
                "ours": ours.text() if tested else "",
                "verdict": verdict.verdict,
                "scale": verdict.scale if tested else "",
                "chapter": c.chapter,
            }
        )
    return pd.DataFrame(rows)


def scale_of(frame: pd.DataFrame) -> str:
    """The scale that goes beside a verdict: data, models and lengths."""
    finished = frame[frame["status"].isin(FINISHED)]
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
