"""What a study would train, what it reads, and which size of it a page shows."""

import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import pandas as pd

from mlp_lib.chapters.study import SIZES, Study
from mlp_lib.errors import UserError
from mlp_lib.records.record import CANNOT_RUN, FINISHED
from mlp_lib.records.run import Run, with_parents
from mlp_lib.records.store import Store
from mlp_lib.shared_pages import shared
from mlp_lib.sweeps import costs

T = TypeVar("T")
DONE, NOT_RUN, TO_MEASURE, AGAIN = ("done", "not run", "to be measured", "to be trained again")
STATES = (DONE, NOT_RUN, TO_MEASURE, AGAIN, CANNOT_RUN)


class Plan(NamedTuple):
    """What a study would train: its runs in order, the state of each, and the FLOPs of its training.

    States are of `STATES`. Recorded runs that lack a measure are to be measured, which costs no training, where their
    weights are kept, and otherwise to be trained again, as are those that a missing run starts from. What starts from
    a run that diverged cannot run.
    """

    runs: list[Run]
    states: list[str]
    flops: list[int]

    @property
    def done(self) -> list[bool]:
        return [state == DONE for state in self.states]

    @property
    def open(self) -> bool:
        """Whether anything is left that can be done."""
        return any(state not in (DONE, CANNOT_RUN) for state in self.states)

    @property
    def to_train(self) -> list[tuple[Run, int]]:
        """The runs that are trained, for the first time or again, each with its FLOPs."""
        return [(run, flops) for run, state, flops in zip(*self, strict=True) if state in (NOT_RUN, AGAIN)]


def from_records(store: Store):
    """An `ensure` for `collect` that reads and never trains."""

    def ensure(runs: list[Run], train: bool = False, measures: tuple[str, ...] | None = None) -> pd.DataFrame:
        return pd.DataFrame([store.row(run) for run in runs])

    return ensure


def recorded(study: Study, preset: Any, store: Store) -> Any:
    """A study's results from records alone, at a preset of its own (not a name). Worked out once for the records that
    the store holds: do not change what you get. Of a study that measures, what its file holds."""
    if study.measured is not None:
        return study.collect(preset, file_of(study, store))
    return _remembered(store, study, ("results", repr(preset)), lambda: study.collect(preset, from_records(store)))


def file_of(study: Study, store: Store) -> Path:
    """Where the measurements of a study that trains nothing lie: beside the folder of records."""
    return store.folder.parent / study.measured.file


def _remembered(store: Store, study: Study, what: tuple, made: Callable[[], T]) -> T:
    """What was made before by the same name, where no record and no weights came into the store's folder since, or left
    it: both change the folders' times, and their number tells apart what happened within one tick of the clock."""
    folders = [folder for folder in (store.folder, store.weights) if os.path.isdir(folder)]
    state = [(folder.stat().st_mtime_ns, len(os.listdir(folder))) for folder in folders]
    known = _KNOWN.setdefault(store, {})
    key = (id(study), *what)
    if key not in known or known[key][0] != state:
        value = shared((study.name, str(store.folder), state, what), made)
        known[key] = state, value, study  # which keeps its id from being another's
    return known[key][1]


_KNOWN: WeakKeyDictionary[Store, dict] = WeakKeyDictionary()


def training(store: Store, measures: tuple[str, ...], **options: Any):
    """An `ensure` for `collect` that trains what is missing, all calls within one budget (`budget_minutes`).

    `measures` is what is asked of every run; a call of `collect` may ask for its own instead.

    Once a call comes back unfinished, stopped by its budget or by a signal, later calls train nothing.
    """
    from mlp_lib.sweeps.ensure import ensure as full
    from mlp_lib.sweeps.ensure import to_train_again

    default, budget = measures, options.pop("budget_minutes", None)
    deadline = None if budget is None else time.monotonic() + 60 * budget
    stopped = False

    def ensure(runs: list[Run], train: bool = True, measures: tuple[str, ...] | None = None) -> pd.DataFrame:
        nonlocal stopped
        left = None if deadline is None else (deadline - time.monotonic()) / 60
        train = train and not stopped and (left is None or left > 0)
        wanted = default if measures is None else measures
        frame = full(runs, wanted, store=store, train=train, budget_minutes=left, **options)
        settled = frame["status"].isin((*FINISHED, CANNOT_RUN)).all()
        unfinished = not settled or any(to_train_again(run, store, wanted) for run in runs)
        stopped = stopped or (train and unfinished) or frame.attrs.get("stopped", False)
        return frame

    return ensure


def plan(study: Study, preset: Any, store: Store) -> Plan:
    """Every run that `collect` would ask for, given what the store holds, and what they start from where that must be
    trained for it. Widened grids are not foreseen. Worked out once for the records that the store holds. A study that
    measures has no runs."""
    if study.measured is not None:
        return Plan([], [], [])
    return _remembered(store, study, ("plan", repr(preset)), lambda: _plan(study, preset, store))


def _plan(study: Study, preset: Any, store: Store) -> Plan:
    from mlp_lib.sweeps.ensure import missing, to_measure

    asked: dict[str, Run] = {}
    todo: set[str] = set()
    unmeasured: set[str] = set()
    read = from_records(store)

    def ensure(runs: list[Run], train: bool = True, measures: tuple[str, ...] | None = None) -> pd.DataFrame:
        wanted = study.measures if measures is None else measures
        asked.update((run.key, run) for run in runs)
        todo.update(run.key for run in missing(runs, store, wanted))
        unmeasured.update(run.key for run in runs if to_measure(run, store, wanted))
        return read(runs)

    def state(run: Run) -> str:
        if run.key in todo:
            return AGAIN if store.has(run) else NOT_RUN
        if not store.has(run) and store.blocked_by(run):
            return CANNOT_RUN
        return TO_MEASURE if run.key in unmeasured else DONE

    study.collect(preset, ensure)
    runs = [run for key, run in with_parents(asked.values()).items() if key in asked or key in todo]
    # The costs of networks that have not been trained stand in other records, or are counted where torch is there.
    others = () if "torch" in sys.modules else store
    flops_of = costs.recorded(itertools.chain((r for run in runs for r in store.replicates(run)), others))
    return Plan(runs, [state(run) for run in runs], [flops_of(run) for run in runs])


def pick_preset(study: Study, name: str, store: Store, **changes: Any) -> str:
    """What `auto` means: the largest preset whose records suffice for the verdicts' rules; with none, a small one.

    That is smoke for data that need no download and when no data set is named, laptop for other data.
    """
    if name != "auto":
        return name
    for size in reversed(SIZES):
        if size in study.presets and _sufficient(study, size, store, changes):
            return size
    from mlp_lib.datasets import facts

    dataset = changes.get("dataset")
    return "smoke" if dataset is None or facts(dataset).embedded else "laptop"


def _sufficient(study: Study, size: str, store: Store, changes: dict) -> bool:
    changes = {name: value for name, value in changes.items() if value is not None}
    try:
        grid = study.resolve(size, **changes) if changes else study.presets[size]  # which resolving only checks
    except UserError:  # this size cannot be had with these changes: a batch larger than the data, say
        return False
    return recorded(study, grid, store).sufficient
