"""RQ1: what each ingredient of the B-MLP and of its recipe is worth (claim 13).

Conditions: the default (GELU, skips, inverted bottleneck, LayerNorm before each block; LION, label smoothing 0.3), and
each ingredient changed alone. All take as many steps on the same images, and cost the same FLOPs: the plain block
without a bottleneck gets the width that makes it so. Every condition has a learning rate of its own, chosen at the full
length by three seeds; fresh seeds are compared. Skips are taken away at the default's depth and at twice that.

    python -m mlp_lib study rq1-ablations --preset laptop
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.ablations.conditions import (
    CONDITIONS,
    GELU,
    INGREDIENTS,
    PAPER_DECAY,
    SLIGHT,
    SMALL_DECAY,
    STRONG,
    Preset,
)
from mlp_lib.chapters.ablations.rules import RULES, SEEDS
from mlp_lib.chapters.recipes import PAPER_AUGMENT, WIDENINGS
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.study import Study, resolved
from mlp_lib.chapters.tuning import Choice, Ensure, TunedResults, choose_lrs
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import family_of
from mlp_lib.records.run import Run

PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=300,
        model="B-2/Wi-32",
        epochs=3,
        batch_size=30,
        lrs=(1e-3,),
        adamw_lrs=(3e-3,),
        sgd_lrs=(0.1,),
        decay=3.0,
        seeds=(0, 1, 2),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=4_000,
        model="B-6/Wi-128",
        epochs=12,
        batch_size=100,
        lrs=(1e-4, 3e-4, 1e-3),
        adamw_lrs=(3e-4, 1e-3, 3e-3),
        sgd_lrs=(0.007, 0.02, 0.06),
        decay=3.0,
        seeds=tuple(range(5)),
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=20_000,
        model="B-6/Wi-128",
        epochs=12,
        batch_size=100,
        lrs=(1e-4, 3e-4, 1e-3),
        adamw_lrs=(3e-4, 1e-3, 3e-3),
        sgd_lrs=(0.007, 0.02, 0.06),
        decay=1.0,
        seeds=tuple(range(8)),
        measures=("probe_cifar100",),
    ),
    "gpu": Preset(
        dataset="cifar10",
        subset=None,
        model="B-6/Wi-1024",
        epochs=100,
        batch_size=512,
        lrs=(3e-5, 1e-4, 3e-4),
        adamw_lrs=(1e-4, 3e-4, 1e-3),
        sgd_lrs=(0.01, 0.03, 0.1),
        decay=1.0,
        seeds=tuple(range(5)),
        measures=("probe_cifar100",),
        augment=PAPER_AUGMENT,
    ),
}


@dataclass(frozen=True)
class Cell:
    """A condition, its learning rate and its seeds' runs."""

    condition: str
    choice: Choice
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Results(TunedResults):
    """What the chapter shows: its cells, and one row a run with `family`, `augmented` and `condition`. What stands at a
    learning rate that is not chosen yet counts as not run."""

    @property
    def sufficient(self) -> bool:
        """Complete, and with the seeds that the verdict's rules ask for."""
        return self.complete and all(len(cell.runs) >= SEEDS for cell in self.cells)

    def choices(self, *conditions: str) -> list[Choice]:
        """How the learning rates of these conditions were chosen; of all without any."""
        return [cell.choice for cell in self.cells if not conditions or cell.condition in conditions]


def resolve(preset: str, **changes: Any) -> Preset:
    """A preset with a reader's changes put in; None changes nothing. Raises UserError for unknown names, for a model
    that is no B-MLP, for a weight decay that another condition has, and for values with which no run can be made."""
    if changes.get("model") is not None:
        changes["model"] = parameters.b_mlp(changes["model"])
    if changes.get("decay") in (0, PAPER_DECAY):
        raise UserError(f"decay={changes['decay']:g} is what another condition has; give a stronger weight decay")
    return resolved(PRESETS, collect, preset, changes)


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The whole chapter: choose every condition's learning rate, then run the seeds, one seed of every condition before
    the next. Measures are taken of the reported runs alone."""
    candidates = {name: condition.run(preset) for name, condition in CONDITIONS.items()}
    grids = {name: preset.grid(run.optimizer) for name, run in candidates.items()}
    choices = choose_lrs(candidates, grids, ensure, widenings=WIDENINGS)
    cells = tuple(
        Cell(name, choices[name], tuple(run.but(lr=choices[name].lr, seed=seed) for seed in preset.seeds))
        for name, run in candidates.items()
    )
    final = all(choice.final for choice in choices.values())
    ordered = [(cell, cell.runs[i]) for i in range(len(preset.seeds)) for cell in cells]
    frame = ensure([run for _, run in ordered], train=final, measures=preset.measures)
    frame["family"] = frame["model"].map(family_of)
    frame["augmented"] = frame["augment"] != "none"
    frame["condition"] = [cell.condition for cell, _ in ordered]
    open_ = [not cell.choice.final for cell, _ in ordered]
    frame["status"] = frame["status"].mask(pd.Series(open_, frame.index), "not run")
    return Results(cells, frame)


def choices_of(*names: str) -> Callable[[Results], list[Choice]]:
    """How the learning rates of both sides of these ingredients were chosen."""
    conditions = {condition for name in names for condition in INGREDIENTS[name]}
    return lambda shown: shown.results.choices(*conditions) if conditions else []


# On which choices of a learning rate each value on the page's first screen rests.
FIRST_SCREEN: dict[str, Callable[[Shown], Sequence[Choice]]] = {
    "ablations-claim-13": choices_of(*STRONG),
    "ablations-beside": choices_of(*STRONG, *SLIGHT),
    "ablations-tie": choices_of(GELU),
    "ablations-shift": choices_of(SMALL_DECAY),
    "ablations-kept": choices_of(*INGREDIENTS),
    "ablations-scale": choices_of(),  # what the study sets, not what it finds
}

STUDY = Study(
    name="rq1-ablations",
    title="Ablations: what each ingredient of the B-MLP is worth",
    page="rq1-ablations",
    presets=PRESETS,
    parameters=parameters.parameters_of(
        Preset, "dataset", "subset", "model", "epochs", "batch_size", "lrs", "adamw_lrs", "sgd_lrs", "decay", "seeds"
    ),
    collect=collect,
    rules=RULES,
    resolved_by=resolve,
    first_screen=FIRST_SCREEN,
)
