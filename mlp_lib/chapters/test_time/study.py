"""RQ5: does averaging over random crops at test time help, and most where objects are not centred (claim 10)?

Cells: {S-MLP, B-MLP, CNN} on photographs, with the paper's augmentation and without any; and the B-MLP, trained with
flips and crops, on shapes in the middle of the picture and on shapes anywhere in it. A cell's learning rate is chosen
by three seeds at its full length. Every reported run is measured (`measures.test_crops`), those of the choices are not.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mlp_lib.chapters import parameters
from mlp_lib.chapters.recipes import WIDENINGS
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.test_time.first_screen import FIRST_SCREEN
from mlp_lib.chapters.test_time.presets import PRESETS, SHAPES, Preset
from mlp_lib.chapters.test_time.rules import MEASURE, RULES
from mlp_lib.chapters.tuning import Choice, Ensure, TunedResults, choose_lrs, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import family_of


class Cell(NamedTuple):
    """A model on a data set, without augmentation or with it, and the learning rate chosen there."""

    model: str
    dataset: str
    augment: str
    choice: Choice

    @property
    def family(self) -> str:
        return family_of(self.model)


@dataclass(frozen=True)
class Results(TunedResults):
    """What the chapter shows: its cells, and one row a reported run with `family` and `augmented`."""

    @property
    def sufficient(self) -> bool:
        """Complete, and with the measured seeds that the verdict's rule asks for."""
        return self.complete and RULES[10].enough_seeds(self.frame)


def resolve(preset: str, **changes: Any) -> Preset:
    """A preset with the chapter's other parameters put in; None changes nothing.

    Raises UserError for unknown names and for values with which no run can be made, and where the photographs would be
    the shapes that the chapter trains on anyway.
    """
    chosen = parameters.preset_with(PRESETS, preset, changes)
    if chosen.dataset in SHAPES:
        raise UserError(f"dataset={chosen.dataset!r}: the chapter trains on it anyway; name photographs, or shapes")
    collect(chosen, not_run)  # every run is made, and so validated, before anything is trained
    return chosen


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The whole chapter: choose learning rates, then run the seeds, one seed of every cell before the next."""
    candidates = preset.candidates()
    choices = choose_lrs(candidates, {key: preset.grid(key) for key in candidates}, ensure, widenings=WIDENINGS)
    longest = max(len(preset.seeds_of(key)) for key in candidates)
    runs = [
        run.but(lr=choices[key].lr, seed=preset.seeds_of(key)[at])
        for at in range(longest)
        for key, run in candidates.items()
        if at < len(preset.seeds_of(key))
    ]
    frame = ensure(runs, train=all(choice.final for choice in choices.values()), measures=(MEASURE,))
    frame["family"] = frame["model"].map(family_of)
    frame["augmented"] = frame["augment"] != "none"
    cells = tuple(Cell(key[0], key[1], run.augment, choices[key]) for key, run in candidates.items())
    return Results(cells, frame)


STUDY = Study(
    name="rq5-test-time",
    title="Does averaging over crops at test time help?",
    page="rq5-test-time",
    presets=PRESETS,
    parameters=parameters.parameters_of(
        Preset,
        "dataset",
        "subset",
        "steps",
        "batch_size",
        "shapes_subset",
        "shapes_steps",
        "shapes_batch_size",
        "lrs",
        "seeds",
        "control_seeds",
        model=str,
    ),
    collect=collect,
    rules=RULES,
    resolved_by=resolve,
    first_screen=FIRST_SCREEN,
)
