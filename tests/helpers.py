"""What several test files share."""

import io
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from mlp_lib.datasets import folders, npz, sets
from mlp_lib.records.record import Record
from mlp_lib.records.run import Run, make_run
from mlp_lib.training import loaders
from mlp_lib.training.how import How

HOW = How("cpu", "fp32", threads=1)
NO_TENSORS = (2).to_bytes(8, "little") + b"{}"  # a whole file of weights that holds none
DIGITS = dict(model="B-2/Wi-32", dataset="digits", epochs=3, lr=1e-3)  # 10 steps of 128 an epoch
SGD = dict(DIGITS, optimizer="sgd", lr=0.05)
# Everything that draws random numbers, and an optimiser with state.
RICH = dict(DIGITS, augment="crop+pad+mixup", pad=1, dropout=0.2, clip=1.0, schedule="cosine", warmup_steps=5)


def seeds(count, **fields):
    run = make_run(**{**SGD, **fields})
    return [run.but(seed=seed) for seed in range(count)]


def keys(runs):
    return [run.key for run in runs]


def weights_of(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / f"{name}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stop_at(step: int):
    """A `should_stop` that says yes after so many steps of this call."""
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= step


def record_of(run: Run, **changes) -> Record:
    """A record as training would write it, without training."""
    fields = dict(
        key=run.key,
        run=run,
        status="ok",
        parameters=100,
        parameters_body=50,
        macs=40,
        paper_flops=120,
        train_flops=200,
        metrics={"train_top1": 60.0, "val_top1": 50.0, "test_top1": 49.0, "test_loss": 1.5},
        curve=[{"epoch": 1.0, "step": 10.0, "val_top1": 30.0}, {"epoch": 2.0, "step": 20.0, "val_top1": 50.0}],
        steps=run.total_steps,
        seconds=1.5,
        images_per_second=1000.0,
        device="cpu",
        hardware="test",
        precision="fp32",
        threads=1,
        versions={"torch": "2"},
        sources="s",
        data="d",
        time="2025-01-01T00:00:00+00:00",
    )
    if changes.get("status", "ok") != "ok":
        fields |= {"metrics": {}, "curve": []}
    return Record(**(fields | changes))


def forget():
    """As a new process would start: nothing kept in memory."""
    sets._load.cache_clear()
    folders.listing.cache_clear()
    npz.read_parts.cache_clear()
    loaders._load_data.cache_clear()


def one_line(error) -> str:
    assert "\n" not in str(error.value) and len(str(error.value)) > 20
    return str(error.value)


def picture(seed: int, size=(64, 64), mode="RGB") -> Image.Image:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


def encoded(image: Image.Image, kind: str) -> bytes:
    raw = io.BytesIO()
    image.save(raw, kind)
    return raw.getvalue()


@contextmanager
def nobody():
    """Without the rights of the super-user inside, so that permissions count in a container too."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def image_tree(folder: Path, classes=("a", "b"), parts=("train", "test"), count=2, side=8) -> Path:
    """Folders of small PNG files, one a class in each part."""
    for part in parts:
        for label, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                picture(100 * label + i + 7 * len(part), (side, side)).save(folder / part / name / f"{i}.png")
    return folder
