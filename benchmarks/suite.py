"""The suite: what is measured at which size, the thresholds, and the file of results.

Every ratio stands in the file beside the two numbers it was made of, medians over rounds that took turns; `rates` has
the rounds themselves. Rates are images/s, or FLOP/s where the name says so.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import machine, memory, others, ours, store
from benchmarks.timing import medians
from mlp_lib.errors import UserError
from mlp_lib.models import build_for
from mlp_lib.records.run import Run, make_run
from mlp_lib.sweeps import costs
from mlp_lib.training.how import keep_freed_memory, pick_device
from mlp_lib.training.timing import faster_precision

# What the project promises on an idle machine. A choice within 3% of the better one, as far as rounds differ, is a tie.
AT_LEAST = {"step_share": 0.85, "auto_over_other": 0.97, "matmul_share_fp32": 0.80, "matmul_share_bf16": 0.60}
AT_MOST = {"peak_gb": 1.5, "store_ratio": store.AT_MOST}


class Size(NamedTuple):
    """How much is measured. Seconds are those of one round of one arm."""

    model: str
    wide: str  # whose utilisation is measured
    others: tuple[tuple[str, int], ...]  # models and batch sizes on which the automatic precision is tried as well
    dataset: str
    batch_size: int
    rounds: int
    seconds: float
    memory_steps: int
    records: int  # beside which tiny runs are trained, to measure what a large folder costs
    tiny_runs: int
    workers: tuple[int, ...] | None = None  # of the DataLoader, to try; by the machine's cores when None


SIZES = {
    "full": Size(
        "B-6/Wi-512",
        "B-6/Wi-1024",
        (("B-6/Wi-64", 128), ("S-6/Wi-256", 256), ("CNN-16", 128)),
        "cifar10",
        1024,
        rounds=5,
        seconds=1.0,
        memory_steps=10,
        records=10_000,
        tiny_runs=20,
    ),
    "tiny": Size(
        "B-1/Wi-64",
        "B-1/Wi-128",
        (("S-1/Wi-32", 32),),
        "digits",
        64,
        rounds=2,
        seconds=0.02,
        memory_steps=2,
        records=20,
        tiny_runs=2,
        workers=(0, 1),
    ),
}


def measure(size: Size, device: torch.device, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, about four minutes at full size on two cores. `say` is told what is done and what came of it."""
    started = time.perf_counter()

    def tell(text: str) -> None:
        say(f"[{time.perf_counter() - started:3.0f} s] {text}")

    if device.type == "cpu":
        keep_freed_memory()  # as `train` does: all that is compared here runs under the same conditions
    about = machine.describe(device) | machine.state(device)
    tell(f"{about['hardware']}, {about['threads']} threads, torch {about['torch']}")
    if not about["idle"]:
        tell(
            f"the machine is not idle: load {about['load_before']:.2f} in the last minute, equal matrix products "
            f"differ by a factor of {about['matmul_spread']:.2f}; the ratios may be off"
        )
    run = make_run(
        model=size.model, dataset=size.dataset, batch_size=size.batch_size, epochs=1000, augment="flip+crop+mixup"
    )
    data = ours.random_data(run, device)
    result = about | {
        "model": size.model,
        "wide_model": size.wide,
        "batch_size": size.batch_size,
        "resolution": run.pixels,
        "augment": run.augment,
        "rounds": size.rounds,
        "thresholds": AT_LEAST | AT_MOST,
        "rates": {},
    }
    parts = (_memory, _steps, _precisions, _utilisation, _others, _store)
    for number, part in enumerate(parts, 1):
        result |= part(size, run, data, result, lambda text, n=number: tell(f"{n}/{len(parts)} {text}"))
    return result | {"seconds": round(time.perf_counter() - started, 1)}


def _memory(size: Size, run: Run, data, so_far, tell) -> dict[str, Any]:
    fields = run.but(epochs=None, steps=size.memory_steps).model_dump(exclude_defaults=True)
    peak = memory.peak(fields, "fp32", data.mean.device.type)  # bf16 needs a little less
    tell(f"peak memory {peak.gb:.2f} GB on {peak.data}")
    return {"peak_gb": peak.gb, "peak_data": peak.data, "peak_precision": "fp32"}


def _steps(size: Size, run: Run, data, so_far, tell) -> dict[str, Any]:
    rounds = ours.loop_beside_bare(run, data, size.rounds, size.seconds)
    rates = medians(rounds)
    choice = faster_precision(build_for(run).to(data.mean.device), run, data)
    share = {p: rates[f"loop_{p}"] / rates[f"bare_{p}"] for p in ours.PRECISIONS}
    over = rates["loop_bf16"] / rates["loop_fp32"]
    rate = rates[f"loop_{choice}"]
    tell(f"step share {share[choice]:.3f} in {choice}, {rate:,.0f} images/s; bf16 / fp32 {over:.2f}")
    found = {f"{name}_images_per_second": rate for name, rate in rates.items()}
    found |= {f"step_share_{p}": value for p, value in share.items()}
    found |= {"auto_precision": choice, "step_share": share[choice], "bf16_over_fp32": over}
    return found | {"rates": so_far["rates"] | rounds}


