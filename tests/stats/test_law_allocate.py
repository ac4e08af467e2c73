"""Allocation against its closed form, the grid methods' edges, and the bias of isoFLOP parabolas."""

import numpy as np
import pandas as pd
import pytest
from law_sweeps import EVEN, MLP, columns, grid
from scipy.optimize import minimize_scalar

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.allocate import allocation, of_law, optimum, recommend
from mlp_lib.stats.laws.bias import isoflop_bias
from mlp_lib.stats.laws.grids import budgets_of, frontier, isoflop, pareto, slopes, vertex
from mlp_lib.stats.laws.joint import fit_joint, law_of


@pytest.mark.parametrize("constants", [EVEN, MLP], ids=["even", "mlp"])
def test_the_closed_form_is_the_numerical_minimum(constants):
    params, examples, loss = optimum(constants, 1e17)
    assert 6 * params * examples == pytest.approx(1e17)
    found = minimize_scalar(lambda p: law_of(constants, np.exp(p), 1e17 / 6 / np.exp(p)), (10, 20), tol=1e-12)
    assert params == pytest.approx(np.exp(found.x), rel=1e-5) and loss == pytest.approx(found.fun)


@pytest.mark.parametrize("constants, share", [(EVEN, 0.5), (MLP, 0.35 / 1.35)], ids=["even", "mlp"])
def test_every_method_finds_the_exponents_of_exact_losses(constants, share):
    found = allocation(grid(constants, sizes=16, lengths=24), draws=10)
    for method, tolerance in (("huber", 1e-6), ("varpro", 1e-6), ("frontier", 0.02), ("isoflop", 0.01)):
        assert found[method].params == pytest.approx(share, abs=tolerance), method
        assert found[method].examples == pytest.approx(1 - share, abs=tolerance), method


def test_every_method_has_intervals_that_hold_the_truth_in_noise():
    found = allocation(grid(MLP, noise=0.005, seeds=3, sizes=12, lengths=16), draws=200)
    for own in found.values():
        low, high = own.params_interval
        assert low - 0.02 < 0.35 / 1.35 < high + 0.02 and low < own.params < high, own


def test_sizes_at_the_edge_of_the_grid_are_flagged():
    found = frontier(grid(MLP, sizes=10, lengths=20), draws=0)
    models = found.models
    assert models["edge"].iloc[0] and models["edge"].iloc[-1] and not models["edge"].all()
    for row in models[~models["edge"]].itertuples():
        assert optimum(MLP, row.compute)[0] == pytest.approx(row.params, rel=0.25)


def test_pareto_runs_are_those_that_no_cheaper_run_equals():
    runs = pd.DataFrame({"compute": [1.0, 2.0, 2.0, 3.0, 4.0], "loss": [5.0, 4.0, 3.0, 3.0, 1.0]})
    assert pareto(runs)["loss"].tolist() == [5.0, 3.0, 1.0]


def test_minima_at_the_edge_are_rejected_and_reported():
    found = isoflop(grid(MLP, sizes=10, lengths=20), draws=0).minima
    assert {"", "least at the smallest size"} <= set(found["rejected"]) | {"least at the largest size"}
    assert found.loc[found["rejected"] != "", "params"].isna().all()
    for row in found[found["rejected"] == ""].itertuples():
        assert optimum(MLP, row.budget)[0] == pytest.approx(row.params, rel=0.25)
    small = grid(MLP, params=(1e9, 1e10))
    assert set(isoflop(small, draws=0).minima["rejected"]) == {"least at the smallest size"}
    assert np.isnan(isoflop(small, draws=0).params_exponent)


def test_budgets_are_the_runs_own_where_they_share_them():
    budgets = np.geomspace(1e14, 1e17, 4)
    p = np.geomspace(1e5, 1e8, 7)
    runs = pd.DataFrame(
        [
            {"params": a, "examples": c / 6 / a * f, "compute": c * f}
            for c in budgets
            for a, f in zip(p, np.linspace(0.995, 1.005, 7), strict=True)
        ]
    )
    runs["loss"] = law_of(MLP, runs["params"], runs["examples"])
    assert budgets_of(runs) == pytest.approx(budgets, rel=0.01)
    found = isoflop(runs, draws=0)
    assert (found.minima["models"] == 7).all()
    assert found.params_exponent == pytest.approx(0.35 / 1.35, abs=0.01)


def test_a_grid_too_small_for_curves_is_said():
    runs = grid(MLP, sizes=2)
    with pytest.raises(UserError, match="2 model sizes with runs at 4 or more computes; frontier needs 3"):
        frontier(runs)
    with pytest.raises(UserError, match="2 model sizes with runs at 1 or more computes; isoFLOP needs 3"):
        isoflop(runs)
    with pytest.raises(UserError, match="3 sizes with runs at 4 computes, or 3 sizes at each of 3 budgets"):
        isoflop(grid(MLP, lengths=3))
    found = allocation(runs, draws=5)
    assert np.isnan(found["isoflop"].params) and "needs 3" in found["isoflop"].note
    apart = grid(MLP, sizes=3, lengths=4, params=(1e3, 1e9), examples=(1e6, 2e6))
    with pytest.raises(UserError, match="overlap"):
        isoflop(apart)


