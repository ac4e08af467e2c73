"""One-variable laws: known constants come back, and what the data do not say is flagged."""

import numpy as np
import pytest
from scipy.optimize import brentq

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.compare import compare_curves, hold_out_curve, largest
from mlp_lib.stats.laws.curves import aicc, fit_curve, fit_m4, fit_one_break, fit_power, fit_saturating

X = np.geomspace(1e3, 1e9, 60)


def m4_by_bisection(x, a, alpha, top, bottom, k):
    """E of (E - bottom) / (top - E)^k = a x^-alpha, by another road than the package's."""

    def gap(error, place):
        return np.log(error - bottom) - k * np.log(top - error) - np.log(a) + alpha * np.log(place)

    return np.array([brentq(gap, bottom + 1e-13, top - 1e-13, args=(place,)) for place in x])


TRUTHS = {
    "power": ({"a": 3.0, "alpha": 0.2}, 3.0 * X**-0.2),
    "saturating": ({"a": 5.0, "b": 2e4, "alpha": 0.35, "E_inf": 0.12}, 5.0 * (2e4 + X) ** -0.35 + 0.12),
    "m4": (
        {"a": 40.0, "alpha": 0.4, "E_0": 0.9, "E_inf": 0.1, "k": 1.5},
        m4_by_bisection(X, 40.0, 0.4, 0.9, 0.1, 1.5),
    ),
    "one_break": (
        {"a": 2.0, "slope_before": 0.1, "slope_after": 0.4, "break_at": 1e6, "smoothness": 0.5, "E_inf": 0.05},
        0.05 + 2.0 * X**-0.1 * (1 + (X / 1e6) ** 2) ** (-0.3 * 0.5),
    ),
}


@pytest.mark.parametrize("law", TRUTHS)
def test_known_constants_come_back_from_exact_errors(law):
    constants, error = TRUTHS[law]
    fit = fit_curve(law, X, error, draws=20)
    assert fit.constants == pytest.approx(constants, rel=1e-6)
    assert fit.predict(X) == pytest.approx(error, rel=1e-9)
    assert all(fit.identified.values())
    for name, value in constants.items():
        assert fit.intervals[name] == pytest.approx((value, value), rel=1e-5)


@pytest.mark.parametrize("law", TRUTHS)
def test_noisy_errors_give_intervals_around_the_truth(law):
    constants, error = TRUTHS[law]
    noisy = error * np.exp(0.01 * np.random.default_rng(4).standard_normal(len(X)))
    fit = fit_curve(law, X, noisy, draws=300)
    assert fit.rms_log == pytest.approx(0.01, rel=0.4) and fit.r2 > 0.99
    for name, (low, high) in fit.intervals.items():
        middle, half = (low + high) / 2, (high - low) / 2
        assert abs(constants[name] - middle) < 3 * half, name
    low, high = fit.band(X)
    assert ((low < error * 1.02) & (high > error * 0.98)).all()


def test_the_named_functions_are_the_laws():
    error = TRUTHS["power"][1]
    for function, law in (
        (fit_power, "power"),
        (fit_saturating, "saturating"),
        (fit_m4, "m4"),
        (fit_one_break, "one_break"),
    ):
        assert function(X, error, draws=2).law == law


def test_a_floor_that_the_data_do_not_reach_is_not_identified():
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(30))
    x = np.geomspace(1e3, 1e5, 30)
    fit = fit_saturating(x, (3 * x**-0.1 + 0.001) * noise, draws=100)
    assert "low" in fit.open_side["E_inf"] or fit.open_side["E_inf"] == "both"
    assert not fit.identified["E_inf"] and not fit.identified["b"]
    seen = fit_saturating(X, TRUTHS["saturating"][1] * np.exp(0.01 * np.random.default_rng(0).standard_normal(60)))
    assert seen.identified["E_inf"]
    low, high = seen.profile["E_inf"]
    assert low < seen.constants["E_inf"] < high and seen.profile["E_inf"] == pytest.approx(
        seen.intervals["E_inf"], rel=0.1
    )


