"""Training many runs: in several processes at a time on a CPU, one after another or side by side in this one on a GPU.

Each run is trained by one thread-limited process. A stop (Ctrl-C, SIGTERM, SIGHUP, the budget) lets each write a
checkpoint first; a kill loses at most a minute of each. Several studies, in terminals of their own, may share a folder
of records: a run that another process is training is left to it. What starts from a run that diverged is left out.
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

from tqdm import tqdm

from mlp_lib.errors import Busy, CannotRun, UserError
from mlp_lib.machine import check_count, usable_cores
from mlp_lib.measures.applicable import applicable
from mlp_lib.output import Unfailing, protect_streams, say_once, say_to
from mlp_lib.records.run import Run, with_parents
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs
from mlp_lib.sweeps.here import run_here
from mlp_lib.sweeps.process import environment, let_signals_through, nothing_of_main, on_signal, signals_held_back
from mlp_lib.sweeps.queue import Queue

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
REAPED_SECONDS = 5.0  # in which the end of a process becomes known to the one that started it
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
    """Train these runs (parents first). True when all are done, False when the budget or a signal stopped it, or when
    another process has some of them. Those that start from a run that diverged are passed over."""
    from mlp_lib.training.how import How, check_how, pick_device

    how = how or How()
    check_how(how)
    check_count(workers, "workers")
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
        return run_here(todo, store, how, measures, keep, deadline, progress)
    workers = processes_for(len(todo), on_cpu) if workers is None else workers
    how = how._replace(threads=how.threads or max(1, cores // workers))
    queue = Queue(todo, store)
    flops = {run.key: costs.training_flops(run) for run in todo}
    context = multiprocessing.get_context("spawn")
    with signals_held_back():  # a process that Python keeps for such queues starts here, and must outlive a hang-up
        # A plain byte, not an Event: a worker that is killed, or a signal that arrives, cannot leave a lock held.
        reports, stop = context.SimpleQueue(), context.Value("b", 0, lock=False)

    def halt() -> None:
        stop.value = 1

    fractions: dict[str, float] = {}
    precisions: dict[tuple, tuple] = {}  # what the workers have measured, for those that come to the same question
    bar = tqdm(
        total=sum(flops.values()) / 1e12,
        unit="TFLOP",
        disable=not progress,
        file=Unfailing(sys.stdout),
        mininterval=1,
        bar_format="{l_bar}{bar:20}| {n:.3g}/{total:.3g} TFLOP [{elapsed}<{remaining}]{postfix}",
    )
    # Thread limits must stand in the environment before a worker imports torch.
    limits = {name: str(how.threads) for name in THREAD_VARIABLES}
    with environment(**limits, **WAIT_POLICY), on_signal(halt), bar:
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(reports, stop))
        futures, processes = {}, set()
        try:
            while (queue.waiting and not stop.value) or futures:
                while not stop.value and len(futures) < workers and (run := queue.next()):
                    fields, epochs = run.model_dump(exclude_defaults=True), tuple(keep.get(run.key, ()))
                    job = fields, str(store.folder), tuple(how), applicable(measures, run), epochs
                    with signals_held_back(), nothing_of_main():
                        futures[pool.submit(_work, *job, queue.known[run.key], dict(precisions))] = run
                    processes.update(multiprocessing.active_children())
                finished, _ = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
                while not reports.empty():
                    key, told = reports.get()
                    if key is None:
                        say_once(told)
                    else:
                        fractions[key] = told
                bar.n = sum(flops[key] * fraction for key, fraction in fractions.items()) / 1e12
                bar.set_postfix_str(f"{len(queue.done)}/{len(todo)} runs", refresh=True)
                for future in finished:
                    run = futures.pop(future)
                    try:
                        status, measured = future.result()
                    except Busy:
                        queue.is_busy(run)
                    except CannotRun:
                        queue.cannot_run(run)
                    else:
                        precisions |= measured
                        queue.ended(run, status)
                        if status:
                            fractions[run.key] = 1.0
                if deadline is not None and time.monotonic() > deadline:
                    halt()
        except BrokenProcessPool:
            raise UserError(_how_it_broke(processes)) from None
        finally:
            halt()
            pool.shutdown(wait=True, cancel_futures=True)
            store.reload()
    return queue.finished()


def _how_it_broke(processes: Iterable) -> str:
    """What to say when a worker has ended unasked: how it did, and what to do."""
    deadline = time.monotonic() + REAPED_SECONDS  # another thread may be about to learn how it ended
    while not any(process.exitcode for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    codes = {process.exitcode for process in processes}
    kept = "finished runs are kept, others go on from their last checkpoint"
    if -signal.SIGKILL in codes:
        return f"a training process was killed, perhaps for memory; {kept}: run again with --workers 1"
    own = sorted(code for code in codes if code not in (None, 0, -signal.SIGTERM))
    how = f"by signal {-own[0]}" if own and own[0] < 0 else f"with exit code {own[0]}" if own else "unasked"
    return f"a training process ended {how}; {kept}: run again, with --workers 1 if it happens again"


_reports = _stop = None  # a worker's ends of its parent's queue and flag
_orphaned, _working = threading.Event(), threading.Lock()


def _start_worker(reports, stop) -> None:
    global _reports, _stop
    _reports, _stop = reports, stop
    protect_streams()
    say_to(lambda text: reports.put((None, text)))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; Ctrl-C reaches the whole group
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, _stop_all)
    let_signals_through()
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _stop_all(number, frame) -> None:
    """Whoever ends one worker ends the sweep: each writes a checkpoint."""
    _stop.value = 1


def _leave_with_parent() -> None:
    """When the parent is gone, however it ended, write a checkpoint and go too: an idle worker would wait for ever."""
    multiprocessing.parent_process().join()
    _orphaned.set()
    with _working:
        os._exit(1)


def _work(
    fields: dict,
    folder: str,
    how: tuple,
    measures: tuple[str, ...],
    keep: tuple[int, ...],
    known: int,
    precisions: dict[tuple, tuple],
) -> tuple[str | None, dict[tuple, tuple]]:
    """Train one run in a worker. Gives the status of its record, None without one, and what is known of precisions."""
    if _stop.value:  # before torch is imported, for seconds
        return None, {}
    from mlp_lib.sweeps.execute import execute
    from mlp_lib.training import timing
    from mlp_lib.training.how import How

    run = Run.model_validate(fields, context={"stored": True})
    timing.MEASURED.update(precisions)
    with _working:
        result = execute(
            run,
            Store(folder),
            How(*how),
            measures=measures,
            keep_epochs=keep,
            again=False,
            known=known,
            on_progress=lambda step, total: _reports.put((run.key, step / total)),
            should_stop=lambda: bool(_stop.value) or _orphaned.is_set(),
        )
    return result.record and result.record.status, timing.MEASURED
