"""RQ1: what the settings do on which the paper is silent, or on which its text and its public code differ.

Cells: an MLP without augmentation, once by the chapter's recipe and once for every change of one setting. The learning
rate is the one that the from-scratch study (rq1) chooses for the unchanged cell, by the same runs; a changed cell keeps
it, so that one thing differs at a time. Differences are paired by seed.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mlp_lib.chapters import parameters
from mlp_lib.chapters.recipes import WIDENINGS
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import Choice, Ensure, TunedResults, choose_lr, grid_runs
from mlp_lib.records.architectures import family_of
from mlp_lib.records.run import Run, make_run

UNCHANGED = "as the chapter trains it"


@dataclass(frozen=True)
class Change:
    """One setting changed: how the page names it, and the run fields. `lr_factor` multiplies the chosen lr."""

    name: str
    fields: tuple[tuple[str, Any], ...] = ()
    lr_factor: float = 1.0

    def of(self, run: Run) -> Run:
        lr = run.lr if self.lr_factor == 1 else float(f"{run.lr * self.lr_factor:.3g}")
        return run.but(**dict(self.fields), lr=lr)


# What both MLPs are asked; the public code's own defaults where it names one (batch 4096, GELU before the weights).
LARGER_BATCH = Change("batch 1024 instead of 256", (("batch_size", 1024),))
COSINE = Change("cosine schedule instead of constant", (("schedule", "cosine"),))
LOWER_LR = Change("a third of the chosen lr", lr_factor=1 / 3)
HIGHER_LR = Change("three times the chosen lr", lr_factor=3.0)
GELU = Change("GELU instead of ReLU", (("activation", "gelu"),))
RELU = Change("ReLU instead of GELU", (("activation", "relu"),))
CODE_FORM = Change("block W relu(LN z) instead of relu(W LN z)", (("block_form", "code"),))
PUBLIC_CODE = Change("block W gelu(LN z), as the public code has it", (("activation", "gelu"), ("block_form", "code")))


@dataclass(frozen=True)
class Preset:
    """One size of the study. `changes` holds a model's changes by its name; `lrs` of one value fixes the lr."""

    dataset: str
    subset: int | None
    split: str
    epochs: int
    batch_size: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    changes: tuple[tuple[str, tuple[Change, ...]], ...]
    tuning_share: float = 1 / 3


S_CHANGES = (LARGER_BATCH, COSINE, LOWER_LR, HIGHER_LR, GELU, CODE_FORM, PUBLIC_CODE)
AT_THE_PAPERS_SIZE = dict(dataset="cifar10", subset=None, split="all", epochs=100, batch_size=4096, lrs=(5e-5,))
SMALLER_BATCHES = (
    Change("batch 1024 instead of 4096", (("batch_size", 1024),)),
    Change("batch 256 instead of 4096", (("batch_size", 256),)),
)

PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=300,
        split="holdout",
        epochs=3,
        batch_size=32,
        lrs=(1e-3, 3e-3),
        seeds=(0, 1),
        changes=(
            ("S-2/Wi-32", (Change("batch 64 instead of 32", (("batch_size", 64),)), GELU)),
            ("B-2/Wi-32", (RELU,)),
        ),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=10_000,
        split="holdout",
        epochs=30,
        batch_size=256,
        lrs=(1e-4, 3e-4, 1e-3),
        seeds=(0, 1, 2, 3, 4),
        changes=(("S-6/Wi-256", S_CHANGES), ("B-6/Wi-256", (LARGER_BATCH, COSINE, RELU))),
    ),
    "overnight": Preset(
        **AT_THE_PAPERS_SIZE,
        seeds=(0, 1, 2),
        changes=(("S-6/Wi-1024", (*SMALLER_BATCHES, COSINE, PUBLIC_CODE)),),
    ),
    "gpu": Preset(
        **AT_THE_PAPERS_SIZE,
        seeds=(0, 1, 2, 3, 4),
        changes=(
            ("S-6/Wi-1024", (*SMALLER_BATCHES, COSINE, LOWER_LR, HIGHER_LR, GELU, CODE_FORM, PUBLIC_CODE)),
            ("B-6/Wi-1024", (*SMALLER_BATCHES, COSINE, LOWER_LR, HIGHER_LR, RELU)),
        ),
    ),
}


class Cell(NamedTuple):
    """A model's unchanged cell and the learning rate chosen for it."""

    model: str
    augment: str
    choice: Choice


@dataclass(frozen=True)
class Results(TunedResults):
    """What the chapter shows: each model's choice of the lr, and one row a run with `family`, `augmented`, `change`."""

    @property
    def sufficient(self) -> bool:
        """Complete, with at least three seeds of every cell."""
        return self.complete and bool((self.frame.groupby(["model", "change"])["seed"].nunique() >= 3).all())


def candidates(preset: Preset) -> dict[str, Run]:
    """Each model's unchanged cell, at the middle lr and the first seed; equal to the from-scratch study's own."""
    return {
        model: make_run(
            model=model,
            dataset=preset.dataset,
            subset=preset.subset,
            split=preset.split,
            epochs=preset.epochs,
            batch_size=preset.batch_size,
            lr=preset.lrs[len(preset.lrs) // 2],
            seed=preset.seeds[0],
        )
        for model, _ in preset.changes
    }


def collect(preset: Preset, ensure: Ensure) -> Results:
    """Choose each model's lr, then run every change with every seed, one seed of all cells before the next."""
    runs = candidates(preset)
    share = max(1, round(preset.epochs * preset.tuning_share))
    short = {model: run.but(epochs=share) for model, run in runs.items()}
    if len(preset.lrs) > 1:
        ensure([run for candidate in short.values() for run in grid_runs(candidate, preset.lrs)])
    choices = {
        model: choose_lr(run, preset.lrs, ensure, widenings=WIDENINGS, share=share / preset.epochs)
        for model, run in short.items()
    }
    asked = [
        (change, change.of(runs[model].but(lr=choices[model].lr, seed=seed)))
        for seed in preset.seeds
        for model, changes in preset.changes
        for change in (Change(UNCHANGED), *changes)
    ]
    frame = ensure([run for _, run in asked], train=all(choice.final for choice in choices.values()))
    frame["change"] = [change.name for change, _ in asked]
    frame["family"] = frame["model"].map(family_of)
    frame["augmented"] = False
    return Results(tuple(Cell(model, runs[model].augment, choice) for model, choice in choices.items()), frame)


STUDY = Study(
    name="rq1-settings",
    title="Where the paper is silent: what each setting moves",
    page="rq1-settings",
    presets=PRESETS,
    parameters=parameters.parameters_of(Preset, "dataset", "subset", "epochs", "batch_size", "lrs", "seeds"),
    collect=collect,
)
