"""What a chapter's notebook calls: check its parameters, say what it will cost, get its results.

chapter = open_chapter("rq1", globals())    # everything that papermill injected is checked; nothing is trained
results = chapter.results()                 # from records; with train=True, what is missing is trained first
"""

import ast
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import pandas as pd
from pydantic import create_model

from mlp_lib.chapters import claims, planning, registry
from mlp_lib.chapters.parameters import Parameters, validated
from mlp_lib.chapters.study import SIZES, Measured, Study
from mlp_lib.records.record import FINISHED
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs

# Names that a kernel puts into a notebook before its first cell.
_KERNEL_NAMES = {"In", "Out", "exit", "quit", "open", "get_ipython"}
_PARAMETERS = "# Parameters"  # how the parameters cell of every notebook, and papermill's, begin


@dataclass(frozen=True)
class Chapter:
    """A chapter with its parameters checked and its preset chosen."""

    study: Study
    parameters: Parameters
    preset: str
    store: Store

    @cached_property
    def grid(self) -> Any:
        """The preset with the reader's changes put in."""
        return self.study.resolve(self.preset, **self.parameters.changes)

    @property
    def changed(self) -> bool:
        """Has the reader changed what the preset trains?"""
        return any(value is not None for value in self.parameters.changes.values())

    @property
    def command(self) -> str:
        """The command line, for a shell, that trains the same runs."""
        given = [
            f"--set {shlex.quote(f'{name}={_written(value)}')}"
            for name, value in self.parameters.changes.items()
            if value is not None
        ]
        return " ".join(["python -m mlp_lib study", self.study.name, "--preset", self.preset, *given])

    def plan(self) -> planning.Plan:
        return planning.plan(self.study, self.grid, self.store)

    def results(self) -> Any:
        """The study's results. Says first what is missing and how long it would take; trains it if it may, or measures
        it where the study is one of speed."""
        if self.study.measured is not None:
            return self._measured(self.study.measured)
        plan = self.plan()
        if not all(plan.done):
            self._announce(plan)
        if all(plan.done) or not self.parameters.train:
            return planning.recorded(self.study, self.grid, self.store)
        ensure = planning.training(
            self.store, self.study.measures, budget_minutes=self.parameters.budget_minutes, progress=True
        )
        return self.study.collect(self.grid, ensure)

    def _measured(self, by: Measured) -> Any:
        results = planning.recorded(self.study, self.grid, self.store)
        if results.complete:
            return results
        minutes = f"about {by.plan(self.grid)[1] / 60:.1f} minutes on one CPU core"
        if not self.parameters.train:
            print(f"Not measured here: train=True, or `{self.command}`, measures it, {minutes}.")
            return results
        print(f"Measuring now, {minutes}.")
        by.measure(self.grid, planning.file_of(self.study, self.store), "auto", None, print)
        return planning.recorded(self.study, self.grid, self.store)

    def verdict(self, number: int, results: Any) -> claims.Verdict:
        """A claim judged on the chapter's results, with the rule's checks."""
        shown = claims.shown_of(self.study, results, self.store, others=not self.changed)
        return claims.judge(number, results.frame, shown)

    def recorded(self, **changes: Any) -> Any:
        """The study's results with other changes than the reader's, from records alone: nothing is trained."""
        grid = self.study.resolve(self.preset, **{**self.parameters.changes, **changes}) if changes else self.grid
        return planning.recorded(self.study, grid, self.store)

    def at(self, size: str, **changes: Any) -> Any:
        """The study's results at a preset of its own with these changes, whatever the reader has changed, from records
        alone: what stands beside the chapter's own."""
        return planning.recorded(self.study, self.study.resolve(size, **changes), self.store)

    def recorded_at(self, finished: Callable[[Any], bool]) -> dict[str, Any]:
        """Recorded results by preset, of those up to the one shown that are `finished`, the largest first.

        Only the one shown where the reader has changed it. Smoke, a rehearsal, stands beside no other.
        """
        return {size: results for size, results in self._up_to_shown() if finished(results)}

    def largest_with(self, finished: Callable[[Any], bool]) -> tuple[str, Any]:
        """The first of `recorded_at`: its preset and results; the preset shown where there is none."""
        found = next((pair for pair in self._up_to_shown() if finished(pair[1])), None)
        return found or (self.preset, self.recorded())

    def _up_to_shown(self) -> Iterator[tuple[str, Any]]:
        """Presets and their recorded results, from the one shown down, each read when it is asked for."""
        yield self.preset, self.recorded()
        for size in reversed(SIZES[: SIZES.index(self.preset)]):
            if size in self.study.presets and size != "smoke" and not self.changed:
                yield size, planning.recorded(self.study, self.study.presets[size], self.store)

    def _announce(self, plan: planning.Plan) -> None:
        again, to_measure = plan.states.count(planning.AGAIN), plan.states.count(planning.TO_MEASURE)
        if again:
            print(f"{again} runs are recorded, but lack a measure or weights to start from: they count as missing.")
        if to_measure:
            done = "measuring them now" if self.parameters.train else f"train=True, or `{self.command}`, measures them"
            print(f"{to_measure} recorded runs lack a measure that their kept weights give; {done}.")
        if not (missing := plan.to_train):
            return
        minutes = sum(costs.planned_seconds(run, flops) for run, flops in missing) / 60
        flops = sum(flops for _, flops in missing)
        what = f"{len(missing)} runs are missing: {flops:.2g} FLOPs, about {minutes:.1f} minutes on two CPU cores"
        if self.parameters.train:
            print(f"{what}; training now, for at most {self.parameters.budget_minutes:g} minutes.")
        else:
            print(f"{what}. Not run here: train=True, or `{self.command}`, trains them.")

    def larger(self, **changes: Any) -> pd.DataFrame:
        """Finished runs of the presets larger than the one shown, with a column `preset`: labelled extra rows.

        `changes` are put into each of those presets. None where the reader has changed the chapter's own.
        """
        frames = [
            found.frame[found.frame["status"].isin(FINISHED)].assign(preset=size)
            for size, found in self.beyond(**changes).items()
        ]
        found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        return found.drop_duplicates("key") if len(found) else found

    def beyond(self, **changes: Any) -> dict[str, Any]:
        """Recorded results of the presets larger than the one shown, the smallest first: those with any finished run,
        whatever else they still lack. `changes` and the reader's own as in `larger`."""
        found = {}
        for size in SIZES[SIZES.index(self.preset) + 1 :]:
            if size in self.study.presets and not self.changed:
                grid = self.study.resolve(size, **changes) if changes else self.study.presets[size]
                results = planning.recorded(self.study, grid, self.store)
                if results.frame["status"].isin(FINISHED).any():
                    found[size] = results
        return found


