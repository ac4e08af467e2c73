"""The sizes of rq2-augmentation: which models, images, augmentations, learning rates and seeds each has."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlp_lib.chapters.recipes import PAPER_AUGMENT, augment_for
from mlp_lib.records.architectures import MLPS, family_of

NONE, ALL = "none", "all"
PARTS = {  # of the paper's augmentation, section 4: flips, random resized crops, MixUp; by what figures call them
    NONE: "none",
    "flip": "flip",
    "crop": "crop",
    "flip + crop": "flip+crop",
    "MixUp": "mixup",
    ALL: PAPER_AUGMENT,
}
SMOOTHING = 0.3  # the paper's, of every run but those that vary it
EVERY_FAMILY = ("S-MLP", "B-MLP", "CNN", "ViT")
LADDER = (1.11e-5, 3.33e-5, 1e-4, 3e-4, 1e-3, 3e-3, 9e-3)  # of learning rates; a grid is three of it


@dataclass(frozen=True)
class Preset:
    """One size of the study."""

    dataset: str
    subset: int
    sizes: tuple[int, ...]  # numbers of images for the curve without augmentation, besides `subset`
    augmented_sizes: tuple[int, ...]  # the same with all of the augmentation
    augmented_families: tuple[str, ...]  # of the models that are trained at those
    models: tuple[str, ...]
    steps: int
    batch_size: int
    seeds: tuple[int, ...]
    # The middle of each family's grid of learning rates, without augmentation and with it: where earlier records found
    # the best, so that three rates suffice.
    middle_lrs: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    lrs: tuple[float, ...] | None = None  # one grid in the place of all; of one value, it fixes the rate
    parts: tuple[str, ...] = tuple(PARTS)  # of the augmentation, compared at `subset` images
    smoothing: tuple[float, ...] = (0.0, 0.1)  # besides SMOOTHING, for the B-MLP
    side_seeds: int = 3  # of the seeds, the first so many take single parts and other label smoothings
    shifted_families: tuple[str, ...] = ("B-MLP", "CNN")  # whose test images are moved as well
    control_families: tuple[str, ...] = MLPS  # which the control trains,
    control_seeds: int = 3  # with the first of the seeds

    def grid(self, family: str, side: str) -> tuple[float, ...]:
        """The learning rates that are tried first for a family, without augmentation (`NONE`) or with it (`ALL`)."""
        if self.lrs is not None:
            return self.lrs
        middle = LADDER.index(self.middle_lrs[family][(NONE, ALL).index(side)])
        return LADDER[middle - 1 : middle + 2]

    def sizes_of(self, model: str) -> list[int]:
        """The numbers of images, besides `subset`, without augmentation. Of fewer than that, which a reading off the
        curve hardly needs, only where augmentation is trained at them too, or where there are no others."""
        sizes = sorted({*self.sizes} - {self.subset})
        more = [size for size in sizes if size > self.subset]
        return sizes if family_of(model) in self.augmented_families or not more else more

    def augmented_sizes_of(self, model: str) -> list[int]:
        """The numbers of images, besides `subset`, with all of the augmentation."""
        both = family_of(model) in self.augmented_families
        return sorted({*self.augmented_sizes} - {self.subset}) if both else []

    def both_sides(self, model: str) -> set[int]:
        """The numbers of images at which a model is trained both without and with all of the augmentation."""
        return {self.subset} | ({*self.sizes_of(model)} & {*self.augmented_sizes_of(model)})

    @property
    def augmentations(self) -> dict[str, str]:
        """The augmentations that are compared as the data set takes them, by name: those of grey images are without
        flips, since a mirrored digit is another sign."""
        names = {augment: name for name, augment in PARTS.items()}
        found = {}
        for name in self.parts:
            augment = augment_for(self.dataset, PARTS[name])
            found[name if name == ALL else names[augment]] = augment
        return found


PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=300,
        sizes=(100, 1200),
        augmented_sizes=(100, 1200),
        augmented_families=("B-MLP",),
        models=("S-2/Wi-32", "B-2/Wi-32", "CNN-4", "ViT-32x1/4"),
        steps=20,
        batch_size=50,
        seeds=(0, 1),
        lrs=(3e-3,),
        smoothing=(0.0,),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=2000,
        sizes=(500, 8000, 32_000),
        augmented_sizes=(500, 32_000),
        augmented_families=("S-MLP", "B-MLP"),
        models=("S-6/Wi-256", "B-6/Wi-256", "CNN-16", "ViT-32x4/8"),
        steps=1000,
        batch_size=100,
        seeds=(0, 1, 2),
        middle_lrs={"S-MLP": (3e-4, 3.33e-5), "B-MLP": (3.33e-5, 3.33e-5), "CNN": (3e-3, 1e-3), "ViT": (1e-4, 1e-3)},
        parts=(NONE, "flip + crop", ALL),
        smoothing=(),
        control_seeds=2,  # what 25 minutes have room for
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=10_000,
        sizes=(500, 2000, 20_000, 45_000),
        augmented_sizes=(500, 45_000),
        augmented_families=EVERY_FAMILY,
        models=("S-6/Wi-256", "B-6/Wi-256", "CNN-16", "ViT-32x4/8"),
        steps=5000,
        batch_size=200,
        seeds=(0, 1, 2, 3, 4),
        middle_lrs={"S-MLP": (3e-4, 1e-4), "B-MLP": (1e-4, 1e-4), "CNN": (1e-3, 1e-3), "ViT": (1e-3, 1e-3)},
        control_families=("B-MLP",),
    ),
    "gpu": Preset(
        dataset="cifar10",
        subset=10_000,
        sizes=(500, 1000, 2000, 5000, 20_000, 45_000),
        augmented_sizes=(500, 2000, 45_000),
        augmented_families=EVERY_FAMILY,
        models=("S-6/Wi-1024", "B-6/Wi-1024", "CNN-64", "ViT-Ti/8"),
        steps=10_000,
        batch_size=500,
        seeds=(0, 1, 2, 3, 4),
        middle_lrs={"S-MLP": (1e-4, 1e-4), "B-MLP": (1e-4, 1e-4), "CNN": (3e-4, 3e-4), "ViT": (3e-4, 3e-4)},
    ),
}
