"""Choice of the learning rate, the same for every study: on validation, by a printed grid, widened once at an edge.

Runs of a choice have their own seed and are never compared on test: the seeds that a chapter reports are fresh.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from mlp_lib.chapters.parameters import TUNING_SEED
from mlp_lib.records.frames import row_of
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run

FACTOR = 3.0  # between neighbours of a grid, and of the one step by which a grid is widened

Ensure = Callable[..., pd.DataFrame]  # (runs, train=True, measures=None) -> one row a run; see ensure.ensure


def not_run(runs: list[Run], train: bool = True, measures: tuple[str, ...] | None = None) -> pd.DataFrame:
    """An `ensure` that has no records and trains nothing: `collect` with it makes, and so validates, every run."""
    return pd.DataFrame([row_of(run, None) for run in runs])


@dataclass(frozen=True)
class Choice:
    """A tuned learning rate. `final` is False while runs of the grid are missing: nothing may be trained with it."""

    lr: float
    at_edge: bool
    final: bool
    grid: pd.DataFrame  # lr, val_top1, status: what the choice was made from


def choose_lr(candidate: Run, lrs: Sequence[float], ensure: Ensure) -> Choice:
    """The lr of the best validation top-1. `candidate` is the run to tune, at any lr; diverged counts as chance.

    When the best lies at an edge, the grid gets one more point beyond it, once; if that is best again, `at_edge` says
    so. A single lr is taken as it is: the recipe fixes it.
    """
    if len(lrs) == 1:
        return Choice(lrs[0], False, True, pd.DataFrame({"lr": lrs, "val_top1": None, "status": "given"}))
    lrs = sorted(lrs)
    grid = _grid(candidate, lrs, ensure)
    if not _complete(grid):
        return Choice(lrs[len(lrs) // 2], False, False, grid)
    best = _best(grid)
    if best in (lrs[0], lrs[-1]):
        extra = lrs[0] / FACTOR if best == lrs[0] else lrs[-1] * FACTOR
        lrs = sorted([*lrs, float(f"{extra:.3g}")])
        grid = _grid(candidate, lrs, ensure)
        if not _complete(grid):
            return Choice(best, True, False, grid)
        best = _best(grid)
    return Choice(best, best in (lrs[0], lrs[-1]), True, grid)


def ended(cells: Iterable, frame: pd.DataFrame) -> bool:
    """Is the `choice` of every cell final, and has every run of the frame ended?"""
    return all(cell.choice.final for cell in cells) and bool(frame["status"].isin(FINISHED).all())


def grid_runs(candidate: Run, lrs: Sequence[float]) -> list[Run]:
    """The runs from which an lr is chosen: the candidate at each lr, with the tuning seed and a validation part."""
    return [candidate.but(lr=lr, seed=TUNING_SEED, split="holdout") for lr in lrs]


def _grid(candidate: Run, lrs: Sequence[float], ensure: Ensure) -> pd.DataFrame:
    frame = ensure(grid_runs(candidate, lrs))
    score = frame["val_top1"] if "val_top1" in frame else pd.Series(float("nan"), frame.index)
    chance = 0.0  # a diverged run loses to every run that learnt anything
    score = score.where(frame["status"] != "diverged", chance)
    return pd.DataFrame({"lr": frame["lr"], "val_top1": score, "status": frame["status"], "key": frame["key"]})


def _complete(grid: pd.DataFrame) -> bool:
    return bool(grid["status"].isin(FINISHED).all())


def _best(grid: pd.DataFrame) -> float:
    return float(grid.loc[grid["val_top1"].idxmax(), "lr"])
