"""The sizes of chapter rq2-batch-size: architectures, learning-rate grids, lines of cells and presets.

Lines of cells are finished in the order of `Preset.lines`, so that an interrupted study has whole lines. Subsets are
multiples of the batch sizes: no example is dropped, and equal epochs are equal numbers of examples.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mlp_lib.chapters.tuning import Choice
from mlp_lib.records.run import Run, make_run

AT_THE_END = ("sharpness", "gradient_noise")  # measures of the trained weights, where theory speaks of them
MLP, CNN, PLAIN_CNN, VIT = ARCHITECTURES = ("B-MLP", "CNN", "CNN without BatchNorm", "ViT")
JUDGED = (MLP, CNN)  # by the rule of claim 4, with `JUDGE` as optimiser, at equal epochs
JUDGE = "lion"  # the paper's
PAPER_LR = 5e-5

# The middle of a grid moves with the batch size B. In theory by B for SGD (Goyal et al. 2017) and by the root of B for
# optimisers that divide the gradient by its size (Malladi et al. 2022), as long as noise rules the steps, and not at
# all beyond. The exponents lie between, so that three points reach to either side.
EXPONENT = {"sgd": 0.5, "lion": 0.25, "adamw": 0.25}
# The middle at batch 256, from short trials on validation (CIFAR-10, 10,240 images, 3 epochs, one seed).
ANCHOR = {
    "lion": {MLP: 2e-4, CNN: 2e-3, PLAIN_CNN: 3e-3, VIT: 5e-4},
    "sgd": {MLP: 0.01, CNN: 0.2, PLAIN_CNN: 0.1, VIT: 0.1},
    "adamw": {MLP: 1e-3, CNN: 5e-3, PLAIN_CNN: 5e-3, VIT: 1e-3},
}
ANCHOR_BATCH = 256
GRID = (1 / 3, 1.0, 3.0)  # the three learning rates, as multiples of the middle


class Lines(NamedTuple):
    """Lines of the figure that are finished together: every batch size of these architectures."""

    optimizer: str
    budget: str  # epochs or steps; cosine: epochs, with a learning rate that falls to zero; beyond: epochs, other sizes
    architectures: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """An architecture, optimiser, budget and batch size with its learning rate and the runs of its seeds."""

    architecture: str
    optimizer: str
    budget: str  # that of its `Lines`; upstream: fixed or tuned
    batch_size: int
    choice: Choice
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Preset:
    """One size of the study. At `shared_batch`, equal epochs and equal steps are the same training."""

    dataset: str
    subset: int | None
    mlp: str
    cnn: str
    vit: str
    batch_sizes: tuple[int, ...]
    epochs: int
    shared_batch: int
    lines: tuple[Lines, ...]
    upstream: str
    upstream_subset: int | None
    upstream_epochs: tuple[int, ...]  # the last is the one at which the learning rate is tuned too
    target: str
    judged_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    seeds: tuple[int, ...] = (0, 1, 2)  # of every other cell
    sizes_beyond: tuple[int, ...] = ()  # batch sizes outside the judged ones, of the lines `BEYOND`

    @property
    def steps(self) -> int:
        """Updates at equal steps."""
        per_epoch = self.base(MLP).but(batch_size=self.shared_batch).steps_per_epoch
        return self.epochs * per_epoch

    def fields_of(self, architecture: str) -> dict[str, Any]:
        return {
            MLP: dict(model=self.mlp),
            CNN: dict(model=self.cnn),
            PLAIN_CNN: dict(model=self.cnn, norm="none"),
            VIT: dict(model=self.vit),
        }[architecture]

    def base(self, architecture: str) -> Run:
        """What all runs of an architecture share: no augmentation, constant lr, smoothing 0.3, no decay."""
        return make_run(
            dataset=self.dataset,
            subset=self.subset,
            epochs=self.epochs,
            batch_size=min(self.batch_sizes),
            **self.fields_of(architecture),
        )


EVERYWHERE = (Lines(JUDGE, "epochs", JUDGED), Lines(JUDGE, "epochs", (PLAIN_CNN, VIT)))
COSINE = Lines(JUDGE, "cosine", JUDGED)
BEYOND = Lines(JUDGE, "beyond", JUDGED)
PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=384,
        mlp="B-2/Wi-32",
        cnn="CNN-4",
        vit="ViT-32x1/4",
        batch_sizes=(32, 128),
        epochs=2,
        shared_batch=128,
        lines=(*EVERYWHERE, COSINE, BEYOND, Lines("lion", "steps", JUDGED), Lines("sgd", "epochs", (MLP,))),
        upstream="digits",
        upstream_subset=384,
        upstream_epochs=(1, 2),
        target="digits",
        judged_seeds=(0, 1),
        seeds=(0, 1),
        sizes_beyond=(384,),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=10_240,
        mlp="B-6/Wi-256",
        cnn="CNN-16",
        vit="ViT-64x2/8",
        batch_sizes=(64, 256, 1024),
        epochs=3,
        shared_batch=256,
        lines=(
            *EVERYWHERE,
            Lines("lion", "steps", ARCHITECTURES),
            Lines("sgd", "epochs", ARCHITECTURES),
            Lines("sgd", "steps", JUDGED),
        ),
        upstream="cifar100",
        upstream_subset=10_240,
        upstream_epochs=(3,),
        target="cifar10",
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=16_384,
        mlp="B-6/Wi-256",
        cnn="CNN-16",
        vit="ViT-64x2/8",
        batch_sizes=(64, 256, 1024, 4096),
        epochs=30,
        shared_batch=1024,
        lines=(
            *EVERYWHERE,
            COSINE,
            Lines("lion", "steps", JUDGED),
            BEYOND,
            # of all four architectures they would be more than a night
            Lines("sgd", "epochs", JUDGED),
            Lines("adamw", "epochs", JUDGED),
        ),
        upstream="cifar100",
        upstream_subset=16_384,
        upstream_epochs=(10, 30),
        target="cifar10",
        sizes_beyond=(32, 16_384),
    ),
    "gpu": Preset(
        dataset="cifar10",
        subset=32_768,
        mlp="B-6/Wi-1024",
        cnn="CNN-64",
        vit="ViT-192x6/8",
        batch_sizes=(32, 64, 256, 1024, 4096, 16_384),
        epochs=60,
        shared_batch=4096,
        lines=(
            *EVERYWHERE,
            COSINE,
            *(
                Lines(o, b, ARCHITECTURES)
                for o, b in (
                    ("lion", "steps"),
                    ("sgd", "epochs"),
                    ("adamw", "epochs"),
                    ("sgd", "steps"),
                    ("adamw", "steps"),
                )
            ),
        ),
        upstream="cifar100",
        upstream_subset=32_768,
        upstream_epochs=(20, 60),
        target="cifar10",
    ),
}


def grid_of(optimizer: str, architecture: str, batch_size: int) -> tuple[float, ...]:
    """The learning rates that a cell tries first, rising; its middle scales with the batch size."""
    middle = ANCHOR[optimizer][architecture] * (batch_size / ANCHOR_BATCH) ** EXPONENT[optimizer]
    return tuple(float(f"{middle * multiple:.2g}") for multiple in GRID)


def at_equal_steps(run: Run, steps: int) -> Run:
    """The run at so many updates; in whole epochs where they are, so that one training has one key."""
    epochs, rest = divmod(steps, run.steps_per_epoch)
    return run.but(epochs=epochs, steps=None) if rest == 0 else run.but(epochs=None, steps=steps)
