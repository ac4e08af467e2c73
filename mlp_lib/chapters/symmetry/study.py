"""RQ4: what a convolution is worth where the symmetry is known: drawn shapes that stand still, or move.

The farther objects may lie from the middle, the more a network must learn about translation that a convolution has
built in. Every image is new (`Run.fresh`), so one long training at a constant rate gives error against the number of
examples, free of overfitting. Beside it, on the set with the widest range, the same number of steps on a few images
that come again: what repetition costs.
"""

from dataclasses import dataclass

import pandas as pd

from mlp_lib.chapters.parameters import TUNING_SEED, parameters_of
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import Choice, Ensure, choose_lrs, ended
from mlp_lib.records.architectures import family_of, parse
from mlp_lib.records.run import Run, make_run

Side = tuple[str, str]  # a data set, and a model


@dataclass(frozen=True)
class Preset:
    """One size of the study.

    `datasets`: drawn sets, from the least range of positions to the widest. An epoch has `images` new ones. `repeated`:
    numbers of images that come again, on the last set, for as many steps.
    """

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    images: int
    epochs: int
    repeated: tuple[int, ...]
    batch_size: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    mlp_lrs: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    control_lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2)

    def rates(self, model: str) -> tuple[float, ...]:
        """LION's learning rates that are tried for a model."""
        return self.mlp_lrs if parse(model).is_mlp else self.control_lrs

    def run(self, dataset: str, model: str, seed: int = 0) -> Run:
        """A training on new images, at the middle of its model's rates. A seed draws weights and images."""
        rates = self.rates(model)
        return make_run(
            model=model,
            dataset=dataset,
            subset=self.images,
            fresh=True,
            data_seed=seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=rates[len(rates) // 2],
            seed=seed,
        )

    def again(self, run: Run, images: int) -> Run:
        """The run on so many images of the set itself, which come again, for as many steps."""
        return run.but(subset=images, fresh=False, data_seed=0, epochs=None, steps=run.total_steps)


SETS = ("shapes-centred", "shapes-near", "shapes-moved")
PRESETS = {
    "smoke": Preset(
        datasets=("shapes-centred", "shapes-moved"),
        models=("B-2/Wi-16", "CNN-2"),
        images=200,
        epochs=3,
        repeated=(100,),
        batch_size=50,
        mlp_lrs=(1e-3,),
        control_lrs=(1e-2,),
    ),
    "laptop": Preset(SETS, ("B-6/Wi-128", "CNN-8"), 1000, 100, (500, 1500, 5000)),
    "overnight": Preset(
        SETS,
        ("B-6/Wi-128", "CNN-8", "B-6/Wi-256", "S-6/Wi-256", "CNN-16", "ViT-64x2/8"),
        5000,
        200,
        (500, 1000, 3000, 9000),
        seeds=(0, 1, 2, 3, 4),
    ),
    "gpu": Preset(
        SETS,
        ("B-6/Wi-1024", "CNN-32", "S-6/Wi-1024", "B-12/Wi-1024", "ViT-192x6/4"),
        10_000,
        1000,
        (500, 1000, 3000, 9000),
        batch_size=500,
        mlp_lrs=(2e-5, 5e-5, 1.5e-4),
    ),
}


@dataclass(frozen=True)
class Results:
    """What the chapter shows. `frame`: one row a training, with `reach` (`reach_of` its data set) and `repeated` (how
    many images came again, 0 where all are new). `choices`: by data set and model."""

    frame: pd.DataFrame
    choices: dict[Side, Choice]

    @property
    def complete(self) -> bool:
        """Every learning rate is chosen, and every run has ended."""
        return ended(self.choices.values(), self.frame)

    @property
    def sufficient(self) -> bool:
        """Complete, with at least three seeds, for a B-MLP and a CNN."""
        return self.complete and self.frame["seed"].nunique() >= 3 and {"B-MLP", "CNN"} <= {*self.frame["family"]}


def reach_of(dataset: str) -> float:
    """How far an object's centre may lie from the middle of the picture, along each axis, as a share of half its
    side."""
    from mlp_lib.datasets.shapes import SETS as DRAWN
    from mlp_lib.datasets.shapes import USUAL

    position = DRAWN[dataset].factors.position
    ends = (0.0, 0.0) if position is False else USUAL.position if position is True else position
    return float(max(map(abs, ends)))


def collect(preset: Preset, ensure: Ensure) -> Results:
    """Choose the rate of every model on every set, then run the seeds, on new images and on images that come again."""
    candidates = {(d, m): preset.run(d, m) for m in preset.models for d in preset.datasets}
    trials = {side: run.but(data_seed=TUNING_SEED) for side, run in candidates.items()}
    choices = choose_lrs(trials, {side: preset.rates(side[1]) for side in trials}, ensure)
    runs = [
        preset.run(dataset, model, seed).but(lr=choices[dataset, model].lr)
        for seed in preset.seeds
        for dataset, model in candidates
    ]
    widest = preset.datasets[-1]
    repeated = [preset.again(run, n) for run in runs if run.dataset == widest for n in preset.repeated]
    ready = all(choice.final for choice in choices.values())
    frame = ensure([*runs, *repeated], train=ready)
    frame = frame if ready else frame.assign(status="not run")
    frame["family"], frame["augmented"] = frame["model"].map(family_of), False
    frame["reach"] = frame["dataset"].map(reach_of)
    frame["repeated"] = frame["train_examples"].where(~frame["fresh"].astype(bool), 0)
    return Results(frame, choices)


def _choices_on(*places: int):
    """The choices of rates on these sets, by their place in the order of ranges."""

    def choices(shown: Shown) -> list[Choice]:
        results = shown.results
        ordered = sorted({dataset for dataset, _ in results.choices}, key=reach_of)
        wanted = {ordered[place] for place in places}
        return [choice for (dataset, _), choice in results.choices.items() if dataset in wanted]

    return choices


STUDY = Study(
    name="rq4-symmetry",
    title="A known symmetry: what a convolution is worth when objects move",
    page="rq4-symmetry",
    presets=PRESETS,
    parameters=parameters_of(
        Preset, "datasets", "models", "images", "epochs", "repeated", "batch_size", "seeds", "mlp_lrs", "control_lrs"
    ),
    collect=collect,
    first_screen={
        "symmetry-level": _choices_on(0, -1),
        "symmetry-still": _choices_on(0),
        "symmetry-moved": _choices_on(-1),
    },
)
