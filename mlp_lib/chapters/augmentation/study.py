"""RQ2: what augmentation is worth: in points, in training examples, in first-layer weights.

Every run of a preset takes the same number of steps, of the same batch: a model's cells differ in the images behind the
steps, in what is done to them and in the learning rate, of which there is one without augmentation and one with it; a
few of the B-MLP's in label smoothing; in nothing else. So an augmentation can be compared with more images at equal
compute.

Cells: each model at `subset` images with none, flip, crop, both, MixUp, all; without augmentation at `sizes` images,
which is the curve that equivalent training examples are read from; with all of it at `augmented_sizes`; and the B-MLP
at other label smoothings. Learning rates are chosen at `subset` images, once without augmentation, which holds for
every number of images, and once with all of it, which holds for its parts too.

A control beside the cells judges nothing: at the most images, MLPs without augmentation at the rate chosen with it, and
with it at the rate chosen without, so that first layers can be compared at one learning rate.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.augmentation.rules import RULES
from mlp_lib.chapters.recipes import PAPER_AUGMENT, augment_for
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import Choice, Ensure, choose_lr, ended, grid_runs, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import family_of
from mlp_lib.records.frames import measures_of
from mlp_lib.records.run import Run, make_run

MEASURES = ("first_layer_spread",)
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


@dataclass(frozen=True)
class Preset:
    """One size of the study. `lrs` of one value fixes the lr."""

    dataset: str
    subset: int
    sizes: tuple[int, ...]  # numbers of images for the curve without augmentation, besides `subset`
    augmented_sizes: tuple[int, ...]  # the same with all of the augmentation
    augmented_families: tuple[str, ...]  # of the models that are trained at those
    models: tuple[str, ...]
    steps: int
    batch_size: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    smoothing: tuple[float, ...] = (0.0, 0.1)  # besides SMOOTHING, for the B-MLP
    shifted_families: tuple[str, ...] = ("B-MLP", "CNN")  # whose test images are moved as well
    control_families: tuple[str, ...] = ("S-MLP", "B-MLP")  # whose first layers are compared at one lr as well,
    control_seeds: int = 3  # with the first of the seeds
    tuning_share: float = 1 / 3


EVERY_FAMILY = ("S-MLP", "B-MLP", "CNN", "ViT")
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
        lrs=(3e-3,),
        seeds=(0, 1),
        smoothing=(0.0,),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=2000,
        sizes=(500, 4000, 8000, 32_000),
        augmented_sizes=(500, 32_000),
        augmented_families=("S-MLP", "B-MLP"),
        models=("S-6/Wi-256", "B-6/Wi-256", "CNN-16", "ViT-32x4/8"),
        steps=1000,
        batch_size=100,
        lrs=(1e-4, 3e-4, 1e-3),
        seeds=(0, 1, 2),
        control_families=("B-MLP",),
        control_seeds=2,  # what 25 minutes have room for
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=10_000,
        sizes=(500, 2000, 5000, 20_000, 45_000),
        augmented_sizes=(500, 45_000),
        augmented_families=EVERY_FAMILY,
        models=("S-6/Wi-256", "B-6/Wi-256", "CNN-16", "ViT-32x4/8"),
        steps=5000,
        batch_size=200,
        lrs=(3e-5, 1e-4, 3e-4, 1e-3),
        seeds=(0, 1, 2, 3, 4),
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
        lrs=(1.5e-5, 5e-5, 1.5e-4, 5e-4),
        seeds=(0, 1, 2, 3, 4),
    ),
}


class Cell(NamedTuple):
    """A model with no or all augmentation at the preset's `subset`, and the learning rate chosen there."""

    model: str
    augment: str
    choice: Choice


