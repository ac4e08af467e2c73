"""RQ2: what augmentation is worth: in points, in training examples, in first-layer weights.

Every run of a preset takes the same number of steps, of the same batch: a model's cells differ in the images behind the
steps, in what is done to them and in the learning rate, of which there is one without augmentation and one with it; a
few of the B-MLP's in label smoothing; in nothing else. So an augmentation can be compared with more images at equal
compute.

Cells: each model at `subset` images with the `parts` of the augmentation; without augmentation at `sizes` images, which
is the curve that equivalent training examples are read from; with all of it at `augmented_sizes`; and the B-MLP at
other label smoothings. Learning rates are chosen at `subset` images and the full number of steps, with three seeds:
once without augmentation, which holds for every number of images, and once with all of it, which holds for its parts.

A control beside the cells judges nothing: MLPs without augmentation and with it at the most images that both have, at
the neighbours of the chosen rate, at the rate chosen for the other side, and beyond, until the best lies inside. It
says which rate would be chosen there, and lets first layers be compared at one learning rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.augmentation.first_screen import FIRST_SCREEN
from mlp_lib.chapters.augmentation.presets import ALL, NONE, PRESETS, SMOOTHING, Preset
from mlp_lib.chapters.augmentation.rules import RULE_CHANGES, RULES
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import Choice, Ensure, TunedResults, choose_lr, choose_lrs, ended, grid_runs, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import MLPS, family_of
from mlp_lib.records.frames import measures_of
from mlp_lib.records.run import Run, make_run

MEASURES = ("first_layer_spread",)

Key = tuple[str, str]  # model, and NONE or ALL: what has a learning rate of its own


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
class Results(TunedResults):
    """What the chapter shows. `frame` has one row a run, with `family`, `augmented`, `augmentation` (a name of PARTS)
    and the columns of `FIRST_LAYER`. `subset`: the number of images at which augmentations are compared. `control`: the
    same columns of the runs that judge nothing, which are in no row of `frame`; none where every rate is given.
    `at_most`: by model and side, the rate that would be chosen at the most images, from those runs and the frame's."""

    subset: int
    control: pd.DataFrame = field(default_factory=pd.DataFrame)
    at_most: Mapping[Key, Choice] = field(default_factory=dict)

    @property
    def choices(self) -> dict[Key, Choice]:
        """The choice of the learning rate by model and side: `NONE`, or `ALL`, whose parts take the same rate."""
        return {(cell.model, NONE if cell.augment == "none" else ALL): cell.choice for cell in self.cells}

    @property
    def complete(self) -> bool:
        """Every learning rate is chosen, and every run has ended, those of the control too."""
        return super().complete and (self.control.empty or ended((), self.control))

    @property
    def sufficient(self) -> bool:
        """Every learning rate is chosen and every run has ended, with at least three seeds of every cell, and the first
        layer of every MLP measured. The control, which judges nothing, does not count."""
        cells = self.frame.groupby(["model", "augmentation", "train_examples", "label_smoothing"])["seed"].nunique()
        mlps = self.frame[self.frame["family"].str.endswith("MLP") & (self.frame["status"] == "ok")]
        return super().complete and bool((cells >= 3).all()) and bool(mlps["radius"].notna().all())

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


