"""`train`: one run."""

import inspect
import json
import sys
import time
from typing import Annotated, Any

import typer

from mlp_lib.cli.app import Budget, Device, Json, Out, Paused, Precision, app, last_line
from mlp_lib.errors import UserError
from mlp_lib.machine import check_count
from mlp_lib.output import Unfailing
from mlp_lib.records.run import Run, make_run


def _with_run_options(command):
    """Give `command(run_fields, ...)` one option for each field of Run, under the field's own name."""
    own = [p for name, p in inspect.signature(command).parameters.items() if name != "run_fields"]
    fields = []
    for name, field in Run.model_fields.items():
        if name == "recipes":
            continue
        default = (
            ""
            if field.is_required() or field.default is None
            else f" (default {field.default:.4g})"
            if isinstance(field.default, float)
            else f" (default {field.default})"
        )
        text = "JSON of the run to start from: {run: {...}, epoch, transform}" if name == "init" else field.description
        option = typer.Option(f"--{name.replace('_', '-')}", help=f"{text}{default}", show_default=False)
        fields.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
            )
        )

    def wrapped(**values):
        given = {n: values.pop(n) for n in Run.model_fields if n in values}
        given = {n: v for n, v in given.items() if v is not None}
        if "init" in given:
            try:
                given["init"] = json.loads(given["init"])
            except (ValueError, RecursionError) as error:
                raise UserError(f"init is not JSON: {error}") from None
        return command(run_fields=given, **values)

    wrapped.__signature__ = inspect.Signature([*fields, *own])
    wrapped.__annotations__ = {p.name: p.annotation for p in [*fields, *own]}
    wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
    return wrapped


@app.command()
@_with_run_options
def train(
    run_fields: dict[str, Any],
    *,
    key: Annotated[str | None, typer.Option(help="a recorded run, by its key: in the place of its fields")] = None,
    out: Out = None,
    as_json: Json = False,
    time_budget: Budget = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="of torch")] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="parts a batch is split into")] = 1,
    measure: Annotated[list[str] | None, typer.Option(help="measure the trained weights; may be repeated")] = None,
    retrain: Annotated[bool, typer.Option(help="train even when there is a record; a replicate is kept")] = False,
) -> None:
    """Train one run and keep its record. A killed or stopped run goes on where it was.

    With `--key` and `--out`, a run of data/runs (or of MLP_LIB_RUNS) is repeated, and its record compared.
    """
    from mlp_lib.records.same_images import check_images
    from mlp_lib.records.store import Store

    check_count(threads, "threads")
    _check_named(device, precision, tuple(measure or ()))
    store = Store(out)
    run = _recorded(key, run_fields, store) if key is not None else _described(run_fields)
    check_images([run], store)  # a record of other images under this name is not this run's either
    if retrain or not store.has(run):
        result = _train_here(run, store, device, precision, threads, accumulate, measure, time_budget)
        if result.record is None:
            typer.echo(f"stopped at step {result.step} of {run.total_steps}; the same command goes on from there")
            last_line(as_json, status="paused", key=run.key, record=None, metrics={})
            raise Paused
        record, path = result.record, result.path
        _speed(record)
    else:
        typer.echo("this run has a record already (--retrain makes a replicate)")
        if measure and not _measure_again(run, store, tuple(measure), device):
            typer.echo("its weights are not at hand, so nothing more was measured; with --retrain it is")
        record = store.get(run)
        path = store.folder / record.filename
    if record.status == "diverged":
        typer.echo(f"diverged: the loss was not finite by step {record.steps}; try a smaller --lr")
    _summary(record)
    if key is not None and store.folder != Store().folder and (known := Store().get(run)):
        typer.echo("what is recorded of this run:")
        _summary(known)
    typer.echo(f"record: {path}")
    last_line(as_json, status=record.status, key=run.key, record=str(path), metrics=record.metrics)


def _check_named(device: str, precision: str, measures: tuple[str, ...]) -> None:
    """Raises UserError for a device, a precision or a measure that there is not, also where a record makes it idle."""
    if (device, precision, measures) == ("auto", "auto", ()):
        return  # nothing was named: torch need not be loaded to say so
    from mlp_lib.measures.take import check_names
    from mlp_lib.training.how import check_precision, pick_device

    pick_device(device)
    check_precision(precision)
    check_names(measures)


def _described(fields: dict[str, Any]) -> Run:
    if not {"epochs", "steps"} & fields.keys():
        raise UserError("give --epochs or --steps, for example --epochs 20")
    return make_run(**fields)


def _recorded(key: str, fields: dict[str, Any], store) -> Run:
    """The run of a record, in the usual folder or in `store`'s."""
    from mlp_lib.records.store import Store

    if fields:
        raise UserError(f"--key names a whole run: leave out --{', --'.join(fields).replace('_', '-')}")
    if not key.strip():
        raise UserError("--key is empty; give the first digits of a key, for example those on a page of the book")
    run = Store().run_of(key) or store.run_of(key)
    if run is None:
        raise UserError(f"there is no record of a run whose key begins with {key} in {Store().folder}")
    return run


def _train_here(run, store, device, precision, threads, accumulate, measure, time_budget):
    from tqdm import tqdm

    from mlp_lib.sweeps.costs import sensible_threads
    from mlp_lib.sweeps.execute import execute
    from mlp_lib.sweeps.process import on_signal
    from mlp_lib.training.how import How

    typer.echo(f"run {run.key}: {run.model} on {run.dataset}, {run.total_steps:,} steps of {run.batch_size}")
    deadline = None if time_budget is None else time.monotonic() + time_budget
    stop = []
    with (
        on_signal(lambda: stop.append(True)),
        tqdm(
            total=run.total_steps * run.batch_size,
            unit="img",
            unit_scale=True,
            file=Unfailing(sys.stdout),
            mininterval=0.2,
        ) as bar,
    ):

        def progress(step: int, total: int) -> None:
            if not bar.n and step < total:
                bar.initial = step * run.batch_size  # resumed: the rate and the ETA count from here
            bar.update(step * run.batch_size - bar.n)

        how = How(device, precision, threads or sensible_threads(run), accumulate)
        return execute(
            run,
            store,
            how,
            measures=tuple(measure or ()),
            on_progress=progress,
            should_stop=lambda: bool(stop) or (deadline is not None and time.monotonic() > deadline),
        )


def _measure_again(run, store, names: tuple[str, ...], device: str) -> bool:
    from mlp_lib.sweeps.execute import add_measures

    return add_measures(run, store, names, device)


def _summary(record) -> None:
    m = record.metrics
    if m:
        parts = [f"{split} {m[f'{split}_top1']:.2f}%" for split in ("train", "val", "test") if f"{split}_top1" in m]
        typer.echo("accuracy: " + ", ".join(parts) + f"; test loss {m['test_loss']:.4f}")


def _speed(record) -> None:
    from mlp_lib.sweeps.costs import human_seconds, matmul_rate

    rate = record.train_flops / record.run.total_steps / record.run.batch_size * record.images_per_second
    peak = matmul_rate(record.precision, record.device)
    typer.echo(
        f"speed: {record.images_per_second:,.0f} images/s, {rate / 1e9:,.1f} GFLOP/s, utilisation {rate / peak:.0%} of "
        f"this process's {record.precision} matmul rate; {human_seconds(record.seconds)} in all"
    )
