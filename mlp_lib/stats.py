"""Intervals between seeds (section 6 of the design: t-intervals, differences paired by seed)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A mean with its 95% t-interval over n independent values; the interval is None for n < 2."""

    mean: float
    interval: tuple[float, float] | None
    n: int

    def text(self, digits: int = 1) -> str:
        """For a table: 54.2 [53.8, 54.6] n=3, or 54.2 n=1."""
        if self.n == 0:
            return "not run"
        if self.interval is None:
            return f"{self.mean:.{digits}f} n={self.n}"
        low, high = self.interval
        return f"{self.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] n={self.n}"


def t_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean and two-sided t-interval. One value: the value and no interval. None: a mean of nan and n = 0."""
    values = np.asarray(list(values), float)
    n = len(values)
    if n == 0:
        return Estimate(float("nan"), None, 0)
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, None, 1)
    half = stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Estimate(mean, (mean - float(half), mean + float(half)), n)


def paired_difference(first, second, level: float = 0.95) -> Estimate:
    """t-interval of first - second over the seeds that both have. Both are pandas Series of values indexed by seed."""
    joined = first.to_frame("a").join(second.to_frame("b"), how="inner").dropna()
    return t_interval(joined["a"] - joined["b"], level)
