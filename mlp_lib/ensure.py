"""`ensure`: the records of these runs, training what the store lacks. Resumable, with progress, within a time budget.

Each run is trained by one thread-limited process; several at a time on a CPU. A stop (Ctrl-C, SIGTERM, the budget)
lets each write a checkpoint first; a kill loses at most a minute of each.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from mlp_lib import costs
from mlp_lib.errors import UserError
from mlp_lib.measurable import applicable
from mlp_lib.process import environment, on_signal
from mlp_lib.records import Store
from mlp_lib.runs import Run

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HERE_SECONDS = 20.0  # of planned training, below which starting worker processes does not pay
WAIT_POLICY = {"OMP_WAIT_POLICY": "PASSIVE"}  # spinning threads of two trainings slow each other down many times over


def with_parents(runs: Iterable[Run]) -> dict[str, Run]:
    """The runs and everything they start from, parents first, by key."""
    ordered: dict[str, Run] = {}

    def visit(run: Run) -> None:
        if run.key not in ordered:
            if run.init:
                visit(run.init.run)
            ordered[run.key] = run

    for run in runs:
        visit(run)
    return ordered


def missing(runs: Iterable[Run], store: Store, measures: tuple[str, ...] = ()) -> list[Run]:
    """Which runs must be trained, parents first: those without a finished record, those to be trained again for one of
    `measures`, and the parents of both whose weights are not at hand (but for parents that diverged: they would
    again)."""
    todo = {run.key: run for run in runs if not store.has(run) or to_train_again(run, store, measures)}
    for run in reversed(list(with_parents(todo.values()).values())):
        if run.key in todo and run.init and not _weights_of(run.init, store).exists():
            record = store.get(run.init.run)
            if record is None or record.status != "diverged":
                todo[run.init.run.key] = run.init.run
    return [run for key, run in with_parents(todo.values()).items() if key in todo]


def to_measure(run: Run, store: Store, measures: tuple[str, ...]) -> tuple[str, ...]:
    """What the records of a run that ended well lack of `measures`, and its kept weights can give."""
    kept = (store.weights / f"{run.key}.safetensors").exists()
    return store.lacking(run, applicable(measures, run)) if kept else ()


def to_train_again(run: Run, store: Store, measures: tuple[str, ...]) -> bool:
    """Whether the records lack one of `measures` for which there are no weights. What diverged in a replicate, the
    latest attempt perhaps, is not tried a third time."""
    lacking = store.lacking(run, applicable(measures, run))
    tried = any(record.status == "diverged" for record in store.replicates(run))
    return bool(lacking) and not tried and not (store.weights / f"{run.key}.safetensors").exists()


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
    how=None,
    workers: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The runs as a tidy frame, one row each, in their order; what the store lacks is trained first.

    Args:
        measures: names from measure.py that the records should hold, each of the runs that it can be taken of (see
            measurable.py). Kept weights are measured; where there are none, the run is trained again, as a replicate
            whose measures are found from then on and whose metrics are not used. `missing` says which those are.
        train: False trains and measures nothing: missing runs come back with status "not run".
        budget_minutes: stop (and checkpoint) when this much time has passed; the same call goes on later.
        workers: processes at a time; by default one a core on a CPU, one on a GPU.

    Missing rows carry `train_flops`, so that a page can say what they would cost. Raises UserError for a name that is
    no measure, before anything is trained.
    """
    runs, store = list(runs), store or Store()
    if train and measures:
        from mlp_lib.measure import check_names

        check_names(measures)
    todo = missing(runs, store, measures)
    if train and todo:
        if progress and (again := sum(store.has(run) for run in todo)):
            print(f"{again} recorded runs are trained again, for measures or for what starts from them: "
                  "their weights are not at hand")  # fmt: skip
        run_all(todo, store, measures=measures, budget_minutes=budget_minutes, how=how, workers=workers,
                progress=progress, wanted=runs)  # fmt: skip
    if train and measures:
        from mlp_lib.execute import add_measures

        for run in runs:
            if lacking := to_measure(run, store, measures):
                add_measures(run, store, lacking)
    rows = []
    for run in runs:
        row = store.row(run)
        if row["status"] == "not run":
            row["train_flops"] = costs.training_flops(run)
        rows.append(row)
    return pd.DataFrame(rows)


def processes_for(runs: int, on_cpu: bool) -> int:
    """How many runs are trained at a time where the caller does not say: one a core, one on a GPU."""
    return max(1, min(os.cpu_count() or 1, runs)) if on_cpu else 1


