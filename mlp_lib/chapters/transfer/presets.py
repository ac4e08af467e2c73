"""The sizes of the transfer study: which networks are pre-trained, on what, for how long, and what they learn next."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mlp_lib.chapters.recipes import PAPER_AUGMENT, augment_for
from mlp_lib.records.architectures import parse
from mlp_lib.records.run import Run, make_run

# How a network comes to the target task. The paper's augmentation is used wherever the name does not say otherwise.
PLAIN = "pre-trained without augmentation"
AUGMENTED = "pre-trained with augmentation"
SCRATCH = "from scratch"
SCRATCH_PLAIN = "from scratch without augmentation"
LONG = "from scratch, for as long as both"
STARTS = (AUGMENTED, PLAIN, LONG, SCRATCH, SCRATCH_PLAIN)
PRE_TRAINED = (AUGMENTED, PLAIN)

# Fine-tuning as in the paper (section 4): SGD with momentum, the body at a tenth of the head's learning rate.
FINE_TUNING = dict(
    optimizer="sgd", momentum=0.9, body_share=0.1, weight_decay=1e-4, clip=1.0, crop_scale=0.4, crop_ratio=1.0
)


def _middle(rates: tuple[float, ...]) -> float:
    return rates[len(rates) // 2]


@dataclass(frozen=True)
class Preset:
    """One size of the study.

    `models`: the first is the B-MLP that the rules judge, with every start; of the others those with augmentation.
    `upstream_sizes`, `target_sizes`: numbers of images; None is all but the tenth that is held out. Rates are chosen,
    and the rules judge, at the last of the first and at `judged_size` of the second. Every training takes
    `upstream_steps` or `target_steps`, whatever the number of images. The rates that are tried are LION's, of MLPs and
    of the others, and SGD's of the head.
    """

    upstream: str
    target: str
    models: tuple[str, ...]
    upstream_sizes: tuple[int | None, ...]
    target_sizes: tuple[int, ...]
    judged_size: int
    upstream_steps: int
    target_steps: int
    batch_size: int = 128
    seeds: tuple[int, ...] = (0, 1, 2)
    resolution: int | None = None
    mlp_lrs: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    control_lrs: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    fine_tuning_lrs: tuple[float, ...] = (0.01, 0.03, 0.1)

    @property
    def judged(self) -> str:
        """The model that the rules judge."""
        return self.models[0]

    def rates(self, model: str, start: str = LONG) -> tuple[float, ...]:
        """The learning rates that are tried for a model after a start; LION's unless it was pre-trained."""
        if start in PRE_TRAINED:
            return self.fine_tuning_lrs
        return self.mlp_lrs if parse(model).is_mlp else self.control_lrs

    def upstream_run(self, model: str, augmented: bool, images: int | None) -> Run:
        """The pre-training, at the middle of its rates and seed 0."""
        return self._lion(model, self.upstream, images, self.upstream_steps, augmented)

    def target_run(self, model: str, start: str, images: int, parent: Run | None = None) -> Run:
        """What is trained on the target: from scratch, or from `parent`, at the middle of its rates and seed 0."""
        if start not in PRE_TRAINED:
            steps = self.target_steps + self.upstream_steps * (start == LONG)
            return self._lion(model, self.target, images, steps, start != SCRATCH_PLAIN)
        return make_run(
            model=model,
            dataset=self.target,
            subset=images,
            resolution=self.resolution,
            steps=self.target_steps,
            batch_size=self.batch_size,
            augment=augment_for(self.target, "flip+crop"),
            lr=_middle(self.fine_tuning_lrs),
            init={"run": parent, "transform": "new_head"},
            **FINE_TUNING,
        )

    def _lion(self, model: str, dataset: str, images: int | None, steps: int, augmented: bool) -> Run:
        return make_run(
            model=model,
            dataset=dataset,
            subset=images,
            resolution=self.resolution,
            steps=steps,
            batch_size=self.batch_size,
            augment=augment_for(dataset, PAPER_AUGMENT) if augmented else "none",
            lr=_middle(self.rates(model)),
        )

    def starts(self, model: str) -> tuple[str, ...]:
        """How a model comes to the target."""
        return STARTS if model == self.judged else (AUGMENTED, LONG, SCRATCH)


PRESETS = {
    "smoke": Preset(
        upstream="shapes",
        target="shapes",
        models=("B-2/Wi-32", "CNN-4"),
        upstream_sizes=(200, 800),
        target_sizes=(100, 200),
        judged_size=200,
        upstream_steps=24,
        target_steps=8,
        batch_size=50,
        mlp_lrs=(1e-3,),
        control_lrs=(3e-3,),
        fine_tuning_lrs=(0.03,),
    ),
    "laptop": Preset(
        upstream="cifar100",
        target="cifar10",
        models=("B-6/Wi-128", "CNN-8"),
        upstream_sizes=(None,),
        target_sizes=(5000,),
        judged_size=5000,
        upstream_steps=1600,
        target_steps=500,
    ),
    "overnight": Preset(
        upstream="cifar100",
        target="cifar10",
        models=("B-6/Wi-128", "CNN-8", "S-6/Wi-256", "B-6/Wi-64", "B-6/Wi-256", "ViT-64x2/8"),
        upstream_sizes=(5000, 15_000, None),
        target_sizes=(1000, 5000, 20_000),
        judged_size=5000,
        upstream_steps=3500,
        target_steps=1000,
        mlp_lrs=(3e-5, 1e-4, 3e-4),  # around what the laptop preset chose
    ),
    "gpu": Preset(
        upstream="cifar100",
        target="cifar10",
        models=("B-6/Wi-1024", "ResNet18", "S-6/Wi-1024", "B-6/Wi-512", "B-12/Wi-1024", "ViT-Ti/4"),
        upstream_sizes=(5000, 15_000, None),
        target_sizes=(1000, 5000, 20_000, 45_000),
        judged_size=5000,
        upstream_steps=20_000,
        target_steps=2000,
        batch_size=512,
        resolution=64,
        mlp_lrs=(2e-5, 5e-5, 1.5e-4),
        control_lrs=(1e-4, 3e-4, 1e-3),
    ),
}


class Pair(NamedTuple):
    """An upstream set, a target, and how many of the target's images are learned."""

    upstream: str
    target: str
    images: int = 5000

    @property
    def changes(self) -> dict[str, Any]:
        """What makes the laptop preset compare this pair."""
        return {
            "upstream": self.upstream,
            "target": self.target,
            "target_sizes": (self.images,),
            "judged_size": self.images,
        }


# What is compared at laptop size; the first is the preset's own. The others judge nothing. Few of the digits are taken:
# from a thousand of them any network reads nearly all.
PAIRS = (
    Pair("cifar100", "cifar10"),
    Pair("cifar10", "cifar100"),
    Pair("npz:tinyimagenet32", "cifar10"),
    Pair("npz:tinyimagenet32", "cifar100"),
    Pair("shapes", "digits-32", images=200),
)
