"""The two methods that read a grid of runs without a joint law: the frontier of loss over compute, and isoFLOP minima.

Both interpolate the curve of each model size in log compute and log loss, and go nowhere beyond its ends. What lies at
an edge of the grid is no minimum: it is reported and left out.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.bootstrap import noise_draws
from mlp_lib.stats.laws.joint import NEEDED, fit_joint

SPAN = 4  # runs of a size from which its curve is interpolated; straight lines between fewer misplace its minimum
PLACES = 400  # of compute at which the frontier's owner is looked up


@dataclass(frozen=True)
class Frontier:
    """The lower envelope. pareto: the runs that no cheaper run equals, in order of compute. models: a row a model size
    that owns a part of the envelope, with `from`, `to` (compute), `params`, `examples` at the middle, and `edge`: true
    of the smallest and the largest size, and where the size's own curve ends within its part: the grid cuts these off.
    """

    pareto: pd.DataFrame
    models: pd.DataFrame
    params_exponent: float
    examples_exponent: float
    draws: np.ndarray = field(repr=False)  # (draws, 2), the two exponents; nan where fewer than two sizes are left


@dataclass(frozen=True)
class Isoflop:
    """Minima per budget. minima: budget, params, examples, loss, models (sizes at that budget), and `rejected`: "", or
    why the budget gives no minimum."""

    minima: pd.DataFrame
    params_exponent: float
    examples_exponent: float
    draws: np.ndarray = field(repr=False)  # (draws, 2)


def cells_of(runs: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """One row for each (params, examples), with the geometric mean loss, and each run's row number in it."""
    grouped = runs.assign(loss=np.log(runs["loss"])).groupby(["params", "examples"], sort=True)
    cells = grouped[["compute", "loss"]].mean().reset_index()
    return cells.assign(loss=np.exp(cells["loss"])), grouped.ngroup().to_numpy()


def redraw(runs: pd.DataFrame, draws: int, seed: int = 0) -> np.ndarray:
    """Log losses of the cells (draws, cells): the noise of the repeats, or of a joint law's residuals without them."""
    _, number = cells_of(runs)
    logs, residual = np.log(runs["loss"].to_numpy()), np.zeros(len(runs))
    if np.bincount(number).min() < 2 and len(runs) >= NEEDED and runs["params"].nunique() > 1:
        if runs["examples"].nunique() > 1:
            law = fit_joint(runs["params"], runs["examples"], runs["loss"], draws=0)
            residual = logs - np.log(law.predict(runs["params"], runs["examples"]))
            residual = residual * np.sqrt(len(runs) / max(len(runs) - 5, 1))
    return noise_draws(logs, number, residual, draws, seed)


def _curves(runs, values, needed):
    """For each model size with `needed` computes or more: log params, log computes (k,), log losses (k, columns), log
    examples (k,); sizes rising."""
    cells, _ = cells_of(runs)
    found = []
    for params, own in cells.groupby("params"):
        own = own.sort_values("compute").drop_duplicates("compute")
        if len(own) >= needed:
            logs = np.log(own[["compute", "examples"]].to_numpy(float))
            found.append((np.log(params), logs[:, 0], values[own.index], logs[:, 1]))
    if len(found) < 3:
        what = "frontier" if needed > 1 else "isoFLOP"
        raise UserError(f"{len(found)} model sizes with runs at {needed} or more computes; {what} needs 3 such sizes")
    return found


def _at(places, x, y):
    """Values of a curve (k, columns) at places (m,), nan outside of it, and between its points if they are few.

    Monotone cubic: straight lines lie above a convex curve, and move its minimum.
    """
    if len(x) < SPAN:
        nearest = np.abs(places[:, None] - x).argmin(axis=1)
        return np.where((np.abs(places - x[nearest]) < 1e-9)[:, None], y[nearest], np.nan)
    return PchipInterpolator(x, y, axis=0, extrapolate=False)(places)


