"""Intervals against textbook numbers and SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlp_lib.stats.intervals import (
    Estimate,
    at_best_of_others,
    paired_difference,
    paired_equivalence,
    paired_ratio,
    sign,
    t_interval,
    unpaired_difference,
)


def test_student_sleep_data():
    """Student 1908: extra hours of sleep of ten patients under two drugs. Mean difference 1.58, the 95% interval of R's
    t.test(paired=TRUE) is 0.7001142 to 2.4598858."""
    first = pd.Series([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = pd.Series([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    estimate = paired_difference(second, first)
    assert estimate.mean == pytest.approx(1.58) and estimate.n == 10
    assert estimate.interval == pytest.approx((0.7001142, 2.4598858), abs=1e-7)


def test_unpaired_sleep_data():
    """The same data as two groups of patients: the interval of R's t.test is -0.2054832 to 3.3654832 (Welch)."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    estimate = unpaired_difference(second, first)
    assert estimate.mean == pytest.approx(1.58) and estimate.n == 10
    assert estimate.interval == pytest.approx((-0.2054832, 3.3654832), abs=1e-7)
    assert unpaired_difference([1.0], [0.5, 0.7]).interval is None and unpaired_difference([], [1.0]).n == 0
    assert unpaired_difference([2.0, 2.0], [1.0, 1.0]).interval == (1.0, 1.0)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_t_interval_is_scipys(level):
    values = np.random.default_rng(0).normal(50, 3, size=5)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert t_interval(values, level).interval == pytest.approx((expected.low, expected.high))


def test_three_seeds_are_4_3_standard_errors():
    estimate = t_interval([1.0, 2.0, 3.0])
    assert estimate.mean == 2 and estimate.interval[1] - 2 == pytest.approx(4.3027 / np.sqrt(3), abs=1e-4)


def test_one_value_has_no_interval_and_none_no_mean():
    assert t_interval([54.2]) == Estimate(54.2, None, 1)
    none = t_interval([])
    assert np.isnan(none.mean) and none.interval is None and none.n == 0
    assert (t_interval([54.2]).text(), none.text()) == ("54.2 n=1", "not run")
    assert Estimate(54.21, (53.8, 54.62), 3).text() == "54.2 [53.8, 54.6] n=3"


