"""RQ2: does a larger batch make an MLP generalise better? (claim 4)

Cells: architecture x optimiser x batch size, at equal epochs (every run sees as many images) and at equal steps (every
run takes as many updates). Each cell's learning rate is chosen on validation at the full length of its own training,
then fresh seeds are run at the choice. Beside them the paper's own protocol: LION at one learning rate for all batch
sizes, on one data set, judged by a linear probe on another; and the same with the learning rate tuned per batch size.

Two things judge nothing, and were added when the verdict was known. Equal epochs once more with a cosine schedule: at a
constant learning rate small batches take many steps after their best one; a rate that falls to zero ends differently.
And equal epochs at batch sizes beyond the judged ones, as far as the paper's own range.

Lines of cells are finished in the order of `Preset.lines`, so that an interrupted study has whole lines. Subsets are
multiples of the batch sizes: no example is dropped, and equal epochs are equal numbers of examples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, NamedTuple

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.batch_size.choices import FIRST_SCREEN
from mlp_lib.chapters.batch_size.presets import (
    AT_THE_END,
    BEYOND,
    COSINE,
    JUDGE,
    JUDGED,
    MLP,
    PAPER_LR,
    PRESETS,
    Cell,
    Lines,
    Preset,
    at_equal_steps,
    grid_of,
)
from mlp_lib.chapters.batch_size.rules import RULE_CHANGES, RULES
from mlp_lib.chapters.recipes import PAPER_AUGMENT, augment_for
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import Choice, Ensure, choose_lr, grid_runs, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import family_of
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run, make_run

TRIAL = ["key", "lr", "seed", "status", "val_top1"]  # what a choice is made from


@dataclass(frozen=True)
class Results:
    """What the chapter shows. Frames have one row a run, with architecture, budget, family, augmented and `at_edge`;
    what stands at a learning rate that is not chosen yet counts as not run.

    `frame`: what the rule judges. `tuned`: every tuned cell, those of `frame` too. `probes`: the paper's protocol.
    """

    cells: tuple[Cell, ...]
    upstream_cells: tuple[Cell, ...]
    frame: pd.DataFrame
    tuned: pd.DataFrame
    probes: pd.DataFrame

    @property
    def complete(self) -> bool:
        """Every learning rate is chosen, and every run has ended."""
        return self.lines_complete and self.probes_complete

    @property
    def lines_complete(self) -> bool:
        """The same of every line of tuned cells."""
        return bool(self.tuned["status"].isin(FINISHED).all())

    @property
    def probes_complete(self) -> bool:
        """The same of the paper's protocol, fixed and tuned."""
        return bool(self.probes["status"].isin(FINISHED).all())

    @property
    def sufficient(self) -> bool:
        """What the rule judges is complete, with at least three seeds: the other lines may still be missing."""
        seeds = self.frame.groupby(["architecture", "batch_size"])["seed"].nunique()
        return bool(self.frame["status"].isin(FINISHED).all()) and bool((seeds >= 3).all())


def resolve(preset: str, **changes: Any) -> Preset:
    """A preset with a chapter's other parameters put in; None changes nothing.

    `model` replaces the B-MLP; `optimizers` keeps the lines of these, the judge's own always. Raises UserError for
    unknown names, for optimisers of which the preset has no line, and for values with which no run can be made.
    """
    model = changes.pop("model", None)
    changes["mlp"] = None if model is None else parameters.b_mlp(model)
    optimizers = changes.pop("optimizers", None)
    changes["judged_seeds"] = changes.get("seeds")
    chosen = parameters.preset_with(PRESETS, preset, changes)
    if any(changes.get(name) is not None for name in ("dataset", "subset", "batch_sizes")):
        chosen = replace(chosen, sizes_beyond=())  # they go with the preset's own numbers
    if len(chosen.batch_sizes) < 2:
        raise UserError(f"batch_sizes={list(chosen.batch_sizes)}: the chapter compares batch sizes; name at least two")
    chosen = _without_rest(chosen, given=changes.get("subset") is not None)
    if optimizers is not None:
        there = dict.fromkeys(some.optimizer for some in chosen.lines)
        for name in optimizers:
            chosen.base(MLP).but(optimizer=name)  # an unknown name is refused here
            if name not in there:
                raise UserError(f"optimizers: the preset {preset} has no lines of {name}; it has {', '.join(there)}")
        chosen = replace(chosen, lines=tuple(some for some in chosen.lines if some.optimizer in (JUDGE, *optimizers)))
    collect(chosen, not_run)  # every run is made, and so validated, before anything is trained
    return chosen


