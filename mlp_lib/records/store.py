"""`Store`: a folder of records, one small JSON file each, made to be committed."""

import bisect
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY, path_from_environment, user_path
from mlp_lib.records.frames import row_of
from mlp_lib.records.record import CANNOT_RUN, FINISHED, Record, read_record, read_records
from mlp_lib.records.run import Run

KEY_LENGTH, NAME_LENGTH = len("0123456789ab"), len("0123456789ab-01234567.json")  # of `Record.filename`
FEW = 4  # look-ups after a listing, for which going through it costs less than putting it in order


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
    """The records of one folder. Weights lie in its subfolder `weights`, which git ignores.

    A record's file is named by its run's key, so that what is asked of one run reads that run's files and no others:
    the folder is listed once, and again after `reload`, and a file that has not changed is read once.
    """

    def __init__(self, folder: Path | str | None = None):
        self.folder = user_path(folder, "the folder of records") if folder is not None else default_folder()
        self._read: dict[Path, tuple[tuple[int, ...], Record]] = {}  # with size and times of the file it was read from
        self.reload()

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    def reload(self) -> None:
        """Look again at what is there: other processes may have added records."""
        self._listing: list[str] | None = None  # what is in the folder
        self._ordered: list[str] | None = None  # of it, the records' names in order: those of one key lie together
        self._odd: list[str] = []  # of these, those that somebody has named otherwise than by a key
        self._looked_up = 0
        self._found: dict[str, dict[Path, Record]] = {}  # by key, the one that stands for its run first

    def _changed(self, path: Path, key: str) -> None:
        """Take note of a file that this store has written or deleted: nothing else need be looked at again."""
        names = self._listed()
        if path.exists() != (path.name in names):
            names.remove(path.name) if path.name in names else names.append(path.name)
            self._ordered = None
        self._found.pop(key, None)

    def _listed(self) -> list[str]:
        """The names of everything in the folder that may be a record, in no order; `_odd` is made with it."""
        if self._listing is None:
            try:
                self._listing = os.listdir(self.folder)
            except FileNotFoundError:
                self._listing = []  # it is still to be made
            except OSError as error:
                raise UserError(f"records cannot be read from {self.folder}: {error.strerror}") from None
            odd = [name for name in self._listing if len(name) != NAME_LENGTH or name[KEY_LENGTH] != "-"]
            self._odd = sorted(name for name in odd if _is_record(name))
            self._ordered = None
        return self._listing

    def _names(self) -> list[str]:
        """The names of the files of records, in order."""
        listed = self._listed()
        if self._ordered is None:
            self._ordered = sorted(name for name in listed if _is_record(name))
        return self._ordered

    def _names_of(self, key: str) -> list[str]:
        """The names of the files that may hold records of a run: its own, and those that do not say whose they are."""
        self._looked_up += 1
        if self._looked_up <= FEW:
            own = sorted(name for name in self._listed() if name.startswith(key) and _is_record(name))
            return [*(name for name in own if name not in self._odd), *self._odd]
        names = self._names()
        first = bisect.bisect_left(names, f"{key}-")
        return [*names[first : bisect.bisect_left(names, f"{key}.", first)], *self._odd]

    def _read_once(self, path: Path) -> Record:
        try:
            state = os.stat(path)
        except OSError:
            return read_record(path)  # which says what is wrong
        version = (state.st_ino, state.st_size, state.st_mtime_ns)
        if path not in self._read or self._read[path][0] != version:
            self._read[path] = version, read_record(path)
        return self._read[path][1]

    def _read_listed(self, key: str | None) -> dict[Path, Record]:
        """The records of the files that may hold some of one run, or of all files."""
        rounds = itertools.count()

        def listed() -> list[Path]:
            if next(rounds):
                self._listing = None
            return [self.folder / name for name in (self._names() if key is None else self._names_of(key))]

        return read_records(self.folder, listed, self._read_once)

    def _of(self, run: Run) -> dict[Path, Record]:
        """The records of a run by file, the one that stands for it first."""
        key = run.key
        if key not in self._found:
            there = self._read_listed(key).items()
            self._found[key] = _in_order({path: record for path, record in there if record.run.key == key})
        return self._found[key]

    def __iter__(self) -> Iterator[Record]:
        """Every record, those of one run together."""
        by_key: dict[str, dict[Path, Record]] = {}
        for path, record in self._read_listed(None).items():
            by_key.setdefault(record.run.key, {})[path] = record
        self._found = {key: _in_order(records) for key, records in by_key.items()}
        return (record for records in by_key for record in self._found[records].values())

    def get(self, run: Run) -> Record | None:
        """The record that stands for this run: the first that finished. Replicates are never counted as seeds."""
        return next(iter(self._of(run).values()), None)

    def run_of(self, key: str) -> Run | None:
        """The run with this key, or whose key alone begins so; None where there is no record of one.

        Raises UserError where several keys begin so.
        """
        names = {name[:12]: name for name in self._names() if name.startswith(key) and name not in self._odd}
        if len(names) > 1:
            raise UserError(f"several keys begin with {key}: {', '.join(names)}")
        return self._read_once(self.folder / names.popitem()[1]).run if names else None

    def has(self, run: Run) -> bool:
        """Whether the run has ended: there is a record of it, and not only of a failure."""
        record = self.get(run)
        return record is not None and record.status in FINISHED

    def replicates(self, run: Run) -> list[Record]:
        return list(self._of(run).values())

    def blocked_by(self, run: Run) -> Run | None:
        """The run that this one starts from, at whatever remove, and never can: it diverged and left no weights."""
        parent = run.init and run.init.run
        while parent:
            record = self.get(parent)
            diverged = any(replicate.status == "diverged" for replicate in self.replicates(parent))
            if record and record.status == "ok":
                kept = diverged and any(self.weights.glob(f"{parent.key}[.@]*safetensors"))
                return parent if diverged and not kept else None
            if diverged:
                return parent
            parent = parent.init and parent.init.run
        return None

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
        except BaseException as error:  # an interruption too leaves no half of a record
            part.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            reason = error.strerror or error
            raise UserError(f"cannot write record {path}: {reason}; free some space and run again") from error
        key = record.run.key
        self._changed(path, key)
        for old, other in self._of(record.run).items():
            if old != path and other.status == "failed":
                old.unlink(missing_ok=True)
                self._changed(old, key)
        self._found.pop(key, None)
        return path

    def replace(self, old: Record, new: Record) -> Path:
        """Put `new` in the place of `old`, the same training's record before something was added to it."""
        path = self.add(new)
        if old.filename != new.filename:
            (self.folder / old.filename).unlink(missing_ok=True)
            self._changed(self.folder / old.filename, old.run.key)
        return path

    def row(self, run: Run) -> dict[str, Any]:
        """The run as one flat row: everything from the record that stands for it (`get`), but its `measures` from all
        of its records (`measures`). Without a record its status is "not run", or "cannot run" (`blocked_by`)."""
        record = self.get(run)
        row = row_of(run, record and record.model_copy(update={"measures": self.measures(run)}))
        return row | {"status": CANNOT_RUN} if not self.has(run) and self.blocked_by(run) else row

    def frame(self, runs: Iterable[Run] | None = None) -> pd.DataFrame:
        """One row a run, as `row` gives it: run fields, metrics, cost, status, measures. All records' runs when `runs`
        is None; a run without a record is a row of status "not run"."""
        if runs is None:
            runs = list({record.run.key: record.run for record in self}.values())
        rows = [self.row(run) for run in runs]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["key", "status"])

    def replicate_frame(self, runs: Iterable[Run]) -> pd.DataFrame:
        """One row a record, with its own measures: every replicate of these runs, told apart by `precision`, `hardware`
        and `time`."""
        rows = [row_of(run, record) for run in runs for record in self.replicates(run)]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["key", "status", "precision"])


def _is_record(name: str) -> bool:
    """Names that begin with a dot are the system's: a Mac's archive has a `._x.json` beside every `x.json`."""
    return name.endswith(".json") and name[0] != "."


def _in_order(records: dict[Path, Record]) -> dict[Path, Record]:
    """The record that stands for the run first: finished ones, the earliest, that with the most measures."""

    def rank(item: tuple[Path, Record]) -> tuple:
        record = item[1]
        return record.status == "failed", record.time, -len(record.measures)

    return dict(sorted(records.items(), key=rank))
