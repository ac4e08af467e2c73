"""The search of the controls chapter: the trials of one family, stage by stage, and what they choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mlp_lib.chapters.controls.presets import Preset
from mlp_lib.chapters.recipes import PAPER_AUGMENT, WIDENINGS, augment_for
from mlp_lib.chapters.tuning import FACTOR, TUNING_SEED, Ensure, peaks
from mlp_lib.datasets import facts
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run

MILD_AUGMENT = "flip+pad"


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
    best = best_trial(trials)
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
        **augmentation(preset.dataset, augment),
        seed=TUNING_SEED,
        epochs=max(1, round(preset.epochs * preset.tuning_share)),
        subset=round(preset.tuning_images * base.train_examples),
    )


def augmentation(dataset: str, augment: str) -> dict[str, Any]:
    """Run fields; digits are not mirrored, and shifts are an eighth of the side: 4 pixels of 32."""
    shifts = {"pad": max(1, facts(dataset).resolution // 8)} if "pad" in augment.split("+") else {}
    return {"augment": augment_for(dataset, augment), **shifts}


def widened(
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
        found = together([[run] if run else [] for run in more], ensure)
        tried = [
            pd.concat([old, new.assign(stage=3)], ignore_index=True) if len(new) else old
            for old, new in zip(tried, found, strict=True)
        ]
    return tried


def together(groups: Sequence[list[Run]], ensure: Ensure, train: bool = True) -> list[pd.DataFrame]:
    """One call for all groups, which fills every core; a frame a group."""
    frame = ensure([run for group in groups for run in group], train=train)
    ends = pd.Series([len(group) for group in groups]).cumsum()
    return [frame.iloc[end - len(group) : end] for group, end in zip(groups, ends, strict=True)]


def best_trial(trials: pd.DataFrame):
    """The row with the best validation top-1, the first of equals; a diverged trial loses to any that learnt."""
    score = trials["val_top1"] if "val_top1" in trials else pd.Series(float("nan"), trials.index)
    return trials.loc[score.where(trials["status"] != "diverged", 0.0).idxmax()]


def search_of(preset: Preset, trials: pd.DataFrame, asked: int) -> Search:
    columns = ["stage", "optimizer", "lr", "augment", "val_top1", "status", "key"]
    trials = trials.reindex(columns=columns)
    if len(trials) < asked or not trials["status"].isin(FINISHED).all():
        optimizer, lrs = preset.grids[0]
        guess = optimizer, lrs[len(lrs) // 2], MILD_AUGMENT
        return Search(*guess, False, False, asked, preset.tuning_share, trials)
    best = best_trial(trials)
    edge = _at_edge(preset, trials, best)
    return Search(best.optimizer, float(best.lr), best.augment, edge, True, asked, preset.tuning_share, trials)
