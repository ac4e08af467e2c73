"""A table of runs, read from a CSV file or a frame and checked: what is wrong is said in one line."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.allocate import FLOPS_PER
from mlp_lib.stats.laws.joint import NEEDED

ROLES = ("params", "examples", "loss")


def read_csv(path: Path | str) -> pd.DataFrame:
    """The file as a frame, under its own column names. Raises UserError for a file that is none."""
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), None)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give a CSV file with a row a run") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {_line(error)}") from None
    if not header:
        raise UserError(f"{path} is empty; its first line must name the columns")
    _no_twins(header, str(path))
    try:
        return pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True)
    except (OSError, ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{path} cannot be read as CSV: {_line(error)}") from None


def tidy(frame: pd.DataFrame, columns=ROLES, flops_per: float = FLOPS_PER) -> pd.DataFrame:
    """The runs with columns params, examples, loss, compute, and seed if the frame has one; a row a run.

    columns: the frame's names for params, examples and loss. compute is the frame's `compute`, or flops_per x params x
    examples without. Raises UserError for what no law can be fitted to.
    """
    columns = [str(name).strip() for name in columns]
    if len(columns) != 3:
        raise UserError(f"columns are {', '.join(columns)}; give three, for params, examples and loss in this order")
    if len(set(columns)) < 3:
        raise UserError(f"columns {', '.join(columns)} name one twice; params, examples and loss are three")
    frame = frame.rename(columns=lambda name: str(name).strip())
    _no_twins(list(frame.columns), "the table")
    for name in columns:
        if name not in frame:
            raise UserError(f"no column {name!r}; there are {', '.join(frame.columns)}")
    runs = pd.DataFrame({role: _numbers(frame[name], name) for role, name in zip(ROLES, columns, strict=True)})
    if len(runs) < NEEDED:
        raise UserError(f"{len(runs)} runs; the joint law has five constants and needs {NEEDED} runs or more")
    for role, name in zip(ROLES[:2], columns[:2], strict=True):
        if runs[role].nunique() < 2:
            raise UserError(f"every run has {name} = {runs[role].iloc[0]:g}; the joint law needs different {name}")
    if not (np.isfinite(flops_per) and flops_per > 0):
        raise UserError(f"flops per parameter and example is {flops_per:g}; it must be positive and finite")
    own = "compute" in frame and "compute" not in columns
    runs["compute"] = _numbers(frame["compute"], "compute") if own else flops_per * runs["params"] * runs["examples"]
    if "seed" in frame and "seed" not in columns:
        runs["seed"] = frame["seed"].to_numpy()
    return runs


def groups(frame: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """The table's parts by the values of a column (a family of models, say), in the order in which they come.

    Raises UserError for an unknown column and for a row without a value there.
    """
    named = {str(name).strip(): name for name in frame.columns}
    if column.strip() not in named:
        raise UserError(f"no column {column!r} to group by; there are {', '.join(named)}")
    values = frame[named[column.strip()]]
    if values.isna().any():
        row = int(np.flatnonzero(values.isna())[0]) + 1
        raise UserError(f"{column} is missing in row {row} (the first run is row 1)")
    return {str(value): part for value, part in frame.groupby(values, sort=False)}


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    """Positive, finite floats; UserError with the first row that is not."""
    missing = column.isna().to_numpy()
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    for bad, what in (
        (missing, "is missing"),
        (np.isnan(values) & ~missing, "is not a number"),
        (~(values > 0) & ~np.isnan(values), "is not positive"),
        (np.isinf(values), "is infinite"),
    ):
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            shown = "" if missing[at] else f": {column.iloc[at]!s}"
            raise UserError(f"{name} {what} in row {at + 1} (the first run is row 1){shown}")
    return values


def _no_twins(names: list[str], where: str) -> None:
    names = [str(name).strip() for name in names]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise UserError(f"{where} has more than one column {twins[0]!r}; give each its own name")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
