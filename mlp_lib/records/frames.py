"""Records as data frames: a row a run, learning curves, measures, accuracy by seed."""

from typing import Any

import pandas as pd

from mlp_lib.datasets import FACTS, facts
from mlp_lib.errors import UserError
from mlp_lib.records.behind import with_runs
from mlp_lib.records.record import FINISHED, Record
from mlp_lib.records.run import Run

FINAL = {f"{part}_{metric}" for part in ("train", "val", "test") for metric in ("top1", "top5", "loss")}


def row_of(run: Run, record: Record | None) -> dict[str, Any]:
    """A run and its record as one flat row."""
    row = {"key": run.key, "status": record.status if record else "not run", **run.model_dump(exclude={"init"})}
    row["init"] = run.init.run.key if run.init else None
    row["total_steps"], row["train_examples"] = _sizes(run, record)
    if record:
        nested = {"run", "key", "status", "metrics", "curve", "measures", "versions", "labels_in_files"}
        scalars = record.model_dump(exclude=nested | {"steps"})  # "steps" is a field of the run
        row |= scalars | record.metrics | {"curve": record.curve, "measures": record.measures}
        row["steps_taken"] = record.steps
        row["torch"] = record.versions.get("torch")
    return row


def _sizes(run: Run, record: Record | None) -> tuple[int | None, int | None]:
    """Steps and training images of a run: what the record says, where it is on a reader's own set, whose images may be
    others by now, or not here."""
    try:
        today = run.total_steps, run.train_examples
        per_epoch = run.steps_per_epoch
    except UserError:  # the images are not here, or are no set any more
        today, per_epoch = (run.steps, run.subset), None
    if run.dataset in FACTS or record is None:
        return today
    then = round(record.curve[-1]["step"] / record.curve[-1]["epoch"]) if record.curve else None
    steps = record.steps if record.status == "ok" else run.steps or (run.epochs * then if then else None)
    return (steps, today[1]) if per_epoch == then else (steps, run.subset)


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """Learning curves, tidy: one row a run and point, with the frame's columns but no final metrics."""
    rows = []
    for row in frame.to_dict("records"):
        points = row.pop("curve", None)
        row = {name: value for name, value in row.items() if name not in FINAL}
        for point in points if isinstance(points, list) else []:
            rows.append({**{k: v for k, v in row.items() if k not in point}, **point})
    return pd.DataFrame(rows)


def compute_so_far(points: pd.DataFrame) -> pd.Series:
    """FLOPs that a training has cost up to each point of `curves`, which has train_flops, step and total_steps."""
    return points["train_flops"].astype(float) * points["step"] / points["total_steps"]


def measures_of(row: dict) -> dict:
    """The measures of a frame's row: none of a row that has not ended well, or that counts as not run, and none of
    those that could not be taken (`measure.measure`)."""
    found = row.get("measures")
    there = found if isinstance(found, dict) and row.get("status") == "ok" else {}
    return {name: value for name, value in there.items() if "not_measured" not in value}


def by_seed(frame: pd.DataFrame, **where) -> pd.Series:
    """Test top-1 by seed of one cell; diverged runs count as chance."""
    rows = frame
    for column, value in where.items():
        rows = rows[rows[column] == value]
    rows = rows[rows["status"].isin(FINISHED)]
    if rows.empty or rows["seed"].duplicated().any():  # of two models of one family, a claim does not say which
        return pd.Series(dtype=float)
    top1 = rows["test_top1"] if "test_top1" in rows else pd.Series(float("nan"), rows.index)
    if top1.isna().any():
        top1 = top1.fillna(rows["dataset"].map(lambda name: 100 / facts(name).num_classes))
    return with_runs(top1.set_axis(rows["seed"]), rows)
