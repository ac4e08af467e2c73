"""The README's tables: what to run and what to expect, from grids and records, and speed, from data/bench.json.

`make readme` writes them, and draws the picture of the house; tests compare both with what they are made from.
"""

import json
from pathlib import Path

import pandas as pd

from mlp_lib.book import house
from mlp_lib.chapters import claims, planning
from mlp_lib.chapters.from_scratch.study import STUDY as FROM_SCRATCH
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import t_interval
from mlp_lib.sweeps import costs

START = "<!-- {}: written by `make readme` from data; do not edit by hand -->"
END = "<!-- /{} -->"
MACHINES = {
    "smoke": "a minute, no data",
    "laptop": "two CPU cores",
    "overnight": "two CPU cores and a night",
    "gpu": "one GPU",
    "paper": "one GPU and patience",
}


def results(store: Store) -> str:
    """The table in Markdown: a row a preset of RQ1."""
    lines = ["| you have | `python -m mlp_lib study rq1` | trains | test top-1 to expect |", "|---|---|---|---|"]
    for preset, machine in MACHINES.items():
        grid = FROM_SCRATCH.resolve(preset)
        plan = planning.plan(
            FROM_SCRATCH, grid, Store(store.folder / "none")
        )  # what a newcomer has to train: everything
        seconds = max(60, sum(costs.planned_seconds(run) for run in plan.runs))
        # A GPU's rate is for the dry run on that GPU to measure; CPU minutes are planned ones.
        time = f", about {costs.human_seconds(seconds)}" if preset in ("smoke", "laptop", "overnight") else ""
        trains = f"{len(plan.runs)} runs on {grid.dataset}, {sum(plan.flops):.1g} FLOPs{time}"
        frame = FROM_SCRATCH.collect(grid, planning.from_records(store)).frame
        expected = "toy numbers: it shows that all works" if preset == "smoke" else _expected(frame)
        lines.append(f"| {machine} | `--preset {preset}` | {trains} | {expected} |")
    return "\n".join(lines)


def chapters(store: Store) -> str:
    """The table of chapters in Markdown: a row a study, with its cost at two sizes and its claims' verdicts, each with
    the preset at which it is given."""
    lines = ["| `study` | the chapter | laptop | overnight | verdicts |", "|---|---|---|---|---|"]
    verdicts = {verdict.claim: verdict for verdict in claims.judge_all(store)}
    for name, study in STUDIES.items():
        size = planning.pick_preset(study, "auto", store)  # as `judge_all` takes it
        words = (verdicts[number] for number in study.claims)
        judged = "<br>".join(f"claim {one.claim}: {_word(one, size)}" for one in words) or "a control"
        costs_ = " | ".join(_cost(study, preset, store) for preset in ("laptop", "overnight"))
        lines.append(f"| `{name}` | {study.title} | {costs_} | {judged} |")
    return "\n".join(lines)


def _word(verdict: claims.Verdict, size: str) -> str:
    return f"{verdict.verdict} ({', '.join(filter(None, (size, verdict.beside)))})"


def _cost(study, preset: str, store: Store) -> str:
    if preset not in study.presets:
        return ""
    grid = study.resolve(preset)
    if study.measured is not None:
        state = "recorded" if planning.recorded(study, grid, store).complete else "not measured"
        return f"measured, {costs.human_seconds(study.measured.plan(grid)[1])} on one core; {state}"
    plan = planning.plan(study, grid, Store(store.folder / "none"))
    minutes = costs.human_seconds(sum(costs.planned_seconds(run) for run in plan.runs))
    done = planning.plan(study, grid, store).done
    state = "all recorded" if all(done) else f"{sum(done)} of {len(done)} recorded" if any(done) else "not run"
    return f"{len(plan.runs)} runs, {minutes}; {state}"


def _expected(frame: pd.DataFrame) -> str:
    done = frame[frame["status"] == "ok"]
    if done.empty:
        return "not run yet"
    cells = []
    for (model, augmented), runs in done.groupby(["model", "augmented"], sort=False):
        estimate = t_interval(runs["test_top1"])
        cells.append(f"{model}{' augmented' if augmented else ''} {estimate.text()}")
    rest = [] if len(done) == len(frame) else ["the rest not run yet"]
    return "<br>".join([*cells, *rest])


