"""RQ1, the controls: every family on the same images, each tuned by the same number of trials.

The search, one coordinate after the other. Stage 1: each optimiser at each of its learning rates, with the mild
augmentation that is usual on CIFAR (flips, and shifts by an eighth of the side). Stage 2: no augmentation, and the
paper's, with the chosen optimiser at the chosen lr and at a third of it. These are as many trials for every family.
Stage 3 is only for a family whose best trial has the lowest or the highest lr that was tried with its optimiser and
augmentation: one more trial beyond it, at most four times, until the best lies inside. A trial has a third of
the epochs, on three quarters of the images in the laptop preset, and a seed of its own; then fresh seeds are run at
the choice. Label smoothing 0.3, a constant lr and no weight decay for all, so that one long run gives every shorter
training length.

Planned on two CPU cores, from nothing (`costs.planned_seconds`): laptop 24 min, overnight 7.0 h, of which 2.8 h are
the ResNet18. gpu is 1.6e17 FLOPs in all, its most expensive run (a ResNet18) 8.9e15: 10 minutes at 15 TFLOP/s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.controls import search
from mlp_lib.chapters.controls.presets import PRESETS, Preset, base_run, family, label_of
from mlp_lib.chapters.controls.search import Search
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import Ensure, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import parse
from mlp_lib.records.frames import row_of
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run, make_run


@dataclass(frozen=True)
class Cell:
    """A family, its search (None where the recipe is given), and its seeds' runs."""

    family: str
    model: str
    search: Search | None
    runs: tuple[Run, ...]

    @property
    def final(self) -> bool:
        return self.search is None or self.search.final


@dataclass(frozen=True)
class Results:
    """What the chapter shows: its cells, and one row a run with `family`, `augmented`, `searched`, `chosen` (False:
    the search is unfinished and the row's settings are a guess), `at_edge` and `trials` (done, behind the choice)."""

    cells: tuple[Cell, ...]
    frame: pd.DataFrame

    @property
    def complete(self) -> bool:
        """Every search is finished, and every run has ended."""
        return all(cell.final for cell in self.cells) and bool(self.frame["status"].isin(FINISHED).all())

    @property
    def sufficient(self) -> bool:
        """Every searched family is complete with at least three seeds; a given control may still be missing."""
        searched = self.frame[self.frame["searched"]]
        seeds = searched.groupby("family")["seed"].nunique()
        final = all(cell.final for cell in self.cells)
        return final and bool(searched["status"].isin(FINISHED).all()) and bool((seeds >= 3).all())


def resolve(preset: str, **changes: Any) -> Preset:
    """A preset with the chapter's other parameters put in; None changes nothing.

    `model` takes the place of the preset's MLP of the same kind. Controls with a recipe of their own belong to the
    preset as it stands: with any change but of the seeds they are left out. Raises UserError for unknown names and for
    values with which no run can be made.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    model = changes.pop("model", None)
    chosen = parameters.preset_with(PRESETS, preset, changes)
    if model is not None:
        if not parse(model).is_mlp:
            raise UserError(f"model={model!r} is no MLP; name one, for example B-6/Wi-128 (the controls stay)")
        own = family(model)
        chosen = replace(chosen, families=tuple(own if f.label == own.label else f for f in chosen.families))
    if model is not None or set(changes) - {"seeds"}:
        chosen = replace(chosen, given=())
    collect(chosen, not_run)  # every run is made, and so validated, before anything is trained
    return chosen


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The whole chapter: the stages of every family's search, then the seeds, one seed of all before the next.

    `ensure(runs, train=True)` gives one row a run; what it trains, and whether, is the caller's business. Runs that
    rest on an unfinished search are asked for with train=False and stay "not run", even where such a run happens to
    be on record: a guess is nobody's choice.
    """
    bases = [base_run(preset, member) for member in preset.families]
    firsts = search.together([search.first_stage(preset, base) for base in bases], ensure)
    ready = [bool(frame["status"].isin(FINISHED).all()) for frame in firsts]
    leads = [search.best_trial(frame) if done else base for frame, done, base in zip(firsts, ready, bases, strict=True)]
    second = [
        search.second_stage(preset, base, lead.optimizer, lead.lr) for base, lead in zip(bases, leads, strict=True)
    ]
    seconds = search.together(second, ensure, train=all(ready))
    tried = [
        pd.concat([first.assign(stage=1), *([follow.assign(stage=2)] if done else [])], ignore_index=True)
        for first, follow, done in zip(firsts, seconds, ready, strict=True)
    ]
    asked = [len(first) + len(follow) for first, follow in zip(firsts, seconds, strict=True)]
    tried = search.widened(preset, bases, tried, asked, ensure)
    cells = []
    for member, base, trials, count in zip(preset.families, bases, tried, asked, strict=True):
        found = search.search_of(preset, trials, count)
        best = base.but(optimizer=found.optimizer, lr=found.lr, **search.augmentation(preset.dataset, found.augment))
        cells.append(Cell(member.label, member.model, found, tuple(best.but(seed=seed) for seed in preset.seeds)))
    for fields in preset.given:
        run = make_run(dataset=preset.dataset, seed=preset.seeds[0], **dict(fields))
        cells.append(Cell(label_of(run.model, run.norm), run.model, None, (run,)))
    return Results(tuple(cells), _finals(preset, cells, ensure))


def _finals(preset: Preset, cells: Sequence[Cell], ensure: Ensure) -> pd.DataFrame:
    asked = [(cell, cell.runs[i]) for i in range(len(preset.seeds)) for cell in cells if i < len(cell.runs)]
    found = ensure([run for _, run in asked], train=all(cell.final for cell in cells)).to_dict("records")
    rows = [
        (row if cell.final else row_of(run, None))
        | {
            "family": cell.family,
            "augmented": run.augment != "none",
            "searched": cell.search is not None,
            "chosen": cell.final,
            "at_edge": cell.search is not None and cell.search.at_edge,
            "trials": cell.search.done if cell.search else 0,
        }
        for (cell, run), row in zip(asked, found, strict=True)
    ]
    return pd.DataFrame(rows)


STUDY = Study(
    name="rq1-controls",
    title="Every family, tuned by the same budget",
    page="rq1-controls",
    presets=PRESETS,
    parameters=parameters.parameters_of(Preset, "dataset", "subset", "epochs", "batch_size", "seeds", model=str),
    collect=collect,
    resolved_by=resolve,
)
