"""Intervals between seeds (section 6 of the design: t-intervals, differences paired by seed)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from mlp_lib.records import behind

NOTHING = 1.0  # points: a change that is smaller counts as none (claim 15)


class Estimate(NamedTuple):
    """A mean with its t-interval over n independent values, at 95% unless `level` says otherwise; the interval is None
    for n < 2. `runs` are those that the values come from, as far as they are known."""

    mean: float
    interval: tuple[float, float] | None
    n: int
    level: float = 0.95
    runs: behind.Runs = behind.Runs()

    def text(self, digits: int = 1) -> str:
        """For a table: 54.2 [53.8, 54.6] n=3, or 54.2 n=1; a level other than 95% is written out. On a page, the text
        shows its runs (`behind`)."""
        if self.n == 0:
            return "not run"
        if self.interval is None:
            return behind.note(f"{self.mean:.{digits}f} n={self.n}", self.runs)
        low, high = self.interval
        level = "" if self.level == 0.95 else f" ({100 * self.level:g}%)"
        values = behind.note(f"{self.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]{level}", self.runs)
        return behind.note(f"{values} n={self.n}", self.runs)

    def of_runs(self, *values) -> "Estimate":
        """The same estimate, of the runs that these values come from (`behind.runs_of`)."""
        return self._replace(runs=behind.runs_of(*values)._replace(of=""))


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
    runs = behind.runs_of(values)
    values = np.asarray(list(values), float)
    n = len(values)
    if n == 0:
        return Estimate(float("nan"), None, 0, level)
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, None, 1, level, runs)
    half = stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Estimate(mean, (mean - float(half), mean + float(half)), n, level, runs)


def paired_difference(first, second, level: float = 0.95) -> Estimate:
    """t-interval of first - second over the seeds that both have. Both are pandas Series of values indexed by seed."""
    return t_interval(difference(first, second), level)


def unpaired_difference(first, second, level: float = 0.95) -> Estimate:
    """Welch's t-interval of the mean of first minus that of second, as if no seed of one belonged to a seed of the
    other; `n` is the smaller of the two numbers of values. Missing values are left out.

    Beside `paired_difference` it shows what the pairing does: pairing is justified where the seeds share something
    (order of the images, draws of the augmentation, initial weights), so that both rise and fall together.
    """
    runs = behind.runs_of(first, second)
    first, second = (np.asarray(list(values), float) for values in (first, second))
    first, second = (values[~np.isnan(values)] for values in (first, second))
    n = min(len(first), len(second))
    if n == 0:
        return Estimate(float("nan"), None, 0, level)
    mean = float(first.mean() - second.mean())
    if n == 1:
        return Estimate(mean, None, 1, level, runs)
    one, other = (values.var(ddof=1) / len(values) for values in (first, second))
    error = float(np.sqrt(one + other))
    if error == 0:
        return Estimate(mean, (mean, mean), n, level, runs)
    freedom = (one + other) ** 2 / (one**2 / (len(first) - 1) + other**2 / (len(second) - 1))
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * error
    return Estimate(mean, (mean - half, mean + half), n, level, runs)


def minus(estimate: Estimate, amount: float) -> Estimate:
    """The estimate with a constant taken off: how far it lies above that amount."""
    ends = estimate.interval and (estimate.interval[0] - amount, estimate.interval[1] - amount)
    runs = estimate.runs._replace(of="")
    return estimate._replace(mean=estimate.mean - amount, interval=ends, runs=runs)


def below(estimate: Estimate, bound: float) -> Estimate:
    """A bound minus the estimate: how far it lies below that bound."""
    ends = estimate.interval and (bound - estimate.interval[1], bound - estimate.interval[0])
    runs = estimate.runs._replace(of="")
    return estimate._replace(mean=bound - estimate.mean, interval=ends, runs=runs)


def paired_ratio(first, second) -> Estimate:
    """Geometric mean of first / second over the seeds that both have, with the t-interval of the logarithms. Both are
    pandas Series of positive values indexed by seed."""
    logs = paired_difference(np.log(first), np.log(second))
    ends = logs.interval and (float(np.exp(logs.interval[0])), float(np.exp(logs.interval[1])))
    return logs._replace(mean=float(np.exp(logs.mean)), interval=ends, runs=logs.runs._replace(of=""))


def sign(estimate: Estimate) -> int:
    """What an estimate's interval shows of its sign: 1 where it lies above 0, -1 where it lies below, and 0 where it
    holds 0 or there is none."""
    if estimate.interval is None:
        return 0
    low, high = estimate.interval
    return int(low > 0) - int(high < 0)


def at_best_of_others(curves):
    """Each run's value at the point where the mean of the *other* runs is highest (the first of equals): the best point
    of a training, chosen without looking at the run that is read there.

    A run's own maximum is too high by the noise of its points, and the more so the more of them compete: a curve that
    has long been flat gains more by it than one that still rises, whose best point is its last.

    curves: pandas DataFrame, a row a run, a column a point; columns that any run lacks are left out. Returns a Series
    by row; empty for fewer than two runs, which choose nothing for each other.
    """
    curves = curves.dropna(axis="columns")
    if len(curves) < 2 or curves.columns.empty:
        return curves.iloc[:0].max(axis="columns")
    best = {run: curves.drop(index=run).mean().idxmax() for run in curves.index}
    return curves.apply(lambda row: row[best[row.name]], axis="columns")


def paired_equivalence(first, second, margin: float, alpha: float = 0.05) -> Equivalence:
    """Is first - second, over the seeds that both have, within +-margin? Two one-sided t-tests (Schuirmann 1987).

    One test has "the mean is -margin or less" as its null hypothesis, the other "it is margin or more": only where both
    are rejected is equivalence shown, so p is the larger of the two. A difference that is merely not significant shows
    nothing. Both arguments are pandas Series indexed by seed; `margin` is in their unit.
    """
    differences = difference(first, second)
    estimate = t_interval(differences, 1 - 2 * alpha)
    if estimate.n < 2:
        return Equivalence(estimate, float("nan"), margin)
    room = margin - abs(estimate.mean)  # to the nearer bound, whose test has the larger p
    error = differences.std(ddof=1) / np.sqrt(estimate.n)
    if error == 0:  # all differences are one number
        return Equivalence(estimate, 0.0 if room > 0 else 1.0, margin)
    return Equivalence(estimate, float(stats.t.sf(room / error, estimate.n - 1)), margin)


def difference(first, second):
    """first - second where both have a value, of the runs of both. Both are pandas Series indexed by seed."""
    joined = first.to_frame("a").join(second.to_frame("b"), how="inner").dropna()
    found = (joined["a"] - joined["b"]).rename(first.name if first.name == second.name else None)
    return behind.with_those_of(found, first, second)
