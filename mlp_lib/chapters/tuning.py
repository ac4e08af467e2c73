"""Choice of the learning rate, the same for every study: on validation, by a printed grid that is widened at an edge.

Runs of a choice have seeds of their own and are never compared on test: the seeds that a chapter reports are fresh.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from mlp_lib.chapters.parameters import TUNING_SEED, TUNING_SEEDS
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import row_of
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run
from mlp_lib.stats.intervals import Estimate, paired_difference, sign

FACTOR = 3.0  # between neighbours of a grid, and of each step by which a grid is widened
DIP = 1.0  # points of validation top-1: a rate lower than both sides by more makes a second peak
LEAST_SEEDS = 3  # behind a choice on which a conclusion may rest

K = TypeVar("K", bound=Hashable)
Ensure = Callable[..., pd.DataFrame]  # (runs, train=True, measures=None) -> one row a run; see sweeps.ensure


def not_run(runs: list[Run], train: bool = True, measures: tuple[str, ...] | None = None) -> pd.DataFrame:
    """An `ensure` that has no records and trains nothing: `collect` with it makes, and so validates, every run."""
    return pd.DataFrame([row_of(run, None) for run in runs])


@dataclass(frozen=True)
class Choice:
    """A tuned learning rate. `final` is False while runs of the grid are missing: nothing may be trained with it.

    `grid` has a row a rate: lr, val_top1 (mean over seeds), status, key (of the first seed). `trials` has a row a
    training: lr, seed, val_top1. `share` is the part of the compared training's length that the trials had.
    """

    lr: float
    at_edge: bool
    final: bool
    grid: pd.DataFrame
    trials: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["lr", "seed", "val_top1"]))
    share: float = 1.0

    @property
    def given(self) -> bool:
        """The recipe fixes the rate: nothing was chosen."""
        return bool((self.grid["status"] == "given").all())

    @property
    def seeds(self) -> int:
        """How many seeds every rate of the grid was tried with."""
        counts = self.trials.dropna(subset=["val_top1"]).groupby("lr")["seed"].nunique()
        return int(counts.min()) if len(counts) else 0

    @property
    def flags(self) -> tuple[str, ...]:
        """Why no conclusion may rest on this choice: empty for a choice that is sound, or given."""
        if self.given:
            return ()
        if not self.final:
            return ("the choice is not finished",)
        found = []
        if self.at_edge:
            found.append("at an edge of its grid")
        if self.seeds < LEAST_SEEDS:
            found.append("chosen by one seed" if self.seeds == 1 else f"chosen by {self.seeds} seeds")
        if self.share < 1:
            found.append(f"chosen at {self.share:.0%} of the training")
        if peaks(self.grid) > 1:
            found.append("its grid has two peaks")
        return tuple(found)

    def by_seed(self, lr: float) -> pd.Series:
        """Validation top-1 at a rate of the grid, by tuning seed; diverged runs count as 0."""
        rows = self.trials[self.trials["lr"] == lr].dropna(subset=["val_top1"])
        return with_runs(rows.set_index("seed")["val_top1"].astype(float), rows)

    @property
    def around(self) -> list[float]:
        """The chosen rate and its neighbours in the grid, rising."""
        lrs = sorted(self.grid["lr"])
        at = lrs.index(self.lr) if self.lr in lrs else 0
        return lrs[max(0, at - 1) : at + 2]


def peaks(grid: pd.DataFrame) -> int:
    """How many peaks validation top-1 has over the learning rates; a dip counts from `DIP` points on either side."""
    scores = grid.sort_values("lr")["val_top1"].astype(float).tolist()
    found, lowest = 1, scores[0] if scores else 0.0
    highest = lowest
    falling = False
    for score in scores[1:]:
        if falling:
            lowest = min(lowest, score)
            if score > lowest + DIP:
                found, falling, highest = found + 1, False, score
        else:
            highest = max(highest, score)
            if score < highest - DIP:
                falling, lowest = True, score
    return found


def at_neighbours(first: Choice, second: Choice) -> dict[str, Estimate]:
    """Validation top-1 of one cell minus another's, paired by tuning seed: at the chosen rates, and with either rate
    moved to its neighbours in the grid. By a text that names the two rates; n < 2 where a rate had one seed."""
    return contrast_at_neighbours((1, first), (-1, second))


def contrast_at_neighbours(*terms: tuple[float, Choice]) -> dict[str, Estimate]:
    """A weighted sum of cells' validation top-1, paired by tuning seed: first at the chosen rates, then with each rate
    in turn moved to its neighbours in the grid. By a text that names the rates in the order of the terms."""
    chosen = [choice.lr for _, choice in terms]
    moved = [
        [*chosen[:i], lr, *chosen[i + 1 :]]
        for i, (_, choice) in enumerate(terms)
        for lr in choice.around
        if lr != choice.lr
    ]
    zero = pd.Series(0.0, index=TUNING_SEEDS)
    found = {}
    for lrs in (chosen, *moved):
        tried = [choice.by_seed(lr) for (_, choice), lr in zip(terms, lrs, strict=True)]
        sums = sum(weight * values for (weight, _), values in zip(terms, tried, strict=True))
        found[", ".join(f"{lr:.3g}" for lr in lrs)] = paired_difference(sums, zero).of_runs(*tried)
    return found


def at_either_neighbour(estimates: Mapping[str, Estimate]) -> str:
    """What `contrast_at_neighbours` found beside the chosen rates, for a table: "1.2 to 4.5; sign kept at 3 of 4".

    The sign is kept where the interval lies on the chosen estimate's side of 0. Empty where nothing was tried.
    """
    chosen, *others = estimates.values()
    tried = [estimate for estimate in others if estimate.n]
    if not tried:
        return ""
    means = [estimate.mean for estimate in tried]
    kept = sum(sign(estimate) * chosen.mean > 0 for estimate in tried)
    return f"{min(means):.1f} to {max(means):.1f}; sign kept at {kept} of {len(tried)}"


def flagged(choices: Mapping[K, Choice]) -> dict[K, tuple[str, ...]]:
    """The choices on which no conclusion may rest, each with why. Empty where all are sound."""
    return {key: choice.flags for key, choice in choices.items() if choice.flags}


def keeps_its_sign(first: Choice, second: Choice) -> bool:
    """Whether the difference of `at_neighbours` lies on one side of 0, interval and all, at all of these rates."""
    signs = {sign(estimate) for estimate in at_neighbours(first, second).values()}
    return len(signs) == 1 and signs != {0}


def choose_lr(
    candidate: Run,
    lrs: Sequence[float],
    ensure: Ensure,
    *,
    seeds: Sequence[int] = (TUNING_SEED,),
    widenings: int = 1,
    share: float = 1.0,
) -> Choice:
    """The learning rate of the best mean validation top-1 over `seeds`. A single lr is taken as it is.

    candidate: the run to tune, at any lr. A diverged run counts as 0. When the best lies at an edge, the grid gets one
    more point beyond it, at most `widenings` times; if the last is best again, `at_edge` says so. `share`: the part of
    the compared training's length that the candidate has.
    """
    if len(lrs) == 1:
        return Choice(lrs[0], False, True, pd.DataFrame({"lr": lrs, "val_top1": None, "status": "given"}))
    lrs = sorted(lrs)
    best = lrs[len(lrs) // 2]
    for widened in range(widenings + 1):
        trials = _trials(candidate, lrs, seeds, ensure)
        grid = _grid(trials)
        if not _complete(grid):
            return Choice(best, bool(widened), False, grid, trials, share)
        best = _best(grid)
        if best not in (lrs[0], lrs[-1]) or widened == widenings:
            break
        extra = lrs[0] / FACTOR if best == lrs[0] else lrs[-1] * FACTOR
        lrs = sorted([*lrs, float(f"{extra:.3g}")])
    return Choice(best, best in (lrs[0], lrs[-1]), True, grid, trials, share)


def choose_lrs(
    candidates: Mapping[K, Run], grids: Mapping[K, Sequence[float]], ensure: Ensure, *, widenings: int = 4
) -> dict[K, Choice]:
    """The learning rate of many cells at the full length of their training, with three seeds each (`TUNING_SEEDS`).

    All grids are asked for in one call of `ensure`, and all points by which they are widened in another, as often as
    it takes: together they keep all cores busy. By the candidates' keys.
    """
    first = [run for key, run in candidates.items() if len(grids[key]) > 1 for run in _runs(run, grids[key])]
    if first:
        ensure(first)

    def chosen(ensure: Ensure) -> dict[K, Choice]:
        return {
            key: choose_lr(run, grids[key], ensure, seeds=TUNING_SEEDS, widenings=widenings)
            for key, run in candidates.items()
        }

    for _ in range(widenings):
        wanted: list[Run] = []

        def reading(runs: list[Run], wanted: list[Run] = wanted) -> pd.DataFrame:
            frame = ensure(runs, train=False)
            open_ = [run for run, status in zip(runs, frame["status"], strict=True) if status not in FINISHED]
            wanted.extend(open_)
            return frame

        found = chosen(reading)
        if not wanted:
            return found
        if {run.key for run in wanted} & {run.key for run in first}:
            break
        ensure(wanted)
    return chosen(ensure)


def _runs(candidate: Run, lrs: Sequence[float]) -> list[Run]:
    return [run for seed in TUNING_SEEDS for run in grid_runs(candidate, lrs, seed)]


def ended(choices: Iterable[Choice], *frames: pd.DataFrame) -> bool:
    """Is every choice final, and has every run of these frames ended?"""
    return all(choice.final for choice in choices) and all(frame["status"].isin(FINISHED).all() for frame in frames)


@dataclass(frozen=True)
class TunedResults:
    """What a chapter with a learning rate a cell shows: its cells, each with a `choice`, and one row a run. A chapter's
    own `Results` say what the frame's columns are, and what is `sufficient`."""

    cells: tuple[Any, ...]
    frame: pd.DataFrame

    @property
    def complete(self) -> bool:
        """Every learning rate is chosen, and every run has ended."""
        return ended((cell.choice for cell in self.cells), self.frame)