def slopes(x, y) -> np.ndarray:
    """Least-squares slopes (columns,) of y on x, both (k, columns), over rows without nan; nan for fewer than two."""
    ok = np.isfinite(x) & np.isfinite(y)
    count = ok.sum(axis=0)
    x, y = np.where(ok, x, 0.0), np.where(ok, y, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        dx = np.where(ok, x - x.sum(axis=0) / count, 0.0)
        dy = np.where(ok, y - y.sum(axis=0) / count, 0.0)
        size = (dx**2).sum(axis=0)
        return np.where((count > 1) & (size > 1e-12), (dx * dy).sum(axis=0) / size, np.nan)


def frontier(runs: pd.DataFrame, draws: int = 1000, seed: int = 0) -> Frontier:
    """The compute-optimal frontier of runs (columns params, examples, loss, compute), found by algorithm.

    Each size's curve of loss over compute is interpolated; at each compute the size of least loss owns the envelope.
    The exponents are the slopes, in logarithms, of size and examples at the middle of each size's part; parts that the
    edge of the grid cuts off do not count. Raises UserError for fewer than three sizes with SPAN runs.
    """
    cells, _ = cells_of(runs)
    values = np.concatenate([np.log(cells[["loss"]].to_numpy()), redraw(runs, draws, seed).T], axis=1)
    curves = _curves(runs, values, SPAN)
    places = np.linspace(min(x[0] for _, x, _, _ in curves), max(x[-1] for _, x, _, _ in curves), PLACES)
    heights = np.stack([_at(places, x, y) for _, x, y, _ in curves])  # (sizes, places, 1 + draws)
    owner = np.where(np.isfinite(heights), heights, np.inf).argmin(axis=0)
    covered = np.isfinite(heights).any(axis=0)
    sizes = np.array([size for size, _, _, _ in curves])
    middle, examples, rows = np.full((len(curves), 1 + draws), np.nan), np.full((len(curves), 1 + draws), np.nan), []
    for i, (size, x, _, n) in enumerate(curves):
        own = (owner == i) & covered
        count = own.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            center = np.where(count > 0, (own * places[:, None]).sum(axis=0) / count, np.nan)
        ends = np.flatnonzero((places >= x[0]) & (places <= x[-1]))[[0, -1]]
        edge = own[ends].any(axis=0) | (i in (0, len(curves) - 1))
        if count[0]:
            span = places[own[:, 0]]
            rows.append(
                {
                    "params": np.exp(size),
                    "examples": np.exp(np.interp(center[0], x, n)),
                    "from": np.exp(span[0]),
                    "to": np.exp(span[-1]),
                    "compute": np.exp(center[0]),
                    "edge": bool(edge[0]),
                }
            )
        middle[i] = np.where(edge, np.nan, center)
        examples[i] = np.where(np.isfinite(middle[i]), np.interp(center, x, n), np.nan)
    both = np.stack([slopes(middle, np.broadcast_to(sizes[:, None], middle.shape)), slopes(middle, examples)], axis=1)
    return Frontier(pareto(runs), pd.DataFrame(rows), float(both[0, 0]), float(both[0, 1]), both[1:])


def pareto(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that no run of the same or less compute equals in loss, in order of compute."""
    ordered = runs.sort_values(["compute", "loss"], kind="stable")
    least = ordered["loss"].cummin().shift(fill_value=np.inf)
    return ordered[ordered["loss"] < least].reset_index(drop=True)


def budgets_of(runs: pd.DataFrame, count: int = 8) -> np.ndarray:
    """Budgets to look for minima at: the runs' own, where three sizes or more share them; else `count`, evenly spaced
    in the logarithm where three curves overlap."""
    cells, _ = cells_of(runs)
    rounded = np.round(np.log(cells["compute"]) / 0.05)  # within 5%
    shared = cells.groupby(rounded)["compute"].agg(["mean", "size"])
    shared = shared[shared["size"] >= 3]
    if len(shared) >= 3 and shared["size"].sum() >= 0.6 * len(cells):
        return shared["mean"].to_numpy()
    ends = cells.groupby("params")["compute"].agg(["min", "max", "size"])
    ends = ends[ends["size"] >= SPAN]
    if len(ends) < 3:
        raise UserError(f"isoFLOP needs 3 sizes with runs at {SPAN} computes, or 3 sizes at each of 3 budgets")
    low, high = np.sort(ends["min"])[:3][-1], np.sort(ends["max"])[::-1][:3][-1]
    if not low < high:
        raise UserError("no compute at which the curves of three model sizes overlap; isoFLOP needs such")
    return np.geomspace(low, high, count)


def isoflop(runs: pd.DataFrame, budgets=None, neighbours: int | None = 1, draws: int = 1000, seed: int = 0) -> Isoflop:
    """The model size of least loss at fixed computes, for runs with columns params, examples, loss, compute.

    Each size's loss at a budget is its run there, or interpolated between SPAN runs or more. A parabola in log params
    through the least and `neighbours` on each side (all sizes where None, as isoFLOP fits are drawn) gives the minimum.
    A least loss at the smallest or largest size of a budget is no minimum and is rejected. Wide parabolas are biased:
    see `bias.isoflop_bias`.
    """
    cells, _ = cells_of(runs)
    values = np.concatenate([np.log(cells[["loss"]].to_numpy()), redraw(runs, draws, seed).T], axis=1)
    curves = _curves(runs, values, 1)
    given = np.log(np.asarray(budgets_of(runs) if budgets is None else budgets, float))
    snapped = [_snap(given, x) for _, x, _, _ in curves]
    heights = np.stack([_at(places, x, y) for places, (_, x, y, _) in zip(snapped, curves, strict=True)], axis=1)
    size = np.array([size for size, _, _, _ in curves])
    best, examples, rows = np.full((len(given), 1 + draws), np.nan), np.full((len(given), 1 + draws), np.nan), []
    for b, place in enumerate(given):
        there = np.isfinite(heights[b, :, 0])
        row = {
            "budget": np.exp(place),
            "params": np.nan,
            "examples": np.nan,
            "loss": np.nan,
            "models": int(there.sum()),
        }
        if there.sum() < 3:
            rows.append(row | {"rejected": "fewer than three sizes"})
            continue
        at, least = vertex(size[there], heights[b, there], neighbours)
        n = np.array([np.interp(s[b], x, n) for s, (_, x, _, n) in zip(snapped, curves, strict=True)])[there]
        best[b], examples[b] = at, np.where(np.isfinite(at), np.interp(at, size[there], n), np.nan)
        if np.isnan(at[0]):
            least_at = heights[b, there, 0].argmin()
            ends = {0: "least at the smallest size", int(there.sum()) - 1: "least at the largest size"}
            rows.append(row | {"rejected": ends.get(int(least_at), "the parabola has no minimum among the sizes")})
            best[b] = np.nan  # a budget without a minimum has none in the draws
            continue
        rows.append(
            row
            | {"params": np.exp(at[0]), "examples": np.exp(examples[b, 0]), "loss": np.exp(least[0]), "rejected": ""}
        )
    place = np.broadcast_to(given[:, None], best.shape)
    both = np.stack([slopes(place, best), slopes(np.where(np.isfinite(best), place, np.nan), examples)], axis=1)
    return Isoflop(pd.DataFrame(rows), float(both[0, 0]), float(both[0, 1]), both[1:])


def _snap(places, x):
    """Places within 5% of a curve's own computes are those: runs of one budget differ a little in what they used."""
    near = x[np.abs(places[:, None] - x).argmin(axis=1)]
    return np.where(np.abs(near - places) < 0.05, near, places)


def vertex(x, y, neighbours: int | None = 1) -> tuple[np.ndarray, np.ndarray]:
    """Where the parabola around each column's least value has its minimum, and its value; nan for a least at an end.

    x: (k,), rising. y: (k, columns). neighbours: points on each side of the least that the parabola is fitted to, all
    of them where None. A vertex outside of the points is an end too.
    """
    least = y.argmin(axis=0)
    at, value = np.full(y.shape[1], np.nan), np.full(y.shape[1], np.nan)
    for i in range(1, len(x) - 1):
        own = least == i
        if own.any():
            near = slice(None) if neighbours is None else slice(max(0, i - neighbours), i + neighbours + 1)
            c, b, a = np.linalg.lstsq(np.vander(x[near] - x[i], 3, increasing=True), y[near][:, own], rcond=None)[0]
            with np.errstate(invalid="ignore", divide="ignore"):
                place = -b / (2 * a)
                inside = (a > 0) & (place + x[i] > x[near][0]) & (place + x[i] < x[near][-1])
                at[own] = np.where(inside, x[i] + place, np.nan)
                value[own] = np.where(inside, c - b * b / (4 * a), np.nan)
    return at, value
