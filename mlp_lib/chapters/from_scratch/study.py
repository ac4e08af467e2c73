"""RQ1: can an MLP without vision priors compete when scaled? From scratch (paper section 4.1, table 1).

Cells: {S-MLP, B-MLP, CNN} x {no augmentation, the paper's}. In the presets that tune, each cell's learning rate is
chosen on validation at a third of the training length, on a grid that is widened until the best lies inside; then fresh
seeds are run at the choice. The presets that repeat the paper's cells keep its recipe (LION, 5e-5, smoothing 0.3,
constant lr) and choose nothing, so they train on all 50,000 images. The same cells on a second data set are the same
study with `dataset` changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.from_scratch.rules import RULE_CHANGES, RULES
from mlp_lib.chapters.recipes import PAPER_AUGMENT, RESNET18, WIDENINGS, augment_for
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import Choice, TunedResults, choose_lr, grid_runs
from mlp_lib.records.architectures import family_of
from mlp_lib.records.run import Run, make_run


@dataclass(frozen=True)
class Preset:
    """One size of the study. `epochs` and `augmented_epochs` are training lengths; `lrs` of one value fixes the lr."""

    dataset: str
    subset: int | None
    split: str
    models: tuple[str, ...]
    epochs: int
    augmented_epochs: int
    batch_size: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    tuning_share: float = 1 / 3
    single_seed: tuple[str, ...] = ()  # models too costly here for more than the first seed
    given: tuple[tuple[tuple[str, Any], ...], ...] = ()  # controls that come with a recipe of their own, as run fields
    second: str | None = None  # the data set on which the page shows the same cells once more


# The paper's own cells. It is silent on batch size and schedule: 4096 and a constant lr are the public code's defaults.
PAPER_CELLS = dict(dataset="cifar10", subset=None, split="all", epochs=100, batch_size=4096, lrs=(5e-5,))

PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=300,
        split="holdout",
        models=("S-2/Wi-32", "B-2/Wi-32", "CNN-4"),
        epochs=3,
        augmented_epochs=3,
        batch_size=32,
        lrs=(1e-3, 3e-3),
        seeds=(0, 1),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=10_000,
        split="holdout",
        models=("S-6/Wi-256", "B-6/Wi-256", "CNN-16"),
        epochs=30,
        augmented_epochs=90,
        batch_size=256,
        lrs=(1e-4, 3e-4, 1e-3),
        seeds=(0, 1, 2),
        second="cifar100",
    ),
    "overnight": Preset(
        **PAPER_CELLS,
        models=("S-6/Wi-1024", "B-6/Wi-1024"),
        augmented_epochs=75,
        seeds=(0, 1, 2),
        single_seed=("B-6/Wi-1024",),
        second="cifar100",
    ),
    "gpu": Preset(
        **PAPER_CELLS,
        models=("S-6/Wi-1024", "B-6/Wi-1024", "CNN-64"),
        augmented_epochs=1000,
        seeds=(0, 1, 2),
        given=(RESNET18,),
        second="cifar100",
    ),
    "paper": Preset(
        **PAPER_CELLS,
        models=("S-6/Wi-1024", "B-6/Wi-1024", "CNN-64"),
        augmented_epochs=5000,
        seeds=(0, 1, 2),
        given=(RESNET18,),
        second="cifar100",
    ),
}


@dataclass(frozen=True)
class Cell:
    """One line of the chapter's table: a model with or without augmentation, its tuned lr, and its seeds' runs."""

    model: str
    augment: str
    choice: Choice
    runs: tuple[Run, ...]

    @property
    def family(self) -> str:
        return family_of(self.model)


@dataclass(frozen=True)
class Results(TunedResults):
    """What the chapter shows: its cells, and one row a run with `family` and `augmented`."""

    @property
    def sufficient(self) -> bool:
        """Complete, and every family has at least three seeds, as the verdicts' rules ask."""
        seeds = self.frame.groupby(["family", "augmented"])["seed"].nunique()
        return self.complete and len(seeds) >= 6 and bool((seeds >= 3).all())


def candidates(preset: Preset) -> list[Run]:
    """The cells as runs at the middle lr and the first seed, cheapest first; validated."""
    runs = []
    for augment, epochs in (("none", preset.epochs), (PAPER_AUGMENT, preset.augmented_epochs)):
        for model in preset.models:
            runs.append(
                make_run(
                    model=model,
                    dataset=preset.dataset,
                    subset=preset.subset,
                    split=preset.split,
                    augment=augment_for(preset.dataset, augment),
                    batch_size=preset.batch_size,
                    epochs=epochs,
                    lr=preset.lrs[len(preset.lrs) // 2],
                    seed=preset.seeds[0],
                )
            )
    return runs


def given_runs(preset: Preset) -> list[Run]:
    """The controls that come with a recipe of their own, at the first seed; validated."""
    data = dict(dataset=preset.dataset, subset=preset.subset, split=preset.split, seed=preset.seeds[0])
    return [make_run(**data, **dict(fields)) for fields in preset.given]


def collect(preset: Preset, ensure: Callable[..., pd.DataFrame]) -> Results:
    """The whole chapter: choose each cell's lr, then run the seeds, one seed of every cell before the next.

    `ensure(runs, train=True)` gives one row a run; what it trains, and whether, is the caller's business. Runs at an
    lr that is not final are asked for with train=False.
    """
    short = {run.key: run.but(epochs=max(1, round(run.epochs * preset.tuning_share))) for run in candidates(preset)}
    if len(preset.lrs) > 1:
        ensure([run for candidate in short.values() for run in grid_runs(candidate, preset.lrs)])  # all grids at once
    cells = []
    for run in candidates(preset):
        choice = choose_lr(
            short[run.key], preset.lrs, ensure, widenings=WIDENINGS, share=short[run.key].epochs / run.epochs
        )
        seeds = preset.seeds[:1] if run.model in preset.single_seed else preset.seeds
        runs = tuple(run.but(lr=choice.lr, seed=seed) for seed in seeds)
        cells.append(Cell(run.model, run.augment, choice, runs))
    for run in given_runs(preset):
        choice = choose_lr(run, (run.lr,), ensure)
        cells.append(Cell(run.model, run.augment, choice, tuple(run.but(seed=seed) for seed in preset.seeds)))
    by_seed = [cell.runs[i] for i in range(len(preset.seeds)) for cell in cells if i < len(cell.runs)]
    frame = ensure(by_seed, train=all(cell.choice.final for cell in cells))
    frame["family"] = frame["model"].map(family_of)
    frame["augmented"] = frame["augment"] != "none"
    return Results(tuple(cells), frame)


STUDY = Study(
    name="rq1",
    title="From scratch: MLPs and a CNN, with and without augmentation",
    page="rq1-from-scratch",
    presets=PRESETS,
    parameters=parameters.parameters_of(
        Preset, "dataset", "subset", "epochs", "augmented_epochs", "batch_size", "lrs", "seeds", model=str
    ),
    collect=collect,
    rules=RULES,
    rule_changes=RULE_CHANGES,
)