def test_the_sign_is_what_the_interval_shows():
    """Student 1908, as above: the interval of the difference lies above 0, so that of its negative below."""
    first = pd.Series([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = pd.Series([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert (sign(paired_difference(second, first)), sign(paired_difference(first, second))) == (1, -1)
    assert sign(t_interval(first)) == 0 and sign(t_interval([0.0, 0.0])) == 0  # mean 0.75, but 0 is within
    assert sign(t_interval([54.2])) == sign(t_interval([])) == 0  # no interval, nothing shown


def test_pairs_are_the_seeds_that_both_have():
    first = pd.Series({0: 10.0, 1: 20.0, 2: 30.0, 5: float("nan")})
    second = pd.Series({2: 27.0, 1: 19.0, 3: 90.0, 5: 1.0})
    estimate = paired_difference(first, second)
    assert estimate.n == 2 and estimate.mean == 2.0
    assert estimate == t_interval([1.0, 3.0])
    assert paired_difference(first, pd.Series({9: 1.0})).n == 0
    assert paired_difference(pd.Series(dtype=float), second).n == 0


def test_equivalence_on_students_sleep_data():
    """R's t.test of the same ten differences: t = 4.0621 on 9 degrees of freedom, so the standard error is 0.38896.
    The 95% quantile of t with 9 degrees of freedom is 1.8331 in any table: at a margin of 1.58 + 1.8331 * 0.38896 the
    test must stand at exactly 5%."""
    first = pd.Series([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = pd.Series([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    edge = 1.58 + 1.8331 * 0.38896
    test = paired_equivalence(second, first, edge)
    assert test.p == pytest.approx(0.05, abs=1e-4) and test.margin == edge
    assert test.estimate.mean == pytest.approx(1.58) and test.estimate.level == pytest.approx(0.9)
    assert test.estimate.interval == pytest.approx((1.58 - 1.8331 * 0.38896, edge), abs=1e-4)
    assert paired_equivalence(second, first, 1.5).p > 0.5  # the mean itself is outside


@pytest.mark.parametrize("mean", [0.0, 0.4, -0.9, 1.7])
@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_equivalence_is_two_of_scipys_one_sided_tests(mean, alpha):
    seeds = np.random.default_rng(1)
    first, second = pd.Series(seeds.normal(50 + mean, 1, 9)), pd.Series(seeds.normal(50, 1, 9))
    test = paired_equivalence(first, second, 1.0, alpha)
    expected = max(
        stats.ttest_1samp(first - second, -1.0, alternative="greater").pvalue,
        stats.ttest_1samp(first - second, 1.0, alternative="less").pvalue,
    )
    assert test.p == pytest.approx(expected)
    low, high = test.estimate.interval
    assert (test.p < alpha) == (-1 < low and high < 1)
    assert paired_equivalence(second, first, 1.0, alpha).p == pytest.approx(test.p)


def test_equivalence_of_few_or_equal_values():
    one = paired_equivalence(pd.Series([50.0]), pd.Series([50.1]), 1.0)
    assert np.isnan(one.p) and one.estimate.interval is None and one.estimate.n == 1
    none = paired_equivalence(pd.Series(dtype=float), pd.Series([50.1]), 1.0)
    assert np.isnan(none.p) and none.estimate.n == 0
    same = pd.Series([50.0, 51.0, 52.0])
    assert paired_equivalence(same, same, 1.0).p == 0 and paired_equivalence(same + 1, same, 1.0).p == 1


def test_a_level_other_than_95_percent_is_written_out():
    assert t_interval([1.0, 2.0, 3.0], 0.9).text() == "2.0 [0.3, 3.7] (90%) n=3"
    assert t_interval([1.0, 2.0, 3.0]).text() == "2.0 [-0.5, 4.5] n=3"


def test_a_ratio_is_geometric():
    first, second = pd.Series({0: 8.0, 1: 2.0, 2: 5.0}), pd.Series({1: 1.0, 0: 1.0, 3: 1.0})
    found = paired_ratio(first, second)
    assert found.mean == pytest.approx(4) and found.n == 2  # of 8 and 2
    half = stats.t.ppf(0.975, 1) * np.log([8, 2]).std(ddof=1) / np.sqrt(2)
    assert found.interval == pytest.approx((4 / np.exp(half), 4 * np.exp(half)))


def test_the_best_point_is_chosen_by_the_other_runs():
    curves = pd.DataFrame({1: [10.0, 40.0, 12.0], 2: [30.0, 20.0, 31.0], 3: [29.0, 21.0, 20.0]}, index=[7, 8, 9])
    # others of 7: 26, 25.5, 20.5; of 8: 11, 30.5, 24.5; of 9: 25, 25, 25
    assert at_best_of_others(curves).to_dict() == {7: 10.0, 8: 20.0, 9: 12.0}
    assert at_best_of_others(curves.assign(late=[np.nan, 90.0, 90.0])).to_dict() == {7: 10.0, 8: 20.0, 9: 12.0}
    assert at_best_of_others(curves.iloc[:1]).empty and at_best_of_others(pd.DataFrame()).empty


def test_the_best_point_chosen_so_does_not_gain_by_noise():
    noise = np.random.default_rng(0).normal(size=(4000, 20))  # flat curves: the best point is worth nothing
    picked = [at_best_of_others(pd.DataFrame(noise[i : i + 4])) for i in range(0, 4000, 4)]
    assert abs(pd.concat(picked).mean()) < 4 * noise.std() / np.sqrt(4000)
    assert noise.max(axis=1).mean() > 1.5  # each run's own would be worth that
