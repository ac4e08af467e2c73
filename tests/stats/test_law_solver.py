"""The batched solver against SciPy's, and every law's slopes against finite differences."""

import numpy as np
import pytest
from scipy.optimize import nnls

from mlp_lib.stats.laws import robust
from mlp_lib.stats.laws.bootstrap import ends, interval, noise_draws, open_side, opened, resample_counts
from mlp_lib.stats.laws.forms import FORMS
from mlp_lib.stats.laws.joint import columns_of
from mlp_lib.stats.laws.solver import nonnegative, solve, start_from_grid


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_closed_form_non_negative_least_squares_is_scipys(columns):
    rng = np.random.default_rng(columns)
    for _ in range(200):
        matrix, y = rng.standard_normal((7, columns)) + 0.3, rng.standard_normal(7)
        ours, gain = nonnegative(matrix.T @ matrix, matrix.T @ y)
        theirs, norm = nnls(matrix, y)
        assert ours == pytest.approx(theirs, abs=1e-10)
        assert y @ y - gain == pytest.approx(norm**2, abs=1e-10)


def slopes_agree(columns, shapes, amplitudes):
    _, slopes_of = columns(shapes)
    slopes = slopes_of(amplitudes)
    for i in range(shapes.shape[1]):
        step = np.zeros_like(shapes)
        step[:, i] = 1e-6
        up, down = ((amplitudes[:, None] @ columns(shapes + s)[0])[:, 0] for s in (step, -step))
        assert slopes[:, i] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("law", FORMS)
def test_slopes_of_the_curves_are_finite_differences(law):
    form, x, rng = FORMS[law], np.linspace(-4, 4, 9), np.random.default_rng(0)
    low, high = form.limits(x)
    shapes = rng.uniform(np.maximum(low, -1), np.minimum(high, 1.5), (5, len(low))) * 0.8 + 0.1
    slopes_agree(form.columns(x), shapes, rng.uniform(0.2, 1, (5, len(form.amplitudes))))


def test_slopes_of_the_joint_law_are_finite_differences():
    rng = np.random.default_rng(0)
    p, q = rng.standard_normal((2, 9))
    slopes_agree(columns_of(p, q), rng.uniform(0.1, 1, (4, 2)), rng.uniform(0.1, 1, (4, 3)))


def test_gradient_of_the_huber_objective_is_a_finite_difference():
    rng = np.random.default_rng(0)
    p, q, y = rng.standard_normal((3, 12))
    y = y * 2e-3
    theta = np.array([-1.5, -1.2, -0.9, 0.4, 0.7])
    _, gradient = robust.objective(theta, p, q, y, delta=0.5)
    steps = np.eye(5) * 1e-6
    found = [
        (robust.objective(theta + s, p, q, y, 0.5)[0] - robust.objective(theta - s, p, q, y, 0.5)[0]) / 2e-6
        for s in steps
    ]
    assert gradient == pytest.approx(np.array(found), rel=1e-6)


def test_a_batch_is_its_fits_one_by_one():
    rng = np.random.default_rng(1)
    form, x = FORMS["saturating"], np.linspace(-4, 4, 30)
    y = (np.exp(-0.4 * x) + 0.3) * np.exp(0.02 * rng.standard_normal(30))
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=5) / 1.0
    columns, (low, high) = form.columns(x), form.limits(x)
    start = start_from_grid(columns, y, np.ones(30), form.grid(x), keep=1)
    together = solve(columns, y, weights, np.repeat(start, 5, axis=0), low, high)
    for i, own in enumerate(weights):
        alone = solve(columns, y, own, start, low, high)
        assert together.cost[i] == pytest.approx(alone.cost[0], rel=1e-9)


