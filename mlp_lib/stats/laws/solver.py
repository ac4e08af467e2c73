"""Least squares for laws that are linear in non-negative amplitudes and bend with a few shapes, many fits at a time.

Variable projection (Golub and Pereyra 1973, with Kaufman's Jacobian): the amplitudes are solved exactly for given
shapes, and Levenberg-Marquardt moves the shapes alone. A batch is one fit a row: the same points under other weights
(bootstrap), other starts (multi-start), or with a constant held (profile).
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TOGETHER = 25_000  # fits times points that are moved together: their arrays stay in the processor's cache
TOLERANCE = 1e-11  # relative fall of the sum of squares below which a fit is done

# shapes (B, q) -> columns (B, m, n), and a function of amplitudes (B, m) that gives the model's slopes (B, q, n)
Basis = Callable[[np.ndarray], tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]]


class Fits(NamedTuple):
    """A fit a row: shapes (B, q), amplitudes (B, m), the weighted sum of squares (B,)."""

    shapes: np.ndarray
    amplitudes: np.ndarray
    cost: np.ndarray

    def best(self) -> "Fits":
        """The row of least cost, as a batch of one."""
        at = int(np.argmin(self.cost))
        return Fits(self.shapes[at : at + 1], self.amplitudes[at : at + 1], self.cost[at : at + 1])


def solve(columns_of: Basis, y, weights, starts, low, high, held=None, pinned=None, iterations: int = 80) -> Fits:
    """The fits of least weighted squares that Levenberg-Marquardt reaches from `starts`.

    y: (n,). weights: (B, n) or (n,). starts: (B, q), within low and high, each (q,). held: (B, q) bool, shapes that
    stay where they start. pinned: (B, m), amplitudes that are given; nan where one is to be solved for.
    """
    starts = np.clip(np.atleast_2d(np.asarray(starts, float)), low, high)
    count = len(starts)
    weights = np.broadcast_to(np.asarray(weights, float), (count, len(y)))
    held = np.zeros(starts.shape, bool) if held is None else np.broadcast_to(held, starts.shape)
    parts = []
    for at in chunks(count, len(y)):
        fixed = None if pinned is None else pinned[at]
        parts.append(_solve(columns_of, y, weights[at], starts[at], low, high, held[at], fixed, iterations))
    return Fits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def chunks(fits: int, points: int) -> list[slice]:
    """Slices of `fits` fits to `points` points each, of as many as are best moved together."""
    size = max(1, TOGETHER // points)
    return [slice(begin, begin + size) for begin in range(0, fits, size)]


def _solve(columns_of, y, weights, shapes, low, high, held, pinned, iterations) -> Fits:
    size = (weights * y**2).sum(axis=1)
    amplitudes, cost, gradient, curvature = _project(columns_of, y, weights, shapes, pinned)
    final = Fits(shapes.copy(), amplitudes.copy(), cost.copy())
    rows = np.arange(len(shapes))  # of the fits that are still on their way
    damping = np.full(len(shapes), 1e-3)
    quiet = np.zeros(len(shapes), int)
    for _ in range(iterations):
        stuck = held | ((shapes <= low) & (gradient < 0)) | ((shapes >= high) & (gradient > 0))
        tried = np.clip(shapes + damped_step(gradient, curvature, damping, stuck), low, high)
        new = _project(columns_of, y, weights, tried, pinned)
        fall = cost - new[1]
        better = fall > 0
        quiet = np.where(better & (fall > TOLERANCE * cost), 0, quiet + better)
        done = (quiet >= 2) | (~better & (damping > 1e8)) | stuck.all(axis=1) | (cost <= 1e-31 * size)
        damping = np.where(better, np.maximum(damping / 5, 1e-12), damping * 4)
        # Where a step was no good the slopes stay as they were; only the damping grows.
        shapes, amplitudes, cost, gradient, curvature = (
            np.where(better.reshape((-1,) + (1,) * (old.ndim - 1)), now, old)
            for now, old in zip((tried, *new), (shapes, amplitudes, cost, gradient, curvature), strict=True)
        )
        final.shapes[rows], final.amplitudes[rows], final.cost[rows] = shapes, amplitudes, cost
        if done.all():
            break
        if done.any():
            live = ~done
            rows, weights, held, size, damping, quiet = (a[live] for a in (rows, weights, held, size, damping, quiet))
            shapes, amplitudes, cost, gradient, curvature = (
                a[live] for a in (shapes, amplitudes, cost, gradient, curvature)
            )
            pinned = None if pinned is None else pinned[live]
    return final


def damped_step(gradient, curvature, damping, stuck) -> np.ndarray:
    """Marquardt's step (B, q), 0 where stuck. gradient, stuck: (B, q); curvature: (B, q, q); damping: (B,)."""
    q = gradient.shape[1]
    free = ~stuck
    matrix = curvature * (free[:, :, None] & free[:, None, :])
    diagonal = np.einsum("bii->bi", matrix)
    scale = np.where(free, diagonal * (1 + damping[:, None]) + 1e-300, 1.0)
    matrix = matrix.copy()
    matrix[:, range(q), range(q)] = scale
    root = np.sqrt(scale)  # to unit diagonal: shapes of unlike size make one system otherwise ill-conditioned
    matrix = matrix / (root[:, :, None] * root[:, None, :])
    matrix[:, range(q), range(q)] += 1e-14
    return np.linalg.solve(matrix, (gradient * free / root)[..., None])[..., 0] / root


