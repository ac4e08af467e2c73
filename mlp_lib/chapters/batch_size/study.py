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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Any, NamedTuple

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.batch_size.rules import RULES
from mlp_lib.chapters.recipes import PAPER_AUGMENT, augment_for
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import Choice, Ensure, choose_lr, grid_runs, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import family_of
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run, make_run

THEORY = ("sharpness", "gradient_noise")
MLP, CNN, PLAIN_CNN, VIT = ARCHITECTURES = ("B-MLP", "CNN", "CNN without BatchNorm", "ViT")
JUDGED = (MLP, CNN)  # by the rule of claim 4, with `JUDGE` as optimiser, at equal epochs
JUDGE = "lion"  # the paper's
PAPER_LR = 5e-5

# The middle of a grid moves with the batch size B. In theory by B for SGD (Goyal et al. 2017) and by the root of B for
# optimisers that divide the gradient by its size (Malladi et al. 2022), as long as noise rules the steps, and not at
# all beyond. The exponents lie between, so that three points reach to either side.
EXPONENT = {"sgd": 0.5, "lion": 0.25, "adamw": 0.25}
# The middle at batch 256, from short trials on validation (CIFAR-10, 10,240 images, 3 epochs, one seed).
ANCHOR = {
    "lion": {MLP: 2e-4, CNN: 2e-3, PLAIN_CNN: 3e-3, VIT: 5e-4},
    "sgd": {MLP: 0.01, CNN: 0.2, PLAIN_CNN: 0.1, VIT: 0.1},
    "adamw": {MLP: 1e-3, CNN: 5e-3, PLAIN_CNN: 5e-3, VIT: 1e-3},
}
ANCHOR_BATCH = 256
GRID = (1 / 3, 1.0, 3.0)  # the three learning rates, as multiples of the middle


class Lines(NamedTuple):
    """Lines of the figure that are finished together: every batch size of these architectures."""

    optimizer: str
    budget: str  # epochs or steps; cosine: epochs, with a learning rate that falls to zero; beyond: epochs, other sizes
    architectures: tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """One size of the study. At `shared_batch`, equal epochs and equal steps are the same training."""

    dataset: str
    subset: int | None
    mlp: str
    cnn: str
    vit: str
    batch_sizes: tuple[int, ...]
    epochs: int
    shared_batch: int
    lines: tuple[Lines, ...]
    upstream: str
    upstream_subset: int | None
    upstream_epochs: tuple[int, ...]  # the last is the one at which the learning rate is tuned too
    target: str
    judged_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    seeds: tuple[int, ...] = (0, 1, 2)  # of every other cell
    sizes_beyond: tuple[int, ...] = ()  # batch sizes outside the judged ones, of the lines `BEYOND`

    @property
    def steps(self) -> int:
        """Updates at equal steps."""
        per_epoch = self.base(MLP).but(batch_size=self.shared_batch).steps_per_epoch
        return self.epochs * per_epoch

    def fields_of(self, architecture: str) -> dict[str, Any]:
        return {
            MLP: dict(model=self.mlp),
            CNN: dict(model=self.cnn),
            PLAIN_CNN: dict(model=self.cnn, norm="none"),
            VIT: dict(model=self.vit),
        }[architecture]

    def base(self, architecture: str) -> Run:
        """What all runs of an architecture share: no augmentation, constant lr, smoothing 0.3, no decay."""
        return make_run(
            dataset=self.dataset,
            subset=self.subset,
            epochs=self.epochs,
            batch_size=min(self.batch_sizes),
            **self.fields_of(architecture),
        )