def test_batched_huber_reaches_what_l_bfgs_reaches():
    rng = np.random.default_rng(2)
    p, q = rng.uniform(-3, 3, (2, 60))
    truth = np.array([-1.0, -0.7, -0.5, 0.6, 0.4])
    y = robust.log_law(truth[None], p, q)[0][0] + 0.01 * rng.standard_normal(60)
    for weights in rng.multinomial(60, np.full(60, 1 / 60), size=4):
        chosen = np.repeat(np.arange(60), weights)
        alone = robust.minimise(p[chosen], q[chosen], y[chosen], truth[None])
        _, cost = robust.refit(p, q, y, weights, truth[None])
        assert cost[0] == pytest.approx(robust.objective(alone, p[chosen], q[chosen], y[chosen])[0], rel=1e-3)


def test_resamples_keep_groups_together_and_are_repeatable():
    groups = np.array(["a", "a", "b", "b", "c", "d"])
    counts = resample_counts(6, 50, seed=3, groups=groups, at_least=3)
    assert (counts == resample_counts(6, 50, seed=3, groups=groups, at_least=3)).all()
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 2] == counts[:, 3]).all()
    assert ((counts[:, [0, 2, 4, 5]] > 0).sum(axis=1) >= 3).all()
    assert (counts[:, [0, 2, 4, 5]].sum(axis=1) == 4).all()


def test_noise_draws_have_the_spread_of_a_mean_over_repeats():
    rng = np.random.default_rng(0)
    logs, cells = rng.standard_normal(3000) * 0.1, np.repeat(np.arange(1000), 3)
    drawn = noise_draws(logs, cells, None, draws=50)
    assert drawn.var(axis=0).mean() == pytest.approx(0.01 / 3, rel=0.1)
    single = noise_draws(logs[:100], np.arange(100), logs[:100], draws=500)
    assert single.std(axis=0).mean() == pytest.approx(logs[:100].std(), rel=0.05)
    assert noise_draws(logs, cells, None, draws=0).shape == (0, 1000)
    assert noise_draws(logs[:100], np.arange(100), logs[:100], draws=0).shape == (0, 100)


def test_ends_of_intervals():
    assert ends(np.array([1.0, 2.0]), np.array([1.0, 4.0]), 2.25) == pytest.approx(1.5)
    assert ends(np.array([1.0, 2.0]), np.array([1.0, 2.0]), 4.0) == np.inf
    assert [open_side(*closed) for closed in ((1, 1), (0, 1), (1, 0), (0, 0))] == ["", "low", "high", "both"]
    often, never = np.arange(100) < 5, np.zeros(100, bool)
    assert [opened("", often, never, 0.95), opened("low", never, often, 0.95), opened("", never, never, 0.95)] == [
        "low",
        "both",
        "",
    ]
    assert interval([1.0, np.nan, 3.0]) == pytest.approx((1.05, 2.95))
    assert np.isnan(interval([1.0, np.nan, np.nan, np.nan])).all()


def test_a_warm_start_reaches_what_many_cold_starts_reach():
    rng = np.random.default_rng(3)
    p, q = (a.ravel() for a in np.meshgrid(np.linspace(-3, 3, 5), np.linspace(-4, 4, 5)))
    y = (0.3 * np.exp(-p) + 0.5 * np.exp(-0.35 * q) + 0.4) * np.exp(0.03 * rng.standard_normal(25))
    columns, low, high = columns_of(p, q), np.full(2, 0.01), np.full(2, 4.0)
    mesh = np.stack(np.meshgrid(np.geomspace(0.03, 2.5, 20), np.geomspace(0.03, 2.5, 20)), axis=-1).reshape(-1, 2)
    best = solve(columns, y, np.ones(25), start_from_grid(columns, y, np.ones(25), mesh), low, high).best()
    weights = resample_counts(25, 20, at_least=6) * 1.0
    warm = solve(columns, y, weights, np.repeat(best.shapes, 20, axis=0), low, high).cost
    cold = [solve(columns, y, w, start_from_grid(columns, y, w, mesh), low, high).cost.min() for w in weights]
    assert warm == pytest.approx(np.array(cold), rel=1e-6)