def run_all(
    todo: Sequence[Run],
    store: Store,
    *,
    measures: tuple[str, ...] = (),
    budget_minutes: float | None = None,
    how=None,
    workers: int | None = None,
    progress: bool = True,
    wanted: Iterable[Run] = (),
) -> bool:
    """Train these runs (parents first). True when all are done, False when the budget or a signal stopped it."""
    from mlp_lib.train import How, pick_device

    how = how or How()
    cores = os.cpu_count() or 1
    keep: dict[str, list[int]] = {}
    for run in (*with_parents(wanted).values(), *todo):
        if run.init and run.init.epoch is not None:
            keep.setdefault(run.init.run.key, []).append(run.init.epoch)
    deadline = None if budget_minutes is None else time.monotonic() + 60 * budget_minutes
    on_cpu = pick_device(how.device).type == "cpu"
    asked = how.together not in (None, 1)
    if asked and workers is not None:
        raise UserError(f"together={how.together} trains runs in one process, workers={workers} in several; give one")
    short = sum(costs.planned_seconds(run) for run in todo) < HERE_SECONDS
    if workers is None and (not on_cpu or asked or short):
        return _run_here(todo, store, how, measures, keep, deadline, progress)
    workers = processes_for(len(todo), on_cpu) if workers is None else workers
    if workers < 1:
        raise UserError(f"workers={workers} must be at least 1")
    how = how._replace(threads=how.threads or max(1, cores // workers))
    waiting, done = list(todo), set()
    todo_keys = {run.key for run in todo}
    flops = {run.key: costs.training_flops(run) for run in todo}
    context = multiprocessing.get_context("spawn")
    # A plain byte, not an Event: a worker that is killed, or a signal that arrives, cannot leave a lock held.
    reports, stop = context.SimpleQueue(), context.Value("b", 0, lock=False)

    def halt() -> None:
        stop.value = 1

    fractions: dict[str, float] = {}
    bar = tqdm(total=sum(flops.values()) / 1e12, unit="TFLOP", disable=not progress, file=sys.stdout, mininterval=1,
               bar_format="{l_bar}{bar:20}| {n:.3g}/{total:.3g} TFLOP [{elapsed}<{remaining}]{postfix}")  # fmt: skip
    # Thread limits must stand in the environment before a worker imports torch.
    limits = {name: str(how.threads) for name in THREAD_VARIABLES}
    with environment(**limits, **WAIT_POLICY), on_signal(halt), bar:
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(reports, stop))
        futures = {}
        try:
            while (waiting and not stop.value) or futures:
                for run in list(waiting):
                    ready = run.init is None or run.init.run.key in done or run.init.run.key not in todo_keys
                    if ready and len(futures) < workers and not stop.value:
                        waiting.remove(run)
                        job = (run.model_dump(exclude_defaults=True), str(store.folder), tuple(how),
                               applicable(measures, run), tuple(keep.get(run.key, ())))  # fmt: skip
                        futures[pool.submit(_work, *job)] = run
                finished, _ = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
                while not reports.empty():
                    key, fraction = reports.get()
                    fractions[key] = fraction
                bar.n = sum(flops[key] * fraction for key, fraction in fractions.items()) / 1e12
                bar.set_postfix_str(f"{len(done)}/{len(todo)} runs", refresh=True)
                for future in finished:
                    run = futures.pop(future)
                    if future.result():
                        done.add(run.key)
                        fractions[run.key] = 1.0
                if deadline is not None and time.monotonic() > deadline:
                    halt()
        except BrokenProcessPool:
            raise UserError(
                "a training process was killed, perhaps for memory; finished runs are kept: run again with --workers 1"
            ) from None
        finally:
            halt()
            pool.shutdown(wait=True, cancel_futures=True)
            store.reload()
    return len(done) == len(todo)


def _run_here(todo, store: Store, how, measures, keep: dict, deadline: float | None, progress: bool) -> bool:
    """One after another in this process, or side by side as `how.together` says: for a GPU, which one process fills,
    and for seconds of work, which starting other processes would only lengthen."""
    import torch

    from mlp_lib.execute import execute, execute_together
    from mlp_lib.together import arranged

    def epochs(run: Run) -> tuple[int, ...]:
        return tuple(sorted(set(keep.get(run.key, ()))))

    stop, threads, done = threading.Event(), torch.get_num_threads(), 0
    with on_signal(stop.set), tqdm(total=len(todo), unit="run", disable=not progress, file=sys.stdout) as bar:
        try:
            for runs in arranged(todo, how, apart=epochs):
                first = runs[0]
                options = dict(
                    how=how._replace(threads=how.threads or costs.sensible_threads(first)),
                    measures=applicable(measures, first), keep_epochs=epochs(first),
                    on_progress=lambda step, total: bar.set_postfix_str(f"step {step:,} of {total:,}"),
                    should_stop=lambda: stop.is_set() or (deadline is not None and time.monotonic() > deadline),
                )  # fmt: skip
                if len(runs) == 1:
                    results = [execute(first, store, **options)]
                else:
                    results = execute_together(runs, store, **options)
                ended = sum(result.record is not None for result in results)
                done += ended
                bar.update(ended)
                if ended < len(runs):
                    break
        finally:
            torch.set_num_threads(threads)
            store.reload()
    return done == len(todo)


_reports = _stop = None  # a worker's ends of its parent's queue and flag
_orphaned, _working = threading.Event(), threading.Lock()


def _start_worker(reports, stop) -> None:
    global _reports, _stop
    _reports, _stop = reports, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; Ctrl-C reaches the whole group
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """When the parent is gone, however it ended, write a checkpoint and go too: an idle worker would wait for ever."""
    multiprocessing.parent_process().join()
    _orphaned.set()
    with _working:
        os._exit(1)


def _work(fields: dict, folder: str, how: tuple, measures: tuple[str, ...], keep: tuple[int, ...]) -> bool:
    from mlp_lib.execute import execute
    from mlp_lib.train import How

    run = Run.model_validate(fields, context={"stored": True})
    with _working:
        result = execute(
            run, Store(folder), How(*how), measures=measures, keep_epochs=keep,
            on_progress=lambda step, total: _reports.put((run.key, step / total)),
            should_stop=lambda: bool(_stop.value) or _orphaned.is_set(),
        )  # fmt: skip
    return result.record is not None
