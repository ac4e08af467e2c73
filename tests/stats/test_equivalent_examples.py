"""Equivalent training examples, against curves whose answer is known in closed form."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlp_lib.stats.equivalent_examples import equivalent_examples

SIZES = (500, 1000, 2000, 4000, 8000)


def curve_of(at=lambda n: 5 * np.log2(n), noise=0.0, seeds: int = 3) -> pd.DataFrame:
    """Accuracy by seed and size; the noise shifts a seed's whole curve, as a good or bad initialisation would."""
    offsets = noise * np.linspace(-1, 1, seeds)
    return pd.DataFrame({n: at(n) + offsets for n in SIZES}, index=range(seeds))


def test_a_doubling_is_read_as_a_doubling():
    """On a curve that gains 5 points a doubling, 5 points more than at 1,000 are 2,000 examples, and 2.5 are 1,414."""
    curve = curve_of()
    assert equivalent_examples(curve, curve[1000] + 5).examples == pytest.approx(2000)
    half = equivalent_examples(curve, curve[1000] + 2.5)
    assert half.examples == pytest.approx(1000 * 2**0.5) and half.factor(1000).startswith("1.4 [1.4")
    assert equivalent_examples(curve, curve[1000] - 2.5).examples == pytest.approx(1000 / 2**0.5)
    assert equivalent_examples(curve, curve[4000]).examples == pytest.approx(4000)


def test_what_shifts_a_seed_and_its_curve_alike_does_not_widen_the_interval():
    noisy = curve_of(noise=4.0)
    found = equivalent_examples(noisy, noisy[1000] + 5)
    assert found.examples == pytest.approx(2000) and found.interval == pytest.approx((2000, 2000))


def test_the_interval_is_the_inverted_t_test():
    """Gains of 4, 5 and 6 points have the t-interval 5 +- 2.484; on this curve that is a factor 2^(2.484 / 5)."""
    curve = curve_of()
    found = equivalent_examples(curve, curve[1000] + [4.0, 5.0, 6.0])
    ratio = 2 ** (4.302653 / np.sqrt(3) / 5)
    assert found.examples == pytest.approx(2000)
    assert found.interval == pytest.approx((2000 / ratio, 2000 * ratio), rel=1e-6)
    assert (found.n, found.text()) == (3, "2,000 [1,400, 2,800] n=3")


def test_the_interval_is_fiellers_where_seeds_gain_differently_from_a_doubling():
    """Seeds that gain s points a doubling, and v by the change: the number of doublings is a ratio of means, whose
    interval Fieller (1954) gives in closed form from variances and covariance."""
    gain, change = np.array([4.0, 5.0, 6.5, 5.2]), np.array([7.0, 10.0, 12.0, 9.0])
    curve = pd.DataFrame([10 + s * np.log2(np.array(SIZES) / 500) for s in gain], columns=list(SIZES))
    found = equivalent_examples(curve, pd.Series(10 + change))
    (var_v, cov), (_, var_s) = np.cov(change, gain) / 4
    v, s, t2 = change.mean(), gain.mean(), 3.182446305**2
    middle, root = v * s - t2 * cov, np.sqrt((v * s - t2 * cov) ** 2 - (v**2 - t2 * var_v) * (s**2 - t2 * var_s))
    doublings = [(middle + sign * root) / (s**2 - t2 * var_s) for sign in (-1, 1)]
    assert found.interval == pytest.approx(tuple(500 * 2 ** np.array(doublings)), rel=1e-6)
    assert found.examples == pytest.approx(500 * 2 ** (v / s))


def test_the_interval_ends_where_the_paired_t_test_turns_and_is_not_rounded_inward():
    """Seeds of every shape: at both ends p is 0.05, and nowhere outside is it larger. Narrow intervals too."""
    rng = np.random.default_rng(0)
    for spread in (2.0, 0.3, 0.01):
        curve = curve_of() + rng.normal(0, spread, (3, len(SIZES)))
        changed = curve[2000] + 2.0 + rng.normal(0, spread, 3)
        low, high = equivalent_examples(curve, changed).interval

        def p(examples, curve=curve, changed=changed):
            at = [np.interp(np.log(examples), np.log(SIZES), row) for row in curve.to_numpy()]
            return stats.ttest_rel(changed, at).pvalue

        for end in {low, high} - {0.0, np.inf}:
            assert p(end) == pytest.approx(0.05, rel=1e-5)
        outside = [n for n in np.geomspace(500, 8000, 400) if not low <= n <= high]
        assert len(outside) > 50 and max(map(p, outside)) < 0.05


def test_beyond_the_curve_is_said_and_not_guessed():
    curve = curve_of()
    above, below = equivalent_examples(curve, curve[8000] + 1), equivalent_examples(curve, curve[500] - 1)
    assert above.text() == "> 8,000 [> 8,000, > 8,000] n=3" and above.factor(1000) == "> 8 [> 8, > 8]"
    assert below.text() == "< 500 [< 500, < 500] n=3" and below.factor(1000).startswith("< 0.5 ")
    nearly = equivalent_examples(curve, curve[4000] + [3.0, 4.0, 5.0])  # the mean is inside, the interval is not
    assert 4000 < nearly.examples < 8000 and nearly.text().endswith("> 8,000] n=3")


def test_a_flat_curve_gives_a_wide_interval_and_its_first_size():
    flat = curve_of(at=lambda n: min(n, 2000) / 100)
    found = equivalent_examples(flat, flat[2000] + [-0.3, 0.0, 0.3])
    assert found.examples == pytest.approx(2000) and found.interval[1] == float("inf")


def test_a_curve_that_falls_somewhere_is_made_monotone():
    """30, 40, 36, 50, 60: the pair 40, 36 counts as 38 twice, so that 38 is reached at 1,000."""
    dented = pd.DataFrame({n: [v] * 3 for n, v in zip(SIZES, (30.0, 40.0, 36.0, 50.0, 60.0), strict=True)})
    assert equivalent_examples(dented, pd.Series([38.0] * 3)).examples == pytest.approx(1000)
    assert equivalent_examples(dented, pd.Series([44.0] * 3)).examples == pytest.approx(2000 * 2**0.5)  # halfway to 50


def test_only_seeds_that_have_everything_count():
    curve = curve_of(noise=1.0)
    curve.loc[2, 500] = None
    found = equivalent_examples(curve, pd.Series({0: curve.loc[0, 1000], 1: curve.loc[1, 1000], 2: 0.0, 7: 0.0}))
    assert found.n == 2 and found.examples == pytest.approx(1000)
    one = equivalent_examples(curve.iloc[:1], curve[1000])
    assert (one.interval, one.text(), one.factor(1000)) == (None, "1,000 n=1", "1")
    none = equivalent_examples(curve.iloc[:0], pd.Series(dtype=float))
    assert (none.n, none.text(), none.factor(1000)) == (0, "not run", "not run")


def test_one_size_is_no_curve():
    with pytest.raises(ValueError, match="at least two"):
        equivalent_examples(curve_of()[[1000]], pd.Series([1.0]))