def test_a_plateau_that_the_data_do_not_show_is_not_identified():
    x = np.geomspace(1e4, 1e8, 30)
    fit = fit_m4(x, (2 * x**-0.2 + 0.05) * np.exp(0.01 * np.random.default_rng(1).standard_normal(30)), draws=50)
    assert "high" in fit.open_side["E_0"] or fit.open_side["E_0"] == "both"


def test_a_given_chance_level_is_kept():
    constants, error = TRUTHS["m4"]
    fit = fit_m4(X, error, chance=0.9, draws=5)
    assert fit.constants == pytest.approx(constants, rel=1e-6)
    assert fit.constants["E_0"] == 0.9 and fit.identified["E_0"]
    assert fit.profile["E_0"] == (0.9, 0.9)


def test_b_keeps_its_value_outside_of_the_runs():
    fit = fit_saturating(X, TRUTHS["saturating"][1], draws=5)
    far = np.array([1.0, 10.0, 1e12])
    assert fit.predict(far) == pytest.approx(5.0 * (2e4 + far) ** -0.35 + 0.12, rel=1e-6)
    assert fit.predict(100.0) == pytest.approx(5.0 * (2e4 + 100.0) ** -0.35 + 0.12, rel=1e-6)


def test_repeats_of_a_group_make_its_interval_wider():
    rng = np.random.default_rng(0)
    x = np.repeat(np.geomspace(1e3, 1e8, 12), 5)
    error = 3 * x**-0.2 * np.exp(0.05 * np.repeat(rng.standard_normal(12), 5))
    alone, together = (fit_power(x, error, groups=g) for g in (None, np.repeat(np.arange(12), 5)))
    assert np.ptp(together.intervals["alpha"]) > 1.5 * np.ptp(alone.intervals["alpha"])


def test_the_same_seed_gives_the_same_numbers():
    error = TRUTHS["saturating"][1] * np.exp(0.02 * np.random.default_rng(0).standard_normal(60))
    first, second = (fit_saturating(X, error, draws=50, seed=7) for _ in range(2))
    assert first.intervals == second.intervals and first.constants == second.constants


@pytest.mark.parametrize("law", TRUTHS)
def test_the_true_law_extrapolates_and_the_power_law_does_not(law):
    error = TRUTHS[law][1]
    table = compare_curves(X, error).set_index("law")
    assert table.loc[law, "held_out_rms_log"] < 1e-3
    assert table.loc[law, "held_out_runs"] == 15
    if law != "power":
        assert table.loc["power", "held_out_rms_log"] > 0.01 and table.loc["power", "delta_aicc"] > 10


def test_held_out_runs_are_the_largest_and_no_law_is_fitted_to_too_few():
    assert largest([1, 2, 3, 3], 0.25).tolist() == [False, False, True, True]
    assert hold_out_curve("one_break", X[:7], X[:7] ** -0.1).note.startswith("5 runs")
    table = compare_curves(X[:6], X[:6] ** -0.1).set_index("law")
    assert table.loc["one_break", "note"] == "6 runs; this law needs 7 or more"
    with pytest.raises(UserError, match="between 0 and 1"):
        largest([1, 2], 1.5)


def test_aicc_by_hand():
    assert aicc(2.0, 10, 2) == pytest.approx(10 * np.log(0.2) + 6 + 24 / 6)
    assert aicc(2.0, 4, 3) == float("inf")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("cubic", X, X), "no law 'cubic'"),
        (("power", X, -X), "error must be positive and finite; run 0 has -1000"),
        (("power", [1.0, 2.0, np.nan], [1.0, 1.0, 1.0]), "x must be positive and finite; run 2"),
        (("power", [1.0, 2.0], [1.0, 1.0]), "2 runs; this law needs 3 or more"),
        (("power", [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]), "every run has x = 1"),
        (("power", [1.0, 2.0], [1.0]), "equally long"),
        (("power", ["a"], [1.0]), "must be numbers"),
    ],
)
def test_what_cannot_be_fitted_is_said(arguments, message):
    with pytest.raises(UserError, match=message):
        fit_curve(*arguments)
    with pytest.raises(UserError, match="only m4"):
        fit_power(X, X**-0.1, chance=0.9)
