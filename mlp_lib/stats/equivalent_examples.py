"""Equivalent training examples: how many more examples would have brought as much as a change did.

A model's accuracy over the number of training examples is its learning curve. A change, augmentation say, that lifts
the accuracy at N examples to what the curve reaches at N' examples does as much as N' / N times the examples.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.stats import t

from mlp_lib.records.behind import Runs, note, runs_of
from mlp_lib.stats.intervals import t_interval


class Equivalent(NamedTuple):
    """A number of examples and its 95% interval over n seeds. 0 and infinity stand for "below the curve's fewest
    examples" and "beyond its most"; `fewest` and `most` are these. The interval is None for n < 2; n = 0: not run.
    `runs` are those that it was read from, as far as they are known."""

    examples: float
    interval: tuple[float, float] | None
    n: int
    fewest: int
    most: int
    runs: Runs = Runs()

    def text(self) -> str:
        """For a table: 4,100 [3,200, 5,600] n=3, with > 32,000 and < 500 for what lies beyond the curve."""
        if self.n == 0:
            return "not run"
        if self.interval is None:
            return note(f"{self._one(self.examples)} n={self.n}", self.runs)
        low, high = self.interval
        return note(f"{self._one(self.examples)} [{self._one(low)}, {self._one(high)}] n={self.n}", self.runs)

    def factor(self, base: int) -> str:
        """The same as a multiple of `base` examples: 2.1 [1.6, 2.8]."""
        if self.n == 0:
            return "not run"
        ends = "" if self.interval is None else f" [{', '.join(self._times(end, base) for end in self.interval)}]"
        return note(f"{self._times(self.examples, base)}{ends}", self.runs if ends else Runs())

    def _one(self, examples: float) -> str:
        if examples == 0:
            return f"< {self.fewest:,}"
        return f"> {self.most:,}" if np.isinf(examples) else f"{float(f'{examples:.2g}'):,.0f}"

    def _times(self, examples: float, base: int) -> str:
        if examples == 0:
            return f"< {self.fewest / base:.2g}"
        return f"> {self.most / base:.2g}" if np.isinf(examples) else f"{examples / base:.2g}"


def equivalent_examples(curve: pd.DataFrame, changed: pd.Series) -> Equivalent:
    """At how many examples does a learning curve reach what a change reached?

    Args:
        curve: accuracy without the change, a row a seed and a column a number of training examples (at least two).
        changed: accuracy with it, indexed by seed. Only seeds that have it and the whole curve count.

    The number is read from the mean curve, made monotone (isotonic regression) and interpolated linearly in the
    logarithm of the number of examples: between two measured sizes that is a good guess, and beyond them nothing is
    guessed. The interval inverts the paired t-test, as Fieller (1954) does for a ratio: it spans the numbers of
    examples at which the change and the curve of the same seed, interpolated, do not differ at 5%, and its ends are
    exact. Where the curve is flat it is wide, as it must be. Raises ValueError for a curve of fewer than two sizes.
    """
    sizes = np.array(sorted(curve.columns), float)
    if len(sizes) < 2:
        raise ValueError("a learning curve needs at least two numbers of examples")
    fewest, most, runs = int(sizes[0]), int(sizes[-1]), runs_of(curve, changed)
    joined = curve[sorted(curve.columns)].join(changed.rename("changed"), how="inner").dropna()
    n = len(joined)
    if n == 0:
        return Equivalent(float("nan"), None, 0, fewest, most)
    scores, values = joined.iloc[:, :-1].to_numpy(float), joined["changed"].to_numpy(float)  # (n, K), (n,)
    found = _crossing(sizes, isotonic_regression(scores.mean(0)).x, values.mean())
    if n == 1:
        return Equivalent(found, None, 1, fewest, most, runs)
    gains = values[:, None] - scores  # (n, K): what the change is better by at each number of examples
    same = _undecided(np.log(sizes), gains)
    first = found if not len(same) else 0.0 if t_interval(gains[:, 0]).interval[0] <= 0 else np.exp(same[0])
    last = found if not len(same) else float("inf") if t_interval(gains[:, -1]).interval[1] >= 0 else np.exp(same[-1])
    return Equivalent(found, (float(min(first, found)), float(max(last, found))), n, fewest, most, runs)


def _undecided(places: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The ends, in rising order, of the stretches on which the 95% t-interval of the gains contains 0.

    gains: (n, K), a row a seed, at the K rising `places` and linear between them. The interval contains 0 where
    mean^2 <= (t s)^2 / n. With u from 0 to 1 between two places, mean and deviations are linear in u, so both sides are
    quadratic in it: the ends are roots.
    """
    n = len(gains)
    mean, off = gains.mean(0), gains - gains.mean(0)
    excess = np.outer(mean, mean) - t.ppf(0.975, n - 1) ** 2 / (n * (n - 1)) * off.T @ off  # (K, K), a bilinear form
    found = list(places[np.diag(excess) <= 0])
    for i in range(len(places) - 1):
        start, mixed, end = excess[i, i], excess[i, i + 1], excess[i + 1, i + 1]
        square, half = start - 2 * mixed + end, mixed - start  # square u^2 + 2 half u + start
        if (inside := half**2 - square * start) >= 0:
            w = -half - np.copysign(np.sqrt(inside), half)  # no difference of nearly equal numbers
            roots = [over / under for over, under in ((w, square), (start, w)) if under and abs(over) <= abs(under)]
            found += [places[i] + u * (places[i + 1] - places[i]) for u in roots if u >= 0]
    return np.sort(found)


def _crossing(sizes: np.ndarray, scores: np.ndarray, value: float) -> float:
    """The smallest number of examples at which a rising curve reaches `value`; 0 below the curve, infinity beyond."""
    if value < scores[0]:
        return 0.0
    if value > scores[-1]:
        return float("inf")
    i = int(np.searchsorted(scores, value))  # the first size that reaches it
    if i == 0 or scores[i] == value:
        return float(sizes[i])
    share = (value - scores[i - 1]) / (scores[i] - scores[i - 1])
    return float(np.exp(np.log(sizes[i - 1]) + share * np.log(sizes[i] / sizes[i - 1])))
