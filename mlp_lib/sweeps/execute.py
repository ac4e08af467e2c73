"""`execute`: train one run in this process, or several side by side, and write down what came of it."""

import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mlp_lib import locks, models
from mlp_lib.errors import Busy, CannotRun, UserError
from mlp_lib.measures import take
from mlp_lib.paths import PACKAGE, whats_wrong
from mlp_lib.records.record import FINISHED, Record, now
from mlp_lib.records.run import Run
from mlp_lib.records.same_images import check_images
from mlp_lib.records.store import Store, make_folder
from mlp_lib.records.weights import weights_at_hand
from mlp_lib.sweeps import costs
from mlp_lib.training import loop, side_by_side
from mlp_lib.training.checkpoints import put_weights, save_origin
from mlp_lib.training.how import How, check_how, pick_device
from mlp_lib.training.loaders import load_data

NUMERIC = ("datasets", "records", "models", "training", "measures")  # the packages whose code decides a run's numbers


def _sources_hash() -> str:
    digest = hashlib.sha256()
    paths = [path for package in NUMERIC for path in (PACKAGE / package).rglob("*.py")]
    for path in sorted(paths):
        digest.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
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
    again: bool = True,
    known: int = 0,
) -> Result:
    """Train one run in this process and store its record. A crash is stored as "failed" and raised.

    `again=False` trains nothing where there are more records of the finished run than the `known` ones, from another
    process that works at the same study: what it has recorded is the result. Raises UserError, with nothing stored, for
    what cannot start, and for a measure that cannot be taken of the run; Busy while another process trains the run;
    CannotRun where what it starts from diverged.
    """

    def ends(runs):
        options = {"keep_epochs": keep_epochs, "on_progress": on_progress, "should_stop": should_stop}
        yield run, *loop.train(run, store.weights, how, **options)

    return _execute([run], store, how, measures, ends, None if again else {run.key: known})[0]


def execute_together(
    runs: Sequence[Run],
    store: Store,
    how: How = How(),
    *,
    measures: tuple[str, ...] = (),
    keep_epochs: Sequence[int] = (),
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    known: Mapping[str, int] | None = None,
) -> list[Result]:
    """The same for runs of one list of `side_by_side.groups`: a record each, as soon as each has ended.

    known: by key, as for `execute` with `again=False`; None trains all again.

    Raises UserError, with nothing stored, when one of them cannot start; Busy and CannotRun tell which (`key`). A crash
    is that of all that have not ended.
    """

    def ends(left):
        options = {"keep_epochs": keep_epochs, "on_progress": on_progress, "should_stop": should_stop}
        return side_by_side.train_together(left, store.weights, how, **options)

    return _execute(runs, store, how, measures, ends, known)


