"""`Record`: what came of a run. `Store`: a folder of records, one small JSON file each, made to be committed.

No torch in here: figures and verdicts are made from records alone.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlp_lib.datasets import at_hand
from mlp_lib.errors import UserError
from mlp_lib.runs import Run

REPOSITORY = Path(__file__).resolve().parent.parent
FINISHED = ("ok", "diverged")  # statuses of runs that ended; "failed" ones are retried


class Record(BaseModel):
    """One finished training. Metrics in percent and nats; seconds; FLOPs of the whole training."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_version: Literal[1] = Field(1, description="of this table")
    key: str = Field(description="the run's key when the record was written")
    run: Run = Field(description="the whole configuration, defaults included")
    status: Literal["ok", "diverged", "failed"] = Field(description="diverged: the loss was not finite")
    error: str | None = Field(None, description="one line, for status failed")
    metrics: dict[str, float] = Field({}, description="{train,val,test}_{top1,top5,loss} after the last step")
    curve: list[dict[str, float]] = Field([], description="the same on train and val at declared epochs")
    measures: dict[str, Any] = Field({}, description="what was measured on the trained weights, by name")
    parameters: int = Field(description="trainable parameters")
    parameters_body: int = Field(description="the same without embedding and head")
    macs: int = Field(description="forward multiply-adds of one example")
    paper_flops: int = Field(description="of the training, in the paper's convention: 3 x forward multiply-adds")
    train_flops: int = Field(description="of the training: multiplications + additions really done")
    steps: int = Field(description="optimiser steps taken")
    seconds: float = Field(description="wall time of training and evaluation, all calls together")
    images_per_second: float = Field(description="of training steps, in the last call")
    device: str = Field(description="cpu, cuda or mps")
    hardware: str = Field(description="processor or GPU")
    precision: str = Field(description="fp32 or bf16 in training; evaluation and measures are always in fp32")
    threads: int = Field(description="of torch, on the processor")
    accumulate: int = Field(1, description="parts that each batch was split into")
    together: int = Field(
        1,
        description="runs trained side by side with stacked weights in the last call; seconds is then this run's equal "
        "share of their time, and images_per_second counts its own images, not those of the others",
    )
    versions: dict[str, str] = Field(description="of Python and the packages that compute")
    sources: str = Field(description="hash of the mlp_lib sources that trained it")
    data: str = Field(description="fingerprint of the images and labels")
    time: str = Field(description="UTC, when it was finished")

    @field_validator("run", mode="before")
    @classmethod
    def _stored(cls, value: Any) -> Any:
        return Run.model_validate(value, context={"stored": True}) if isinstance(value, dict) else value

    def to_json(self) -> str:
        alone = {"together"} if self.together == 1 else set()  # as it was before there was such a field
        return json.dumps(self.model_dump(exclude=alone), indent=1, sort_keys=True) + "\n"

    @property
    def filename(self) -> str:
        """The run's key and a digest of the content: equal records have equal names."""
        return f"{self.run.key}-{hashlib.sha256(self.to_json().encode()).hexdigest()[:8]}.json"

    @property
    def training(self) -> str:
        """What tells trainings apart: a digest of all but what was measured since."""
        return self.model_copy(update={"measures": {}}).filename


def read_record(path: Path) -> Record:
    """Raises UserError: one line that names the file and what is wrong with it."""
    try:
        return Record.model_validate_json(path.read_bytes(), context={"stored": True})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"record {path} is not valid: {where}: {first['msg']}; restore it or delete it") from None
    except OSError as error:
        raise UserError(f"record {path} cannot be read: {error.strerror}") from None


def read_records(folder: Path, pattern: str = "*.json") -> dict[Path, Record]:
    """The records of a folder by file, while other processes add and replace some: one that has vanished between being
    listed and being read is not there, and what came in its place is."""
    read: dict[Path, Record] = {}
    for _ in range(20):
        listed = sorted(folder.glob(pattern))
        new = [path for path in listed if path not in read]
        if not new:
            return {path: read[path] for path in listed}
        for path in new:
            try:
                read[path] = read_record(path)
            except UserError:
                if path.exists():
                    raise
    raise UserError(f"records in {folder} keep changing while they are read ({new[0].name}); try again, or delete it")