def _without_rest(preset: Preset, given: bool) -> Preset:
    """The preset with numbers of images that every batch size divides, so that none are dropped, and equal epochs are
    equally many images: rounded down, or refused where the reader has `given` the number."""
    multiple = math.lcm(*preset.batch_sizes)

    def rounded(run: Run, subset: int | None, name: str) -> int | None:
        rest = run.train_examples % multiple
        if rest == run.train_examples:
            raise UserError(
                f"batch_sizes={list(preset.batch_sizes)} divide multiples of {multiple:,} only, which is "
                f"more than {name} of {run.dataset}, {run.train_examples:,} images"
            )
        return run.train_examples - rest if rest else subset

    subset = rounded(preset.base(MLP), preset.subset, "the training part")
    if given and subset != preset.subset:
        raise UserError(
            f"subset={preset.subset} is no multiple of {multiple:,}, which all batch_sizes="
            f"{list(preset.batch_sizes)} divide: epochs would be unequal; give {subset}"
        )
    upstream = preset.base(MLP).but(dataset=preset.upstream, subset=preset.upstream_subset)
    return replace(preset, subset=subset, upstream_subset=rounded(upstream, preset.upstream_subset, "upstream"))


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The whole chapter, line by line: choose every cell's lr, then run its seeds, one seed of all before the next.

    `ensure(runs, train=True, measures=None)` gives one row a run; what it trains, and whether, is the caller's
    business. The paper's protocol comes after the lines of its optimiser.
    """
    done: list[tuple[Cell, pd.DataFrame]] = []
    upstream: list[tuple[Cell, pd.DataFrame]] = []
    for lines in sorted(preset.lines, key=lambda some: some.optimizer != JUDGE):
        if lines.optimizer != JUDGE and not upstream:
            upstream = _protocol(preset, ensure)
        done += _finished(_candidates(preset, lines), ensure)
    upstream = upstream or _protocol(preset, ensure)
    tuned = _frame(done)
    judged = tuned["architecture"].isin(JUDGED) & (tuned["optimizer"] == JUDGE) & (tuned["budget"] == "epochs")
    return Results(
        tuple(cell for cell, _ in done),
        tuple(cell for cell, _ in upstream),
        tuned[judged].reset_index(drop=True),
        tuned,
        _frame(upstream),
    )


class Candidate(NamedTuple):
    """A cell before its learning rate is chosen. A grid of one value fixes it."""

    architecture: str
    budget: str
    run: Run
    lrs: tuple[float, ...]
    seeds: Sequence[int]
    measures: tuple[str, ...]


def _candidates(preset: Preset, lines: Lines) -> list[Candidate]:
    found = []
    for architecture in lines.architectures:
        judged = architecture in JUDGED and lines.optimizer == JUDGE and lines.budget == "epochs"
        for batch_size in preset.sizes_beyond if lines.budget == BEYOND.budget else preset.batch_sizes:
            lrs = grid_of(lines.optimizer, architecture, batch_size)
            run = preset.base(architecture).but(batch_size=batch_size, optimizer=lines.optimizer, lr=lrs[1])
            if lines.budget == "steps":
                run = at_equal_steps(run, preset.steps)
            if lines.budget == COSINE.budget:
                run = run.but(schedule="cosine")
            measured = architecture in JUDGED and lines.optimizer == JUDGE and lines.budget != COSINE.budget
            measures = AT_THE_END if measured else ()
            seeds = preset.judged_seeds if judged else preset.seeds
            found.append(Candidate(architecture, lines.budget, run, lrs, seeds, measures))
    return found


def _protocol(preset: Preset, ensure: Ensure) -> list[tuple[Cell, pd.DataFrame]]:
    """LION and the paper's augmentation on `upstream`: at its one lr for every length, then tuned at the last."""
    fields = dict(
        dataset=preset.upstream,
        subset=preset.upstream_subset,
        lr=PAPER_LR,
        augment=augment_for(preset.upstream, PAPER_AUGMENT),
    )
    fixed, tuned = [], []
    for architecture in JUDGED:
        for batch_size in preset.batch_sizes:
            for epochs in preset.upstream_epochs:
                run = make_run(**fields, **preset.fields_of(architecture), batch_size=batch_size, epochs=epochs)
                one = Candidate(architecture, "fixed", run, (PAPER_LR,), preset.seeds, (f"probe_{preset.target}",))
                fixed.append(one)
            tuned.append(one._replace(budget="tuned", lrs=grid_of(JUDGE, architecture, batch_size)))
    return _finished(fixed, ensure) + _finished(tuned, ensure)