class Asked(NamedTuple):
    """A run and what is to be measured on it."""

    run: Run
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """What the chapter shows. `frame` has one row a run, with `family`, `augmented`, `augmentation` (a name of PARTS)
    and, for MLPs, `radius`, `entropy`, `initial_radius`, `initial_entropy` of the first layer. `subset`: the number of
    images at which augmentations are compared. `control`: the same columns of the runs that judge nothing, which are
    in no row of `frame`; none where an MLP's two learning rates are one."""

    cells: tuple[Cell, ...]
    frame: pd.DataFrame
    subset: int
    control: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def complete(self) -> bool:
        """Every learning rate is chosen, and every run has ended, those of the control too."""
        return ended(self.cells, self.frame) and (self.control.empty or ended((), self.control))

    @property
    def sufficient(self) -> bool:
        """Every learning rate is chosen and every run has ended, with at least three seeds of every cell, and the first
        layer of every MLP measured. The control, which judges nothing, does not count."""
        cells = self.frame.groupby(["model", "augmentation", "train_examples", "label_smoothing"])["seed"].nunique()
        mlps = self.frame[self.frame["family"].str.endswith("MLP") & (self.frame["status"] == "ok")]
        judged = ended(self.cells, self.frame)
        return judged and bool((cells >= 3).all()) and bool(mlps["radius"].notna().all())

    @property
    def usual(self) -> pd.DataFrame:
        """The rows at the paper's label smoothing: everything but the runs that vary it."""
        return self.frame[self.frame["label_smoothing"] == SMOOTHING]

    @property
    def compared(self) -> pd.DataFrame:
        """The rows at which augmentations are compared: one number of images, the paper's label smoothing."""
        return self.usual[self.usual["train_examples"] == self.subset]


def resolve(preset: str, **changes: Any) -> Preset:
    """A preset with the chapter's other parameters put in; None changes nothing.

    `model` replaces the B-MLP. Another data set keeps the preset's numbers of images. Raises UserError for unknown
    names and for values with which no run can be made.
    """
    if preset in PRESETS:
        changes["subset"] = PRESETS[preset].subset if changes.get("subset") is None else changes["subset"]
    chosen = parameters.preset_with(PRESETS, preset, changes)
    if {*chosen.sizes} <= {chosen.subset}:
        raise UserError(
            f"sizes={list(chosen.sizes)}: a curve over the number of images needs two; "
            f"name another than subset={chosen.subset}"
        )
    collect(chosen, not_run)  # every run is made, and so validated, before anything is trained
    return chosen


def parts_of(dataset: str) -> dict[str, str]:
    """The augmentations that are compared on a data set, by name: those of grey images are without flips, since a
    mirrored digit is another sign."""
    found = {name: augment_for(dataset, parts) for name, parts in PARTS.items()}
    if found[ALL] == PAPER_AUGMENT:
        return found
    return {name: found[name] for name in PARTS if "flip" not in name}


