"""Training many runs in this process: for a GPU, which one process fills, and for seconds of work, which starting other
processes would only lengthen."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from mlp_lib.errors import Busy, CannotRun
from mlp_lib.measures.applicable import applicable
from mlp_lib.output import Unfailing
from mlp_lib.records.run import Run
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs
from mlp_lib.sweeps.process import on_signal
from mlp_lib.sweeps.queue import Queue


def run_here(
    todo: Sequence[Run],
    store: Store,
    how,
    measures: tuple[str, ...],
    keep: Mapping[str, Sequence[int]],
    deadline: float | None,
    progress: bool,
) -> bool:
    """Train these runs (parents first), one after another or side by side as `how.together` says. True when all are
    done, as `workers.run_all` has it; keep: epochs whose weights are wanted, by key."""
    import torch

    from mlp_lib.training.side_by_side import arranged

    def epochs(run: Run) -> tuple[int, ...]:
        return tuple(sorted(set(keep.get(run.key, ()))))

    stop, threads, queue = threading.Event(), torch.get_num_threads(), Queue(todo, store)
    bar = tqdm(total=len(todo), unit="run", disable=not progress, file=Unfailing(sys.stdout))
    with on_signal(stop.set), bar:
        try:
            for runs in arranged(todo, how, apart=epochs):
                runs = [run for run in runs if not queue.fate_is_sealed(run)]
                if not runs:
                    continue
                options = dict(
                    how=how._replace(threads=how.threads or costs.sensible_threads(runs[0])),
                    measures=applicable(measures, runs[0]),
                    keep_epochs=epochs(runs[0]),
                    on_progress=lambda step, total: bar.set_postfix_str(f"step {step:,} of {total:,}"),
                    should_stop=lambda: stop.is_set() or (deadline is not None and time.monotonic() > deadline),
                )
                if not _train(runs, store, queue, options):
                    break
                bar.update(len(queue.done) - bar.n)
        finally:
            torch.set_num_threads(threads)
            store.reload()
    return queue.finished()


def _train(runs: list[Run], store: Store, queue: Queue, options: dict) -> bool:
    """Train runs of one list side by side, without those that another process has. False when they were stopped."""
    from mlp_lib.sweeps.execute import execute, execute_together

    while runs:
        try:
            if len(runs) == 1:
                results = [execute(runs[0], store, again=False, known=queue.known[runs[0].key], **options)]
            else:
                results = execute_together(runs, store, known=queue.known, **options)
        except (Busy, CannotRun) as error:
            (away,) = (run for run in runs if run.key == error.key)
            (queue.is_busy if isinstance(error, Busy) else queue.cannot_run)(away)
            runs = [run for run in runs if run is not away]
            continue
        for run, result in zip(runs, results, strict=True):
            queue.ended(run, result.record and result.record.status)
        return all(result.record is not None for result in results)
    return True
