"""The paper's Table 1 beside the runs of rq1-from-scratch: what is repeated, what is not. No torch, no training.

Words for sentences are made here, so that they say what the records say, also where nothing has run.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlp_lib.plots.tables import papers_top1
from mlp_lib.records.frames import compute_so_far
from mlp_lib.records.record import FINISHED
from mlp_lib.stats.intervals import Estimate, at_best_of_others, paired_difference, sign, t_interval

PAPERS_WIDTH = 1024  # of every model of Table 1
NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tinyimagenet": "TinyImageNet", "imagenet": "ImageNet"}
REPEATED = ("family", "dataset", "augmented")  # where all are those of a run of ours, the paper's number stands by it


def table_of_the_rest(paper: pd.DataFrame, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The paper's rows of whose family, data set and augmentation no run in `frames` has finished: a column a data set,
    a star where the number is reported but not verified. paper: `claims.paper_table("table1")`."""
    ours: set[tuple] = set()
    for frame in frames:
        if len(frame):
            ours |= {*frame.loc[frame["status"].isin(FINISHED), list(REPEATED)].itertuples(index=False, name=None)}
    rest = paper.assign(augmented=paper["augment"] != "none", top1=[papers_top1(row) for row in paper.itertuples()])
    rest = rest[[key not in ours for key in rest[list(REPEATED)].itertuples(index=False, name=None)]]
    if rest.empty:
        return pd.DataFrame({"the paper's cells": ["all of them are run here"]})
    rest = rest.assign(
        epochs=[f"{epochs:,.0f}" if epochs == epochs else "not known to us" for epochs in rest["epochs"]],
        augmented=rest["augmented"].map({True: "yes", False: "no"}),
    )
    wide = rest.pivot(index=["family", "augmented", "epochs"], columns="dataset", values="top1").fillna("")
    order = rest[["family", "augmented", "epochs"]].drop_duplicates()
    wide = wide.loc[[*order.itertuples(index=False, name=None)], [name for name in NAMES if name in wide]]
    names = {"family": "model", "augmented": "augm.", **{name: f"{text}, top-1 %" for name, text in NAMES.items()}}
    return wide.reset_index().rename(columns=names).rename_axis(columns=None)


def replication(frame: pd.DataFrame, paper: pd.DataFrame, dataset: str) -> str:
    """For a sentence: the paper's S-MLP without augmentation on all of a data set, whose number was read in the paper,
    beside our runs of the same model, images and epochs. "not run" where there is none."""
    said = paper[(paper["family"] == "S-MLP") & (paper["dataset"] == dataset) & (paper["augment"] == "none")].iloc[0]
    theirs = f"the paper's {papers_top1(said)} ({said['source']})"
    ours = Estimate(float("nan"), None, 0)
    if len(frame):
        same = (frame["model"] == f"S-6/Wi-{PAPERS_WIDTH}") & (frame["dataset"] == dataset) & ~frame["augmented"]
        whole = frame["train_examples"] == 50_000  # every training image, none held out
        runs = frame[same & whole & (frame["epochs"] == said["epochs"]) & (frame["status"] == "ok")]
        if len(runs):
            ours = t_interval(runs.drop_duplicates("key")["test_top1"])
    if not ours.n:
        return f"{theirs} has no finished run of ours beside it (not run)"
    return f"ours {ours.text()}; {theirs} {place_of(said['top1'], ours)}"


def place_of(value: float, interval: Estimate) -> str:
    """Where a number lies against an estimate's interval, in words."""
    if interval.interval is None:
        side = "above" if value > interval.mean else "below"
        return f"is {abs(value - interval.mean):.1f} {side} it, without interval"
    low, high = interval.interval
    where = "inside" if low <= value <= high else "above" if value > high else "below"
    return f"lies {where} our interval"


def after_the_peak(curves: pd.DataFrame, family: str) -> str:
    """For a sentence: what the trainings of a family without augmentation change in validation top-1 from the best
    epoch to the last, in points; the best epoch of each is that of the other seeds. curves: `records.curves`."""
    table = _by_epoch(curves, family, augmented=False)
    if len(table) < 2:
        return "not measured with two seeds"
    best, last = at_best_of_others(table), table.columns.max()
    if best.equals(table[last]):
        return f"highest at the last of {last:g} epochs"
    change = paired_difference(table[last], best)
    return f"{change.text()} from the best epoch of the other seeds to the last of {last:g}, {_direction(change)}"


def gains(curves: pd.DataFrame, family: str) -> tuple[Estimate, Estimate]:
    """Validation top-1 after the last epoch with augmentation, in points, paired by seed: minus that after the last
    epoch without, and minus that at the best epoch without, which the other seeds choose: what augmentation brings to
    somebody who would have stopped in time."""
    with_it, without = (_by_epoch(curves, family, augmented) for augmented in (True, False))
    if with_it.empty or without.empty:
        return t_interval([]), t_interval([])
    end = with_it[with_it.columns.max()]
    return paired_difference(end, without[without.columns.max()]), paired_difference(end, at_best_of_others(without))


def at_equal_compute(curves: pd.DataFrame, augmented: bool) -> Estimate:
    """Validation top-1 of the B-MLP where it has cost as many FLOPs as the S-MLP's whole training, minus the S-MLP's at
    its end; points, paired by seed. Linear in the logarithm of the FLOPs between points of the B-MLP's curve."""
    if not {"train_flops", "total_steps", "val_top1"} <= {*curves}:
        return t_interval([])
    rows = curves[curves["augmented"].astype(bool) == augmented].dropna(subset=["val_top1"])
    rows = rows.assign(flops=compute_so_far(rows))
    small, large = (rows[rows["family"] == family].sort_values("step") for family in ("S-MLP", "B-MLP"))
    ends = small.groupby("seed")[["flops", "val_top1"]].last()
    found = {}
    for seed, curve in large.groupby("seed"):
        if seed in ends.index and curve["flops"].iloc[0] <= ends.loc[seed, "flops"] <= curve["flops"].iloc[-1]:
            at = np.interp(np.log(ends.loc[seed, "flops"]), np.log(curve["flops"]), curve["val_top1"].astype(float))
            found[seed] = at - ends.loc[seed, "val_top1"]
    return t_interval(found.values())


def _by_epoch(curves: pd.DataFrame, family: str, augmented: bool) -> pd.DataFrame:
    """Validation top-1: a row a seed, a column an epoch that all of them have."""
    if not {"val_top1", "family", "augmented", "epoch", "seed"} <= {*curves}:
        return pd.DataFrame()
    rows = curves[(curves["family"] == family) & (curves["augmented"].astype(bool) == augmented)]
    return rows.pivot_table(index="seed", columns="epoch", values="val_top1").dropna(axis="columns")


def _direction(change: Estimate) -> str:
    return {1: "a gain", -1: "a loss", 0: "which is neither shown to be a loss nor a gain"}[sign(change)]
