"""Training many runs: in several processes at a time on a CPU, one after another or side by side in this one on a GPU.

Each run is trained by one thread-limited process. A stop (Ctrl-C, SIGTERM, the budget) lets each write a checkpoint
first; a kill loses at most a minute of each. Several studies, in terminals of their own, may share a folder of records:
a run that another process is training is left to it.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from mlp_lib.errors import Busy, UserError
from mlp_lib.machine import usable_cores
from mlp_lib.measures.applicable import applicable
from mlp_lib.records.run import Run, with_parents
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs
from mlp_lib.sweeps.process import environment, on_signal

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HERE_SECONDS = 20.0  # of planned training, below which starting worker processes does not pay
WAIT_POLICY = {"OMP_WAIT_POLICY": "PASSIVE"}  # spinning threads of two trainings slow each other down many times over


def processes_for(runs: int, on_cpu: bool) -> int:
    """How many runs are trained at a time where the caller does not say: one a core, one on a GPU."""
    return max(1, min(usable_cores(), runs)) if on_cpu else 1


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
    from mlp_lib.training.how import How, pick_device

    how = how or How()
    cores = usable_cores()
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
    waiting, done, busy = list(todo), set(), set()
    recorded = {run.key for run in todo if store.has(run)}  # which are to be trained again
    todo_keys = {run.key for run in todo}
    flops = {run.key: costs.training_flops(run) for run in todo}
    context = multiprocessing.get_context("spawn")
    # A plain byte, not an Event: a worker that is killed, or a signal that arrives, cannot leave a lock held.
    reports, stop = context.SimpleQueue(), context.Value("b", 0, lock=False)

    def halt() -> None:
        stop.value = 1

    fractions: dict[str, float] = {}
    bar = tqdm(
        total=sum(flops.values()) / 1e12,
        unit="TFLOP",
        disable=not progress,
        file=sys.stdout,
        mininterval=1,
        bar_format="{l_bar}{bar:20}| {n:.3g}/{total:.3g} TFLOP [{elapsed}<{remaining}]{postfix}",
    )
    # Thread limits must stand in the environment before a worker imports torch.
    limits = {name: str(how.threads) for name in THREAD_VARIABLES}
    with environment(**limits, **WAIT_POLICY), on_signal(halt), bar:
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(reports, stop))
        futures = {}
        try:
            while (waiting and not stop.value) or futures:
                for run in list(waiting):
                    if run.init and run.init.run.key in busy:  # it waits for what another process trains
                        waiting.remove(run)
                        busy.add(run.key)
                        continue
                    ready = run.init is None or run.init.run.key in done or run.init.run.key not in todo_keys
                    if ready and len(futures) < workers and not stop.value:
                        waiting.remove(run)
                        fields, epochs = run.model_dump(exclude_defaults=True), tuple(keep.get(run.key, ()))
                        job = fields, str(store.folder), tuple(how), applicable(measures, run), epochs
                        futures[pool.submit(_work, *job, run.key in recorded)] = run
                finished, _ = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
                while not reports.empty():
                    key, fraction = reports.get()
                    fractions[key] = fraction
                bar.n = sum(flops[key] * fraction for key, fraction in fractions.items()) / 1e12
                bar.set_postfix_str(f"{len(done)}/{len(todo)} runs", refresh=True)
                for future in finished:
                    run = futures.pop(future)
                    try:
                        ended = future.result()
                    except Busy:
                        busy.add(run.key)
                        continue
                    if ended:
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
    _say_busy(busy)
    return len(done) == len(todo)


def _say_busy(keys: Collection[str]) -> None:
    if keys:
        print(
            f"{len(keys)} runs are left to another process that trains them, or what they start from "
            f"({min(keys)} is one); run again when it is done"
        )


def _run_here(todo, store: Store, how, measures, keep: dict, deadline: float | None, progress: bool) -> bool:
    """One after another in this process, or side by side as `how.together` says: for a GPU, which one process fills,
    and for seconds of work, which starting other processes would only lengthen."""
    import torch

    from mlp_lib.sweeps.execute import execute, execute_together
    from mlp_lib.training.side_by_side import arranged

    def epochs(run: Run) -> tuple[int, ...]:
        return tuple(sorted(set(keep.get(run.key, ()))))

    stop, threads, done, busy = threading.Event(), torch.get_num_threads(), 0, set()
    recorded = {run.key for run in todo if store.has(run)}
    with on_signal(stop.set), tqdm(total=len(todo), unit="run", disable=not progress, file=sys.stdout) as bar:
        try:
            for runs in arranged(todo, how, apart=epochs):
                first = runs[0]
                if any(run.init and run.init.run.key in busy for run in runs):
                    busy |= {run.key for run in runs}
                    continue
                options = dict(
                    how=how._replace(threads=how.threads or costs.sensible_threads(first)),
                    measures=applicable(measures, first),
                    keep_epochs=epochs(first),
                    on_progress=lambda step, total: bar.set_postfix_str(f"step {step:,} of {total:,}"),
                    should_stop=lambda: stop.is_set() or (deadline is not None and time.monotonic() > deadline),
                )
                try:
                    if len(runs) == 1:
                        results = [execute(first, store, again=first.key in recorded, **options)]
                    else:
                        results = execute_together(runs, store, **options)
                except Busy:
                    busy |= {run.key for run in runs}
                    continue
                ended = sum(result.record is not None for result in results)
                done += ended
                bar.update(ended)
                if ended < len(runs):
                    break
        finally:
            torch.set_num_threads(threads)
            store.reload()
    _say_busy(busy)
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


def _work(fields: dict, folder: str, how: tuple, measures: tuple[str, ...], keep: tuple[int, ...], again: bool) -> bool:
    from mlp_lib.sweeps.execute import execute
    from mlp_lib.training.how import How

    run = Run.model_validate(fields, context={"stored": True})
    with _working:
        result = execute(
            run,
            Store(folder),
            How(*how),
            measures=measures,
            keep_epochs=keep,
            again=again,
            on_progress=lambda step, total: _reports.put((run.key, step / total)),
            should_stop=lambda: bool(_stop.value) or _orphaned.is_set(),
        )
    return result.record is not None
