"""The joint law: known constants come back by both methods, with intervals, and what is not identified is flagged."""

import numpy as np
import pytest
from law_sweeps import EVEN, MLP, columns, grid

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.compare import compare_joint, hold_out_joint
from mlp_lib.stats.laws.joint import CONSTANTS, METHODS, fit_joint, law_of


def named(constants):
    return dict(zip(CONSTANTS, constants, strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("constants", [EVEN, MLP], ids=["even", "mlp"])
@pytest.mark.parametrize("where", [{}, {"params": (1e6, 3e7), "examples": (1e8, 1e11)}], ids=["centred", "off"])
def test_known_constants_come_back_from_exact_losses(method, constants, where):
    fit = fit_joint(*columns(grid(constants, **where)), method=method, draws=20)
    assert fit.constants == pytest.approx(named(constants), rel=1e-6)
    assert all(fit.identified.values())
    for name, value in named(constants).items():
        assert fit.intervals[name] == pytest.approx((value, value), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("constants", [EVEN, MLP], ids=["even", "mlp"])
def test_noisy_losses_give_constants_within_tolerance(method, constants):
    fit = fit_joint(*columns(grid(constants, noise=0.01)), method=method, draws=300)
    assert fit.constants["alpha"] == pytest.approx(constants[3], abs=0.03)
    assert fit.constants["beta"] == pytest.approx(constants[4], abs=0.03)
    assert fit.constants["E"] == pytest.approx(constants[2], rel=0.05)
    assert fit.rms_log == pytest.approx(0.01, rel=0.3) and fit.r2 > 0.99
    for name, (low, high) in fit.intervals.items():
        assert low < fit.constants[name] < high
        assert fit.profile[name] == pytest.approx((low, high), rel=0.25), name  # two roads to one interval


def test_methods_agree_on_clean_losses():
    runs = grid(MLP)
    first, second = (fit_joint(*columns(runs), method=method, draws=0) for method in METHODS)
    assert first.constants == pytest.approx(second.constants, rel=1e-6)
    assert first.predict(1e9, 1e12) == pytest.approx(law_of(MLP, 1e9, 1e12), rel=1e-6)


def test_huber_is_not_moved_by_an_outlier_and_least_squares_is():
    runs = grid(MLP, noise=0.003)
    runs.loc[71, "loss"] *= 1.3  # the largest model with the most examples
    huber, varpro = (fit_joint(*columns(runs), method=method, draws=0) for method in METHODS)
    assert abs(huber.constants["beta"] - 0.35) < 0.01 < abs(varpro.constants["beta"] - 0.35)


@pytest.mark.parametrize("method", METHODS)
def test_a_floor_that_the_losses_do_not_reach_is_not_identified(method):
    runs = grid((200.0, 50.0, 1e-6, 0.3, 0.25), noise=0.02, examples=(1e5, 1e7), params=(1e5, 1e7))
    fit = fit_joint(*columns(runs), method=method, draws=100)
    assert fit.open_side["E"] in ("low", "both") and not fit.identified["E"]


@pytest.mark.parametrize("method", METHODS)
def test_an_exponent_of_two_sizes_is_not_identified(method):
    runs = grid(MLP, noise=0.01, sizes=2, lengths=12)
    fit = fit_joint(*columns(runs), method=method, draws=50)
    assert not fit.identified["alpha"] and not fit.identified["A"]
    assert fit.identified["beta"]


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_size_does_not_change_has_no_exponent_of_size(method):
    runs = grid((1e-12, 50.0, 0.4, 1.0, 0.35), noise=0.01, seed=1)
    assert not fit_joint(*columns(runs), method=method, draws=50).identified["alpha"]


@pytest.mark.parametrize("method", METHODS)
def test_intervals_of_forty_sweeps_mostly_hold_the_truth(method):
    hits = np.zeros(5)
    for seed in range(40):
        fit = fit_joint(*columns(grid(MLP, noise=0.01, seed=seed)), method=method, draws=150)
        hits += [low <= value <= high for value, (low, high) in zip(MLP, fit.intervals.values(), strict=True)]
    assert (hits / 40 >= 0.8).all(), dict(zip(CONSTANTS, hits, strict=True))


def test_repeats_narrow_the_intervals_by_their_root():
    one, four = (fit_joint(*columns(grid(MLP, noise=0.01, seeds=seeds)), draws=300) for seeds in (1, 4))
    assert np.ptp(four.intervals["beta"]) == pytest.approx(np.ptp(one.intervals["beta"]) / 2, rel=0.35)


def test_a_group_is_resampled_as_one():
    runs = grid(MLP, noise=0.01, sizes=10)
    alone = fit_joint(*columns(runs), draws=300)
    runs["loss"] *= np.exp(0.03 * np.random.default_rng(0).standard_normal(10))[
        np.unique(runs["params"], return_inverse=True)[1]
    ]
    apart, together = (fit_joint(*columns(runs), draws=300, groups=g) for g in (None, runs["params"]))
    assert np.ptp(together.intervals["A"]) > np.ptp(apart.intervals["A"]) > np.ptp(alone.intervals["A"])


def test_the_same_seed_gives_the_same_draws():
    runs = grid(MLP, noise=0.01)
    first, second = (fit_joint(*columns(runs), draws=20, seed=5).draws for _ in range(2))
    assert (first == second).all()
    assert (first != fit_joint(*columns(runs), draws=20, seed=6).draws).any()


def test_held_out_runs_are_met():
    scores = compare_joint(grid(MLP, noise=0.005))
    for score in scores.values():
        assert score.runs == 15 and score.rms_log < 0.02 and score.note == ""
    few = hold_out_joint(grid(MLP, sizes=2, lengths=3), "varpro", share=0.3)
    assert np.isnan(few.rms_log) and "needs 6 runs" in few.note


@pytest.mark.parametrize(
    "change, message",
    [
        ({"loss": 0.0}, "loss must be positive and finite; run 0 has 0"),
        ({"params": -1.0}, "params must be positive and finite"),
        ({"examples": np.inf}, "examples must be positive and finite"),
        ({"loss": np.nan}, "loss must be positive and finite; run 0 has nan"),
    ],
)
def test_bad_values_are_said(change, message):
    runs = grid(MLP)
    for name, value in change.items():
        runs.loc[0, name] = value
    with pytest.raises(UserError, match=message):
        fit_joint(*columns(runs))


def test_too_little_is_said():
    runs = grid(MLP)
    with pytest.raises(UserError, match="5 runs; the joint law has five constants and needs 6"):
        fit_joint(*columns(runs[:5]))
    with pytest.raises(UserError, match="every run has examples = 100000"):
        fit_joint(*columns(runs[:8]))
    with pytest.raises(UserError, match="every run has params"):
        fit_joint(*columns(runs[runs["params"] == runs["params"].min()]))
    with pytest.raises(UserError, match="no method 'ols'"):
        fit_joint(*columns(runs), method="ols")
    with pytest.raises(UserError, match="equally long"):
        fit_joint([1.0], [1.0, 2.0], [1.0])
    with pytest.raises(UserError, match="must be numbers"):
        fit_joint(["a"], [1.0], [1.0])
