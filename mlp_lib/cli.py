"""The command line: thin, every command a few calls of the rooms below. Errors are one line and exit code 2."""

import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mlp_lib.errors import UserError
from mlp_lib.machine import check_count
from mlp_lib.paths import shown, user_path
from mlp_lib.records.run import Run, make_run

app = typer.Typer(
    help="Scaling MLPs, reproduced: train runs, run studies, build the book.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Written out, and held to `studies.STUDIES` by a test: importing the studies would double the time that --help takes.
STUDY_NAMES = "rq1, rq1-settings, rq1-controls, rq1-permutation, rq2-augmentation, rq2-batch-size"
INTERRUPTED = 130
PAUSED = 75  # exit code "try again": stopped by the budget, a signal or Ctrl-C; the same command goes on

_UsageError = typer.BadParameter.__base__  # click's: of click itself, or of the copy inside newer typers

Out = Annotated[Path | None, typer.Option(help="folder of records and weights, instead of data/runs")]
Json = Annotated[bool, typer.Option("--json", help="last line of stdout: one JSON object")]
Budget = Annotated[float | None, typer.Option(min=0, help="seconds; stop with a checkpoint when they have passed")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Precision = Annotated[str, typer.Option(help="auto (the faster here), fp32 or bf16")]


def main() -> None:
    """Run the command line; a UserError and a wrong option become one line on stderr."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that the terminal lacks is no reason to stop
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except OSError as error:  # what no room below has put into words
        if error.filename is None or isinstance(error, BrokenPipeError):
            raise
        typer.echo(f"error: {shown(str(error.filename))}: {error.strerror}; mend that and run again", err=True)
        sys.exit(2)
    except _UsageError as error:
        if sys.argv[1:]:  # without a command, the help was shown already
            typer.echo(f"error: {error.format_message()}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        typer.echo("interrupted; the same command goes on from the last checkpoint", err=True)
    sys.exit(code)


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
    """Train one run and keep its record. A killed or stopped run goes on where it was."""
    from mlp_lib.records.same_images import check_images
    from mlp_lib.records.store import Store

    check_count(threads, "threads")
    if not {"epochs", "steps"} & run_fields.keys():
        raise UserError("give --epochs or --steps, for example --epochs 20")
    run = make_run(**run_fields)
    store = Store(out)
    check_images([run], store)  # a record of other images under this name is not this run's either
    if retrain or not store.has(run):
        result = _train_here(run, store, device, precision, threads, accumulate, measure, time_budget)
        if result.record is None:
            typer.echo(f"stopped at step {result.step} of {run.total_steps}; the same command goes on from there")
            _last_line(as_json, status="paused", key=run.key, record=None, metrics={})
            raise typer.Exit(PAUSED)
        record, path = result.record, result.path
        _speed(record)
    else:
        typer.echo("this run has a record already (--retrain makes a replicate)")
        if measure and not _measure_again(run, store, tuple(measure)):
            typer.echo("its weights are not at hand, so nothing more was measured; with --retrain it is")
        record = store.get(run)
        path = store.folder / record.filename
    if record.status == "diverged":
        typer.echo(f"diverged: the loss was not finite by step {record.steps}; try a smaller --lr")
    _summary(record)
    typer.echo(f"record: {path}")
    _last_line(as_json, status=record.status, key=run.key, record=str(path), metrics=record.metrics)


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
            total=run.total_steps * run.batch_size, unit="img", unit_scale=True, file=sys.stdout, mininterval=0.2
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


def _measure_again(run, store, names: tuple[str, ...]) -> bool:
    from mlp_lib.sweeps.execute import add_measures

    return add_measures(run, store, names)


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


@app.command()
def study(
    name: Annotated[str, typer.Argument(help=f"one of: {STUDY_NAMES}")],
    preset: Annotated[str, typer.Option(help="smoke, laptop, overnight, gpu or paper")] = "laptop",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="a parameter of the chapter, as its notebook takes it, lists as [1, 2]; may be repeated",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print runs, FLOPs and minutes; train nothing")] = False,
    out: Out = None,
    as_json: Json = False,
    time_budget: Budget = None,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="processes; by default one a core, one on a GPU")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of torch in each; by default cores / workers")] = None,
    together: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="runs that differ only in seed and lr, trained side by "
            "side: at most so many; by default up to 8 on CUDA, where that is measured to be faster",
        ),
    ] = None,
) -> None:
    """Train what a study lacks at a preset. Resumable: the same command goes on."""
    from mlp_lib.chapters import registry
    from mlp_lib.chapters import study as studies
    from mlp_lib.chapters.parameters import Parameters, validated
    from mlp_lib.records.store import Store
    from mlp_lib.training.how import How, check_precision

    check_precision(precision)
    for name_of_count, count in (("workers", workers), ("threads", threads), ("together", together)):
        check_count(count, name_of_count)
    module, store = registry.study(name), Store(out)
    given = _assignments(changes or [])
    if common := sorted({*given} & {*Parameters.model_fields}):
        raise UserError(f"--set {common[0]}=...: what is trained is said by --preset, how long by --time-budget")
    parameters = validated(module.Parameters, {"preset": preset, **given})
    if parameters.preset == "auto":
        raise UserError(f"preset auto is for reading; name one to train: {', '.join(module.PRESETS)}")
    chosen = module.resolve(parameters.preset, **parameters.changes)
    plan = studies.plan(module, chosen, store)
    how = How(device, precision, threads, together=together)
    minutes = _print_plan(plan, how, workers) if dry_run or not all(plan.done) else 0.0
    if dry_run:
        _last_line(
            as_json,
            status="dry-run",
            runs=len(plan.runs),
            done=sum(plan.done),
            flops=sum(plan.flops),
            minutes=round(minutes, 2),
        )
        return
    ensure = studies.training(
        store,
        module.MEASURES,
        how=how,
        workers=workers,
        budget_minutes=None if time_budget is None else time_budget / 60,
    )
    results = module.collect(chosen, ensure)
    done = results.complete and all(studies.plan(module, chosen, store).done)  # measured too, as far as that goes
    typer.echo(_table(results.frame))
    typer.echo(f"{'complete' if done else 'not complete; the same command goes on'}: records in {store.folder}")
    counts = results.frame["status"].value_counts().to_dict()
    _last_line(as_json, status="ok" if done else "paused", counts=counts, record=str(store.folder))
    if not done:
        raise typer.Exit(PAUSED)


def _assignments(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE as a parameter's name and value: what JSON can read is read, anything else is a string."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text!r}: write NAME=VALUE, for example --set dataset=cifar100")
        try:
            values[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            values[name.strip()] = value.strip()
    return values


def _print_plan(plan, how, workers: int | None) -> float:
    """The plan as a table; minutes on this machine at rates measured now."""
    import pandas as pd

    from mlp_lib.chapters import study as studies
    from mlp_lib.machine import usable_cores
    from mlp_lib.sweeps import costs
    from mlp_lib.sweeps.workers import processes_for
    from mlp_lib.training.how import pick_device

    todo = [run for run, _ in plan.to_train]
    if workers is None:
        workers = processes_for(len(todo), pick_device(how.device).type == "cpu")
    threads = how.threads or max(1, usable_cores() // workers)
    seconds = costs.measured_seconds(todo, how._replace(threads=threads))
    rows = [
        {
            "model": r.model,
            "data": f"{r.dataset}/{r.train_examples}",
            "augment": r.augment,
            "epochs": r.epochs,
            "batch": r.batch_size,
            "lr": r.lr,
            "seed": r.seed,
            "PFLOP": f / 1e15,
            "minutes": seconds.get(r.key, 0.0) / 60,
            "done": {studies.DONE: "yes", studies.NOT_RUN: ""}.get(s, s),
        }
        for r, s, f in zip(*plan, strict=True)
    ]
    typer.echo(pd.DataFrame(rows).to_string(index=False, float_format=lambda v: f"{v:.3g}"))
    total = sum(seconds.values()) / workers / 60
    planned = sum(costs.planned_seconds(run) for run in todo) / 60
    if again := plan.states.count(studies.AGAIN):
        typer.echo(f"{again} of the runs to train are recorded, but lack a measure or weights to start from.")
    if unmeasured := plan.states.count(studies.TO_MEASURE):
        typer.echo(f"{unmeasured} recorded runs lack a measure that their kept weights give.")
    typer.echo(
        f"{len(todo)} of {len(plan.runs)} runs to train, {sum(plan.flops):.3g} FLOPs in all: about {total:.1f} minutes "
        f"here ({workers} at a time, rates measured now); {planned:.0f} minutes at the planned rate of two CPU cores. "
        "A learning-rate grid whose best lies at an edge adds one run."
    )
    return total


def _table(frame) -> str:
    columns = [
        "family",
        "model",
        "augment",
        "optimizer",
        "batch_size",
        "epochs",
        "lr",
        "seed",
        "status",
        "val_top1",
        "test_top1",
        "images_per_second",
    ]
    return frame[[c for c in columns if c in frame]].to_string(index=False)


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="cifar10, cifar100, fashion-mnist, stl10 (2.6 GB), tinyimagenet; "
            "or folder:NAME, to decode one of your own"
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="instead of $MLP_LIB_DATA, else data/")] = None,
) -> None:
    """Download an image set, checked against its published hash. Can be interrupted and repeated."""
    from mlp_lib import datasets

    datasets.fetch(name, root)


@app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="a folder of records, from --out on any machine")],
    out: Annotated[Path | None, typer.Option(help="the store to add to, instead of data/runs")] = None,
) -> None:
    """Add the records of a folder to the store. Keys are computed anew; second records of a run are replicates."""
    from mlp_lib.records import merge as merge_module
    from mlp_lib.records.store import Store

    source = user_path(source, "the folder of records")
    if not os.path.exists(source):
        raise UserError(f"{source} does not exist; give the folder that --out named")
    written, known = merge_module.merge(source, Store(out))
    typer.echo(f"{len(written)} records added, {known} known already")


@app.command()
def claims(
    preset: Annotated[str, typer.Option(help="auto: what each chapter shows; or one size for all")] = "auto",
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON list, an object a claim")] = False,
) -> None:
    """Judge every claim of the paper from records alone. Trains nothing."""
    from mlp_lib.chapters import claims as rules
    from mlp_lib.records.store import Store

    verdicts = rules.judge_all(Store(out), preset)
    if as_json:
        typer.echo(json.dumps([rules.summary(verdict) for verdict in verdicts], indent=1))
        return
    table = rules.overview(verdicts)
    columns = ["claim", "verdict", "comparison", "ours", "unit", "the paper's", "text"]  # the longest last: it may wrap
    rows = [columns, *table[columns].astype(str).values.tolist()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    typer.echo("comparison: what the verdict hangs on; ours: its estimate in the rule's unit, 95% unless it says so")
    for scale, rows in table[table["scale"] != ""].groupby("scale", sort=False):
        typer.echo(f"scale of {', '.join(map(str, rows['claim']))}: {scale}")


@app.command()
def book(
    preset: Annotated[str, typer.Option(help="auto: the largest complete preset of each chapter")] = "auto",
    out: Annotated[Path, typer.Option(help="build folder, emptied first")] = Path("_build"),
    train: Annotated[bool, typer.Option(help="train what chapters lack, instead of showing it as not run")] = False,
) -> None:
    """Execute the notebooks and build the book."""
    from mlp_lib.book.build import build

    index = build(preset=preset, out=out, train=train)
    typer.echo(f"the book is at {index}")


@app.command()
def bench(
    size: Annotated[
        str, typer.Option(help="full, three minutes on two cores; or tiny, which only shows that it works")
    ] = "full",
    out: Annotated[Path, typer.Option(help="file of results; the README quotes data/bench.json")] = Path(
        "_build/bench.json"
    ),
    check: Annotated[bool, typer.Option("--check", help="exit code 1 when a promise is missed")] = False,
) -> None:
    """Measure speed and memory beside what a user would pick instead, as ratios. For an idle machine, in a checkout."""
    from mlp_lib.paths import REPOSITORY

    if not (REPOSITORY / "benchmarks").is_dir():
        raise UserError(f"benchmarks/ is not in {REPOSITORY}; bench runs in a checkout of the project, not installed")
    sys.path.insert(0, str(REPOSITORY))
    from benchmarks.suite import run

    _, kept = run(size, user_path(out, "--out"), say=typer.echo)
    if check and not kept:
        raise typer.Exit(1)


def _last_line(wanted: bool, **content: Any) -> None:
    if wanted:
        typer.echo(json.dumps(content))
