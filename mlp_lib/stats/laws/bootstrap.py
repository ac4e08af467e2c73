"""Resampled runs, the intervals that they give, and which ends of an interval the data leave open."""

import numpy as np
from scipy import stats

from mlp_lib.errors import UserError


def resample_counts(n: int, draws: int, seed: int = 0, groups=None, at_least: int = 2) -> np.ndarray:
    """How often each of n runs is in each of `draws` resamples: (draws, n) whole numbers.

    groups: (n,) labels; rows of one label are drawn together (points of one training curve, say). A resample with fewer
    than `at_least` different groups determines no law and is drawn again.
    """
    labels = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(labels.max()) + 1
    if count < at_least:
        raise UserError(f"{count} independent runs; a bootstrap of this law needs {at_least}")
    rng = np.random.default_rng(seed)
    found = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    for _ in range(1000):
        few = (found > 0).sum(axis=1) < at_least
        if not few.any():
            return found[:, labels]
        found[few] = rng.multinomial(count, np.full(count, 1 / count), size=int(few.sum()))
    # Nearly every resample is too poor, as with 5 runs and 5 constants: the runs themselves, each once, stand in.
    found[few] = 1
    return found[:, labels]


def interval(values, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the finite values; (nan, nan) where fewer than half are finite."""
    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    if len(finite) < max(2, len(values) / 2):
        return (float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))


def threshold(n: int, constants: int, level: float = 0.95) -> float:
    """By how many squared standard errors a constant may be off: the square of t's quantile at n - constants."""
    return float(stats.t.ppf(0.5 + level / 2, max(n - constants, 1)) ** 2)


def ends(distances, deviances, limit: float) -> float:
    """The distance at which the deviance crosses the limit, by interpolation of its root; inf where it does not.

    distances, deviances: (k,), of growing distance from the optimum. The root of a deviance is nearly straight.
    """
    roots = np.sqrt(np.maximum(np.concatenate([[0.0], deviances]), 0))
    places = np.concatenate([[0.0], distances])
    above = np.flatnonzero(roots > np.sqrt(limit))
    if not len(above):
        return float("inf")
    i = above[0]
    share = (np.sqrt(limit) - roots[i - 1]) / (roots[i] - roots[i - 1])
    return float(places[i - 1] + share * (places[i] - places[i - 1]))


def open_side(low_closed: bool, high_closed: bool) -> str:
    """For a table: which side of an interval is open, "" where neither is."""
    return {(True, True): "", (False, True): "low", (True, False): "high", (False, False): "both"}[
        (bool(low_closed), bool(high_closed))
    ]


def opened(side: str, at_low, at_high, level: float) -> str:
    """The open sides of an interval, with those added on which the resamples' own fits reach the end of what is
    searched more often than the interval leaves out. at_low, at_high: (draws,) bool."""
    tail = (1 - level) / 2
    low, high = (bool(len(at)) and float(np.mean(at)) > tail for at in (at_low, at_high))
    return open_side(side not in ("low", "both") and not low, side not in ("high", "both") and not high)


def noise_draws(log_loss, cells, residuals, draws: int, seed: int = 0) -> np.ndarray:
    """Redrawn mean log losses of cells, (draws, number of cells), for methods that need their grid whole.

    log_loss: (n,); cells: (n,) cell numbers from 0. Where every cell has two runs or more, runs are resampled within
    cells; their spread is widened by sqrt(k / (k - 1)) for k runs, which a resample of k values falls short of.
    Otherwise `residuals` (n,), of a law fitted to the runs, are resampled over all of them.
    """
    rng = np.random.default_rng(seed)
    log_loss, cells = np.asarray(log_loss, float), np.asarray(cells)
    sizes = np.bincount(cells)
    means = np.bincount(cells, log_loss) / sizes
    if sizes.min() < 2:
        noise = rng.choice(residuals - np.mean(residuals), size=(draws, len(log_loss)))
        moved = np.zeros((draws, len(sizes)))
        np.add.at(moved, (slice(None), cells), noise)
        return means + moved / sizes
    found = np.empty((draws, len(sizes)))
    for cell, size in enumerate(sizes):
        own = log_loss[cells == cell] - means[cell]
        found[:, cell] = means[cell] + np.sqrt(size / (size - 1)) * rng.choice(own, size=(draws, size)).mean(axis=1)
    return found