def grid_runs(candidate: Run, lrs: Sequence[float], seed: int = TUNING_SEED) -> list[Run]:
    """The runs from which an lr is chosen: the candidate at each lr, with a tuning seed and a validation part."""
    return [candidate.but(lr=lr, seed=seed, split="holdout") for lr in lrs]


def _trials(candidate: Run, lrs: Sequence[float], seeds: Sequence[int], ensure: Ensure) -> pd.DataFrame:
    frame = ensure([run for seed in seeds for run in grid_runs(candidate, lrs, seed)])
    score = frame["val_top1"] if "val_top1" in frame else pd.Series(float("nan"), frame.index)
    chance = 0.0  # a diverged run loses to every run that learnt anything
    score = score.where(frame["status"] != "diverged", chance)
    return frame[["lr", "seed", "status", "key"]].assign(val_top1=score)


def _grid(trials: pd.DataFrame) -> pd.DataFrame:
    """A row a rate: the mean of its seeds, and the worst of their statuses."""
    by_rate: dict[float, list[tuple[str, str, float]]] = {}
    for lr, *trial in zip(*(trials[name].tolist() for name in ("lr", "status", "key", "val_top1")), strict=True):
        by_rate.setdefault(lr, []).append(tuple(trial))
    rows = []
    for lr, own in sorted(by_rate.items()):
        statuses, keys, scores = zip(*own, strict=True)
        status = next((one for one in statuses if one not in FINISHED), statuses[0])
        rows.append({"lr": lr, "val_top1": np.mean(scores), "status": status, "key": keys[0]})
    return pd.DataFrame(rows)


def _complete(grid: pd.DataFrame) -> bool:
    return bool(grid["status"].isin(FINISHED).all())


def _best(grid: pd.DataFrame) -> float:
    return float(grid.loc[grid["val_top1"].idxmax(), "lr"])
