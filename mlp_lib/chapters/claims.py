"""The paper's claims and our verdicts on them, by the rules that the chapters declare.

What the paper claims stands in data/paper/claims.csv. A claim whose chapter does not exist yet has no rule: it gets one
with its chapter, and is "not tested" until then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from mlp_lib.chapters import planning
from mlp_lib.chapters.registry import RULES, STUDIES
from mlp_lib.chapters.rule import POINTS, Rule, Shown
from mlp_lib.chapters.scale import scale_of as scale_of
from mlp_lib.chapters.study import SIZES, Study
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import Estimate, sign

VERDICTS = ("supported", "not supported", "inconclusive at this scale", "not tested")
INCONCLUSIVE, NOT_TESTED = VERDICTS[2:]

# What the marks of data/paper/*.csv say about how sure a number is.
MARKS = {"T": "read in the paper", "R": "from the public code", "M": "reported, unverified", "C": "computed by us"}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, its number there with how sure that is (`MARKS`), and our rule if its chapter exists.

    `value`: the paper's number in the unit of our rule, where it can be compared, with every comparison whose name ends
    in `value_of`. `would_test`: what would test the claim, for one without a rule.
    """

    number: int
    text: str
    paper_number: str
    mark: str
    judged_by: Rule | None = None
    value: float | None = None
    value_of: str = ""
    would_test: str = ""

    @property
    def rule(self) -> str:
        return self.judged_by.words if self.judged_by else ""

    @property
    def chapter(self) -> str:
        return self.judged_by.chapter if self.judged_by else ""

    @property
    def unit(self) -> str:
        """Of the comparisons that the rule asks for."""
        return self.judged_by.unit if self.judged_by else POINTS


@dataclass(frozen=True)
class Verdict:
    """One claim judged. `parts` holds each comparison's estimate by name, in the rule's unit; `checks` the same of the
    rule's checks, signed so that above 0 speaks for the claim. `rule` is the one that judged it, and `companion`
    the verdict of that rule's companion."""

    claim: int
    verdict: str
    parts: dict[str, Estimate] = field(default_factory=dict)
    scale: str = ""
    checks: dict[str, Estimate] = field(default_factory=dict)
    rule: Rule | None = None
    companion: "Verdict | None" = None

    @property
    def held(self) -> int:
        """In how many checks the comparison keeps its sign, its interval off zero."""
        return sum(sign(check) > 0 for check in self.checks.values())

    @property
    def checked(self) -> int:
        """How many of the checks have an interval."""
        return sum(check.interval is not None for check in self.checks.values())

    @property
    def robustness(self) -> str:
        """ "held in 1 of 10 checks"; empty where the rule declares none, or none has run."""
        return f"held in {self.held} of {self.checked} checks" if self.checked else ""

    @property
    def not_held(self) -> tuple[str, ...]:
        """The checks with an interval in which the comparison does not keep its sign."""
        return tuple(name for name, check in self.checks.items() if check.interval and sign(check) < 1)

    @property
    def beside(self) -> str:
        """What stands with the word, wherever it stands: the robustness, with the name of the one check that does not
        hold where all others do, and the companion's name and word."""
        one = f", not {self.not_held[0]}" if len(self.not_held) == 1 and self.held else ""
        companion = f"{self.companion.rule.name}: {self.companion.verdict}" if self.companion else ""
        return "; ".join(filter(None, (self.robustness + one, companion)))

    @property
    def comparison(self) -> str:
        """Name of the part that the verdict hangs on: one with too few seeds, else one that refutes, else the one whose
        interval lies least far inside the rule's bounds. Empty where there is no rule."""
        rule = self.rule

        def solidity(name: str) -> tuple:
            part = self.parts[name]
            return min(part.n - rule.seeds_of(name), 0), not rule.refuted_by(name, part), rule.margin(name, part)

        return min(self.parts, key=solidity, default="")

    @property
    def weakest(self) -> Estimate | None:
        """The estimate of `comparison`."""
        return self.parts.get(self.comparison)