EVERYWHERE = (Lines(JUDGE, "epochs", JUDGED), Lines(JUDGE, "epochs", (PLAIN_CNN, VIT)))
COSINE = Lines(JUDGE, "cosine", JUDGED)
BEYOND = Lines(JUDGE, "beyond", JUDGED)
PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=384,
        mlp="B-2/Wi-32",
        cnn="CNN-4",
        vit="ViT-32x1/4",
        batch_sizes=(32, 128),
        epochs=2,
        shared_batch=128,
        lines=(*EVERYWHERE, COSINE, BEYOND, Lines("lion", "steps", JUDGED), Lines("sgd", "epochs", (MLP,))),
        upstream="digits",
        upstream_subset=384,
        upstream_epochs=(1, 2),
        target="digits",
        judged_seeds=(0, 1),
        seeds=(0, 1),
        sizes_beyond=(384,),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=10_240,
        mlp="B-6/Wi-256",
        cnn="CNN-16",
        vit="ViT-64x2/8",
        batch_sizes=(64, 256, 1024),
        epochs=3,
        shared_batch=256,
        lines=(
            *EVERYWHERE,
            Lines("lion", "steps", ARCHITECTURES),
            Lines("sgd", "epochs", ARCHITECTURES),
            Lines("sgd", "steps", JUDGED),
        ),
        upstream="cifar100",
        upstream_subset=10_240,
        upstream_epochs=(3,),
        target="cifar10",
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=16_384,
        mlp="B-6/Wi-256",
        cnn="CNN-16",
        vit="ViT-64x2/8",
        batch_sizes=(64, 256, 1024, 4096),
        epochs=30,
        shared_batch=1024,
        lines=(
            *EVERYWHERE,
            COSINE,
            Lines("lion", "steps", JUDGED),
            BEYOND,
            # of all four architectures they would be more than a night
            Lines("sgd", "epochs", JUDGED),
            Lines("adamw", "epochs", JUDGED),
        ),
        upstream="cifar100",
        upstream_subset=16_384,
        upstream_epochs=(10, 30),
        target="cifar10",
        sizes_beyond=(32, 16_384),
    ),
    "gpu": Preset(
        dataset="cifar10",
        subset=32_768,
        mlp="B-6/Wi-1024",
        cnn="CNN-64",
        vit="ViT-192x6/8",
        batch_sizes=(32, 64, 256, 1024, 4096, 16_384),
        epochs=60,
        shared_batch=4096,
        lines=(
            *EVERYWHERE,
            COSINE,
            *(
                Lines(o, b, ARCHITECTURES)
                for o, b in (
                    ("lion", "steps"),
                    ("sgd", "epochs"),
                    ("adamw", "epochs"),
                    ("sgd", "steps"),
                    ("adamw", "steps"),
                )
            ),
        ),
        upstream="cifar100",
        upstream_subset=32_768,
        upstream_epochs=(20, 60),
        target="cifar10",
    ),
}


@dataclass(frozen=True)
class Cell:
    """An architecture, optimiser, budget and batch size with its learning rate and the runs of its seeds."""

    architecture: str
    optimizer: str
    budget: str  # that of its `Lines`; upstream: fixed or tuned
    batch_size: int
    choice: Choice
    runs: tuple[Run, ...]


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


def grid_of(optimizer: str, architecture: str, batch_size: int) -> tuple[float, ...]:
    """The learning rates that a cell tries first, rising; its middle scales with the batch size."""
    middle = ANCHOR[optimizer][architecture] * (batch_size / ANCHOR_BATCH) ** EXPONENT[optimizer]
    return tuple(float(f"{middle * multiple:.2g}") for multiple in GRID)


def at_equal_steps(run: Run, steps: int) -> Run:
    """The run at so many updates; in whole epochs where they are, so that one training has one key."""
    epochs, rest = divmod(steps, run.steps_per_epoch)
    return run.but(epochs=epochs, steps=None) if rest == 0 else run.but(epochs=None, steps=steps)


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
            if lines.budget == "cosine":
                run = run.but(schedule="cosine")
            theory = architecture in JUDGED and lines.optimizer == JUDGE and lines.budget != "cosine"
            measures = THEORY if theory else ()
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
    """Choose every candidate's lr, all grids in one call and all widened points in a second, then run the seeds."""
    gridded = [c for c in candidates if len(c.lrs) > 1]
    if gridded:
        ensure([run for c in gridded for run in grid_runs(c.run, c.lrs)])
        if beyond := _widened(gridded, ensure):
            ensure(beyond)
    cells = []
    for c in candidates:
        choice = choose_lr(c.run, c.lrs, ensure)
        runs = tuple(c.run.but(lr=choice.lr, seed=seed) for seed in c.seeds)
        cells.append(Cell(c.architecture, c.run.optimizer, c.budget, c.run.batch_size, choice, runs))
    ready = all(cell.choice.final for cell in cells)
    frames: dict[str, dict] = {}
    for measures, group in groupby(
        sorted(zip(candidates, cells, strict=True), key=lambda pair: pair[0].measures),
        key=lambda pair: pair[0].measures,
    ):
        by_seed = zip_longest(*(cell.runs for _, cell in group))
        asked = [run for runs in by_seed for run in runs if run is not None]
        frames |= {row["key"]: row for row in ensure(asked, train=ready, measures=measures).to_dict("records")}
    return [(cell, pd.DataFrame([frames[run.key] for run in cell.runs])) for cell in cells]


def _widened(candidates: Iterable[Candidate], ensure: Callable[..., pd.DataFrame]) -> list[Run]:
    """The points by which grids will be widened, found without training any: together they keep all cores busy."""
    wanted: list[Run] = []

    def reading(runs: list[Run]) -> pd.DataFrame:
        frame = ensure(runs, train=False)
        wanted.extend(run for run, status in zip(runs, frame["status"], strict=True) if status not in FINISHED)
        return frame

    for c in candidates:
        choose_lr(c.run, c.lrs, reading)
    return wanted


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
    resolved_by=resolve,
)