def _execute(
    runs: Sequence[Run],
    store: Store,
    how: How,
    measures: tuple[str, ...],
    ends: Callable[[list[Run]], Iterator],
    known: Mapping[str, int] | None,
) -> list[Result]:
    """Draw the ends of these runs, (run, outcome, model) each, under their locks, and write them down."""
    for run in runs:
        take.check(measures, run)
        if parent := store.blocked_by(run):
            line = f"run {run.key} starts from {parent.key}, which diverged and left no weights; change its lr"
            raise CannotRun(line, run.key)
    check_images(runs, store)
    check_how(how)
    device = pick_device(how.device)
    counts = models.parameter_counts(models.build_for(runs[0]))  # theirs too: they have one architecture
    labels = load_data(runs[0], device).labels_in_files
    make_folder(store.weights)
    to_measure = []
    results = {run.key: Result(None, None, 0) for run in runs}  # of what is not begun before a stop
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(_locked(run, store))
        left = list(runs)
        if known is not None:
            store.reload()
            for run in runs:
                if sum(record.status in FINISHED for record in store.replicates(run)) > known[run.key]:
                    record = store.get(run)
                    results[run.key] = Result(record, store.folder / record.filename, record.steps)
                    left.remove(run)
        if not left:
            return [results[run.key] for run in runs]
        started = time.perf_counter()
        facts = {run.key: dict(key=run.key, run=run, labels_in_files=labels, **counts, **_flops(run)) for run in runs}
        try:
            for run, outcome, trained in ends(left):
                results[run.key] = Result(None, None, outcome.step)
                if outcome.status == "paused":
                    continue
                record = Record(
                    status=outcome.status,
                    metrics=outcome.metrics,
                    curve=outcome.curve,
                    steps=outcome.step,
                    seconds=round(outcome.seconds, 2),
                    images_per_second=round(outcome.images_per_second, 1),
                    device=outcome.device,
                    precision=outcome.precision,
                    threads=outcome.threads,
                    accumulate=outcome.accumulate,
                    together=outcome.together,
                    data=outcome.fingerprint,
                    **facts[run.key],
                    **_environment(device),
                )
                path = store.add(record)
                results[run.key] = Result(record, path, outcome.step)
                if outcome.status == "ok":
                    save_origin(record.training, _origin(run, store))
                if trained is not None and measures:
                    to_measure.append((run, outcome.device, trained))
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            for run in left:
                if results[run.key].record is None:
                    store.add(
                        Record(
                            status="failed",
                            error=reason,
                            steps=0,
                            seconds=time.perf_counter() - started,
                            images_per_second=0.0,
                            device=how.device,
                            precision=how.precision,
                            threads=how.threads or 0,
                            data="",
                            **facts[run.key],
                            **_environment(device),
                        )
                    )
            raise
        for run, where, trained in to_measure:  # after all is stored: a measure that fails does not cost a training
            bare, _, step = results[run.key]
            measured = take.measure(measures, trained, run, load_data(run, where))
            record = bare.model_copy(update={"measures": measured})
            results[run.key] = Result(record, store.replace(bare, record), step)
    return [results[run.key] for run in runs]


@contextmanager
def _locked(run: Run, store: Store) -> Iterator[None]:
    """Hold the run against other processes, and clear what one that was killed left half-written."""
    busy = Busy(f"run {run.key} is being trained by another process; wait for it or stop it first", run.key)
    with locks.held(store.weights / f"{run.key}.lock", busy):
        for name in os.listdir(store.weights):
            if name.startswith((f"{run.key}.", f"{run.key}@")) and name.endswith(".part"):
                (store.weights / name).unlink(missing_ok=True)
        yield


def add_measures(run: Run, store: Store, measures: tuple[str, ...], device: str = "auto") -> bool:
    """Measure an old run's kept weights and add what all its records lack to the record of the training that they are
    from. False when the weights are not at hand. Raises UserError for a measure that cannot be taken of the run; Busy
    while another process trains or measures it."""
    take.check(measures, run)
    if not store.lacking(run, measures):
        return True
    path = store.weights / f"{run.key}.safetensors"
    if not weights_at_hand(path):
        return False
    where = pick_device(device)
    with _locked(run, store):
        store.reload()
        lacking = store.lacking(run, measures)  # another process may have been here
        if lacking:
            model = models.build_for(run)
            put_weights(model, path)
            record = _trained(run, store)
            measured = take.measure(lacking, model.to(where), run, load_data(run, where))
            store.replace(record, record.model_copy(update={"measures": record.measures | measured}))
    return True


def _origin(run: Run, store: Store) -> Path:
    """The file that names the training which the kept weights are from (`Record.training`)."""
    return store.weights / f"{run.key}.origin"


def _trained(run: Run, store: Store) -> Record:
    """The record of the training that the kept weights are from; the one that stands for the run where none is named,
    as by weights that are older than such names."""
    origin = _origin(run, store)
    try:
        training = origin.read_text() if origin.exists() else None
    except (OSError, ValueError) as error:
        reason = whats_wrong(origin, error)
        raise UserError(f"{origin} cannot be read: {reason}; train that run again, with --retrain") from error
    return next((record for record in store.replicates(run) if record.training == training), store.get(run))


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