@cache
def paper_claims() -> tuple[Claim, ...]:
    """All claims that the book has to judge, in order, with our rules where there are any."""
    table = pd.read_csv(REPOSITORY / "data" / "paper" / "claims.csv", keep_default_na=False)
    return tuple(
        Claim(
            row.claim,
            row.text,
            row.paper_number,
            row.mark,
            RULES.get(row.claim),
            float(row.value) if row.value else None,
            row.value_of,
            row.would_test,
        )
        for row in table.itertuples()
    )


def claim(number: int) -> Claim:
    """Raises UserError for a number that no claim has."""
    for c in paper_claims():
        if c.number == number:
            return c
    raise UserError(f"there is no claim {number}; there are: 1 to {len(paper_claims())}")


def judge(number: int, frame: pd.DataFrame, shown: Shown | None = None) -> Verdict:
    """Judge one claim by its rule. `frame` has the columns of a chapter's results: family, augmented, seed, status,
    test_top1, dataset, train_examples, model, hardware. A claim without a rule is "not tested". With `shown`, the
    rule's checks are read too, and its companion judges."""
    rule = claim(number).judged_by
    return Verdict(number, NOT_TESTED) if rule is None else _judged(number, rule, frame, shown)


def _judged(number: int, rule: Rule, frame: pd.DataFrame, shown: Shown | None) -> Verdict:
    parts = rule.parts(frame)
    checks = rule.checks(shown) if rule.checks and shown else {}
    other = rule.companion if shown else None
    companion = _judged(number, other, other.reads(shown.results), shown) if other else None
    return Verdict(number, _word(rule, parts), parts, scale_of(rule.rows(frame)), checks, rule, companion)


def _word(rule: Rule, parts: dict[str, Estimate]) -> str:
    if any(part.n == 0 for part in parts.values()):
        return NOT_TESTED
    if any(part.n < rule.seeds_of(name) for name, part in parts.items()):
        return INCONCLUSIVE
    if all(rule.supported_by(name, part) for name, part in parts.items()):
        return "supported"
    if any(rule.refuted_by(name, part) for name, part in parts.items()):
        return "not supported"
    return INCONCLUSIVE


def judge_all(store: Store | None = None, preset: str = "auto") -> list[Verdict]:
    """Every claim judged from records alone, each at the preset that its chapter shows. Nothing is trained.

    A claim whose study has no such preset is not tested at it. Raises UserError for a preset that no study has.
    """
    if preset not in ("auto", *SIZES):
        raise UserError(f"unknown preset {preset!r}; there are: auto, {', '.join(SIZES)}")
    store = store or Store()
    judged: dict[int, Verdict] = {}
    for study in STUDIES.values():
        if not study.claims or preset not in ("auto", *study.presets):
            continue
        size = planning.pick_preset(study, preset, store)
        results = planning.recorded(study, study.presets[size], store)
        shown = shown_of(study, results, store)
        judged |= {number: judge(number, results.frame, shown) for number in study.claims}
    return [judged.get(c.number) or Verdict(c.number, NOT_TESTED) for c in paper_claims()]


def shown_of(study: Study, results: Any, store: Store, others: bool = True) -> Shown:
    """Results with, on demand and where `others` are wanted, the recorded results of the study's other sizes and data
    sets."""

    @cache
    def at(size: str, **changes: Any) -> Any:
        if not others or size not in study.presets:
            return None
        preset = study.resolve(size, **changes) if changes else study.presets[size]
        return planning.recorded(study, preset, store)

    return Shown(results, at)


