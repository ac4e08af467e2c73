"""The trainings that the chapter compares: the default B-MLP, and each ingredient taken away, added or replaced alone.

A condition is a training; an ingredient is a pair of them, one with it and one without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any, NamedTuple

from mlp_lib.datasets import facts
from mlp_lib.records.architectures import parse
from mlp_lib.records.run import Run, make_run

PAPER_DECAY = 1e-3  # of the paper's scaling-law recipe; with LION's small rates it hardly moves a weight
DROPOUT = 0.1
CLIP = 1.0


@dataclass(frozen=True)
class Preset:
    """One size of the study. `model` is the default B-MLP; the deep one has twice its blocks. A grid of one learning
    rate fixes it. `decay` is the weight decay that is strong enough to matter in so many steps; `measures` are taken of
    the runs that are reported."""

    dataset: str
    subset: int | None
    model: str
    epochs: int
    batch_size: int
    lrs: tuple[float, ...]  # of LION,
    adamw_lrs: tuple[float, ...]
    sgd_lrs: tuple[float, ...]
    decay: float
    seeds: tuple[int, ...]
    measures: tuple[str, ...] = ()
    augment: str = "none"

    @property
    def deep(self) -> str:
        """The model with twice as many blocks."""
        small = parse(self.model)
        return replace(small, depth=2 * small.depth).name

    def grid(self, optimizer: str) -> tuple[float, ...]:
        """The learning rates that are tried with an optimiser."""
        return {"lion": self.lrs, "adamw": self.adamw_lrs, "sgd": self.sgd_lrs}[optimizer]


@dataclass(frozen=True)
class Condition:
    """What a training has other than the default: fields of a run, a deeper model, a weight decay of the preset's, or
    the plain block, which gets the width that makes its FLOPs equal."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    deep: bool = False
    strong_decay: bool = False
    plain: bool = False

    def run(self, preset: Preset) -> Run:
        """The condition's training at the middle learning rate and the first seed; validated."""
        changes = dict(self.changes)
        if self.strong_decay:
            changes["weight_decay"] = preset.decay
        model = preset.deep if self.deep else preset.model
        if self.plain:
            changes["bottleneck"] = False
            model = plain_model(model, preset.dataset)
        lrs = preset.grid(changes.get("optimizer", "lion"))
        return make_run(
            model=model,
            dataset=preset.dataset,
            subset=preset.subset,
            split="holdout",
            augment=preset.augment,
            epochs=preset.epochs,
            batch_size=preset.batch_size,
            lr=lrs[len(lrs) // 2],
            seed=preset.seeds[0],
            **changes,
        )


def plain_model(model: str, dataset: str) -> str:
    """The B-MLP without its inverted bottleneck, at the width at which one training example costs as many FLOPs.

    Multiplications and additions of one example, forward and backward, without the gradient of the image, are
    4 I m + 6 L w + 6 m K: I inputs, L blocks of w weights, width m, K classes. w is 2 k m^2 with the bottleneck of
    expansion k, and m^2 without. The width is rounded to a whole number.
    """
    architecture, images = parse(model), facts(dataset)
    linear = 4 * images.channels * images.resolution**2 + 6 * images.num_classes
    blocks = 6 * architecture.depth
    width = architecture.width
    target = linear * width + blocks * 2 * architecture.expansion * width**2
    wider = round((sqrt(linear**2 + 4 * blocks * target) - linear) / (2 * blocks))
    return replace(architecture, width=wider, expansion=4).name  # without a bottleneck, its expansion says nothing


DEFAULT, DEEP = "default", "default, twice as deep"
CONDITIONS: dict[str, Condition] = {
    DEFAULT: Condition(),
    "ReLU": Condition({"activation": "relu"}),
    "no skips": Condition({"skip": False}),
    "plain block": Condition(plain=True),
    "no norm": Condition({"norm": "none"}),
    "norm after the block": Condition({"norm_position": "post"}),
    "BatchNorm": Condition({"norm": "batch"}),
    "no smoothing": Condition({"label_smoothing": 0.0}),
    "clipping": Condition({"clip": CLIP}),
    "weight decay": Condition(strong_decay=True),
    "weight decay 0.001": Condition({"weight_decay": PAPER_DECAY}),
    "dropout": Condition({"dropout": DROPOUT}),
    "AdamW": Condition({"optimizer": "adamw"}),
    "SGD": Condition({"optimizer": "sgd"}),
    DEEP: Condition(deep=True),
    "no skips, twice as deep": Condition({"skip": False}, deep=True),
}


class Ingredient(NamedTuple):
    """The conditions with an ingredient and without it, else alike: the gain is the first minus the second."""

    present: str
    absent: str


GELU = "GELU, not ReLU"
SKIPS = "skips, twice as deep"
BOTTLENECK = "inverted bottleneck"
NORM = "LayerNorm, not none"
BEFORE = "LayerNorm before the block, not after"
LION = "LION, not AdamW"
SMOOTHING = "label smoothing"
CLIPPING = "clipping"
DECAY = "weight decay"
DROPPING = "dropout"
BATCH = "LayerNorm, not BatchNorm"
SHALLOW_SKIPS = "skips"
SMALL_DECAY = "weight decay 0.001"
OVER_SGD = "LION, not SGD"

INGREDIENTS: dict[str, Ingredient] = {
    GELU: Ingredient(DEFAULT, "ReLU"),
    SKIPS: Ingredient(DEEP, "no skips, twice as deep"),
    BOTTLENECK: Ingredient(DEFAULT, "plain block"),
    NORM: Ingredient(DEFAULT, "no norm"),
    BEFORE: Ingredient(DEFAULT, "norm after the block"),
    LION: Ingredient(DEFAULT, "AdamW"),
    SMOOTHING: Ingredient(DEFAULT, "no smoothing"),
    CLIPPING: Ingredient("clipping", DEFAULT),
    DECAY: Ingredient("weight decay", DEFAULT),
    DROPPING: Ingredient("dropout", DEFAULT),
    BATCH: Ingredient(DEFAULT, "BatchNorm"),
    SHALLOW_SKIPS: Ingredient(DEFAULT, "no skips"),
    SMALL_DECAY: Ingredient("weight decay 0.001", DEFAULT),
    OVER_SGD: Ingredient(DEFAULT, "SGD"),
}
STRONG = (GELU, SKIPS, BOTTLENECK, NORM, BEFORE, LION)  # of which the claim says that they help
SLIGHT = (SMOOTHING, CLIPPING, DECAY, DROPPING, BATCH)  # that they help a little, or are no worse
SHOWN = (SHALLOW_SKIPS, SMALL_DECAY, OVER_SGD)  # that the claim does not name