def _project(columns_of, y, weights, shapes, pinned):
    """For given shapes: amplitudes (B, m), cost (B,), and the cost's gradient (B, q) and curvature (B, q, q)."""
    columns, slopes_of = columns_of(shapes)
    count, m, _ = columns.shape
    allowed, given, left = np.ones((count, m), bool), np.zeros((count, m)), np.broadcast_to(y, weights.shape)
    if pinned is not None:
        allowed = np.isnan(pinned)
        given = np.where(allowed, 0.0, pinned)
        left = y - (given[:, None, :] @ columns)[:, 0]
    weighted = columns * weights[:, None, :]
    turned = columns.transpose(0, 2, 1)
    gram = weighted @ turned
    amplitudes, _ = nonnegative(gram, (weighted @ left[..., None])[..., 0], allowed)
    support = amplitudes > 0
    # The normal equations square the condition number; one refinement with the residual gives the digits back.
    residual = left - (amplitudes[:, None, :] @ columns)[:, 0]
    change = restricted_solve(gram, weighted @ residual[..., None], support)[..., 0]
    amplitudes = np.maximum(amplitudes + change, 0)
    residual = left - (amplitudes[:, None, :] @ columns)[:, 0]
    amplitudes = amplitudes + given
    slopes = slopes_of(amplitudes)
    shares = restricted_solve(gram, weighted @ slopes.transpose(0, 2, 1), support)  # Kaufman: what they can undo
    slopes = slopes - shares.transpose(0, 2, 1) @ columns
    heavy = slopes * weights[:, None, :]
    cost = (weights * residual**2).sum(axis=1)
    return amplitudes, cost, (heavy @ residual[..., None])[..., 0], heavy @ slopes.transpose(0, 2, 1)


def restricted_solve(gram, right, support) -> np.ndarray:
    """Solutions (B, m, k) of gram x = right on the supported columns, 0 elsewhere."""
    m = gram.shape[-1]
    matrix = gram * (support[..., :, None] & support[..., None, :])
    size = np.where(support, np.sqrt(np.einsum("...ii->...i", gram)) + 1e-150, 1.0)
    matrix = matrix / (size[..., :, None] * size[..., None, :])
    diagonal = range(m)
    matrix[..., diagonal, diagonal] = 1.0 + 1e-15
    return np.linalg.solve(matrix, right * support[..., None] / size[..., None]) / size[..., None]


def nonnegative(gram, right, allowed=None) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative least squares for at most three columns, in closed form: amplitudes (..., m), and by how much they
    lower the sum of squares (...).

    gram: (..., m, m); right: (..., m). The optimum is the least-squares solution of the columns it uses, so the best of
    the subsets whose solution is non-negative is it; there are at most seven.
    """
    m = gram.shape[-1]
    size = np.sqrt(np.einsum("...ii->...i", gram)) + 1e-150
    gram = gram / (size[..., :, None] * size[..., None, :])
    right = right / size
    best = np.zeros(right.shape)
    gain = np.zeros(right.shape[:-1])
    for chosen in (s for k in range(1, m + 1) for s in itertools.combinations(range(m), k)):
        found = _cramer(gram, right, chosen)
        ok = np.all([value >= 0 for value in found], axis=0)
        if allowed is not None:
            ok &= allowed[..., list(chosen)].all(axis=-1)
        won = sum(value * right[..., i] for value, i in zip(found, chosen, strict=True))
        ok &= won > gain
        gain = np.where(ok, won, gain)
        full = np.zeros(right.shape)
        for value, i in zip(found, chosen, strict=True):
            full[..., i] = value
        best = np.where(ok[..., None], full, best)
    return best / size, gain


def _cramer(gram, right, chosen) -> list[np.ndarray]:
    """Unrestricted solution of the chosen columns of a Gram matrix with unit diagonal; nan where it is singular."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(chosen) == 1:
            return [right[..., chosen[0]]]
        i, j = chosen[:2]
        x, y, p = right[..., i], right[..., j], gram[..., i, j]
        if len(chosen) == 2:
            low = 1 - p * p
            low = np.where(low > 1e-15, low, np.nan)
            return [(x - p * y) / low, (y - p * x) / low]
        k = chosen[2]
        z, q, r = right[..., k], gram[..., i, k], gram[..., j, k]
        low = 1 + 2 * p * q * r - p * p - q * q - r * r
        low = np.where(low > 1e-15, low, np.nan)
        return [
            (x * (1 - r * r) + y * (q * r - p) + z * (p * r - q)) / low,
            (x * (q * r - p) + y * (1 - q * q) + z * (p * q - r)) / low,
            (x * (p * r - q) + y * (p * q - r) + z * (1 - p * p)) / low,
        ]


def start_from_grid(columns_of: Basis, y, weights, grid, keep: int = 8) -> np.ndarray:
    """The `keep` shapes (keep, q) of a grid (G, q) with the least sum of squares, amplitudes solved for each.

    y, weights: (n,).
    """
    gains = []
    for begin in range(0, len(grid), 4096):
        columns = columns_of(grid[begin : begin + 4096])[0]
        weighted = columns * weights
        gains.append(nonnegative(weighted @ columns.transpose(0, 2, 1), weighted @ y)[1])
    return grid[np.argsort(-np.concatenate(gains), kind="stable")[:keep]]