def candidates(preset: Preset) -> dict[tuple[str, str], Run]:
    """Each model with no and with all augmentation, at the middle lr and the first seed, by (model, name of PARTS)."""
    parts = parts_of(preset.dataset)
    return {
        (model, name): make_run(
            model=model,
            dataset=preset.dataset,
            subset=preset.subset,
            augment=parts[name],
            steps=preset.steps,
            batch_size=preset.batch_size,
            lr=preset.lrs[len(preset.lrs) // 2],
            label_smoothing=SMOOTHING,
            seed=preset.seeds[0],
        )
        for name in (NONE, ALL)
        for model in preset.models
    }


def asked(preset: Preset, lrs: dict[tuple[str, str], float]) -> list[Asked]:
    """Every run that the chapter reports, one seed of everything before the next, with what is measured on it."""
    parts, base, found = parts_of(preset.dataset), candidates(preset), []

    def cell(model: str, name: str, seed: int, **changes: Any) -> None:
        tuned = NONE if name == NONE else ALL
        run = base[model, tuned].but(augment=parts[name], lr=lrs[model, tuned], seed=seed, **changes)
        found.append(Asked(run, _measures(preset, run, name)))

    for seed in preset.seeds:
        for model in preset.models:
            family = family_of(model)
            for name in parts:
                cell(model, name, seed)
            for size in sorted({*preset.sizes} - {preset.subset}):
                cell(model, NONE, seed, subset=size)
            if family in preset.augmented_families:
                for size in sorted({*preset.augmented_sizes} - {preset.subset}):
                    cell(model, ALL, seed, subset=size)
            for smoothing in preset.smoothing if family == "B-MLP" else ():
                for name in (NONE, ALL):
                    cell(model, name, seed, label_smoothing=smoothing)
    return found


def control(preset: Preset, lrs: dict[tuple[str, str], float]) -> list[Run]:
    """The first-layer cells at the most images that both have, each at the lr that was chosen for the other: with the
    cells themselves, no and all augmentation at one learning rate, twice. None where the two rates are one."""
    base, parts, found = candidates(preset), parts_of(preset.dataset), []
    for seed in preset.seeds[: preset.control_seeds]:
        for model in preset.models:
            family, both = family_of(model), {preset.subset}
            if family in preset.augmented_families:
                both |= {*preset.sizes} & {*preset.augmented_sizes}
            if family in preset.control_families and lrs[model, NONE] != lrs[model, ALL]:
                for name, other in ((NONE, ALL), (ALL, NONE)):
                    run = base[model, name].but(augment=parts[name], lr=lrs[model, other], seed=seed, subset=max(both))
                    found.append(run)
    return found


def _measures(preset: Preset, run: Run, name: str) -> tuple[str, ...]:
    """Statistics of every MLP's first layer; its pictures, which are large, where a figure shows them; test images that
    are moved, which take long, where a figure compares them."""
    family, wanted = family_of(run.model), list(MEASURES)
    if name not in (NONE, ALL) or run.label_smoothing != SMOOTHING:
        return MEASURES
    at_base = run.train_examples == preset.subset
    if family == "B-MLP" and run.seed == preset.seeds[0] and (at_base or run.train_examples in preset.augmented_sizes):
        wanted += ["first_layer"] + ["first_layer_initial"] * (at_base and name == NONE)
    if family in preset.shifted_families and at_base:
        wanted.append("translated")
    return tuple(wanted)


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The whole chapter: choose learning rates, then train the cells, and the control last. Runs at an lr that is not
    final are asked for with train=False; like the widening of a grid, the control is not foreseen until then."""
    steps = max(1, round(preset.steps * preset.tuning_share))
    short = {key: run.but(steps=steps) for key, run in candidates(preset).items()}

    def unmeasured(runs: list[Run], train: bool = True) -> pd.DataFrame:
        return ensure(runs, train=train, measures=())

    if len(preset.lrs) > 1:
        unmeasured([run for candidate in short.values() for run in grid_runs(candidate, preset.lrs)])  # all at once
    choices = {key: choose_lr(run, preset.lrs, unmeasured) for key, run in short.items()}
    lrs = {key: choice.lr for key, choice in choices.items()}
    wanted, beside = asked(preset, lrs), control(preset, lrs)
    by_measures: dict[tuple[str, ...], list[Run]] = {}
    for run, measures in wanted:
        by_measures.setdefault(measures, []).append(run)
    final, rows = all(choice.final for choice in choices.values()), {}
    for measures, runs in by_measures.items():
        rows |= {row["key"]: row for row in ensure(runs, train=final, measures=measures).to_dict("records")}
    parts = parts_of(preset.dataset)
    frame = _frame([rows[run.key] for run, _ in wanted], parts)
    others = ensure(beside, train=final, measures=MEASURES).to_dict("records") if beside else []
    cells = tuple(Cell(model, short[model, name].augment, choice) for (model, name), choice in choices.items())
    return Results(cells, frame, preset.subset, _frame(others, parts) if others else frame.iloc[:0])


def _frame(rows: list[dict[str, Any]], parts: dict[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    names = {augment: name for name, augment in parts.items()}
    frame["family"] = frame["model"].map(family_of)
    frame["augmented"] = frame["augment"] != "none"
    frame["augmentation"] = frame["augment"].map(names)
    spread = [measures_of(row).get("first_layer_spread", {}) for row in rows]
    for column in ("radius", "entropy", "initial_radius", "initial_entropy"):
        frame[column] = [float(values.get(f"{column}_mean", "nan")) for values in spread]
    return frame


STUDY = Study(
    name="rq2-augmentation",
    title="The role of augmentation: what it is worth in points, in examples and in first-layer weights",
    page="rq2-augmentation",
    presets=PRESETS,
    parameters=parameters.parameters_of(
        Preset, "dataset", "subset", "sizes", "augmented_sizes", "steps", "batch_size", "lrs", "seeds", model=str
    ),
    collect=collect,
    measures=MEASURES,
    rules=RULES,
    resolved_by=resolve,
)
