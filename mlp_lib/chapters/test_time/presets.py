"""The sizes of rq5-test-time: which models, photographs, shapes, learning rates and seeds each has."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlp_lib.chapters.recipes import PAPER_AUGMENT, augment_for
from mlp_lib.records.architectures import family_of
from mlp_lib.records.run import Run, make_run

NONE, ALL = "none", "all"  # of the paper's augmentation, section 4: flips, random resized crops, MixUp
CENTRED, MOVED = "shapes-centred", "shapes-moved"
SHAPES = (CENTRED, MOVED)
SHAPES_CROPS = dict(augment="flip+crop", crop_scale=0.4, crop_ratio=1.0)  # the paper's of fine-tuning
LADDER = (1.11e-5, 3.33e-5, 1e-4, 3e-4, 1e-3, 3e-3, 9e-3)  # of learning rates; a grid is three of it

Key = tuple[str, str, str]  # model, data set, NONE or ALL: what has a learning rate of its own


@dataclass(frozen=True)
class Preset:
    """One size of the study: some models on photographs, without augmentation and with it, and the B-MLP on shapes."""

    dataset: str
    subset: int | None
    models: tuple[str, ...]
    steps: int
    batch_size: int
    shapes_subset: int | None
    shapes_steps: int
    shapes_batch_size: int
    seeds: tuple[int, ...]  # the B-MLP's with crops, which the verdict asks for
    control_seeds: tuple[int, ...]  # of the other models, and of the B-MLP without augmentation
    # The middle of each family's grid of learning rates on photographs, without augmentation and with it.
    middle_lrs: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    shapes_middle_lr: float = 1e-4
    shapes_resolution: int | None = None
    lrs: tuple[float, ...] | None = None  # one grid in the place of all; of one value, it fixes the rate

    @property
    def b_mlp(self) -> str:
        """The model that is trained on the shapes too."""
        return next(model for model in self.models if family_of(model) == "B-MLP")

    def grid(self, key: Key) -> tuple[float, ...]:
        """The learning rates that are tried first."""
        model, dataset, side = key
        if self.lrs is not None:
            return self.lrs
        on_photographs = self.middle_lrs.get(family_of(model), (1e-4, 1e-4))[(NONE, ALL).index(side)]
        middle = LADDER.index(self.shapes_middle_lr if dataset in SHAPES else on_photographs)
        return LADDER[middle - 1 : middle + 2]

    def seeds_of(self, key: Key) -> tuple[int, ...]:
        """The seeds that are reported."""
        model, _, side = key
        return self.seeds if model == self.b_mlp and side == ALL else self.control_seeds

    def candidates(self) -> dict[Key, Run]:
        """Every condition's run by its key, at the middle of its grid and its first seed; validated."""
        conditions = [(model, self.dataset, side) for side in (ALL, NONE) for model in self.models]
        conditions += [(self.b_mlp, name, ALL) for name in SHAPES]
        found = {}
        for key in conditions:
            model, dataset, side = key
            grid = self.grid(key)
            found[key] = make_run(
                model=model,
                dataset=dataset,
                lr=grid[len(grid) // 2],
                seed=self.seeds_of(key)[0],
                **(self._on_shapes() if dataset in SHAPES else self._on_photographs(side)),
            )
        return found

    def _on_photographs(self, side: str) -> dict:
        augment = augment_for(self.dataset, PAPER_AUGMENT) if side == ALL else "none"
        return dict(subset=self.subset, steps=self.steps, batch_size=self.batch_size, augment=augment)

    def _on_shapes(self) -> dict:
        return dict(
            subset=self.shapes_subset,
            steps=self.shapes_steps,
            batch_size=self.shapes_batch_size,
            resolution=self.shapes_resolution,
            **SHAPES_CROPS,
        )


PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=300,
        models=("S-2/Wi-32", "B-2/Wi-32", "CNN-4"),
        steps=40,
        batch_size=50,
        shapes_subset=500,
        shapes_steps=40,
        shapes_batch_size=50,
        seeds=(0, 1, 2),
        control_seeds=(0, 1),
        shapes_resolution=16,
        lrs=(3e-3,),
    ),
    # On photographs the runs and grids of rq2-augmentation's laptop preset: a store that has those trains the reported
    # seeds once more, to measure them, and nothing else.
    "laptop": Preset(
        dataset="cifar10",
        subset=2000,
        models=("S-6/Wi-256", "B-6/Wi-256", "CNN-16"),
        steps=1000,
        batch_size=100,
        shapes_subset=None,
        shapes_steps=1000,
        shapes_batch_size=64,
        seeds=(0, 1, 2, 3, 4),
        control_seeds=(0, 1, 2),
        middle_lrs={"S-MLP": (3e-4, 3.33e-5), "B-MLP": (3.33e-5, 3.33e-5), "CNN": (3e-3, 1e-3)},
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=10_000,
        models=("S-6/Wi-256", "B-6/Wi-256", "CNN-16"),
        steps=5000,
        batch_size=200,
        shapes_subset=None,
        shapes_steps=10_000,
        shapes_batch_size=128,
        seeds=(0, 1, 2, 3, 4),
        control_seeds=(0, 1, 2, 3, 4),
        middle_lrs={"S-MLP": (3e-4, 1e-4), "B-MLP": (1e-4, 1e-4), "CNN": (1e-3, 1e-3)},
    ),
    "gpu": Preset(
        dataset="cifar10",
        subset=None,
        models=("S-6/Wi-1024", "B-6/Wi-1024", "CNN-64"),
        steps=20_000,
        batch_size=500,
        shapes_subset=None,
        shapes_steps=10_000,
        shapes_batch_size=500,
        seeds=(0, 1, 2, 3, 4),
        control_seeds=(0, 1, 2),
        middle_lrs={"S-MLP": (1e-4, 1e-4), "B-MLP": (1e-4, 1e-4), "CNN": (3e-4, 3e-4)},
    ),
}
