"""`Store`: a folder of records, one small JSON file each, made to be committed."""

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY, path_from_environment, user_path
from mlp_lib.records.frames import row_of
from mlp_lib.records.record import FINISHED, Record, read_records
from mlp_lib.records.run import Run


def default_folder() -> Path:
    """$MLP_LIB_RUNS, else data/runs of the checkout, from which a relative one counts too."""
    return path_from_environment("MLP_LIB_RUNS", REPOSITORY / "data" / "runs")


def make_folder(folder: Path) -> None:
    """Raises UserError where the folder cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror or error}; choose another --out") from error


class Store:
    """The records of one folder. Weights lie in its subfolder `weights`, which git ignores."""

    def __init__(self, folder: Path | str | None = None):
        self.folder = user_path(folder, "the folder of records") if folder is not None else default_folder()

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @cached_property
    def _by_key(self) -> dict[str, list[Record]]:
        by_key: dict[str, list[Record]] = {}
        try:
            os.listdir(self.folder)  # a glob finds nothing in what it cannot read, and says nothing
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UserError(f"records cannot be read from {self.folder}: {error.strerror}") from None
        for record in read_records(self.folder).values():
            by_key.setdefault(record.run.key, []).append(record)
        for replicates in by_key.values():
            replicates.sort(key=lambda r: (r.status == "failed", r.time, -len(r.measures)))
        return by_key

    def reload(self) -> None:
        """Forget what was read: other processes may have added records."""
        self.__dict__.pop("_by_key", None)

    def __iter__(self) -> Iterator[Record]:
        return (record for replicates in self._by_key.values() for record in replicates)

    def get(self, run: Run) -> Record | None:
        """The record that stands for this run: the first that finished. Replicates are never counted as seeds."""
        return self._by_key.get(run.key, [None])[0]

    def has(self, run: Run) -> bool:
        """Whether the run has ended: there is a record of it, and not only of a failure."""
        record = self.get(run)
        return record is not None and record.status in FINISHED

    def replicates(self, run: Run) -> list[Record]:
        return list(self._by_key.get(run.key, []))

    def measures(self, run: Run) -> dict[str, Any]:
        """What was measured on any training of this run that ended well; the earliest, where several have the same.

        So a measure may come from a replicate, of another machine or precision than the record that stands for the run
        and gives its metrics. Nothing where that one did not end well: it would describe another outcome.
        """
        found: dict[str, Any] = {}
        standing = self.get(run)
        for record in self.replicates(run) if standing and standing.status == "ok" else ():
            if record.status == "ok":
                found |= {name: value for name, value in record.measures.items() if name not in found}
        return found

    def lacking(self, run: Run, measures: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the measures that no record holds, of a run that ended well: no other has anything to measure."""
        record = self.get(run)
        if record is None or record.status != "ok":
            return ()
        held = self.measures(run)
        return tuple(name for name in measures if name not in held)

    def add(self, record: Record) -> Path:
        """Write a record whole or not at all; a failed attempt at the same run is replaced."""
        make_folder(self.folder)
        path = self.folder / record.filename
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            part.write_text(record.to_json())
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            reason = error.strerror or error
            raise UserError(f"cannot write record {path}: {reason}; free some space and run again") from error
        for old, other in read_records(self.folder, f"{record.run.key}-*.json").items():
            if old != path and other.status == "failed":
                old.unlink(missing_ok=True)
        self.reload()
        return path

    def replace(self, old: Record, new: Record) -> Path:
        """Put `new` in the place of `old`, the same training's record before something was added to it."""
        path = self.add(new)
        if old.filename != new.filename:
            (self.folder / old.filename).unlink(missing_ok=True)
            self.reload()
        return path

    def row(self, run: Run) -> dict[str, Any]:
        """The run as one flat row: everything from the record that stands for it (`get`), but its `measures` from all
        of its records (`measures`)."""
        record = self.get(run)
        return row_of(run, record and record.model_copy(update={"measures": self.measures(run)}))

    def frame(self, runs: Iterable[Run] | None = None) -> pd.DataFrame:
        """One row a run, as `row` gives it: run fields, metrics, cost, status, measures. All records' runs when `runs`
        is None; a run without a record is a row of status "not run"."""
        if runs is None:
            runs = [replicates[0].run for replicates in self._by_key.values()]
        rows = [self.row(run) for run in runs]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["key", "status"])

    def replicate_frame(self, runs: Iterable[Run]) -> pd.DataFrame:
        """One row a record, with its own measures: every replicate of these runs, told apart by `precision`, `hardware`
        and `time`."""
        rows = [row_of(run, record) for run in runs for record in self.replicates(run)]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["key", "status", "precision"])