def _finished(candidates: list[Candidate], ensure: Ensure) -> list[tuple[Cell, pd.DataFrame]]:
    """Every candidate as a cell whose lr is chosen, with one row for each of its seeds."""
    cells = []
    for c, choice in zip(candidates, _chosen(candidates, ensure), strict=True):
        runs = tuple(c.run.but(lr=choice.lr, seed=seed) for seed in c.seeds)
        cells.append(Cell(c.architecture, c.run.optimizer, c.budget, c.run.batch_size, choice, runs))
    ready = all(cell.choice.final for cell in cells)
    rows: dict[str, dict] = {}
    for measures in sorted({c.measures for c in candidates}):
        own = [cell.runs for c, cell in zip(candidates, cells, strict=True) if c.measures == measures]
        one_seed_after_another = [run for runs in zip_longest(*own) for run in runs if run is not None]
        found = ensure(one_seed_after_another, train=ready, measures=measures)
        rows |= {row["key"]: row for row in found.to_dict("records")}
    return [(cell, pd.DataFrame([rows[run.key] for run in cell.runs])) for cell in cells]


def _chosen(candidates: list[Candidate], ensure: Ensure) -> list[Choice]:
    """The candidates' learning rates: all grids are asked for in one call, and all points by which they are widened in
    a second, since together they keep all cores busy. Each trial is asked for once."""
    known: dict[str, dict] = {}
    unknown: dict[str, Run] = {}

    def ask(runs: list[Run]) -> None:
        trials = ensure(runs) if runs else pd.DataFrame(columns=["key"])
        known.update({row["key"]: row for row in trials.filter(TRIAL).to_dict("records")})

    def remembered(runs: list[Run]) -> pd.DataFrame:
        unknown.update({run.key: run for run in runs if run.key not in known})
        bare = ({"key": run.key, "lr": run.lr, "seed": run.seed, "status": "not run"} for run in runs)
        return pd.DataFrame([known.get(row["key"], row) for row in bare])

    ask([run for c in candidates if len(c.lrs) > 1 for run in grid_runs(c.run, c.lrs)])
    choices = [choose_lr(c.run, c.lrs, remembered) for c in candidates]
    if not unknown:
        return choices
    ask([*unknown.values()])
    return [
        choice if choice.final else choose_lr(c.run, c.lrs, remembered)
        for c, choice in zip(candidates, choices, strict=True)
    ]


def _frame(done: list[tuple[Cell, pd.DataFrame]]) -> pd.DataFrame:
    """One row a run, cells told apart; an open choice's rows say that nothing was run at the lr to be chosen."""
    frames = []
    for cell, rows in done:
        rows = rows.assign(architecture=cell.architecture, budget=cell.budget, at_edge=cell.choice.at_edge)
        frames.append(rows if cell.choice.final else rows.assign(status="not run"))
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(family=frame["model"].map(family_of), augmented=frame["augment"] != "none")


STUDY = Study(
    name="rq2-batch-size",
    title="Batch size and SGD's implicit bias: MLP, CNN and ViT at tuned learning rates",
    page="rq2-batch-size",
    presets=PRESETS,
    parameters=parameters.parameters_of(
        Preset,
        "dataset",
        "subset",
        "batch_sizes",
        "epochs",
        "shared_batch",
        "seeds",
        model=str,
        optimizers=tuple[str, ...],
    ),
    collect=collect,
    rules=RULES,
    rule_changes=RULE_CHANGES,
    resolved_by=resolve,
    first_screen=FIRST_SCREEN,
    flags_told_in="batch-flags",
)