def speed(store: Store) -> str:
    """The table of speed in Markdown, as the last kept `bench` found it beside the records' folder."""
    path = store.folder.parent / "bench.json"
    if not path.exists():
        return "Not measured yet."
    m = json.loads(path.read_text(encoding="utf-8"))
    precision, promised = m["auto_precision"], m["thresholds"]

    def share(kind: str) -> str:
        if m[f"matmul_share_{kind}"] is None:
            return "no such units here"
        step, best = (m[f"{name}_flops_{kind}"] / 1e9 for name in ("step", "matmul"))
        return f"{m[f'matmul_share_{kind}']:.0%} ({step:,.0f} of {best:,.0f} GFLOP/s)"

    loop, bare = (m[f"{name}_{precision}_images_per_second"] for name in ("loop", "bare"))
    tried = ", ".join(f"{one['model']} {one['choice']} ({one['over_other']:.2f})" for one in m["auto_tried"])
    where = f"{m['batch_size']} images of {m['resolution']} pixels a batch"
    rows = [
        (
            f"the whole loop, with {m['augment'].replace('+', ', ')}, over bare forward, backward and update on random "
            f"numbers: {m['model']}, {where}, {precision}",
            f"{m['step_share']:.0%} ({loop:,.0f} of {bare:,.0f} images/s)",
            f"at least {promised['step_share']:.0%}",
        ),
        ("the same loop in bf16 over fp32", f"{m['bf16_over_fp32']:.2f} times", ""),
        (
            "the automatic precision, over the other one",
            tried,
            f"never the slower, but for ties within {1 - promised['auto_over_other']:.0%}",
        ),
        *(
            (
                f"a training step of {m['wide_model']} over the best matrix product of the same process, {kind}",
                share(kind),
                f"at least {promised[f'matmul_share_{kind}']:.0%}{note}",
            )
            for kind, note in (("fp32", ""), ("bf16", ", where the processor has units for it"))
        ),
        (
            f"peak memory of training {m['model']}, {where}, all included",
            f"{m['peak_gb']:.2f} GB on {m['peak_data']}",
            f"at most {promised['peak_gb']} GB",
        ),
        (
            "the loop over one with torch's DataLoader and torchvision's transforms "
            f"({m['dataloader_workers']} workers, the best number here)",
            f"{m['over_dataloader']:.1f} times",
            "",
        ),
        (
            "the loop over one in the paper's manner: fp32, the same DataLoader, loss and accuracy read at every step",
            f"{m['over_paper_loop']:.1f} times",
            "",
        ),
    ]
    if "store_ratio" in m:
        rows.append(
            (
                f"{m['store_runs']} tiny runs beside {m['store_records']:,} records over the same beside none",
                f"{m['store_ratio']:.2f} times the time",
                f"at most {promised['store_ratio']:.2f} times",
            )
        )
    idle = "idle" if m["idle"] else f"not idle, with a load of {m['load_before']:.1f}: take these as provisional"
    lines = ["| | measured | promised |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines.append(
        f"{m['hardware']}, {m['threads']} threads, torch {m['torch']}, {m['date'][:10]}. Medians of "
        f"{m['rounds']} rounds that took turns in one process; the machine was {idle}."
    )
    return "\n".join(lines)


TABLES = {"results": results, "chapters": chapters, "speed": speed}


def update(path: Path = REPOSITORY / "README.md", store: Store | None = None) -> bool:
    """Put the tables into the README; True when that changed it."""
    text = new = path.read_text(encoding="utf-8")
    store = store or Store()
    for name, table in TABLES.items():
        start, end = START.format(name), END.format(name)
        head, rest = new.split(start)
        _, tail = rest.split(end)
        new = f"{head}{start}\n{table(store)}\n{end}{tail}"
    path.write_text(new, encoding="utf-8")
    return new != text


if __name__ == "__main__":
    changed = [name for name, done in (("README.md", update()), (house.PICTURE.name, house.draw())) if done]
    print(f"brought up to date: {', '.join(changed)}" if changed else "README.md and its picture are up to date")
