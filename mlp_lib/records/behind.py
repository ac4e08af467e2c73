"""Which runs a value comes from: keys go with pandas values (`attrs`), with estimates, and with what is written."""

from typing import NamedTuple, TypeVar

import pandas as pd

Values = TypeVar("Values", pd.Series, pd.DataFrame)
KEYS = "keys"  # the entry of `attrs`: the keys of runs by label of the index


class Runs(NamedTuple):
    """The runs behind a number: their keys, sorted, and `of`, the column of frames of which it is a mean, or a mean
    difference between runs of one seed; empty where it is anything else."""

    keys: tuple[str, ...] = ()
    of: str = ""


_noted: dict[str, set[Runs]] = {}  # what this process has written of estimates, and the runs behind it


def with_runs(values: Values, rows: pd.DataFrame, by: str | None = None) -> Values:
    """The values, each with the key of the run that it comes from: that of the row of `rows` in the same place, or
    those of all rows whose column `by` has the value's label.

    pandas hands the keys on to selections, columns and what is computed with numbers, but not to what is computed from
    two of them (`intervals.difference` does). Nothing is added where the rows have no column `key`.
    """
    values = values.copy(deep=False)
    if "key" in rows:
        found: dict = {}
        for label, key in zip(rows[by] if by else values.index, rows["key"], strict=True):
            found[label] = (*found.get(label, ()), key)
        values.attrs[KEYS] = found
    return values


def with_those_of(values: Values, *others: pd.Series | pd.DataFrame) -> Values:
    """The values, each with the runs that all of the others have at its label."""
    values = values.copy(deep=False)
    known = [_keys_by_label(other) for other in others]
    values.attrs[KEYS] = {label: tuple(key for one in known for key in one.get(label, ())) for label in values.index}
    return values


def runs_of(*several) -> Runs:
    """The runs behind these values: of a frame with a column `key` those in it; none of what is no pandas object, or
    knows none. `of` is the name of a single Series."""
    found: set[str] = set()
    for values in several:
        if isinstance(values, pd.DataFrame) and "key" in values:
            found.update(values["key"])
        elif isinstance(values, pd.Series | pd.DataFrame):
            found.update(key for keys in _keys_by_label(values).values() for key in keys)
    name = several[0].name if len(several) == 1 and isinstance(several[0], pd.Series) else None
    return Runs(tuple(sorted(found)), name if found and isinstance(name, str) else "")


def note(text: str, runs: Runs) -> str:
    """The text, of which this process now knows the runs."""
    if runs.keys:
        _noted.setdefault(text, set()).add(runs)
    return text


def noted(text: str) -> Runs:
    """The runs behind a text that was noted; none where the same text was noted of different runs."""
    known = _noted.get(text, ())
    return next(iter(known)) if len(known) == 1 else Runs()


def _keys_by_label(values: pd.Series | pd.DataFrame) -> dict:
    """The keys of runs by label of the values' index, of the labels that are still there."""
    found = values.attrs.get(KEYS, {})
    return {label: found[label] for label in values.index if label in found}
