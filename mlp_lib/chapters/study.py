"""`Study`: what a chapter gives to the command line, its notebook, the claims and the README."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.rule import Rule, Shown
from mlp_lib.chapters.tuning import Choice, Ensure, not_run

SIZES = ("smoke", "laptop", "overnight", "gpu", "paper")


class Results(Protocol):
    """What `collect` returns: at least these three, and whatever the chapter's figures need besides."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a run that the rules judge, with the columns of a record and the chapter's own."""

    @property
    def complete(self) -> bool:
        """Every choice is final, and every run has ended."""

    @property
    def sufficient(self) -> bool:
        """The records suffice for the rules' verdicts: `auto` shows the largest preset of which that is so."""


@dataclass(frozen=True)
class Measured:
    """What a study that trains nothing rests on: a file of measurements beside the folder of records.

    Such a study's `collect(preset, path)` reads that file in the place of records, and never measures; its `complete`
    says whether the preset was measured.
    """

    file: str  # its name
    plan: Callable[[Any], tuple[pd.DataFrame, float]]  # of a preset: a row a thing to measure, and planned seconds
    # Measures a preset and puts it into the file at that path: (preset, path, device, threads, say).
    measure: Callable[[Any, Path, str, int | None, Callable[[str], None]], None]


@dataclass(frozen=True)
class Study:
    """One chapter: its name on the command line, its page, its sizes, and how its runs become results.

    `presets` are frozen dataclasses of the chapter's own, by size (of `SIZES`). `collect(preset, ensure)` asks `ensure`
    for runs and returns `Results`. `measures`, and those that a call of `ensure` asks for, are taken of the runs that
    they apply to (measures/applicable.py). `resolved_by` puts a reader's changes into a preset where more is to be done
    than to replace fields. `first_screen` gives, for each value that the page's first screen glues, the choices of a
    learning rate on which it rests: none of them may be flagged (`Choice.flags`), unless the screen names the flags
    itself, in the value `flags_told_in`. A test holds that. `measured` is what a study has that trains nothing.
    """

    name: str
    title: str
    page: str  # the notebook's name, without its ending
    presets: Mapping[str, Any]
    parameters: type[parameters.Parameters]
    collect: Callable[[Any, Ensure], Any] | Callable[[Any, Path], Any]
    measures: tuple[str, ...] = ()
    rules: Mapping[int, Rule] = field(default_factory=dict)
    rule_changes: tuple[tuple[str, int, str], ...] = ()  # (date, claim, what changed and why)
    resolved_by: Callable[..., Any] | None = None
    first_screen: Mapping[str, Callable[[Shown], Sequence[Choice]]] = field(default_factory=dict)
    flags_told_in: str = ""
    measured: Measured | None = None

    @property
    def claims(self) -> tuple[int, ...]:
        """The numbers of the claims that it judges."""
        return tuple(self.rules)

    def resolve(self, preset: str, **changes: Any) -> Any:
        """A preset with the reader's changes put in; None changes nothing.

        Raises UserError for unknown names and for values with which no run can be made.
        """
        if self.resolved_by is not None:
            return self.resolved_by(preset, **changes)
        return resolved(self.presets, self.collect, preset, changes)


def resolved(presets: Mapping[str, Any], collect: Callable, preset: str, changes: dict[str, Any]) -> Any:
    """The preset with its fields replaced by `changes` (`parameters.preset_with`), after every one of its runs was made
    once, and so validated, before anything is trained."""
    chosen = parameters.preset_with(presets, preset, changes)
    collect(chosen, not_run)
    return chosen
