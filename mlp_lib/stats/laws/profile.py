"""Profile likelihood: on which side the data limit a constant when all the others are refitted."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlp_lib.stats.laws.bootstrap import ends, open_side
from mlp_lib.stats.laws.solver import Basis, Fits, solve

EXACT = 1e-9  # rms relative error below which data count as noise-free: rounding, not a spread to judge by
STEPS = np.geomspace(1e-3, 1, 16)  # of the way from the optimum to the end of what is searched


class Problem(NamedTuple):
    """What `solver.solve` is asked. pinned: (1, m) amplitudes that are known, nan where not; or None."""

    columns: Basis
    y: np.ndarray
    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pinned: np.ndarray | None = None


def profiles(
    problem: Problem,
    best: Fits,
    constants,
    shapes,
    amplitudes,
    to_constants: Callable,
    ridges: dict,
    tops: dict,
    freedom: int,
    limit: float,
):
    """For each constant the two ends of its profile interval, infinite where open, and the sides that are open.

    A constant is held at values ever farther from its optimum and the others are refitted; the interval ends where the
    sum of squares has grown by `limit` squared standard errors. ridges: {amplitude: its exponent}, of amplitudes that
    are a value far outside of the data (at x = 1), so that the exponent alone decides them: their ends are those of the
    walk along the exponent. tops: the largest value tried of the other amplitudes.
    """
    size = float((problem.weights * problem.y**2).sum())
    floor = max(float(best.cost[0]), EXACT**2 * size)
    walks = {
        (name, sign): _walk(problem, best, name, sign, shapes, amplitudes, to_constants, ridges, tops)
        for name in constants
        for sign in (-1, 1)
    }
    # All walks in one batch: a step of a few fits costs nearly as much as a step of many.
    taken = {side: walk for side, walk in walks.items() if not isinstance(walk, float)}
    if taken:
        batch = zip(*(walk[:3] for walk in taken.values()), strict=True)
        starts, held, pinned = (np.concatenate(parts) for parts in batch)
        fits = solve(problem.columns, problem.y, problem.weights, starts, problem.low, problem.high, held, pinned)
    found = {}
    for number, ((name, sign), walk) in enumerate(taken.items()):
        own = slice(number * len(STEPS), (number + 1) * len(STEPS))
        deviance = np.maximum.accumulate(freedom * (np.maximum(fits.cost[own], floor) / floor - 1))
        *_, reported, value = walk
        if reported is None:
            reported = to_constants(fits.shapes[own], fits.amplitudes[own])[name]
        at = ends(STEPS, deviance, limit)
        closed = bool(np.isfinite(at))
        end = float(np.interp(at, [0, *STEPS], [value, *reported])) if closed else sign * np.inf
        found[name, sign] = end, closed
    # What is left is a given constant, or one that stands at its limit.
    found |= {side: (walk, bool(np.isfinite(walk))) for side, walk in walks.items() if side not in taken}
    profile = {name: (found[name, -1][0], found[name, 1][0]) for name in constants}
    return profile, {name: open_side(found[name, -1][1], found[name, 1][1]) for name in constants}


def _walk(problem, best, name, sign, shapes, amplitudes, to_constants, ridges, tops):
    """Starts, what is held, pinned amplitudes, the constant's values and its optimum; or its end, if that is known."""
    count, m = len(STEPS), best.amplitudes.shape[1]
    starts = np.repeat(best.shapes, count, axis=0)
    held = np.zeros(starts.shape, bool)
    pinned = np.full((count, m), np.nan) if problem.pinned is None else np.repeat(problem.pinned, count, axis=0)
    value = float(to_constants(best.shapes, best.amplitudes)[name][0])
    if name in shapes:
        i = shapes.index(name)
        end = problem.high[i] if sign > 0 else problem.low[i]
        reach = end - best.shapes[0, i]
        if abs(reach) < 1e-9 * max(1.0, abs(end)):
            return sign * np.inf
        starts[:, i] += reach * STEPS
        held[:, i] = True
        return starts, held, pinned, to_constants(starts, np.repeat(best.amplitudes, count, axis=0))[name], value
    if name in ridges:
        if value <= 0:
            return sign * np.inf
        exponent = _walk(problem, best, ridges[name], sign, shapes, amplitudes, to_constants, {}, tops)
        return exponent if isinstance(exponent, float) else (*exponent[:3], None, value)
    j = amplitudes.index(name)
    if problem.pinned is not None and np.isfinite(problem.pinned[0, j]):
        return value
    if sign > 0 and value >= tops[name]:  # the optimum itself lies beyond what is searched
        return np.inf
    reach = (tops[name] if sign > 0 else 0.0) - value
    if abs(reach) < 1e-9 * max(tops[name], 1e-300):
        return sign * np.inf
    pinned[:, j] = reported = value + reach * STEPS
    return starts, held, pinned, reported, value
