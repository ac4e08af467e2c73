"""Inference of several networks, timed in one process, in rounds in which all take turns.

    python -m mlp_lib study rq1-inference --preset laptop

is the command; it keeps what `measure` returns in data/inference.json. Weights are random: they do not change the time.
One thread of a CPU is timed by the processor time that it takes, so that programs which take the processor away for a
while do not count; several threads and other devices by the clock on the wall.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from mlp_lib.chapters.inference.measurements import Measurement, Model, Round
from mlp_lib.machine import check_count, check_fits
from mlp_lib.measures import inference
from mlp_lib.models import build
from mlp_lib.training.how import keep_freed_memory, pick_device

CHANNELS = 3
LIBRARIES = ("torch", "torchvision", "timm")
LEAST = 3  # calls of a round with one image, of which the median is taken
READ = 64 * 2**20  # numbers of 4 bytes that are summed to measure reading: more than any cache holds


def measure(
    settings: Mapping[str, Any],
    batches: Mapping[str, Sequence[int]],
    device: str = "auto",
    threads: int | None = None,
    say: Callable[[str], None] = print,
) -> Measurement:
    """Time every model at its batch sizes.

    settings: resolution, classes, rounds and seconds (of a model and batch size in a round, at least); kept as they
    are. batches: batch sizes by model's name. `say` is told what is done. Raises UserError for a device or a number of
    threads that is not there, and for models that memory cannot hold.
    """
    check_count(threads, "threads")
    place = pick_device(device)
    if threads:
        torch.set_num_threads(threads)
    if place.type == "cpu":
        keep_freed_memory()
    started, about = time.perf_counter(), machine.describe(place) | machine.state(place)
    alone = place.type == "cpu" and about["threads"] == 1
    clock = time.process_time if alone else time.perf_counter
    say(f"{about['hardware']}, {about['threads']} threads, torch {about['torch']}, load {about['load_before']:.2f}")
    side, classes = settings["resolution"], settings["classes"]
    known = [_known(name, sizes, side, classes) for name, sizes in batches.items()]
    check_fits(sum(model.weight_bytes for model in known), "the networks' weights", "take fewer or smaller ones")
    networks = {name: inference.as_served(build(name, classes, side)).to(place) for name in batches}
    images = torch.randn(max(max(sizes) for sizes in batches.values()), CHANNELS, side, side, device=place)
    numbers, matrix = torch.randn(READ, device=place), torch.randn(2048, 2048, device=place)

    def one(name: str, batch: int, seconds: float) -> list[float]:
        least = LEAST if batch == 1 and seconds else 1
        taken = inference.seconds_of_calls(networks[name], images[:batch], seconds=seconds, least=least, clock=clock)
        return [float(f"{value:.4g}") for value in taken]

    def rate(work: Callable[[], torch.Tensor], units: float) -> float:
        start = clock()
        for _ in range(4):
            work()[..., 0].flatten()[0].item()  # waits for the device
        return 4 * units / (clock() - start)

    for name, sizes in batches.items():
        one(name, min(sizes), 0.0)  # the first call prepares what later ones use
    say(f"[{time.perf_counter() - started:3.0f} s] {len(networks)} networks are ready")
    rounds, before, own = [], _busy_seconds(), _own_seconds()
    begun = time.perf_counter()
    for number in range(settings["rounds"]):
        rates = {
            "matmul_flops_per_second": rate(lambda: matrix @ matrix, 2 * 2048**3),
            "read_bytes_per_second": rate(lambda: numbers.sum(0, keepdim=True), numbers.nbytes),
        }
        taken = {
            name: {size: one(name, size, settings["seconds"]) for size in sizes} for name, sizes in batches.items()
        }
        rounds.append(Round(**rates, seconds=taken))
        say(f"[{time.perf_counter() - started:3.0f} s] round {number + 1} of {settings['rounds']}")
    others = _others(before, own, time.perf_counter() - begun)
    say("others kept an unknown part of the machine busy" if others is None else f"others used {others:.2f} cores")
    return Measurement(
        settings={name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        **{name: about[name] for name in ("hardware", "device", "cores", "threads", "date", "load_before")},
        precision="fp32",
        clock="processor time" if alone else "wall time",
        versions={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        matmul_spread=about["matmul_spread"],
        others_cores=others,
        idle=about["idle"] and (others is None or others <= machine.BUSY_LOAD),
        total_seconds=round(time.perf_counter() - started, 1),
        models=known,
        rounds=rounds,
    )


def _known(name: str, sizes: Sequence[int], side: int, classes: int) -> Model:
    with torch.device("meta"):
        model = build(name, classes, side).eval()
        live = {b: inference.activation_bytes(model, torch.empty(b, CHANNELS, side, side)) for b in sizes}
    return Model(name=name, **inference.facts(model, CHANNELS, side)._asdict(), activation_bytes=live)


def _busy_seconds(stat: Path = Path("/proc/stat")) -> float | None:
    """Seconds for which the machine's cores were busy since it started, all together; None where it is not told."""
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, *_ = (int(text) for text in stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system


def _others(before: float | None, own: float, seconds: float) -> float | None:
    """Cores that others kept busy since, on average."""
    if before is None:
        return None
    return round(max(0.0, _busy_seconds() - before - (_own_seconds() - own)) / seconds, 3)
