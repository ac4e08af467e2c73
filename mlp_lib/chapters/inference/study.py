"""RQ1: what inference costs, at 64 pixels (claim 14, the paper's table 9). Nothing is trained: networks are timed.

`study rq1-inference` measures in one process, in rounds in which all networks take turns, and keeps the result beside
the records. laptop is about 4 minutes on one core.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.inference import measurements
from mlp_lib.chapters.inference.measurements import Measurement
from mlp_lib.chapters.inference.rules import RULES
from mlp_lib.chapters.rule import MIN_SEEDS
from mlp_lib.chapters.study import Measured, Study
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.records import architectures

MLPS_OF_THE_PAPER = ("B-6/Wi-512", "B-12/Wi-512", "B-6/Wi-1024", "B-12/Wi-1024")
OTHERS_OF_THE_PAPER = ("ResNet152", "ViT-B/4", "Mixer-B/4")
CORE_RATE = 5e10  # FLOP/s of one core on these networks in fp32, for plans


@dataclass(frozen=True)
class Preset:
    """What is timed. Every model at `batch_sizes`, MLPs also at `mlp_batch_sizes`, where others would take minutes."""

    models: tuple[str, ...]
    resolution: int
    classes: int
    batch_sizes: tuple[int, ...]
    mlp_batch_sizes: tuple[int, ...]
    rounds: int
    seconds: float  # of each model and batch size in a round, at least


PRESETS = {
    "smoke": Preset(
        ("B-2/Wi-64", "B-2/Wi-512", "ResNet152", "ViT-64x2/4", "Mixer-64x2/4"), 16, 10, (1, 2), (8,), 3, 0.01
    ),
    "laptop": Preset((*MLPS_OF_THE_PAPER, *OTHERS_OF_THE_PAPER), 64, 1000, (1, 16), (64, 256), 5, 0.3),
    "gpu": Preset((*MLPS_OF_THE_PAPER, *OTHERS_OF_THE_PAPER), 64, 1000, (1, 16, 64, 256), (1024, 4096), 10, 0.5),
}


@dataclass(frozen=True)
class Results:
    """What the chapter shows: the measurement, if it was made, and its rows (`measurements.frame`)."""

    measurement: Measurement | None
    frame: pd.DataFrame

    @property
    def complete(self) -> bool:
        return self.measurement is not None

    @property
    def sufficient(self) -> bool:
        """Measured, in as many rounds as a verdict asks for."""
        return self.measurement is not None and len(self.measurement.rounds) >= MIN_SEEDS


def resolve(preset: str, **changes: Any) -> Preset:
    """A preset with the reader's changes. Raises UserError for what cannot be built or timed."""
    chosen = parameters.preset_with(PRESETS, preset, changes)
    for name in chosen.models:
        architectures.check_resolution(architectures.parse(name), chosen.resolution)
    for name in ("resolution", "classes", "rounds"):
        if getattr(chosen, name) < 1:
            raise UserError(f"{name}={getattr(chosen, name)}: take 1 or more")
    for name in ("batch_sizes", "mlp_batch_sizes"):
        if min(getattr(chosen, name)) < 1:
            raise UserError(f"{name}={list(getattr(chosen, name))}: take 1 or more")
    return chosen


def batches_of(preset: Preset, model: str) -> tuple[int, ...]:
    """At which batch sizes the model is timed, rising."""
    own = preset.mlp_batch_sizes if architectures.parse(model).is_mlp else ()
    return tuple(sorted({*preset.batch_sizes, *own}))


def collect(preset: Preset, path: Path) -> Results:
    """What the file at `path` holds for these settings. Raises UserError for a file that is something else."""
    one = measurements.found(path, asdict(preset))
    return Results(one, measurements.frame(one))


def plan(preset: Preset) -> tuple[pd.DataFrame, float]:
    """A row a model: parameters, multiply-adds and FLOPs of an image, batch sizes, planned minutes on one core. And the
    planned seconds of all."""
    import torch

    from mlp_lib.measures import inference
    from mlp_lib.models import build

    rows = []
    for name in preset.models:
        with torch.device("meta"):
            known = inference.facts(build(name, preset.classes, preset.resolution), 3, preset.resolution)
        batches = batches_of(preset, name)
        calls = [max(preset.seconds, (3 if b == 1 else 1) * b * known.flops / CORE_RATE) for b in batches]
        first = min(batches) * known.flops / CORE_RATE  # a call to warm up
        rows.append(
            {
                "model": name,
                "parameters": known.parameters,
                "multiply-adds": known.macs,
                "FLOPs": known.flops,
                "batch sizes": ", ".join(map(str, batches)),
                "rounds": preset.rounds,
                "minutes": (preset.rounds * sum(calls) + first) / 60,
            }
        )
    table = pd.DataFrame(rows)
    return table, 60 * float(table["minutes"].sum())


def measure(preset: Preset, path: Path, device: str, threads: int | None, say: Callable[[str], None]) -> None:
    """Time everything and keep it in the file. Raises UserError outside a checkout, which has benchmarks/."""
    if not (REPOSITORY / "benchmarks").is_dir():
        raise UserError(f"benchmarks/ is not in {REPOSITORY}; this runs in a checkout of the project, not installed")
    if str(REPOSITORY) not in sys.path:
        sys.path.insert(0, str(REPOSITORY))
    from benchmarks.inference import measure as timed

    measurements.read(path)  # a file that is something else is refused now rather than after minutes
    batches = {name: batches_of(preset, name) for name in preset.models}
    measurements.keep(path, timed(asdict(preset), batches, device, threads, say))


STUDY = Study(
    name="rq1-inference",
    title="Inference: what one image costs an MLP, a ResNet-152, a ViT and a Mixer",
    page="rq1-inference",
    presets=PRESETS,
    parameters=parameters.parameters_of(
        Preset, "models", "resolution", "classes", "batch_sizes", "mlp_batch_sizes", "rounds"
    ),
    collect=collect,
    rules=RULES,
    resolved_by=resolve,
    measured=Measured(measurements.FILE, plan, measure),
)
