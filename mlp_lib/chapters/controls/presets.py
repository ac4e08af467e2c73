"""Families and sizes of the controls chapter, and a family's run before anything is chosen for it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mlp_lib.chapters.recipes import RESNET18
from mlp_lib.records.architectures import family_of
from mlp_lib.records.run import Run, make_run

GRIDS = (("lion", (1e-4, 3e-4, 1e-3)), ("adamw", (3e-4, 1e-3, 3e-3)), ("sgd", (0.01, 0.03, 0.1)))

Fields = tuple[tuple[str, Any], ...]  # of a run: hashable, so that presets are constants


class Family(NamedTuple):
    """One line of the comparison: a model with its options, under the name that tables and figures give it."""

    label: str
    model: str
    options: Fields = ()


def label_of(model: str, norm: str | None = None) -> str:
    """What tables and figures call a model: its family, and whether its normalisation is taken out."""
    return family_of(model) + (" without norm" if norm == "none" else "")


def family(model: str, **options: Any) -> Family:
    return Family(label_of(model, options.get("norm")), model, tuple(options.items()))


@dataclass(frozen=True)
class Preset:
    """One size of the study. `tuning_share` and `tuning_images` are a trial's shares of the epochs and of the images.

    `given` holds controls that are not searched but come with a recipe of their own, as run fields: one seed each.
    """

    dataset: str
    subset: int | None
    families: tuple[Family, ...]
    epochs: int
    batch_size: int
    seeds: tuple[int, ...]
    grids: tuple[tuple[str, tuple[float, ...]], ...] = GRIDS
    tuning_share: float = 1 / 3
    tuning_images: float = 1.0
    given: tuple[Fields, ...] = ()


SMALL = (
    family("S-6/Wi-256"),
    family("B-6/Wi-256"),
    family("CNN-16"),
    family("CNN-16", norm="none"),
    family("ViT-64x4/8"),
    family("Mixer-64x4/8"),
)
SHORT_RESNET18 = (*RESNET18, ("subset", 10_000), ("epochs", 30))  # the laptop preset's images and epochs

PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=300,
        epochs=6,
        batch_size=32,
        seeds=(0, 1),
        families=(
            family("S-2/Wi-32"),
            family("B-2/Wi-32"),
            family("CNN-4"),
            family("CNN-4", norm="none"),
            family("ViT-32x1/4"),
            family("Mixer-16x1/4"),
        ),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=10_000,
        families=SMALL,
        epochs=30,
        batch_size=256,
        seeds=(0, 1, 2),
        tuning_images=0.75,
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=None,
        families=SMALL,
        epochs=60,
        batch_size=256,
        seeds=(0, 1, 2),
        given=(SHORT_RESNET18,),
    ),
    "gpu": Preset(
        dataset="cifar10",
        subset=None,
        epochs=60,
        batch_size=256,
        seeds=(0, 1, 2),
        families=(
            family("S-6/Wi-1024"),
            family("B-6/Wi-1024"),
            family("ResNet18"),
            family("CNN-64"),
            family("ViT-Ti/4"),
            family("Mixer-224x12/4"),  # the multiply-adds and parameters of the ViT, nearly
        ),
    ),
}


def base_run(preset: Preset, member: Family) -> Run:
    """A family's final run at the first seed, before anything is chosen for it."""
    optimizer, lrs = preset.grids[0]
    return make_run(
        model=member.model,
        **dict(member.options),
        dataset=preset.dataset,
        subset=preset.subset,
        epochs=preset.epochs,
        batch_size=preset.batch_size,
        seed=preset.seeds[0],
        optimizer=optimizer,
        lr=lrs[len(lrs) // 2],
    )