def _precisions(size: Size, run: Run, data, so_far, tell) -> dict[str, Any]:
    tried = [
        {
            "model": run.model,
            "batch_size": run.batch_size,
            "choice": so_far["auto_precision"],
            **{p: so_far[f"loop_{p}_images_per_second"] for p in ours.PRECISIONS},
        },
        *(
            ours.automatic_precision(run.but(model=model, batch_size=batch), data, size.rounds, size.seconds / 2)
            for model, batch in size.others
        ),
    ]
    for one in tried:
        other = "bf16" if one["choice"] == "fp32" else "fp32"
        one["over_other"] = one[one["choice"]] / one[other]
    worst = min(one["over_other"] for one in tried)
    is_faster = worst >= AT_LEAST["auto_over_other"]
    tell("automatic precision: " + ", ".join(f"{t['model']} {t['choice']} {t['over_other']:.2f}" for t in tried))
    return {"auto_over_other": worst, "auto_is_faster": is_faster, "auto_tried": tried}


def _utilisation(size: Size, run: Run, data, so_far, tell) -> dict[str, Any]:
    wide, device = run.but(model=size.wide), data.mean.device
    quick = {p: costs.matmul_rate(p, device) for p in ours.PRECISIONS}
    has_units = machine.has_bf16_units(device, quick["bf16"] / quick["fp32"])
    found: dict[str, Any] = {"bf16_units": has_units, "matmul_share_bf16": None}
    found["wide_flops_per_image"] = costs.example_cost(wide).true
    rounds = ours.utilisation(wide, data, ("fp32", "bf16") if has_units else ("fp32",), size.rounds, size.seconds)
    for precision, by_arm in rounds.items():
        rates = medians(by_arm)
        step = rates.pop("step")
        shape = max(rates, key=rates.get)
        found |= {
            f"matmul_share_{precision}": step / rates[shape],
            f"step_flops_{precision}": step,
            f"matmul_flops_{precision}": rates[shape],
            f"matmul_shape_{precision}": shape,
        }
        tell(
            f"{size.wide} in {precision}: {step / 1e9:,.0f} GFLOP/s, {step / rates[shape]:.3f} of the best matrix "
            f"product's {rates[shape] / 1e9:,.0f} ({shape})"
        )
    return found | {"rates": so_far["rates"] | {f"flops_{p}": by_arm for p, by_arm in rounds.items()}}


def _others(size: Size, run: Run, data, so_far, tell) -> dict[str, Any]:
    candidates = others.worker_candidates(run, data) if size.workers is None else list(size.workers)
    tried, rounds = others.beside_others(run, data, so_far["auto_precision"], size.rounds, size.seconds, candidates)
    setting, rates = max(tried, key=tried.get), medians(rounds)
    over = {f"over_{name}": rates["ours"] / rates[name] for name in ("dataloader", "paper_loop")}
    tell(
        f"{over['over_dataloader']:.2f} times DataLoader ({setting.workers} workers), "
        f"{over['over_paper_loop']:.2f} times a loop in the paper's manner"
    )
    found = over | {f"{name}_images_per_second": rate for name, rate in rates.items()}
    found |= {"dataloader_workers": setting.workers, "dataloader_input": "PIL" if setting.as_pil else "tensor"}
    found["dataloader_tried"] = {f"{one.workers} workers": rate for one, rate in tried.items()}
    return found | {"rates": so_far["rates"] | rounds}


def _store(size: Size, run: Run, data, so_far, tell) -> dict[str, Any]:
    found = store.measure(size.records, size.tiny_runs, size.rounds)
    tell(
        f"{size.tiny_runs} tiny runs beside {size.records:,} records: {found['ratio']:.3f} of their time beside none "
        f"({found['seconds_beside_them']:.2f} and {found['seconds_beside_none']:.2f} s)"
    )
    return {f"store_{name}": value for name, value in found.items()}


def verdicts(result: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """Name, whether met, and a line, for each threshold that applies to this machine."""
    lines = []
    for name, limit in (AT_LEAST | AT_MOST).items():
        value = result[name]
        if value is None:
            continue  # no bf16 units
        met = value <= limit if name in AT_MOST else value >= limit
        sign = "at most" if name in AT_MOST else "at least"
        lines.append((name, met, f"{name} {value:.3f}, {sign} {limit}: {'met' if met else 'MISSED'}"))
    return lines


def run(size: str, out: Path, say: Callable[[str], None] = print) -> tuple[dict[str, Any], bool]:
    """Measure, write `out`, say which thresholds are met. Returns the results and whether all are.

    Raises UserError for an unknown size, and when `out` cannot be written.
    """
    if size not in SIZES:
        raise UserError(f"there is no size {size!r} of the benchmark: choose one of {', '.join(SIZES)}")
    part = out.with_name(f"{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.touch()  # now rather than after minutes
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; name another file with --out") from error
    try:
        result = {"size": size} | measure(SIZES[size], pick_device(), say)
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    lines = verdicts(result) if size == "full" else []  # what is promised is promised of the full size
    for _, _, line in lines:
        say(line)
    say(f"results: {out}")
    return result, all(met for _, met, _ in lines)
