"""`Record`: what came of a run, and how it is read from its file."""

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlp_lib.errors import UserError
from mlp_lib.paths import check_regular, shown, whats_wrong
from mlp_lib.records.run import Run

FINISHED = ("ok", "diverged")  # statuses of runs that ended; "failed" ones are retried
# With their defaults: records from before lack them, and those that have the default leave them out.
LATER_FIELDS = {"body_share": 1.0, "fresh": False, "data_seed": 0}  # of a run
LATER_ENTRIES = {"together": 1, "labels_in_files": ()}  # of a record
CANNOT_RUN = "cannot run"  # in a frame, of a run without a record: what it starts from diverged


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
    labels_in_files: tuple[int, ...] = Field(
        (), description="of a set npz:NAME: class k is this label of its files; empty where they have 0 to K-1"
    )
    time: str = Field(description="UTC, when it was finished")

    @field_validator("run", mode="before")
    @classmethod
    def _stored(cls, value: Any) -> Any:
        return Run.model_validate(value, context={"stored": True}) if isinstance(value, dict) else value

    def to_json(self) -> str:
        # Fields that came later are left out at their defaults: records from before them keep their bytes and names.
        later: dict[str, Any] = {
            name: True for name, default in LATER_ENTRIES.items() if getattr(self, name) == default
        }
        if unset := {name for name, default in LATER_FIELDS.items() if getattr(self.run, name) == default}:
            later["run"] = unset
        return json.dumps(self.model_dump(exclude=later), indent=1, sort_keys=True) + "\n"

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
    name = shown(str(path))
    try:
        check_regular(path)
        return Record.model_validate_json(path.read_bytes(), context={"stored": True})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        fault = whats_wrong(path, ValueError(f"{where}: {first['msg']}"))
        raise UserError(f"record {name} is not valid: {fault}; restore it or delete it") from None
    except (RecursionError, ValueError) as error:  # a UserError of the run in it, or nested too deeply
        raise UserError(f"record {name} is not valid: {str(error)[:200]}; restore it or delete it") from None
    except OSError as error:
        raise UserError(f"record {name} cannot be read: {whats_wrong(path, error)}") from None


def read_records(
    folder: Path, listed: Callable[[], list[Path]] | None = None, read: Callable[[Path], Record] | None = None
) -> dict[Path, Record]:
    """The records of a folder by file, while other processes add and replace some: one that has vanished between being
    listed and being read is not there, and what came in its place is.

    listed: gives the files to read, asked again when one has vanished; all of the folder's unless given.
    read: `read_record` unless given.
    """
    listed, read = listed or (lambda: sorted(folder.glob("[!.]*.json"))), read or read_record
    found: dict[Path, Record] = {}
    for _ in range(20):
        paths, vanished = listed(), []
        for path in paths:
            try:
                if path not in found:
                    found[path] = read(path)
            except UserError:
                if os.path.lexists(path):
                    raise
                vanished.append(path.name)
        if not vanished:
            return {path: found[path] for path in paths}
    raise UserError(f"records in {folder} keep changing while they are read ({vanished[0]}); try again, or delete it")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
