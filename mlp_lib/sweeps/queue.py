"""`Queue`: which of the runs to train is next, and what has become of the others."""

from collections.abc import Sequence

from mlp_lib.output import say
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run
from mlp_lib.records.store import Store


class Queue:
    """Runs to train, parents before what starts from them. A run waits for its parent, and shares the fate of one that
    another process trains or that diverged."""

    def __init__(self, todo: Sequence[Run], store: Store):
        self.todo = {run.key: run for run in todo}
        self.waiting = list(todo)
        self.done: set[str] = set()  # keys of runs that have ended
        self.busy: set[str] = set()  # that another process trains, or what they start from
        self.lost: set[str] = set()  # that diverged, or what they start from
        # Finished records that were there when it was decided to train: where there are more, another process was here.
        self.known = {run.key: sum(r.status in FINISHED for r in store.replicates(run)) for run in todo}

    def next(self) -> Run | None:
        """The first run that waits for no other, taken off the list."""
        for run in list(self.waiting):
            if self.fate_is_sealed(run):
                self.waiting.remove(run)
            elif run.init is None or run.init.run.key in self.done or run.init.run.key not in self.todo:
                self.waiting.remove(run)
                return run
        return None

    def fate_is_sealed(self, run: Run) -> bool:
        """Whether the run is not to be trained here, because of what has become of its parent."""
        parent = run.init.run.key if run.init else None
        if parent in self.lost:
            self.cannot_run(run)
        elif parent in self.busy:
            self.is_busy(run)
        return run.key in self.lost or run.key in self.busy

    def ended(self, run: Run, status: str | None) -> None:
        """A run has come back with a record of this status, or, stopped, with none."""
        if status:
            self.done.add(run.key)
        if status == "diverged":
            self.lost.add(run.key)

    def is_busy(self, run: Run) -> None:
        self.busy.add(run.key)

    def cannot_run(self, run: Run) -> None:
        self.lost.add(run.key)

    def finished(self) -> bool:
        """Whether nothing is left to do. Says what was left to others, and what cannot be done."""
        if self.busy:
            say(
                f"{len(self.busy)} runs are left to another process that trains them, or what they start from "
                f"({min(self.busy)} is one); run again when it is done"
            )
        if left_out := self.lost - self.done:
            say(
                f"{len(left_out)} runs cannot run ({min(left_out)} is one): what they start from diverged and left no "
                "weights"
            )
        return len(self.done | self.lost) == len(self.todo)
