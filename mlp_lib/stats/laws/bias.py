"""How far isoFLOP parabolas miss the optimum of a known law without any noise, and variable projection does not."""

import itertools

import numpy as np
import pandas as pd

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.allocate import FLOPS_PER, of_law, optimum
from mlp_lib.stats.laws.grids import slopes
from mlp_lib.stats.laws.joint import CONSTANTS, fit_joint, law_of


def isoflop_bias(
    alpha: float = 1.0,
    beta: float = 0.35,
    *,
    A: float = 1e5,
    B: float = 50.0,
    E: float = 0.5,
    widths=(2.0, 4.0, 8.0, 16.0, 32.0),
    shifts=(1 / 3, 1.0, 3.0),
    drifts=(0.0, 0.15),
    budgets=None,
    points: int = 7,
) -> pd.DataFrame:
    """The errors of isoFLOP parabolas and of variable projection on exact losses of a known law.

    At each budget, `points` sizes are spaced evenly in the logarithm from centre / width to centre x width. The centre
    is the true optimum times shift, and times (C / middle budget)^drift: a grid laid out for another exponent drifts
    off. A parabola of the loss in log params over all sizes of a budget gives its optimum (Hoffmann et al. 2022,
    approach 2); variable projection is given the same losses, of all budgets together. With alpha = beta and a centred
    grid a parabola is exact by symmetry; otherwise a shift moves its optimum, and a drift its exponent
    (arXiv 2603.22339).

    One row a width, shift, drift and method ("parabola", "varpro"), with columns params_exponent, true_exponent,
    exponent_error (their difference) and params_ratio (found over true optimum at the largest budget; nan where the
    parabola has no minimum).
    """
    if not min(alpha, beta, A, B) > 0 or E < 0:
        raise UserError("alpha, beta, A and B must be positive and E not negative")
    if points < 3:
        raise UserError(f"{points} sizes a budget; a parabola needs 3")
    budgets = np.geomspace(1e14, 1e18, 5) if budgets is None else np.asarray(budgets, float)
    law = np.array([A, B, E, alpha, beta])
    truth = np.array([optimum(law, budget)[0] for budget in budgets])
    exact = beta / (alpha + beta)
    rows = []
    for width, shift, drift in itertools.product(widths, shifts, drifts):
        centre = truth * shift * (budgets / np.exp(np.log(budgets).mean())) ** drift
        params = centre[:, None] * np.geomspace(1 / width, width, points)
        examples = budgets[:, None] / FLOPS_PER / params
        loss = law_of(law, params, examples)
        found = {"parabola": _parabolas(params, loss, budgets)}
        joint = fit_joint(params.ravel(), examples.ravel(), loss.ravel(), draws=0)
        constants = np.array([joint.constants[name] for name in CONSTANTS])
        found["varpro"] = (of_law(joint).params, optimum(constants, budgets[-1])[0])
        for method, (exponent, last) in found.items():
            rows.append(
                {"width": width, "shift": shift, "drift": drift, "method": method, "params_exponent": float(exponent)}
                | {"true_exponent": exact, "exponent_error": float(exponent - exact)}
                | {"params_ratio": float(last / truth[-1])}
            )
    return pd.DataFrame(rows)


def _parabolas(params, loss, budgets) -> tuple[float, float]:
    """Exponent of the parabolas' optima over budgets, and the optimum at the largest."""
    found = np.full(len(budgets), np.nan)
    for i, (sizes, values) in enumerate(zip(np.log(params), loss, strict=True)):
        middle = sizes.mean()
        bend, tilt, _ = np.polyfit(sizes - middle, values, 2)
        found[i] = middle - tilt / (2 * bend) if bend > 0 else np.nan
    return float(slopes(np.log(budgets)[:, None], found[:, None])[0]), float(np.exp(found[-1]))
