"""Intervals against textbook numbers and SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlp_lib.stats import Estimate, paired_difference, t_interval


def test_student_sleep_data():
    """Student 1908: extra hours of sleep of ten patients under two drugs. Mean difference 1.58, the 95% interval of R's
    t.test(paired=TRUE) is 0.7001142 to 2.4598858."""
    first = pd.Series([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = pd.Series([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    estimate = paired_difference(second, first)
    assert estimate.mean == pytest.approx(1.58) and estimate.n == 10
    assert estimate.interval == pytest.approx((0.7001142, 2.4598858), abs=1e-7)


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


def test_pairs_are_the_seeds_that_both_have():
    first = pd.Series({0: 10.0, 1: 20.0, 2: 30.0, 5: float("nan")})
    second = pd.Series({2: 27.0, 1: 19.0, 3: 90.0, 5: 1.0})
    estimate = paired_difference(first, second)
    assert estimate.n == 2 and estimate.mean == 2.0
    assert estimate == t_interval([1.0, 3.0])
    assert paired_difference(first, pd.Series({9: 1.0})).n == 0
    assert paired_difference(pd.Series(dtype=float), second).n == 0
