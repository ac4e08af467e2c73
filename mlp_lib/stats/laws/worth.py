"""How many more examples (or how much more compute) one family of models needs than another for the same error."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mlp_lib.errors import UserError


@dataclass(frozen=True)
class Worth:
    """x of a over x of b at equal error. Arrays go with `errors`; nan where either family has no such error.

    low, high: the bootstrap interval over seeds; nan with one seed, and where fewer than `level` of the resamples reach
    that error. reached: the share of resamples that do. edge: "" within the common range; otherwise which family has no
    such error and on which side, as "a: above its errors".
    """

    errors: np.ndarray
    ratio: np.ndarray
    low: np.ndarray
    high: np.ndarray
    reached: np.ndarray
    edge: list[str]
    common: tuple[float, float]  # the errors that both have, lowest and highest; nan where they have none
    seeds: tuple[int, int]
    level: float = 0.95
    draws: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), repr=False)


def what_is_a_bias_worth(
    curve_a: pd.DataFrame, curve_b: pd.DataFrame, errors=None, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Worth:
    """x_a / x_b at equal error, as a curve over error, with bootstrap intervals over seeds.

    curve_a, curve_b: a row a run, with columns x (examples or compute), error, and seed if there are several. errors:
    where to look; 25 over the common range where None. Errors are averaged over seeds in the logarithm, made to fall
    with x by pooling neighbours that do not, and interpolated in log x against log error: never beyond the ends. Whole
    seeds are resampled, with their spread widened by sqrt(k / (k - 1)) for k seeds. Raises UserError for missing
    columns and values that are not positive.
    """
    tables = [_table(curve, name) for curve, name in ((curve_a, "a"), (curve_b, "b"))]
    ends = []
    for x, logs in tables:
        _, heights = falling(np.log(x), np.nanmean(logs, axis=0))
        ends.append((heights.min(), heights.max()))
    low, high = max(ends[0][0], ends[1][0]), min(ends[0][1], ends[1][1])
    common = (float(np.exp(low)), float(np.exp(high))) if low < high else (float("nan"), float("nan"))
    if errors is None:
        if not low < high:
            raise UserError(
                "the two families have no error in common; there is nothing to compare without extrapolation"
            )
        errors = np.exp(np.linspace(low, high, 25))
        errors[[0, -1]] = common
    errors = np.atleast_1d(np.asarray(errors, float))
    if not (np.isfinite(errors) & (errors > 0)).all():
        raise UserError("errors must be positive and finite")
    ratio = np.exp(_needed(*tables[0], errors) - _needed(*tables[1], errors))
    seeds = (len(tables[0][1]), len(tables[1][1]))
    found = np.full((draws if min(seeds) > 1 else 0, len(errors)), np.nan)
    rng = np.random.default_rng(seed)
    known: tuple[dict, dict] = ({}, {})  # few seeds have few resamples: each is worked out once
    for i in range(len(found)):
        a, b = (_needed_again(*table, errors, rng, seen) for table, seen in zip(tables, known, strict=True))
        found[i] = np.exp(a - b)
    reached = np.isfinite(found).mean(axis=0) if len(found) else np.full(len(errors), np.nan)
    bounds = np.full((2, len(errors)), np.nan)
    for j in np.flatnonzero((reached >= level) & np.isfinite(ratio)):
        bounds[:, j] = np.nanquantile(found[:, j], [(1 - level) / 2, (1 + level) / 2])
    edge = [_edge(np.log(value), ends) for value in errors]
    return Worth(errors, ratio, *bounds, reached, edge, common, seeds, level, found)


def _table(curve: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """x (k,) rising, and log errors (seeds, k), nan where a seed has no run."""
    missing = [column for column in ("x", "error") if column not in curve]
    if missing:
        raise UserError(f"curve {name} lacks column {missing[0]!r}; it has {', '.join(map(str, curve.columns))}")
    curve = curve if "seed" in curve else curve.assign(seed=0)
    values = curve[["x", "error"]].to_numpy(float)
    if len(curve) == 0 or not (np.isfinite(values) & (values > 0)).all():
        raise UserError(f"curve {name}: x and error must be positive and finite, in one run or more")
    wide = curve.assign(error=np.log(curve["error"])).pivot_table(index="seed", columns="x", values="error")
    if wide.shape[1] < 2:
        raise UserError(f"curve {name} has one x; a curve needs two or more")
    return wide.columns.to_numpy(float), wide.to_numpy(float)


def _needed_again(x, logs, errors, rng, known: dict) -> np.ndarray:
    """`_needed` of resampled seeds; `known` has what was found before, by how often each seed was drawn."""
    count = len(logs)
    weights = rng.multinomial(count, np.full(count, 1 / count))
    if (key := weights.tobytes()) not in known:
        known[key] = _needed(x, _resampled(logs, weights * 1.0), errors)
    return known[key]


def _resampled(logs, weights) -> np.ndarray:
    """Log errors (1, k): the mean of seeds drawn so often, its distance from the mean of all widened for few seeds."""
    count = len(logs)
    mean = np.nanmean(logs, axis=0)
    there = np.isfinite(logs)
    total = weights @ there
    drawn = np.where(total > 0, weights @ np.where(there, logs, 0) / np.maximum(total, 1), mean)
    return (mean + np.sqrt(count / (count - 1)) * (drawn - mean))[None]


def falling(x, y) -> tuple[np.ndarray, np.ndarray]:
    """The falling curve nearest to (x, y) in least squares, x rising: its levels fall strictly, each at the mean x of
    the points that were pooled to it (pool adjacent violators)."""
    blocks: list[list[float]] = []  # sum of y, sum of x, count
    for place, value in zip(x, y, strict=True):
        blocks.append([value, place, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][2] <= blocks[-1][0] / blocks[-1][2]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    return np.array([b[1] / b[2] for b in blocks]), np.array([b[0] / b[2] for b in blocks])


def _needed(x, logs, errors) -> np.ndarray:
    """log x that each error needs; nan outside of the curve."""
    places, heights = falling(np.log(x), np.nanmean(logs, axis=0))
    wanted = np.log(errors)
    found = np.interp(wanted, heights[::-1], places[::-1])
    slack = 1e-12 * (1 + np.abs(wanted))  # an end itself is within, whatever the logarithm rounds to
    return np.where((wanted < heights[-1] - slack) | (wanted > heights[0] + slack), np.nan, found)


def _edge(wanted: float, ends) -> str:
    slack = 1e-12 * (1 + abs(wanted))
    said = []
    for name, (low, high) in zip("ab", ends, strict=True):
        if wanted < low - slack:
            said.append(f"{name}: below its errors")
        elif wanted > high + slack:
            said.append(f"{name}: above its errors")
    return "; ".join(said)