def default_folder() -> Path:
    """$MLP_LIB_RUNS, else data/runs of the checkout."""
    return Path(os.environ.get("MLP_LIB_RUNS") or REPOSITORY / "data" / "runs")


def make_folder(folder: Path) -> None:
    """Raises UserError where the folder cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror or error}; choose another --out") from error


class Store:
    """The records of one folder. Weights lie in its subfolder `weights`, which git ignores."""

    def __init__(self, folder: Path | str | None = None):
        self.folder = Path(folder) if folder is not None else default_folder()

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @cached_property
    def _by_key(self) -> dict[str, list[Record]]:
        by_key: dict[str, list[Record]] = {}
        if self.folder.exists():
            try:
                os.listdir(self.folder)  # a glob finds nothing in what it cannot read, and says nothing
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


def row_of(run: Run, record: Record | None) -> dict[str, Any]:
    """A run and its record as one flat row."""
    row = {"key": run.key, "status": record.status if record else "not run", **run.model_dump(exclude={"init"})}
    row["init"] = run.init.run.key if run.init else None
    if at_hand(run.dataset):
        row["total_steps"], row["train_examples"] = run.total_steps, run.train_examples
    else:  # the set of a reader elsewhere, of which only the record is here
        row["total_steps"], row["train_examples"] = record.steps if record else None, None
    if record:
        nested = {"run", "key", "status", "metrics", "curve", "measures", "versions"}
        scalars = record.model_dump(exclude=nested | {"steps"})  # "steps" is a field of the run
        row |= scalars | record.metrics | {"curve": record.curve, "measures": record.measures}
        row["steps_taken"] = record.steps
        row["torch"] = record.versions.get("torch")
    return row


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """Learning curves, tidy: one row a run and point, the frame's columns repeated (test metrics left out)."""
    rows = []
    for row in frame.to_dict("records"):
        points = row.pop("curve", None)
        for point in points if isinstance(points, list) else []:
            rows.append({**{k: v for k, v in row.items() if k not in point}, **point})
    return pd.DataFrame(rows)


def compute_so_far(points: pd.DataFrame) -> pd.Series:
    """FLOPs that a training has cost up to each point of `curves`, which has train_flops, step and total_steps."""
    return points["train_flops"].astype(float) * points["step"] / points["total_steps"]


def measures_of(row: dict) -> dict:
    """The measures of a frame's row: none of a row that has not ended well, or that counts as not run, and none of
    those that could not be taken (`measure.measure`)."""
    found = row.get("measures")
    there = found if isinstance(found, dict) and row.get("status") == "ok" else {}
    return {name: value for name, value in there.items() if "not_measured" not in value}


def merge(source: Path, store: Store) -> tuple[list[Path], int]:
    """Copy the records below `source` into `store`. Keys are computed anew; a second record of a run is kept beside
    the first as a replicate, and measures of a training whose record is there are added to it. Returns the files
    written and how many records brought nothing new.

    Every record is read before the first is written. Raises UserError when `source` holds none, or one is damaged.
    """
    paths = sorted(p for p in Path(source).rglob("*.json") if p.is_file())
    if not paths:
        raise UserError(f"no records (*.json) below {source}; give the folder that --out named")
    records = [read_record(path) for path in paths]
    there: dict[str, list[Record]] = {}  # kept here: a store reads its whole folder anew after each write
    for record in store:
        there.setdefault(record.key, []).append(record)
    written, known = [], 0
    for record in records:
        if record.status == "failed":
            continue
        record = record.model_copy(update={"key": record.run.key})
        trainings = there.setdefault(record.key, [])
        same = next((i for i, old in enumerate(trainings) if old.training == record.training), None)
        if same is None:
            trainings.append(record)
            written.append(store.add(record))
        elif record.measures.keys() <= trainings[same].measures.keys():
            known += 1
        else:
            old = trainings[same]
            trainings[same] = old.model_copy(update={"measures": record.measures | old.measures})
            written.append(store.replace(old, trainings[same]))
    return written, known




def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
