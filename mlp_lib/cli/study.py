"""`study`, `claims`: whole chapters, and what came of them."""

import json
from typing import Annotated, Any

import typer

from mlp_lib.cli.app import Budget, Device, Json, Out, Paused, Precision, app, last_line
from mlp_lib.errors import UserError
from mlp_lib.machine import check_count

# Written out, and held to `registry.STUDIES` by a test: importing the studies would double the time that --help takes.
STUDY_NAMES = (
    "rq1, rq1-settings, rq1-controls, rq1-permutation, rq1-inference, rq1-ablations, rq2-augmentation, rq2-batch-size, "
    "rq3-laws, rq4-allocation, rq4-symmetry, rq5-transfer, rq5-test-time"
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
    """Train what a study lacks at a preset. Resumable: the same command goes on. A study of speed is measured anew."""
    from mlp_lib.chapters import planning, registry
    from mlp_lib.chapters.parameters import Parameters, validated
    from mlp_lib.records.store import Store
    from mlp_lib.training.how import How, check_precision

    check_precision(precision)
    for name_of_count, count in (("workers", workers), ("threads", threads), ("together", together)):
        check_count(count, name_of_count)
    module, store = registry.study(name), Store(out)
    given = assignments(changes or [])
    if common := sorted({*given} & {*Parameters.model_fields}):
        raise UserError(f"--set {common[0]}=...: what is trained is said by --preset, how long by --time-budget")
    parameters = validated(module.parameters, {"preset": preset, **given})
    if parameters.preset == "auto":
        raise UserError(f"preset auto is for reading; name one to train: {', '.join(module.presets)}")
    chosen = module.resolve(parameters.preset, **parameters.changes)
    if module.measured is not None:
        unused = {"--time-budget": time_budget, "--workers": workers, "--together": together}
        if given := [option for option, value in unused.items() if value is not None] or (precision == "bf16"):
            option = "--precision bf16" if given is True else given[0]
            raise UserError(f"{option}: study {name} trains nothing, it measures, in one process and in fp32")
        _measure(module, chosen, store, device, threads, dry_run, as_json)
        return
    plan = planning.plan(module, chosen, store)
    how = How(device, precision, threads, together=together)
    minutes = _print_plan(plan, how, workers) if dry_run or not all(plan.done) else 0.0
    if dry_run:
        last_line(
            as_json,
            status="dry-run",
            runs=len(plan.runs),
            done=sum(plan.done),
            flops=sum(plan.flops),
            minutes=round(minutes, 2),
        )
        return
    ensure = planning.training(
        store,
        module.measures,
        how=how,
        workers=workers,
        budget_minutes=None if time_budget is None else time_budget / 60,
    )
    results = module.collect(chosen, ensure)
    plan = planning.plan(module, chosen, store)  # measured too, as far as that goes
    cannot = plan.states.count(planning.CANNOT_RUN)
    done = not plan.open and (results.complete or cannot > 0)
    state = "complete" if done else "not complete; the same command goes on"
    if done and cannot:
        state = f"complete, but for {cannot} runs that cannot run: what they start from diverged"
    typer.echo(_table(results.frame))
    typer.echo(f"{state}: records in {store.folder}")
    counts = results.frame["status"].value_counts().to_dict()
    last_line(as_json, status="ok" if done else "paused", counts=counts, record=str(store.folder))
    if not done:
        raise Paused


def _measure(module, preset, store, device: str, threads: int | None, dry_run: bool, as_json: bool) -> None:
    """What `study` does with one that measures: its plan, or a new measurement in the place of an older one."""
    from mlp_lib.chapters import planning
    from mlp_lib.sweeps.costs import human_seconds

    path = planning.file_of(module, store)
    if dry_run:
        done = planning.recorded(module, preset, store).complete
        table, seconds = module.measured.plan(preset)
        typer.echo(table.to_string(index=False, float_format=lambda v: f"{v:.2g}"))
        typer.echo(
            f"{len(table)} networks to measure, about {human_seconds(seconds)} on one CPU core; "
            f"{'measured before, and measured anew if you ask' if done else 'not measured yet'}: {path}"
        )
        last_line(as_json, status="dry-run", networks=len(table), done=done, minutes=round(seconds / 60, 2))
        return
    module.measured.measure(preset, path, device, threads, typer.echo)
    frame = planning.recorded(module, preset, store).frame
    rates = frame.groupby(["model", "batch_size"], sort=False)["images_per_second"].median()
    typer.echo(rates.unstack().to_string(float_format=lambda v: f"{v:.3g}", na_rep=""))
    typer.echo(f"images/s by batch size, medians of the rounds; complete: {path}")
    last_line(as_json, status="ok", record=str(path))


def assignments(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE as a parameter's name and value: what JSON can read is read, [a, b] is a list of such values, anything
    else is a string."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text!r}: write NAME=VALUE, for example --set dataset=cifar100")
        values[name.strip()] = _value(value.strip())
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if len(text) > 2 and text[0] == "[" and text[-1] == "]" and not {*text[1:-1]} & {*'[]{}"'}:
            return [_value(part.strip()) for part in text[1:-1].split(",")]  # names without quotes
        return text


def _print_plan(plan, how, workers: int | None) -> float:
    """The plan as a table; minutes on this machine at rates measured now."""
    import pandas as pd

    from mlp_lib.chapters import planning
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
            "done": {planning.DONE: "yes", planning.NOT_RUN: ""}.get(s, s),
        }
        for r, s, f in zip(*plan, strict=True)
    ]
    typer.echo(pd.DataFrame(rows).to_string(index=False, float_format=lambda v: f"{v:.3g}"))
    total = sum(seconds.values()) / workers / 60
    planned = sum(costs.planned_seconds(run) for run in todo) / 60
    if again := plan.states.count(planning.AGAIN):
        typer.echo(f"{again} of the runs to train are recorded, but lack a measure or weights to start from.")
    if unmeasured := plan.states.count(planning.TO_MEASURE):
        typer.echo(f"{unmeasured} recorded runs lack a measure that their kept weights give.")
    typer.echo(
        f"{len(todo)} of {len(plan.runs)} runs to train, {sum(plan.flops):.3g} FLOPs in all: about {total:.1f} minutes "
        f"here ({workers} at a time, rates measured now); {planned:.0f} minutes at the planned rate of two CPU cores. "
        "A learning-rate grid whose best lies at an edge adds one run. Measures, such as probes, come on top."
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
    for row in table[table["beside"] != ""].itertuples():
        typer.echo(f"with the verdict of {row.claim}: {row.beside}")
    for scale, rows in table[table["scale"] != ""].groupby("scale", sort=False):
        typer.echo(f"scale of {', '.join(map(str, rows['claim']))}: {scale}")
