"""The exchange rate between two families at equal error."""

import numpy as np
import pandas as pd
import pytest

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.worth import falling, what_is_a_bias_worth

X = np.geomspace(1e3, 1e6, 7)


def family(factor, noise=0.0, seeds=3, x=X, seed=0):
    """Errors x^-0.3 of a family that needs `factor` times the examples."""
    rng = np.random.default_rng(seed)
    return pd.concat(
        [
            pd.DataFrame(
                {"x": x, "error": (x / factor) ** -0.3 * np.exp(noise * rng.standard_normal(len(x))), "seed": s}
            )
            for s in range(seeds)
        ]
    )


def test_the_factor_is_found_over_the_common_range():
    found = what_is_a_bias_worth(family(8.0), family(1.0), draws=50)
    assert found.ratio == pytest.approx(np.full(25, 8.0))
    assert found.low == pytest.approx(found.ratio) and found.high == pytest.approx(found.ratio)
    assert found.common == pytest.approx((1e6**-0.3 * 8**0.3, 1e3**-0.3))
    assert set(found.edge) == {""} and found.seeds == (3, 3)


def test_there_is_no_extrapolation():
    found = what_is_a_bias_worth(family(8.0), family(1.0), errors=[0.01, 0.02, 0.06, 0.2, 0.5], draws=20)
    assert np.isfinite(found.ratio).tolist() == [False, False, True, False, False]
    assert found.edge == [
        "a: below its errors; b: below its errors",
        "a: below its errors",
        "",
        "b: above its errors",
        "a: above its errors; b: above its errors",
    ]
    with pytest.raises(UserError, match="no error in common"):
        what_is_a_bias_worth(family(1e9), family(1.0))
    assert np.isnan(what_is_a_bias_worth(family(1e9), family(1.0), [0.1]).ratio).all()


def test_intervals_over_seeds_hold_the_truth_and_need_seeds():
    found = what_is_a_bias_worth(
        family(8.0, 0.02, seeds=5), family(1.0, 0.02, seeds=5, seed=9), [0.05, 0.08], draws=400
    )
    assert ((found.low < 8.0) & (8.0 < found.high) & (found.reached == 1)).all()
    alone = what_is_a_bias_worth(family(8.0, seeds=1), family(1.0), [0.05])
    assert alone.ratio == pytest.approx([8.0]) and np.isnan(alone.low).all() and alone.seeds == (1, 3)
    bare = what_is_a_bias_worth(family(8.0, seeds=1).drop(columns="seed"), family(1.0), [0.05])
    assert bare.ratio == pytest.approx([8.0])


def test_a_curve_that_rises_is_pooled():
    x, y = falling([0.0, 1.0, 2.0, 3.0], [3.0, 1.0, 2.0, 0.0])
    assert x.tolist() == [0.0, 1.5, 3.0] and y.tolist() == [3.0, 1.5, 0.0]
    x, y = falling([0.0, 1.0], [1.0, 2.0])
    assert x.tolist() == [0.5] and y.tolist() == [1.5]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.drop(columns="error"), "curve a lacks column 'error'"),
        (lambda t: t.assign(error=0.0), "must be positive"),
        (lambda t: t[:1], "one x"),
        (lambda t: t[:0], "one run or more"),
    ],
)
def test_a_curve_that_is_none_is_said(change, message):
    with pytest.raises(UserError, match=message):
        what_is_a_bias_worth(change(family(8.0)), family(1.0))


def test_errors_must_be_positive():
    with pytest.raises(UserError, match="errors must be positive"):
        what_is_a_bias_worth(family(8.0), family(1.0), [-1.0])
