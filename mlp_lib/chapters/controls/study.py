"""RQ1, the controls: every family on the same images, each tuned by the same number of trials.

The search, one coordinate after the other. Stage 1: each optimiser at each of its learning rates, with the mild
augmentation that is usual on CIFAR (flips, and shifts by an eighth of the side). Stage 2: no augmentation, and the
paper's, with the chosen optimiser at the chosen lr and at a third of it. These are as many trials for every family.
Stage 3 is only for a family whose best trial has the lowest or the highest lr that was tried with its optimiser and
augmentation: one more trial beyond it, at most `WIDENINGS` times, until the best lies inside. A trial has a third of
the epochs, on three quarters of the images in the laptop preset, and a seed of its own; then fresh seeds are run at
the choice. Label smoothing 0.3, a constant lr and no weight decay for all, so that one long run gives every shorter
training length.

Planned on two CPU cores, from nothing (`costs.planned_seconds`): laptop 24 min, overnight 7.0 h, of which 2.8 h are
the ResNet18. gpu is 1.6e17 FLOPs in all, its most expensive run (a ResNet18) 8.9e15: 10 minutes at 15 TFLOP/s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from mlp_lib.chapters import parameters
from mlp_lib.chapters.recipes import PAPER_AUGMENT, RESNET18, WIDENINGS, augment_for
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.tuning import FACTOR, TUNING_SEED, Ensure, not_run, peaks
from mlp_lib.datasets import facts
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import family_of, parse
from mlp_lib.records.frames import row_of
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run, make_run

MILD_AUGMENT = "flip+pad"
GRIDS = (("lion", (1e-4, 3e-4, 1e-3)), ("adamw", (3e-4, 1e-3, 3e-3)), ("sgd", (0.01, 0.03, 0.1)))

Fields = tuple[tuple[str, Any], ...]  # of a run: hashable, so that presets are constants


class Family(NamedTuple):
    """One line of the comparison: a model with its options, under the name that tables and figures give it."""

    label: str
    model: str
    options: Fields = ()


def label_of(model: str, norm: str | None = None) -> str:
    """What tables and figures call a model: its family, and whether its normalisation is taken out."""
    return family_of(model) + (" without norm" if norm == "none" else "")


def family(model: str, **options: Any) -> Family:
    return Family(label_of(model, options.get("norm")), model, tuple(options.items()))


@dataclass(frozen=True)
class Preset:
    """One size of the study. `tuning_share` and `tuning_images` are a trial's shares of the epochs and of the images.

    `given` holds controls that are not searched but come with a recipe of their own, as run fields: one seed each.
    """

    dataset: str
    subset: int | None
    families: tuple[Family, ...]
    epochs: int
    batch_size: int
    seeds: tuple[int, ...]
    grids: tuple[tuple[str, tuple[float, ...]], ...] = GRIDS
    tuning_share: float = 1 / 3
    tuning_images: float = 1.0
    given: tuple[Fields, ...] = ()


SMALL = (
    family("S-6/Wi-256"),
    family("B-6/Wi-256"),
    family("CNN-16"),
    family("CNN-16", norm="none"),
    family("ViT-64x4/8"),
    family("Mixer-64x4/8"),
)
SHORT_RESNET18 = (*RESNET18, ("subset", 10_000), ("epochs", 30))  # the laptop preset's images and epochs

PRESETS = {
    "smoke": Preset(
        dataset="digits",
        subset=300,
        epochs=6,
        batch_size=32,
        seeds=(0, 1),
        families=(
            family("S-2/Wi-32"),
            family("B-2/Wi-32"),
            family("CNN-4"),
            family("CNN-4", norm="none"),
            family("ViT-32x1/4"),
            family("Mixer-16x1/4"),
        ),
    ),
    "laptop": Preset(
        dataset="cifar10",
        subset=10_000,
        families=SMALL,
        epochs=30,
        batch_size=256,
        seeds=(0, 1, 2),
        tuning_images=0.75,
    ),
    "overnight": Preset(
        dataset="cifar10",
        subset=None,
        families=SMALL,
        epochs=60,
        batch_size=256,
        seeds=(0, 1, 2),
        given=(SHORT_RESNET18,),
    ),
    "gpu": Preset(
        dataset="cifar10",
        subset=None,
        epochs=60,
        batch_size=256,
        seeds=(0, 1, 2),
        families=(
            family("S-6/Wi-1024"),
            family("B-6/Wi-1024"),
            family("ResNet18"),
            family("CNN-64"),
            family("ViT-Ti/4"),
            family("Mixer-224x12/4"),  # the multiply-adds and parameters of the ViT, nearly
        ),
    ),
}


@dataclass(frozen=True)
class Search:
    """What was tried for one family, and its choice. `final` is False while trials are missing: the choice is then a
    guess to plan with. `at_edge`: no lower or no higher lr was tried with its optimiser and augmentation.
    """

    optimizer: str
    lr: float
    augment: str
    at_edge: bool
    final: bool
    asked: int  # trials of the first two stages, as many for every family
    share: float  # of the compared training's length that a trial has
    trials: pd.DataFrame  # stage, optimizer, lr, augment, val_top1, status, key

    @property
    def done(self) -> int:
        return int(self.trials["status"].isin(FINISHED).sum())

    @property
    def beyond(self) -> int:
        """How many trials were added because the best lay at an edge."""
        return int((self.trials["stage"] == 3).sum())

    @property
    def rates(self) -> pd.DataFrame:
        """The trials with the chosen optimiser and augmentation, by rising lr."""
        same = (self.trials["optimizer"] == self.optimizer) & (self.trials["augment"] == self.augment)
        return self.trials[same].sort_values("lr")

    @property
    def flags(self) -> tuple[str, ...]:
        """Why no conclusion may rest on this choice alone."""
        if not self.final:
            return ("the search is not finished",)
        found = ["at an edge of its grid"] if self.at_edge else []
        found.append("chosen by one seed")
        if self.share < 1:
            found.append(f"chosen at {self.share:.0%} of the training")
        if peaks(self.rates) > 1:
            found.append("its grid has two peaks")
        return tuple(found)


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


def base_run(preset: Preset, member: Family) -> Run:
    """A family's final run at the first seed, before anything is chosen for it."""
    optimizer, lrs = preset.grids[0]
    return make_run(
        model=member.model,
        **dict(member.options),
        dataset=preset.dataset,
        subset=preset.subset,
        epochs=preset.epochs,
        batch_size=preset.batch_size,
        seed=preset.seeds[0],
        optimizer=optimizer,
        lr=lrs[len(lrs) // 2],
    )


def first_stage(preset: Preset, base: Run) -> list[Run]:
    """Every optimiser at every lr of its grid, with the mild augmentation."""
    return [_trial(preset, base, kind, lr, MILD_AUGMENT) for kind, lrs in preset.grids for lr in lrs]


def second_stage(preset: Preset, base: Run, optimizer: str, lr: float) -> list[Run]:
    """No augmentation and the paper's, at the lr and at a third of it: strong augmentation may ask for another."""
    lrs = (lr, float(f"{lr / FACTOR:.3g}"))
    return [_trial(preset, base, optimizer, one, augment) for augment in ("none", PAPER_AUGMENT) for one in lrs]


def third_stage(preset: Preset, base: Run, trials: pd.DataFrame) -> Run | None:
    """One trial beyond the lr of the best, where that is the lowest or the highest tried with its optimiser and
    augmentation; None where it lies inside, and for a grid of one lr, which was not to be searched."""
    best = _best(trials)
    if not _at_edge(preset, trials, best):
        return None
    same = (trials["optimizer"] == best.optimizer) & (trials["augment"] == best.augment)
    lowest = best.lr == trials.loc[same, "lr"].min()
    lr = best.lr / FACTOR if lowest else best.lr * FACTOR
    return _trial(preset, base, best.optimizer, float(f"{lr:.3g}"), best.augment)


def _at_edge(preset: Preset, trials: pd.DataFrame, best) -> bool:
    lrs = trials.loc[(trials["optimizer"] == best.optimizer) & (trials["augment"] == best.augment), "lr"]
    return len(dict(preset.grids)[best.optimizer]) > 1 and not lrs.min() < best.lr < lrs.max()


def _trial(preset: Preset, base: Run, optimizer: str, lr: float, augment: str) -> Run:
    return base.but(
        optimizer=optimizer,
        lr=lr,
        **_augmentation(preset.dataset, augment),
        seed=TUNING_SEED,
        epochs=max(1, round(preset.epochs * preset.tuning_share)),
        subset=round(preset.tuning_images * base.train_examples),
    )


def _augmentation(dataset: str, augment: str) -> dict[str, Any]:
    """Run fields; digits are not mirrored, and shifts are an eighth of the side: 4 pixels of 32."""
    shifts = {"pad": max(1, facts(dataset).resolution // 8)} if "pad" in augment.split("+") else {}
    return {"augment": augment_for(dataset, augment), **shifts}


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The whole chapter: the stages of every family's search, then the seeds, one seed of all before the next.

    `ensure(runs, train=True)` gives one row a run; what it trains, and whether, is the caller's business. Runs that
    rest on an unfinished search are asked for with train=False and stay "not run", even where such a run happens to
    be on record: a guess is nobody's choice.
    """
    bases = [base_run(preset, member) for member in preset.families]
    firsts = _together([first_stage(preset, base) for base in bases], ensure)
    ready = [bool(frame["status"].isin(FINISHED).all()) for frame in firsts]
    leads = [_best(frame) if done else base for frame, done, base in zip(firsts, ready, bases, strict=True)]
    second = [second_stage(preset, base, lead.optimizer, lead.lr) for base, lead in zip(bases, leads, strict=True)]
    seconds = _together(second, ensure, train=all(ready))
    tried = [
        pd.concat([first.assign(stage=1), *([follow.assign(stage=2)] if done else [])], ignore_index=True)
        for first, follow, done in zip(firsts, seconds, ready, strict=True)
    ]
    asked = [len(first) + len(follow) for first, follow in zip(firsts, seconds, strict=True)]
    tried = _widened(preset, bases, tried, asked, ensure)
    cells = []
    for member, base, trials, count in zip(preset.families, bases, tried, asked, strict=True):
        search = _search(preset, trials, count)
        best = base.but(optimizer=search.optimizer, lr=search.lr, **_augmentation(preset.dataset, search.augment))
        cells.append(Cell(member.label, member.model, search, tuple(best.but(seed=seed) for seed in preset.seeds)))
    for fields in preset.given:
        run = make_run(dataset=preset.dataset, seed=preset.seeds[0], **dict(fields))
        cells.append(Cell(label_of(run.model, run.norm), run.model, None, (run,)))
    return Results(tuple(cells), _finals(preset, cells, ensure))


def _widened(
    preset: Preset, bases: list[Run], tried: list[pd.DataFrame], asked: list[int], ensure: Ensure
) -> list[pd.DataFrame]:
    """The trials of every family, with those of the third stage: one step of all families that need it at a time."""
    for _ in range(WIDENINGS):
        ended = [len(t) >= n and bool(t["status"].isin(FINISHED).all()) for t, n in zip(tried, asked, strict=True)]
        more = [
            third_stage(preset, base, trials) if done else None
            for base, trials, done in zip(bases, tried, ended, strict=True)
        ]
        if not any(more):
            break
        found = _together([[run] if run else [] for run in more], ensure)
        tried = [
            pd.concat([old, new.assign(stage=3)], ignore_index=True) if len(new) else old
            for old, new in zip(tried, found, strict=True)
        ]
    return tried


def _together(groups: Sequence[list[Run]], ensure: Ensure, train: bool = True) -> list[pd.DataFrame]:
    """One call for all groups, which fills every core; a frame a group."""
    frame = ensure([run for group in groups for run in group], train=train)
    ends = pd.Series([len(group) for group in groups]).cumsum()
    return [frame.iloc[end - len(group) : end] for group, end in zip(groups, ends, strict=True)]


def _best(trials: pd.DataFrame):
    """The row with the best validation top-1, the first of equals; a diverged trial loses to any that learnt."""
    score = trials["val_top1"] if "val_top1" in trials else pd.Series(float("nan"), trials.index)
    return trials.loc[score.where(trials["status"] != "diverged", 0.0).idxmax()]


def _search(preset: Preset, trials: pd.DataFrame, asked: int) -> Search:
    columns = ["stage", "optimizer", "lr", "augment", "val_top1", "status", "key"]
    trials = trials.reindex(columns=columns)
    if len(trials) < asked or not trials["status"].isin(FINISHED).all():
        optimizer, lrs = preset.grids[0]
        guess = optimizer, lrs[len(lrs) // 2], MILD_AUGMENT
        return Search(*guess, False, False, asked, preset.tuning_share, trials)
    best = _best(trials)
    edge = _at_edge(preset, trials, best)
    return Search(best.optimizer, float(best.lr), best.augment, edge, True, asked, preset.tuning_share, trials)


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
