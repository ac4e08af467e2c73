"""The paper's Table 1 beside the runs of rq1-from-scratch: what is repeated, what is not. No torch, no training.

Words for sentences are made here, so that they say what the records say, also where nothing has run.
"""

from collections.abc import Sequence

import pandas as pd

from mlp_lib.plots.tables import papers_top1
from mlp_lib.records import FINISHED
from mlp_lib.stats import Estimate, paired_difference, sign, t_interval

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
    """For a sentence: what the trainings of a family without augmentation change after the point at which their mean
    validation top-1 is highest, in points, paired by seed. curves: `records.curves`.

    That point is chosen among several noisy ones, so it is a little too high and the change a little too low.
    """
    wanted = {"val_top1", "family", "augmented", "epoch", "seed"}
    rows = curves[(curves["family"] == family) & ~curves["augmented"].astype(bool)] if wanted <= {*curves} else None
    table = pd.DataFrame() if rows is None else rows.pivot_table(index="seed", columns="epoch", values="val_top1")
    table = table.dropna()
    if table.empty:
        return "not measured"
    best, last = table.mean().idxmax(), table.columns.max()
    if best == last:
        return f"highest at the last of {last:g} epochs"
    change = paired_difference(table[last], table[best])
    return f"{change.text()} from epoch {best:g} to {last:g}, {_direction(change)}"


def _direction(change: Estimate) -> str:
    if change.interval is None:
        return "one seed"
    return {1: "a gain", -1: "a loss", 0: "which is neither shown to be a loss nor a gain"}[sign(change)]
