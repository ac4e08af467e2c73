"""What was measured, as it lies in data/inference.json: written by `benchmarks/inference.py`, read by the chapter.

The file holds one measurement for each setting that was measured, whole: facts of every model, the machine and its
state, and the seconds of every call. `frame` makes the chapter's rows from it.
"""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlp_lib.errors import UserError
from mlp_lib.paths import whats_wrong
from mlp_lib.records.architectures import family_of

FILE = "inference.json"  # beside the folder of records
COLUMNS = ("model", "family", "batch_size", "seed", "status", "flops", "images_per_second", "latency", "scale")


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Model(_Checked):
    """One network. Exact, and the same on every machine."""

    name: str = Field(description="as mlp_lib.models.build takes it")
    parameters: int = Field(gt=0)
    macs: int = Field(gt=0, description="multiply-adds of one image's forward pass; the paper's FLOPs")
    flops: int = Field(gt=0, description="of the same: 2 x macs")
    weight_bytes: int = Field(gt=0, description="parameters and buffers")
    activation_bytes: dict[int, int] = Field(description="peak of live tensors during a forward pass, by batch size")


class Round(_Checked):
    """One turn of all models, and of the machine's own two rates."""

    matmul_flops_per_second: float = Field(gt=0, description="of a product of two 2048 x 2048 matrices, fp32")
    read_bytes_per_second: float = Field(gt=0, description="of the sum over 256 MB")
    seconds: dict[str, dict[int, list[float]]] = Field(description="of each call, by model and batch size")


class Measurement(_Checked):
    """Everything that was measured at one setting, in one process, in rounds that took turns."""

    settings: dict[str, Any] = Field(description="the preset: models, image, batch sizes, rounds")
    hardware: str
    device: str
    cores: int
    threads: int
    precision: Literal["fp32"]
    clock: Literal["processor time", "wall time"] = Field(description="processor time where one thread was timed")
    versions: dict[str, str]
    date: str
    load_before: float = Field(description="processes running or waiting in the minute before")
    matmul_spread: float = Field(description="slowest over fastest of equal matrix products, before")
    others_cores: float | None = Field(description="cores that other processes kept busy meanwhile, where it is told")
    idle: bool = Field(description="whether nothing else ran, before and meanwhile")
    total_seconds: float
    models: list[Model]
    rounds: list[Round]


class File(_Checked):
    """The whole file."""

    schema_version: Literal[1]
    measurements: list[Measurement]


def read(path: Path) -> list[Measurement]:
    """The measurements in a file; none where it is not there. Raises UserError, one line, for a file that is broken, or
    is something else."""
    if not path.exists():
        return []
    try:
        return File.model_validate_json(path.read_bytes()).measurements
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place + ': ' if place else ''}{' '.join(first['msg'].split())[:150]}"
    except OSError as error:
        reason = whats_wrong(path, error)
    raise UserError(f"{path} holds no measurements of inference ({reason}); restore it, or delete it and measure again")


def found(path: Path, settings: Mapping[str, Any]) -> Measurement | None:
    """The measurement in a file at these settings, if it is there. Raises as `read` does."""
    wanted = json.loads(json.dumps(dict(settings)))  # as a file has them: tuples are lists
    return next((one for one in read(path) if one.settings == wanted), None)


def keep(path: Path, new: Measurement) -> None:
    """Put a measurement into a file, in the place of an older one at the same settings. Raises UserError where the file
    is something else, or cannot be written."""
    others = [one for one in read(path) if one.settings != new.settings]
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(File(schema_version=1, measurements=[*others, new]).model_dump_json(indent=1) + "\n")
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; name another folder with --out") from error
    finally:
        part.unlink(missing_ok=True)


def frame(one: Measurement | None) -> pd.DataFrame:
    """One row a model, batch size and round, which is the `seed`: images/s over all calls of the round, and the median
    seconds of a call as `latency`. No rows where nothing was measured."""
    if one is None:
        return pd.DataFrame(columns=list(COLUMNS))
    models = {model.name: model for model in one.models}
    rows = [
        {
            "model": name,
            "family": family_of(name),
            "parameters": models[name].parameters,
            "macs": models[name].macs,
            "flops": models[name].flops,
            "weight_bytes": models[name].weight_bytes,
            "activation_bytes": models[name].activation_bytes[batch],
            "batch_size": batch,
            "seed": number,
            "status": "ok",
            "images_per_second": batch * len(calls) / sum(calls),
            "latency": statistics.median(calls),
            "scale": scale(one),
        }
        for number, turn in enumerate(one.rounds)
        for name, by_batch in turn.seconds.items()
        for batch, calls in by_batch.items()
    ]
    return pd.DataFrame(rows)


def scale(one: Measurement) -> str:
    """Images, classes, precision and machine, for a verdict's scale."""
    threads = f"{one.threads} thread{'s' if one.threads > 1 else ''}"
    side, classes = one.settings["resolution"], one.settings["classes"]
    return f"{side} x {side} pixels, {classes:,} classes, fp32, {one.hardware}, {threads}, {len(one.rounds)} rounds"
