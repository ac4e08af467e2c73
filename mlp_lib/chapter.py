"""What a chapter's notebook calls: check its parameters, say what it will cost, get its results.

    chapter = open_chapter("rq1", globals())    # everything that papermill injected is checked; nothing is trained
    results = chapter.results()                 # from records; with train=True, what is missing is trained first

No torch unless something is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pandas as pd
from pydantic import create_model

from mlp_lib import studies
from mlp_lib.records import Store
from mlp_lib.studies.parameters import Parameters, validated

# Names that a kernel puts into a notebook before its first cell.
_KERNEL_NAMES = {"In", "Out", "exit", "quit", "open", "get_ipython"}


@dataclass(frozen=True)
class Chapter:
    """A chapter with its parameters checked and its preset chosen."""

    study: ModuleType
    parameters: Parameters
    preset: str
    store: Store

    @property
    def grid(self) -> Any:
        """The preset with the reader's changes put in."""
        return self.study.resolve(self.preset, **self.parameters.changes)

    @property
    def changed(self) -> bool:
        """Has the reader changed what the preset trains?"""
        return any(value is not None for value in self.parameters.changes.values())

    def plan(self) -> studies.Plan:
        return studies.plan(self.study, self.grid, self.store)

    def results(self) -> Any:
        """The study's results. Says first what is missing and how long it would take; trains it if it may."""
        plan = self.plan()
        missing = [run for run, done in zip(plan.runs, plan.done, strict=True) if not done]
        if missing:
            self._announce(missing)
        if not missing or not self.parameters.train:
            return self.study.collect(self.grid, studies.from_records(self.store))
        ensure = studies.training(
            self.store, self.study.MEASURES, budget_minutes=self.parameters.budget_minutes, progress=True
        )
        return self.study.collect(self.grid, ensure)

    def recorded(self, **changes: Any) -> Any:
        """The study's results with other changes than the reader's, from records alone: nothing is trained."""
        grid = self.study.resolve(self.preset, **{**self.parameters.changes, **changes})
        return self.study.collect(grid, studies.from_records(self.store))

    def largest_with(self, finished: Callable[[Any], bool]) -> tuple[str, Any]:
        """The largest preset up to the one shown whose recorded results are `finished`, and those results.

        The one shown where none is, or where the reader has changed it. Smoke, a rehearsal, stands in for no other.
        """
        shown = self.recorded()
        for size in reversed(studies.SIZES[: studies.SIZES.index(self.preset)]):
            if finished(shown) or self.changed:
                break
            if size in self.study.PRESETS and size != "smoke":
                smaller = self.study.collect(self.study.resolve(size), studies.from_records(self.store))
                if finished(smaller):
                    return size, smaller
        return self.preset, shown

    def _announce(self, missing: list) -> None:
        from mlp_lib import costs

        minutes = sum(costs.planned_seconds(run) for run in missing) / 60
        flops = sum(costs.training_flops(run) for run in missing)
        what = f"{len(missing)} runs are missing: {flops:.2g} FLOPs, about {minutes:.1f} minutes on two CPU cores"
        if self.parameters.train:
            print(f"{what}; training now, for at most {self.parameters.budget_minutes:g} minutes.")
        else:
            print(f"{what}. Not run here: train=True, or `python -m mlp_lib study {self.study.NAME} "
                  f"--preset {self.preset}`, trains them.")  # fmt: skip

    def larger(self, **changes: Any) -> pd.DataFrame:
        """Finished runs of the presets larger than the one shown, with a column `preset`: labelled extra rows.

        `changes` are put into each of those presets. None where the reader has changed the chapter's own.
        """
        frames = []
        for size in studies.SIZES[studies.SIZES.index(self.preset) + 1 :]:
            if size in self.study.PRESETS and not self.changed:
                grid = self.study.resolve(size, **changes)
                frame = self.study.collect(grid, studies.from_records(self.store)).frame
                frames.append(frame[frame["status"] == "ok"].assign(preset=size))
        kept = [frame for frame in frames if len(frame)]
        found = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()
        return found.drop_duplicates("key") if len(found) else found


def notebook_values(namespace: dict[str, Any]) -> dict[str, Any]:
    """What the parameters cell, and papermill after it, put into a notebook's `globals()`.

    Every public name that is neither a module, a function, a class nor the kernel's own counts, so that a parameter
    which papermill injected without the chapter knowing it is found, and refused, instead of ignored.
    """
    return {
        k: v for k, v in namespace.items()
        if not k.startswith("_") and k not in _KERNEL_NAMES and not isinstance(v, ModuleType) and not callable(v)
    }  # fmt: skip


def check_parameters(namespace: dict[str, Any], **kinds: type) -> Parameters:
    """The parameters of a notebook that is no study's chapter: the common ones, and its own by name and type.

    Raises UserError: one line that names the parameter and what it may be.
    """
    own = {name: (kind, ...) for name, kind in kinds.items()}
    return validated(create_model("NotebookParameters", __base__=Parameters, **own), notebook_values(namespace))


def open_chapter(name: str, namespace: dict[str, Any], store: Store | None = None) -> Chapter:
    """Check a chapter's parameters, in the notebook's `globals()`, and choose its preset. Nothing is trained.

    Raises UserError: one line.
    """
    study = studies.study(name)
    parameters = validated(study.Parameters, notebook_values(namespace))
    store = store or Store()
    preset = studies.pick_preset(study, parameters.preset, store, **parameters.changes)
    study.resolve(preset, **parameters.changes)  # every run is validated before anything else happens
    return Chapter(study, parameters, preset, store)
