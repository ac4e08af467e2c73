"""Intervals between seeds (section 6 of the design: t-intervals, differences paired by seed)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A mean with its t-interval over n independent values, at 95% unless `level` says otherwise; the interval is None
    for n < 2."""

    mean: float
    interval: tuple[float, float] | None
    n: int
    level: float = 0.95

    def text(self, digits: int = 1) -> str:
        """For a table: 54.2 [53.8, 54.6] n=3, or 54.2 n=1; a level other than 95% is written out."""
        if self.n == 0:
            return "not run"
        if self.interval is None:
            return f"{self.mean:.{digits}f} n={self.n}"
        low, high = self.interval
        level = "" if self.level == 0.95 else f" ({100 * self.level:g}%)"
        return f"{self.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]{level} n={self.n}"


class Equivalence(NamedTuple):
    """Two one-sided t-tests. `p` small: the mean lies between -margin and margin; nan for n < 2.

    The estimate's interval has level 1 - 2 alpha, 90% for a test at 5%: it lies within the margin where p < alpha, and
    nowhere else.
    """

    estimate: Estimate
    p: float
    margin: float


def t_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean and two-sided t-interval. One value: the value and no interval. None: a mean of nan and n = 0."""
    values = np.asarray(list(values), float)
    n = len(values)
    if n == 0:
        return Estimate(float("nan"), None, 0, level)
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, None, 1, level)
    half = stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Estimate(mean, (mean - float(half), mean + float(half)), n, level)


def paired_difference(first, second, level: float = 0.95) -> Estimate:
    """t-interval of first - second over the seeds that both have. Both are pandas Series of values indexed by seed."""
    return t_interval(_paired(first, second), level)


def paired_equivalence(first, second, margin: float, alpha: float = 0.05) -> Equivalence:
    """Is first - second, over the seeds that both have, within +-margin? Two one-sided t-tests (Schuirmann 1987).

    One test has "the mean is -margin or less" as its null hypothesis, the other "it is margin or more": only where both
    are rejected is equivalence shown, so p is the larger of the two. A difference that is merely not significant shows
    nothing. Both arguments are pandas Series indexed by seed; `margin` is in their unit.
    """
    differences = _paired(first, second)
    estimate = t_interval(differences, 1 - 2 * alpha)
    if estimate.n < 2:
        return Equivalence(estimate, float("nan"), margin)
    room = margin - abs(estimate.mean)  # to the nearer bound, whose test has the larger p
    error = differences.std(ddof=1) / np.sqrt(estimate.n)
    if error == 0:  # all differences are one number
        return Equivalence(estimate, 0.0 if room > 0 else 1.0, margin)
    return Equivalence(estimate, float(stats.t.sf(room / error, estimate.n - 1)), margin)


def _paired(first, second):
    """first - second where both have a value."""
    joined = first.to_frame("a").join(second.to_frame("b"), how="inner").dropna()
    return joined["a"] - joined["b"]