def _written(value: Any) -> str:
    """A parameter's value as `study --set` reads it: as JSON, or bare text that is none."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except json.JSONDecodeError:
            return value
    return json.dumps(value)


def notebook_values(namespace: dict[str, Any], known: Iterable[str] = ()) -> dict[str, Any]:
    """What the parameters cell, papermill after it, and a reader's own cells put into a notebook's `globals()`.

    Of the first two every public name counts, so that a parameter which papermill injected without the chapter knowing
    it is found, and refused, instead of ignored; of other cells those that the chapter knows. What the kernel's
    start-up files define does not. Where no cells are known, as in a script made from a notebook, every name counts
    that is neither a module, a function, a class nor the kernel's own.
    """
    public = {
        k: v
        for k, v in namespace.items()
        if not k.startswith("_") and k not in _KERNEL_NAMES and not isinstance(v, ModuleType) and not callable(v)
    }
    cells = [cell for cell in namespace.get("In") or () if isinstance(cell, str) and cell.strip()]
    if not cells:
        return public
    of_parameters = {name for cell in cells if cell.lstrip().startswith(_PARAMETERS) for name in _assigned(cell)}
    elsewhere = {name for cell in cells for name in _assigned(cell)} & {*known}
    return {name: value for name, value in public.items() if name in of_parameters | elsewhere}


def _assigned(cell: str) -> set[str]:
    """Names that a cell's own statements assign, not those of the functions and classes in it; magics are left out."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in cell.splitlines()]
    try:
        statements = ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError, RecursionError):  # the kernel has said so
        return set()
    plain = [s for s in statements if not isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    nodes = (node for statement in plain for node in ast.walk(statement))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def check_parameters(namespace: dict[str, Any], **kinds: type) -> Parameters:
    """The parameters of a notebook that is no study's chapter: the common ones, and its own by name and type.

    Raises UserError: one line that names the parameter and what it may be.
    """
    own = {name: (kind, ...) for name, kind in kinds.items()}
    model = create_model("NotebookParameters", __base__=Parameters, **own)
    return validated(model, notebook_values(namespace, model.model_fields))


def open_chapter(name: str, namespace: dict[str, Any], store: Store | None = None) -> Chapter:
    """Check a chapter's parameters, in the notebook's `globals()`, and choose its preset. Nothing is trained.

    Says so where `auto` finds no records for the reader's changes and takes a small preset. Raises UserError: one line.
    """
    study = registry.study(name)
    parameters = validated(study.parameters, notebook_values(namespace, study.parameters.model_fields))
    store = store or Store()
    preset = planning.pick_preset(study, parameters.preset, store, **parameters.changes)
    chapter = Chapter(study, parameters, preset, store)
    grid = chapter.grid  # every run is validated before anything else happens
    if parameters.preset == "auto" and chapter.changed:
        if not planning.recorded(study, grid, store).sufficient:
            print(
                f"preset auto: no preset has the records for these parameters, so {preset} is taken; "
                f"name another for another size: {', '.join(study.presets)}"
            )
    return chapter
