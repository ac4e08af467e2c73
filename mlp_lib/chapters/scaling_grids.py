"""What the chapters on scaling laws train: `Grid`, its presets, and the changes of a preset that stand beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlp_lib.chapters.parameters import parameters_of
from mlp_lib.errors import UserError
from mlp_lib.measures.applicable import TARGETS
from mlp_lib.records.run import Run, make_run

NO_RATE = 1e-9  # LION moves a weight by it in a step


@dataclass(frozen=True)
class Grid:
    """One size of the study. `sizes`: numbers of training images. `lrs`: by model, the rates that are tried first.

    A cell is trained for `epochs` passes, or for as many as `least_steps` steps take. Rates are chosen at `tuned_at`
    images.
    """

    dataset: str
    sizes: tuple[int, ...]
    lrs: Mapping[str, tuple[float, ...]]
    epochs: int
    least_steps: int
    batch_size: int
    tuned_at: int
    seeds: tuple[int, ...] = (0, 1, 2)
    models: tuple[str, ...] = field(default=())  # a part of those with rates; all where empty
    probe: Literal[TARGETS] | None = None  # a data set on which a linear probe reads every cell's features at its end

    @property
    def chosen_models(self) -> tuple[str, ...]:
        """The models of this grid, those of one family together. Raises UserError for one without rates."""
        for model in self.models:
            if model not in self.lrs:
                raise UserError(f"models: {model!r} has no rates in this grid; it has: {', '.join(self.lrs)}")
        return self.models or tuple(self.lrs)

    def epochs_at(self, images: int) -> int:
        """Passes over so many images."""
        return max(self.epochs, -(-self.least_steps * self.batch_size // images))

    def run(self, model: str, images: int, seed: int = 0) -> Run:
        """A cell's run at the middle of its model's rates."""
        rates = self.lrs[model]
        return make_run(
            model=model,
            dataset=self.dataset,
            subset=images,
            epochs=self.epochs_at(images),
            batch_size=self.batch_size,
            lr=rates[len(rates) // 2],
            seed=seed,
        )

    def untrained(self, model: str, seed: int) -> Run:
        """A network as it starts: one step at a rate that changes no weight by more than rounding does."""
        return self.run(model, min(self.sizes), seed).but(epochs=None, steps=1, lr=NO_RATE)


PARAMETERS = parameters_of(
    Grid, "dataset", "sizes", "models", "epochs", "least_steps", "batch_size", "tuned_at", "seeds", "probe"
)


def _around(middle: float) -> tuple[float, ...]:
    return tuple(float(f"{middle * multiple:.2g}") for multiple in (1 / 3, 1.0, 3.0))


# The middles of the grids, from the rates that the other chapters chose for models of these families; a narrower MLP
# takes a larger rate (Yang et al. 2021: by about the inverse of the width for optimisers that divide by the gradient's
# size).
MIDDLES = {
    "B-6/Wi-32": 1e-3,
    "B-6/Wi-64": 1e-3,
    "B-6/Wi-128": 5e-4,
    "B-6/Wi-256": 3e-4,
    "S-6/Wi-64": 1e-3,
    "S-6/Wi-128": 5e-4,
    "S-6/Wi-256": 3e-4,
    "CNN-4": 3e-3,
    "CNN-8": 3e-3,
    "CNN-16": 3e-3,
    "B-2/Wi-256": 5e-4,
    "B-12/Wi-128": 3e-4,
    "B-6/Wi-512": 1.5e-4,
    "S-6/Wi-512": 1.5e-4,
    "CNN-32": 2e-3,
    "ViT-32x2/8": 1e-3,
    "ViT-64x2/8": 1e-3,
    "ViT-64x4/8": 5e-4,
    "ViT-128x4/8": 3e-4,
    "B-6/Wi-8": 1e-3,
    "B-6/Wi-16": 1e-3,
}
LAPTOP = tuple(MIDDLES)[:10]
# What makes the laptop preset measure where the paper does: features that are learned on one data set, read on another.
_B_MLPS = tuple(model for model in LAPTOP if model.startswith("B-"))
PROBED = {"dataset": "cifar100", "models": _B_MLPS, "probe": "cifar10"}
PROBED_CNN = PROBED | {"models": tuple(model for model in LAPTOP if model.startswith("CNN-"))}
MORE_IMAGES = {
    "dataset": "npz:tinyimagenet32",
    "models": _B_MLPS,
    "sizes": (500, 2000, 8000, 32_000, 90_000),
    "probe": "cifar10",
}


def _rates(*models: str) -> dict[str, tuple[float, ...]]:
    return {model: _around(MIDDLES[model]) for model in models}


GRIDS = {
    "smoke": Grid(
        dataset="digits",
        sizes=(100, 200, 400, 800),
        lrs={model: (1e-3, 3e-3) for model in ("B-2/Wi-8", "B-2/Wi-16", "B-2/Wi-32", "CNN-2", "CNN-4")},
        epochs=2,
        least_steps=10,
        batch_size=50,
        tuned_at=400,
        seeds=(0, 1),
    ),
    "laptop": Grid(
        dataset="cifar10",
        sizes=(500, 2000, 8000, 32_000),
        lrs=_rates(*LAPTOP),
        epochs=10,
        least_steps=800,
        batch_size=100,
        tuned_at=8000,
    ),
    "overnight": Grid(
        dataset="cifar10",
        sizes=(500, 1000, 2000, 4000, 8000, 16_000, 45_000),
        lrs=_rates(*MIDDLES),
        epochs=20,
        least_steps=2000,
        batch_size=100,
        tuned_at=8000,
    ),
    "gpu": Grid(
        dataset="cifar10",
        sizes=(500, 1000, 2000, 4000, 8000, 16_000, 45_000),
        lrs={
            **{f"B-6/Wi-{width}": _around(0.08 / width) for width in (64, 128, 256, 512, 1024)},
            **{f"B-12/Wi-{width}": _around(0.06 / width) for width in (512, 1024)},
            **{f"S-6/Wi-{width}": _around(0.08 / width) for width in (64, 128, 256, 512, 1024)},
            **{f"CNN-{width}": _around(2e-3) for width in (8, 16, 32, 64)},
            "ViT-64x4/4": _around(1e-3),
            "ViT-192x6/4": _around(3e-4),
            "ViT-192x12/4": _around(3e-4),
        },
        epochs=50,
        least_steps=5000,
        batch_size=500,
        tuned_at=16_000,
        seeds=(0, 1, 2),
    ),
}


def _of_laptop_size(*models: str) -> dict[str, tuple[str, ...] | tuple[int, ...] | int]:
    """What makes the overnight preset train these of its models as the laptop preset trains its own."""
    own = GRIDS["laptop"]
    return {"models": models, "sizes": own.sizes, "epochs": own.epochs, "least_steps": own.least_steps}


# Beside the laptop preset: widths below its narrowest, so that a best size may lie inside; transformers; other depths.
NARROW = _of_laptop_size("B-6/Wi-8", "B-6/Wi-16")
TRANSFORMERS = _of_laptop_size("ViT-32x2/8", "ViT-64x2/8", "ViT-64x4/8")
DEPTHS = _of_laptop_size("B-2/Wi-256", "B-12/Wi-128")
BESIDE = (NARROW, TRANSFORMERS)  # what joins the laptop preset's families; the depths are compared apart
