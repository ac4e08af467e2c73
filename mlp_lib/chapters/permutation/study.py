"""RQ1: what a fixed permutation of the pixels does (claim 15): the operational definition of "no vision prior".

Cells: {S-MLP, B-MLP, CNN, ViT, Mixer} x {images as they are, permuted}, without augmentation. Each seed has a
permutation of its own, so that intervals hold over permutations too. An MLP keeps the learning rate that was chosen on
the images as they are, since equality is what is tested; a control gets one chosen on permuted images, so that its fall
is not a badly chosen rate. Grids are widened until the best rate lies inside.
"""

from dataclasses import dataclass

from mlp_lib.chapters import parameters
from mlp_lib.chapters.permutation.rules import RULES
from mlp_lib.chapters.recipes import WIDENINGS
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import TUNING_SEED, Choice, Ensure, TunedResults, choose_lr, grid_runs
from mlp_lib.records.architectures import family_of, parse
from mlp_lib.records.run import Run, make_run


@dataclass(frozen=True)
class Preset:
    """One size of the study. `seeds` are the MLPs', whose equality needs more of them than the controls' fall."""

    dataset: str
    subset: int | None
    split: str
    models: tuple[str, ...]
    epochs: int
    batch_size: int
    lrs: tuple[float, ...]  # one value fixes the lr
    seeds: tuple[int, ...]
    control_seeds: tuple[int, ...]
    tuning_share: float = 1 / 3


SMALL_MODELS = ("S-6/Wi-256", "B-6/Wi-256", "CNN-16", "ViT-64x4/8", "Mixer-64x4/8")

PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=300,
        split="holdout",
        models=("S-2/Wi-32", "B-2/Wi-32", "CNN-4", "ViT-32x1/4", "Mixer-32x1/4"),
        epochs=3,
        batch_size=32,
        lrs=(1e-3, 3e-3),
        seeds=(0, 1, 2),
        control_seeds=(0, 1),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=10_000,
        split="holdout",
        models=SMALL_MODELS,
        epochs=20,
        batch_size=256,
        lrs=(1e-4, 3e-4, 1e-3),
        seeds=tuple(range(8)),
        control_seeds=(0, 1, 2),
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=None,
        split="holdout",
        models=SMALL_MODELS,
        epochs=30,
        batch_size=256,
        lrs=(1e-4, 3e-4, 1e-3),
        seeds=tuple(range(16)),
        control_seeds=tuple(range(5)),
    ),
    "gpu": Preset(
        dataset="cifar10",
        subset=None,
        split="all",
        models=("S-6/Wi-1024", "B-6/Wi-1024", "ResNet18", "ViT-Ti/4", "Mixer-128x8/4"),
        epochs=50,
        batch_size=512,
        lrs=(3e-5, 1e-4, 3e-4),
        seeds=tuple(range(8)),
        control_seeds=(0, 1, 2),
    ),
}


@dataclass(frozen=True)
class Cell:
    """A model on images as they are or permuted, its learning rate and its seeds' runs."""

    model: str
    permuted: bool
    choice: Choice
    runs: tuple[Run, ...]

    @property
    def family(self) -> str:
        return family_of(self.model)

    @property
    def augment(self) -> str:
        return self.runs[0].augment


@dataclass(frozen=True)
class Results(TunedResults):
    """What the chapter shows: its cells, and one row a run with `family`, `augmented` (never) and `permuted`."""

    @property
    def sufficient(self) -> bool:
        """Complete, and with the seeds that the verdict's rule asks for."""
        return self.complete and RULES[15].enough_seeds(self.frame)


def candidates(preset: Preset) -> dict[tuple[str, bool], Run]:
    """Each cell's run by (model, permuted), at the middle lr and the first seed; validated."""
    return {
        (model, permuted): at_seed(
            make_run(
                model=model,
                dataset=preset.dataset,
                subset=preset.subset,
                split=preset.split,
                epochs=preset.epochs,
                batch_size=preset.batch_size,
                lr=preset.lrs[len(preset.lrs) // 2],
            ),
            preset.seeds[0],
            permuted,
        )
        for model in preset.models
        for permuted in (False, True)
    }


def at_seed(run: Run, seed: int, permuted: bool) -> Run:
    """The run at a seed. The permutation has the seed's number and random numbers of its own."""
    return run.but(seed=seed, permute_seed=seed if permuted else None)


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The whole chapter: choose learning rates, then run the seeds, one seed of every cell before the next."""
    runs = candidates(preset)
    short = max(1, round(preset.epochs * preset.tuning_share))
    tuned = {
        (model, permuted): at_seed(run.but(epochs=short), TUNING_SEED, permuted)
        for (model, permuted), run in runs.items()
        if not (permuted and parse(model).is_mlp)
    }
    if len(preset.lrs) > 1:
        ensure([run for candidate in tuned.values() for run in grid_runs(candidate, preset.lrs)])  # all grids at once
    choices = {
        name: choose_lr(run, preset.lrs, ensure, widenings=WIDENINGS, share=short / preset.epochs)
        for name, run in tuned.items()
    }
    cells = []
    for (model, permuted), run in runs.items():
        is_mlp = parse(model).is_mlp
        choice = choices[model, permuted and not is_mlp]
        seeds = preset.seeds if is_mlp else preset.control_seeds
        cells.append(Cell(model, permuted, choice, tuple(at_seed(run.but(lr=choice.lr), s, permuted) for s in seeds)))
    longest = max(len(cell.runs) for cell in cells)
    by_seed = [cell.runs[i] for i in range(longest) for cell in cells if i < len(cell.runs)]
    frame = ensure(by_seed, train=all(choice.final for choice in choices.values()))
    frame["family"] = frame["model"].map(family_of)
    frame["augmented"] = False
    frame["permuted"] = frame["permute_seed"].notna()
    return Results(tuple(cells), frame)


STUDY = Study(
    name="rq1-permutation",
    title="A fixed permutation of the pixels: MLPs, a CNN, a ViT and a Mixer",
    page="rq1-permutation",
    presets=PRESETS,
    parameters=parameters.parameters_of(
        Preset, "dataset", "subset", "epochs", "batch_size", "lrs", "seeds", "control_seeds", model=str
    ),
    collect=collect,
    rules=RULES,
)
