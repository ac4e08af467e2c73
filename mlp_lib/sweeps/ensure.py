"""`ensure`: the records of these runs, training what the store lacks. Resumable, with progress, within a time budget.

How runs are trained side by side is `workers`' business; here is what there is to do, and what comes of it.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mlp_lib.errors import Busy
from mlp_lib.measures.applicable import applicable
from mlp_lib.output import say
from mlp_lib.records.record import CANNOT_RUN
from mlp_lib.records.run import Run, with_parents
from mlp_lib.records.same_images import check_images
from mlp_lib.records.store import Store
from mlp_lib.records.weights import weights_at_hand
from mlp_lib.sweeps import costs
from mlp_lib.sweeps.process import on_signal
from mlp_lib.sweeps.workers import run_all

if TYPE_CHECKING:
    from mlp_lib.training.how import How


def missing(runs: Iterable[Run], store: Store, measures: tuple[str, ...] = ()) -> list[Run]:
    """Which runs must be trained, parents first: those without a finished record, those to be trained again for one of
    `measures`, and the parents of both whose weights are not at hand. What starts from a run that diverged is not among
    them, nor is that run: it would diverge again."""
    todo = {
        run.key: run
        for run in runs
        if (not store.has(run) or to_train_again(run, store, measures)) and not store.blocked_by(run)
    }
    for run in reversed(list(with_parents(todo.values()).values())):
        if run.key in todo and run.init and not weights_at_hand(_weights_of(run.init, store)):
            record = store.get(run.init.run)
            if record is None or record.status != "diverged":
                todo[run.init.run.key] = run.init.run
    return [run for key, run in with_parents(todo.values()).items() if key in todo]


def to_measure(run: Run, store: Store, measures: tuple[str, ...]) -> tuple[str, ...]:
    """What the records of a run that ended well lack of `measures`, and its kept weights can give."""
    kept = weights_at_hand(store.weights / f"{run.key}.safetensors")
    return store.lacking(run, applicable(measures, run)) if kept else ()


def to_train_again(run: Run, store: Store, measures: tuple[str, ...]) -> bool:
    """Whether the records lack one of `measures` for which there are no weights. What diverged in a replicate, the
    latest attempt perhaps, is not tried a third time."""
    lacking = store.lacking(run, applicable(measures, run))
    tried = any(record.status == "diverged" for record in store.replicates(run))
    return bool(lacking) and not tried and not weights_at_hand(store.weights / f"{run.key}.safetensors")


def _weights_of(init, store: Store) -> Path:
    suffix = "" if init.epoch is None else f"@{init.epoch}"
    return store.weights / f"{init.run.key}{suffix}.safetensors"


def ensure(
    runs: Iterable[Run],
    measures: tuple[str, ...] = (),
    *,
    store: Store | None = None,
    train: bool = True,
    budget_minutes: float | None = None,
    how: "How | None" = None,
    workers: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The runs as a tidy frame, one row each, in their order; what the store lacks is trained first.

    Args:
        measures: names from measures/take.py that the records should hold, each of the runs that it can be taken of
            (see measures/applicable.py). Kept weights are measured; where there are none, the run is trained again, as
            a replicate whose measures are found from then on and whose metrics are not used. `missing` says which
            those are.
        train: False trains and measures nothing: missing runs come back with status "not run".
        budget_minutes: stop (and checkpoint) when this much time has passed; the same call goes on later.
        workers: processes at a time; by default one a core on a CPU, one on a GPU.

    Missing rows carry `train_flops`, so that a page can say what they would cost; what starts from a run that diverged
    has the status "cannot run". The frame's `attrs["stopped"]` says whether the call ended before all was done: by its
    budget, by a signal, or because another process has some of it.

    Raises UserError for a name that is no measure, before anything is trained.
    """
    runs, store = list(runs), store or Store()
    if train and measures:
        from mlp_lib.measures.take import check_names

        check_names(measures)
    if train:
        check_images(runs, store)
    deadline = None if budget_minutes is None else time.monotonic() + 60 * budget_minutes
    todo, finished = missing(runs, store, measures), True
    if train and todo:
        if progress and (again := sum(store.has(run) for run in todo)):
            say(
                f"{again} recorded runs are trained again, for measures or for what starts from them: "
                "their weights are not at hand"
            )
        finished = run_all(
            todo,
            store,
            measures=measures,
            budget_minutes=budget_minutes,
            how=how,
            workers=workers,
            progress=progress,
            wanted=runs,
        )
    stopped = not finished
    if train and measures and finished:  # after a stop, kept weights wait for the next call as what is left to train
        stopped = not _measure_kept(runs, store, measures, deadline, how)
    rows = []
    for run in runs:
        row = store.row(run)
        if row["status"] in ("not run", CANNOT_RUN):
            row["train_flops"] = costs.training_flops(run)
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame.attrs["stopped"] = stopped
    return frame


def _measure_kept(
    runs: Sequence[Run], store: Store, measures: tuple[str, ...], deadline: float | None, how: "How | None" = None
) -> bool:
    """Take what the records lack from weights that are kept. False when the deadline or a signal came first."""
    from mlp_lib.sweeps.execute import add_measures

    stop = threading.Event()
    with on_signal(stop.set):
        for run in runs:
            if not (lacking := to_measure(run, store, measures)):
                continue
            if stop.is_set() or (deadline is not None and time.monotonic() > deadline):
                return False
            try:
                add_measures(run, store, lacking, how.device if how else "auto")
            except Busy:  # it is being measured by another process
                store.reload()
    return not stop.is_set()
