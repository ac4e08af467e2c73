"""Records as data frames: a row a run, learning curves, measures, accuracy by seed."""

from typing import Any

import pandas as pd

from mlp_lib.datasets import at_hand, facts
from mlp_lib.records.record import FINISHED, Record
from mlp_lib.records.run import Run

FINAL = {f"{part}_{metric}" for part in ("train", "val", "test") for metric in ("top1", "top5", "loss")}


def row_of(run: Run, record: Record | None) -> dict[str, Any]:
    """A run and its record as one flat row."""
    row = {"key": run.key, "status": record.status if record else "not run", **run.model_dump(exclude={"init"})}
    row["init"] = run.init.run.key if run.init else None
    if at_hand(run.dataset):
        row["total_steps"], row["train_examples"] = run.total_steps, run.train_examples
    else:  # the set of a reader elsewhere, of which only the record is here
        row["total_steps"], row["train_examples"] = record.steps if record else None, None
    if record:
        nested = {"run", "key", "status", "metrics", "curve", "measures", "versions"}
        scalars = record.model_dump(exclude=nested | {"steps"})  # "steps" is a field of the run
        row |= scalars | record.metrics | {"curve": record.curve, "measures": record.measures}
        row["steps_taken"] = record.steps
        row["torch"] = record.versions.get("torch")
    return row


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
    chance = rows["dataset"].map(lambda name: 100 / facts(name).num_classes)
    top1 = rows["test_top1"] if "test_top1" in rows else pd.Series(float("nan"), rows.index)
    return top1.fillna(chance).set_axis(rows["seed"])
