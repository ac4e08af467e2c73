"""The rules by which our runs judge the paper's claims: which comparison, in which unit, inside which bounds.

A rule is committed before the records that it judges. A later change is listed in the study's `rule_changes`. A claim
whose chapter does not exist yet has no rule.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mlp_lib.stats.intervals import Estimate

POINTS = "points of test top-1"
MIN_SEEDS = 3  # fewer seeds give numbers, not verdicts


@dataclass(frozen=True)
class Shown:
    """What a rule's checks are read from: the results that it judges, and recorded results of the same study's other
    sizes and data sets. `at(size, **changes)`, with changes of the preset as a reader makes them, is None where the
    study has no such size, or the reader has changed what is trained."""

    results: Any
    at: Callable[..., Any] = lambda size, **changes: None


@dataclass(frozen=True)
class Rule:
    """How our runs judge a claim, in words and in code.

    `parts` turns a study's frame into comparisons by name. A part whose interval lies wholly inside its bounds supports
    the claim, one whose interval lies wholly outside refutes it. A part in `at_least` is a lower bound of what the
    claim speaks of: to lie below refutes nothing. `checks` repeats the comparison under other settings, declared here:
    each estimate is signed so that above 0 speaks for the claim. They change no verdict: how many hold stands beside.
    `companion` is a second rule of the same claim, with a verdict of its own that stands beside the first; its `name`
    says by what it judges.
    """

    words: str
    chapter: str  # the notebook that shows it
    parts: Callable[[pd.DataFrame], dict[str, Estimate]]
    low: float  # the bounds of every part,
    high: float = float("inf")
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # but for the parts that have their own
    unit: str = POINTS
    digits: int = 1  # after the point, of estimates in tables
    min_seeds: Mapping[str, int] = field(default_factory=dict)  # for the parts that ask for more than MIN_SEEDS
    rows: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame  # what the parts compare: the scale is theirs
    at_least: Mapping[str, str] = field(default_factory=dict)  # the parts that are lower bounds, and why
    remark: str = ""  # what stands beside any verdict by this rule
    checks: Callable[[Shown], dict[str, Estimate]] | None = None
    reads: Callable[[Any], pd.DataFrame] = lambda results: results.frame  # the rows, of a study's results, of the parts
    companion: "Rule | None" = None
    name: str = ""  # of a companion: "by the paper's own protocol"

    def seeds_of(self, name: str) -> int:
        """With fewer seeds than this, a part gives a number and no verdict."""
        return self.min_seeds.get(name, MIN_SEEDS)

    def enough_seeds(self, frame: pd.DataFrame) -> bool:
        """Whether every part has the seeds that a verdict asks for."""
        return all(part.n >= self.seeds_of(name) for name, part in self.parts(frame).items())

    def bounds_of(self, name: str) -> tuple[float, float]:
        return self.bounds.get(name, (self.low, self.high))

    def supported_by(self, name: str, part: Estimate) -> bool:
        """Does the part's interval lie wholly inside its bounds?"""
        low, high = self.bounds_of(name)
        return part.interval is not None and part.interval[0] > low and part.interval[1] < high

    def refuted_by(self, name: str, part: Estimate) -> bool:
        """Does the part's interval lie wholly outside its bounds, on a side that can refute?"""
        _, high = self.bounds_of(name)
        below = self.below(name, part) and name not in self.at_least
        return below or (part.interval is not None and part.interval[0] > high)

    def below(self, name: str, part: Estimate) -> bool:
        """Does the part's interval lie wholly below its bounds?"""
        return part.interval is not None and part.interval[1] < self.bounds_of(name)[0]

    def caveat(self, parts: Mapping[str, Estimate]) -> str:
        """Why parts that lie wholly below their bounds refute nothing, and the rule's remark; empty where there is
        neither, and where nothing was compared."""
        below = [name for name in self.at_least if name in parts and self.below(name, parts[name])]
        why = dict.fromkeys(self.at_least[name] for name in below)
        tested = any(part.n for part in parts.values())
        return "; ".join([*why, *([self.remark] if self.remark and tested else [])])

    def margin(self, name: str, part: Estimate) -> float:
        """How far the part's interval lies inside its bounds, in the rule's unit; negative where it reaches beyond."""
        low, high = self.bounds_of(name)
        first, last = part.interval or (part.mean, part.mean)
        return min(first - low, high - last)


def of_families(*names: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The rows of these families."""
    return lambda frame: frame[frame["family"].isin(names)]


LARGER_MLP, LARGER_CNN = "B-MLP, largest - smallest batch", "CNN, largest - smallest batch"