def summary(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values, for JSON; estimate, interval and n are those of `comparison`, on which it hangs."""
    c = claim(verdict.claim)
    return {
        "claim": c.number,
        "text": c.text,
        "verdict": verdict.verdict,
        "comparison": verdict.comparison or None,
        **_plain(verdict.weakest),
        "unit": c.unit,
        "scale": verdict.scale,
        "chapter": c.chapter,
        "parts": {name: _plain(part) for name, part in verdict.parts.items()},
        "checks": {
            "held": verdict.held,
            "of": verdict.checked,
            "each": {name: _plain(check) for name, check in verdict.checks.items()},
        },
        "companion": _companion(verdict.companion),
    }


def _companion(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    parts = {name: _plain(part) for name, part in verdict.parts.items()}
    return {"rule": verdict.rule.name, "verdict": verdict.verdict, "scale": verdict.scale, "parts": parts}


def _plain(part: Estimate | None) -> dict[str, Any]:
    if part is None or part.n == 0:
        return {"estimate": None, "interval": None, "level": None, "n": 0}
    return {"estimate": part.mean, "interval": part.interval and list(part.interval), "level": part.level, "n": part.n}


def overview(verdicts: list[Verdict]) -> pd.DataFrame:
    """One row a claim: its text, the paper's number and how sure it is, the comparison that the verdict hangs on, ours
    for it and the unit, the verdict, its robustness, all that stands beside it and its caveat, the scale of what the
    rule compares, and the chapter's notebook."""
    rows = []
    for verdict in verdicts:
        c, ours = claim(verdict.claim), verdict.weakest
        tested = ours is not None and ours.n > 0
        rows.append(
            {
                "claim": c.number,
                "text": c.text,
                "the paper's": f"{c.paper_number} ({MARKS[c.mark]})" if c.mark else c.paper_number,
                "comparison": verdict.comparison if tested else "",
                "ours": ours.text(c.judged_by.digits) if tested else "",
                "unit": c.unit if tested else "",
                "verdict": verdict.verdict,
                "robustness": verdict.robustness,
                "beside": verdict.beside,
                "caveat": c.judged_by.caveat(verdict.parts) if c.judged_by else "",
                "scale": verdict.scale if tested else "",
                "chapter": c.chapter,
            }
        )
    return pd.DataFrame(rows)


def paper_table(name: str, folder: Path = REPOSITORY / "data" / "paper") -> pd.DataFrame:
    """One of the paper's tables, with the mark of each number spelled out in `source`."""
    table = pd.read_csv(folder / f"{name}.csv")
    return table.assign(source=table["mark"].map(MARKS))


def table_of_verdicts(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Claims, rules, estimates and verdicts, one row a rule: a companion follows its rule. With a verdict stands in how
    many checks it held, and why a comparison refutes nothing that lies below its bound (`Rule.caveat`)."""

    def in_words(v: Verdict) -> str:
        caveat = v.rule.caveat(v.parts) if v.rule else ""
        return ", ".join(filter(None, (v.verdict, v.robustness))) + (f" ({caveat})" if caveat else "")

    def row(v: Verdict) -> dict[str, str]:
        rule = v.rule
        name = f"{rule.name}: " if rule and rule.name else ""
        parts = _in_lines(v)
        return {
            "claim": f"{v.claim}. {claim(v.claim).text}",
            "rule": f"{name}{rule.words}" if rule else "",
            "comparison [95%]": f"{rule.unit if rule else POINTS}:<br>{parts}",
            "verdict": in_words(v),
        }

    return pd.DataFrame(row(one) for v in verdicts for one in (v, v.companion) if one)


def _in_lines(verdict: Verdict) -> str:
    """A verdict's comparisons, a line each, with as many digits as its rule asks for."""
    digits = verdict.rule.digits if verdict.rule else 1
    return "<br>".join(f"{name}: {part.text(digits)}" for name, part in verdict.parts.items())


def table_of_checks(verdict: Verdict) -> pd.DataFrame:
    """The checks of a verdict's rule, a row each: the estimate, and whether it speaks for the claim, against it, or for
    neither; empty where the rule declares none."""
    sides = {1: "for the claim", -1: "against it", 0: "for neither"}
    return pd.DataFrame(
        [
            {
                "check": name,
                f"{verdict.rule.unit} [95%]": check.text(verdict.rule.digits),
                "speaks": sides[sign(check)] if check.interval else "",
            }
            for name, check in verdict.checks.items()
        ]
    )


def table_of_verdicts_by_preset(verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """One claim's verdict at several sizes of its study, a row a preset."""
    return pd.DataFrame(
        {
            "preset": preset,
            "scale": v.scale,
            f"comparison, {claim(v.claim).unit} [95%]": _in_lines(v),
            "verdict": ", ".join(filter(None, (v.verdict, v.beside))),
        }
        for preset, v in verdicts.items()
    )
