"""`execute`: train one run in this process and write down what came of it."""

import hashlib
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import safetensors.torch
import torch

from mlp_lib import architectures, costs, measure, models, train
from mlp_lib.errors import UserError
from mlp_lib.loaders import load_data
from mlp_lib.records import Record, Store, make_folder, now
from mlp_lib.runs import Run
from mlp_lib.train import How


def _sources_hash() -> str:
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


SOURCES = _sources_hash()  # as imported: an edit while a sweep runs does not change what it says of itself


class Result(NamedTuple):
    """What `execute` did: the record (None when paused), where it lies, and how far it came."""

    record: Record | None
    path: Path | None
    step: int


def execute(
    run: Run,
    store: Store,
    how: How = How(),
    *,
    measures: tuple[str, ...] = (),
    keep_epochs: Sequence[int] = (),
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Train one run in this process and store its record. A crash is stored as "failed" and raised.

    Raises UserError, with nothing stored, for what cannot start.
    """
    measure.check_names(measures)
    parent = store.get(run.init.run) if run.init else None
    if parent and parent.status == "diverged":
        raise UserError(f"run {run.key} starts from {parent.key}, which diverged and left no weights; change its lr")
    device = train.pick_device(how.device)
    train.check_precision(how.precision)
    model = models.build_for(run)
    load_data(run, device)
    make_folder(store.weights)
    lock = filelock.FileLock(store.weights / f"{run.key}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"run {run.key} is being trained by another process; wait for it or stop it first") from None
    try:
        for part in store.weights.glob(f"{run.key}[.@]*.part"):  # left by a process that was killed while it wrote
            part.unlink()
        facts = dict(key=run.key, run=run, **models.parameter_counts(model), **_flops(run))
        started = time.perf_counter()
        try:
            outcome, trained = train.train(
                run, store.weights, how, keep_epochs=keep_epochs, on_progress=on_progress, should_stop=should_stop
            )
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            store.add(
                Record(
                    status="failed", error=reason, steps=0, seconds=time.perf_counter() - started,
                    images_per_second=0.0, device=how.device, precision=how.precision, threads=how.threads or 0,
                    data="", **facts, **_environment(train.pick_device(how.device)),
                )
            )  # fmt: skip
            raise
        if outcome.status == "paused":
            return Result(None, None, outcome.step)
        record = Record(
            status=outcome.status, metrics=outcome.metrics, curve=outcome.curve, steps=outcome.step,
            seconds=round(outcome.seconds, 2), images_per_second=round(outcome.images_per_second, 1),
            device=outcome.device, precision=outcome.precision, threads=outcome.threads, accumulate=outcome.accumulate,
            data=outcome.fingerprint, **facts, **_environment(train.pick_device(how.device)),
        )  # fmt: skip
        path = store.add(record)  # before anything is measured: a measure that fails does not cost the training
        if trained is not None and _applicable(measures, run):
            measured = measure.measure(_applicable(measures, run), trained, run, load_data(run, outcome.device))
            bare, record = record, record.model_copy(update={"measures": measured})
            path = store.replace(bare, record)
        return Result(record, path, outcome.step)
    finally:
        lock.release()


def add_measures(run: Run, store: Store, measures: tuple[str, ...]) -> bool:
    """Measure an old run's kept weights and add what its record lacks. False when the weights are not at hand."""
    measure.check_names(measures)
    record = store.get(run)
    lacking = tuple(m for m in _applicable(measures, run) if m not in record.measures)
    if record.status != "ok" or not lacking:
        return True
    path = store.weights / f"{run.key}.safetensors"
    if not path.exists():
        return False
    model = models.build_for(run)
    model.load_state_dict(safetensors.torch.load_file(path))
    device = train.pick_device()
    measured = measure.measure(lacking, model.to(device), run, load_data(run, device))
    store.replace(record, record.model_copy(update={"measures": record.measures | measured}))
    return True


def _applicable(measures: tuple[str, ...], run: Run) -> tuple[str, ...]:
    """What looks at the first layer is for MLPs; a study asks it of all its runs."""
    return tuple(m for m in measures if not m.startswith("first_layer") or architectures.parse(run.model).is_mlp)


def _flops(run: Run) -> dict[str, int]:
    cost, examples = costs.example_cost(run), run.batch_size * run.total_steps
    return {"macs": cost.macs, "paper_flops": cost.paper * examples, "train_flops": cost.true * examples}


def _environment(device) -> dict[str, Any]:
    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    names = ("torch", "torchvision", "timm", "lion-pytorch", "numpy", "mlp-lib")
    return {
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in names}},
        "sources": SOURCES,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "time": now(),
    }


def processor_name() -> str:
    """The processor's own name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