def test_a_vertex_by_hand():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    y = np.stack([(x - 1.3) ** 2 + 5, x, -x, 5 - x * 0], axis=1)
    at, value = vertex(x, y)
    assert at[0] == pytest.approx(1.3) and value[0] == pytest.approx(5) and np.isnan(at[1:]).all()
    assert vertex(x, y, None)[0][0] == pytest.approx(1.3)
    assert slopes(x[:, None], 2 * x[:, None])[0] == pytest.approx(2) and np.isnan(slopes(x[:1, None], x[:1, None])[0])


def test_parabolas_are_biased_without_noise_and_variable_projection_is_not():
    table = isoflop_bias(widths=(2.0, 16.0), shifts=(1 / 3, 1.0, 3.0), drifts=(0.0, 0.15))
    parabola, varpro = (table[table["method"] == name] for name in ("parabola", "varpro"))
    assert varpro["exponent_error"].abs().max() < 1e-6 and (varpro["params_ratio"] - 1).abs().max() < 1e-5
    still, drifting = (parabola[parabola["drift"] == drift] for drift in (0.0, 0.15))
    assert still["exponent_error"].abs().max() < 1e-9  # the loss has one shape around every optimum
    wide = still[still["width"] == 16].set_index("shift")["params_ratio"]
    assert wide[1.0] > 1.5 and abs(np.log(wide[3.0] / wide[1 / 3])) > 0.2
    assert (drifting["exponent_error"].abs() > 1e-3).all() and drifting["exponent_error"].abs().max() > 0.05


def test_a_parabola_is_exact_for_equal_exponents_on_a_centred_grid():
    args = dict(alpha=0.5, beta=0.5, A=2e3, B=400.0, widths=(8.0,), shifts=(1.0,), drifts=(0.0,))
    assert isoflop_bias(**args)["params_ratio"].to_numpy() == pytest.approx(1.0, abs=1e-6)
    shifted = isoflop_bias(**(args | {"shifts": (3.0,)})).set_index("method")["params_ratio"]
    assert abs(shifted["parabola"] - 1) > 0.05
    with pytest.raises(UserError, match="must be positive"):
        isoflop_bias(alpha=-1)
    with pytest.raises(UserError, match="a parabola needs 3"):
        isoflop_bias(points=2)


def test_a_recommendation_is_the_optimum_with_an_interval():
    law = fit_joint(*columns(grid(MLP, noise=0.005)), draws=200)
    found = recommend(law, 1e18, largest=1e17)
    params, examples, loss = optimum(MLP, 1e18)
    for value, (low, high), truth in (
        (found.params, found.params_interval, params),
        (found.examples, found.examples_interval, examples),
        (found.loss, found.loss_interval, loss),
    ):
        assert low < value < high and value == pytest.approx(truth, rel=0.1)
    assert found.extrapolated == pytest.approx(10) and np.isnan(recommend(law, 1e18).extrapolated)
    own = recommend(law, 1e18, lambda p, n: 6 * p * n)
    assert own.params == pytest.approx(found.params, rel=1e-3)
    assert own.params_interval == pytest.approx(found.params_interval, rel=1e-3)


def test_a_cost_of_its_own_changes_the_recommendation():
    law = fit_joint(*columns(grid(MLP)), draws=5)
    plain, dear = recommend(law, 1e18), recommend(law, 1e18, lambda p, n: 6 * p * n + 1e10 * n)
    assert dear.params > plain.params and dear.examples < plain.examples  # a fixed cost an example favours size
    assert 6 * dear.params * dear.examples + 1e10 * dear.examples == pytest.approx(1e18, rel=1e-3)
    with pytest.raises(UserError, match="affords no model"):
        recommend(law, 1e3, lambda p, n: 6 * p * n, params_range=(1e12, 1e14))


@pytest.mark.parametrize("budget", [0, -1, np.inf, np.nan, "much"])
def test_a_budget_that_is_none_is_said(budget):
    law = fit_joint(*columns(grid(MLP)), draws=0)
    with pytest.raises(UserError, match="budget"):
        recommend(law, budget)


def test_allocation_of_a_law_says_what_is_open():
    law = fit_joint(*columns(grid(MLP, noise=0.01, sizes=2, lengths=12)), draws=20)
    assert of_law(law).note == "alpha not identified"
    with pytest.raises(UserError, match="flops_per"):
        recommend(law, 1e18, flops_per=-6)


def test_budgets_with_sizes_of_their_own_need_no_curves():
    rows = []
    for budget in np.geomspace(1e14, 1e18, 5):
        params = optimum(MLP, budget)[0] * np.geomspace(0.25, 4, 7)
        rows += [{"params": p, "examples": budget / 6 / p, "compute": budget} for p in params]
    runs = pd.DataFrame(rows)
    runs["loss"] = law_of(MLP, runs["params"], runs["examples"])
    found = isoflop(runs, draws=0)
    assert set(found.minima["rejected"]) == {""} and (found.minima["models"] == 7).all()
    assert found.params_exponent == pytest.approx(0.35 / 1.35, abs=1e-3)


def test_a_law_without_one_term_has_no_allocation():
    runs = grid(MLP)
    runs["loss"] = 0.4 + 50 * runs["examples"] ** -0.35
    for method in ("huber", "varpro"):
        law = fit_joint(*columns(runs), method=method, draws=20)
        if law.constants["A"] == 0:
            assert "does not fall with params" in of_law(law).note and np.isnan(of_law(law).params)
            with pytest.raises(UserError, match="no optimum"):
                recommend(law, 1e18)
        assert not law.identified["alpha"] and not law.identified["A"]