def candidates(preset: Preset) -> dict[Key, Run]:
    """Each model with no and with all augmentation, at the middle lr and the first seed, by (model, name of PARTS)."""
    parts = preset.augmentations

    def candidate(model: str, name: str) -> Run:
        lrs = preset.grid(family_of(model), name)
        return make_run(
            model=model,
            dataset=preset.dataset,
            subset=preset.subset,
            augment=parts[name],
            steps=preset.steps,
            batch_size=preset.batch_size,
            lr=lrs[len(lrs) // 2],
            label_smoothing=SMOOTHING,
            seed=preset.seeds[0],
        )

    return {(model, name): candidate(model, name) for name in (NONE, ALL) for model in preset.models}


def asked(preset: Preset, lrs: Mapping[Key, float]) -> list[Asked]:
    """Every run that the chapter reports, one seed of everything before the next, with what is measured on it."""
    parts, base, found = preset.augmentations, candidates(preset), []

    def cell(model: str, name: str, seed: int, **changes: Any) -> None:
        tuned = NONE if name == NONE else ALL
        run = base[model, tuned].but(augment=parts[name], lr=lrs[model, tuned], seed=seed, **changes)
        found.append(Asked(run, _measures(preset, run, name)))

    for at, seed in enumerate(preset.seeds):
        aside = at < preset.side_seeds
        for model in preset.models:
            for name in parts if aside else (NONE, ALL):
                cell(model, name, seed)
            for size in preset.sizes_of(model):
                cell(model, NONE, seed, subset=size)
            for size in preset.augmented_sizes_of(model):
                cell(model, ALL, seed, subset=size)
            for smoothing in preset.smoothing if family_of(model) == "B-MLP" and aside else ():
                for name in (NONE, ALL):
                    cell(model, name, seed, label_smoothing=smoothing)
    return found


def control(
    preset: Preset, choices: Mapping[tuple[str, str], Choice]
) -> dict[tuple[str, str], tuple[Run, list[float]]]:
    """By model and side, a run at the most images that both sides have, and the learning rates of the control there:
    the chosen one, its neighbours, and the one chosen for the other side."""
    base, found = candidates(preset), {}
    for model in (model for model in preset.models if family_of(model) in preset.control_families):
        most = max(preset.both_sides(model))
        for name, other in ((NONE, ALL), (ALL, NONE)):
            own = choices[model, name]
            run = base[model, name].but(lr=own.lr, subset=most)
            found[model, name] = run, sorted({*own.around, choices[model, other].lr})
    return found


def _measures(preset: Preset, run: Run, name: str) -> tuple[str, ...]:
    """Statistics of every MLP's first layer, and of its change where claim 12 compares it; its pictures, which are
    large, where a figure shows them; test images that are moved, which take long, where a figure compares them."""
    family, wanted = family_of(run.model), list(MEASURES)
    if name not in (NONE, ALL) or run.label_smoothing != SMOOTHING:
        return MEASURES
    at_base, both = run.train_examples == preset.subset, preset.both_sides(run.model)
    if family in MLPS and run.train_examples in both:
        wanted.append("first_layer_change")
    if family == "B-MLP" and run.seed == preset.seeds[0] and run.train_examples in both:
        wanted += ["first_layer"] + ["first_layer_initial"] * (at_base and name == NONE)
    if family in preset.shifted_families and at_base:
        wanted.append("translated")
    return tuple(wanted)


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The whole chapter: choose learning rates, then train the cells, and the control last. Runs at an lr that is not
    final are asked for with train=False; like the widening of a grid, other rates of the control are not foreseen."""
    tuned = candidates(preset)

    def unmeasured(runs: list[Run], train: bool = True) -> pd.DataFrame:
        return ensure(runs, train=train, measures=())

    grids = {(model, name): preset.grid(family_of(model), name) for model, name in tuned}
    choices = choose_lrs(tuned, grids, unmeasured)
    wanted = asked(preset, {key: choice.lr for key, choice in choices.items()})
    by_measures: dict[tuple[str, ...], list[Run]] = {}
    for run, measures in wanted:
        by_measures.setdefault(measures, []).append(run)
    final, rows = all(choice.final for choice in choices.values()), {}
    for measures, runs in by_measures.items():
        rows |= {row["key"]: row for row in ensure(runs, train=final, measures=measures).to_dict("records")}
    others: dict[str, dict[str, Any]] = {}

    def beside(runs: list[Run]) -> pd.DataFrame:
        found = ensure(runs, train=final, measures=MEASURES)
        others.update({row["key"]: row for row in found.to_dict("records") if row["key"] not in rows})
        return found

    seeds, tried = preset.seeds[: preset.control_seeds], control(preset, choices)
    first = [run for seed in seeds for run, lrs in tried.values() if len(lrs) > 1 for run in grid_runs(run, lrs, seed)]
    if first:
        beside(first)  # all at once: together they keep all cores busy
    at_most = {key: choose_lr(run, lrs, beside, seeds=seeds, widenings=2) for key, (run, lrs) in tried.items()}
    names = {augment: name for name, augment in preset.augmentations.items()}
    frame = _frame([rows[run.key] for run, _ in wanted], names)
    cells = tuple(Cell(model, tuned[model, name].augment, choice) for (model, name), choice in choices.items())
    extra = _frame(list(others.values()), names) if others else frame.iloc[:0]
    return Results(cells, frame, preset.subset, extra, at_most)


# Columns of a frame, of the measure and the number there; of MLPs that were measured, nan of others. All but `moved`
# are means over units, 1 for weights that are spread evenly; `change_*` and `moved` are of the weights minus the
# initial ones.
FIRST_LAYER = {
    "radius": ("first_layer_spread", "radius_mean"),
    "entropy": ("first_layer_spread", "entropy_mean"),
    "initial_radius": ("first_layer_spread", "initial_radius_mean"),
    "initial_entropy": ("first_layer_spread", "initial_entropy_mean"),
    "change_radius": ("first_layer_change", "radius_mean"),
    "change_entropy": ("first_layer_change", "entropy_mean"),
    "moved": ("first_layer_change", "moved"),
}


def _frame(rows: list[dict[str, Any]], names: dict[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame["family"] = frame["model"].map(family_of)
    frame["augmented"] = frame["augment"] != "none"
    frame["augmentation"] = frame["augment"].map(names)
    found = [measures_of(row) for row in rows]
    for column, (measure, value) in FIRST_LAYER.items():
        frame[column] = [float(measures.get(measure, {}).get(value, "nan")) for measures in found]
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
    rule_changes=RULE_CHANGES,
    resolved_by=resolve,
    first_screen=FIRST_SCREEN,
)
