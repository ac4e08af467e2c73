"""How a compute budget is best divided between parameters and examples: exponents by each method, and one budget's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.bootstrap import interval
from mlp_lib.stats.laws.grids import frontier, isoflop
from mlp_lib.stats.laws.joint import CONSTANTS, METHODS, Joint, fit_joint, law_of

FLOPS_PER = 6.0  # operations for one parameter and one example seen: forward and backward, a multiply-add as two


@dataclass(frozen=True)
class Exponents:
    """P* ~ C^params and N* ~ C^examples, by one method, each with its bootstrap interval; nan where it found none."""

    method: str
    params: float
    params_interval: tuple[float, float]
    examples: float
    examples_interval: tuple[float, float]
    note: str = ""


@dataclass(frozen=True)
class Recommendation:
    """What the law recommends for a budget, with bootstrap intervals. `extrapolated`: by what factor the budget exceeds
    the largest compute that the law was fitted to; nan where that was not given."""

    budget: float
    params: float
    params_interval: tuple[float, float]
    examples: float
    examples_interval: tuple[float, float]
    loss: float
    loss_interval: tuple[float, float]
    extrapolated: float


def optimum(constants, budget: float, flops_per: float = FLOPS_PER) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P*, N* and L* in closed form where compute is flops_per x P x N: each of the shape of constants without its last
    axis, (..., 5) in the order of `joint.CONSTANTS`.

    At the optimum alpha A / P^alpha = beta B / N^beta.
    """
    A, B, _, alpha, beta = np.moveaxis(np.asarray(constants, float), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_params = (np.log(alpha * A) - np.log(beta * B) + beta * np.log(budget / flops_per)) / (alpha + beta)
        params = np.exp(log_params)
        examples = budget / flops_per / params
        return params, examples, law_of(constants, params, examples)


def optimum_along(constants, budget: float, flops: Callable, params_range: tuple[float, float], places: int = 2000):
    """P*, N* and L* for any compute flops(params, examples) that rises with examples. constants: (k, 5).

    The least loss on a grid of params, evenly spaced in the logarithm over params_range, then a parabola.
    """
    log_params = np.linspace(*np.log(params_range), places)
    low, high = np.full(places, np.log(1e-3)), np.full(places, np.log(1e30))
    for _ in range(100):
        middle = (low + high) / 2
        over = np.asarray(flops(np.exp(log_params), np.exp(middle))) > budget
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    log_examples = (low + high) / 2
    ok = log_examples > np.log(1e-3) + 1e-6  # sizes that the budget affords
    if ok.sum() < 3:
        raise UserError(f"a budget of {budget:g} affords no model of {params_range[0]:g} parameters or more")
    log_params, log_examples = log_params[ok], log_examples[ok]
    at = np.empty(len(constants))
    for i, row in enumerate(np.asarray(constants)):
        loss = law_of(row, np.exp(log_params), np.exp(log_examples))
        j = int(np.clip(loss.argmin(), 1, len(loss) - 2))
        left, mid, right = loss[j - 1 : j + 2]
        bend = left - 2 * mid + right
        shift = np.clip((left - right) / (2 * bend), -1, 1) if bend > 0 else 0.0
        at[i] = log_params[j] + shift * (log_params[1] - log_params[0])
    params, examples = np.exp(at), np.exp(np.interp(at, log_params, log_examples))
    return params, examples, law_of(constants, params, examples)


def recommend(
    law: Joint,
    budget: float,
    flops_per: float | Callable = FLOPS_PER,
    *,
    largest: float | None = None,
    params_range: tuple[float, float] = (1e2, 1e14),
) -> Recommendation:
    """The model and data size of least loss that a compute budget affords, with intervals from the bootstrap draws.

    budget: in the unit of flops_per x params x examples. flops_per: a number, or a function of (params, examples) that
    gives the compute and rises with examples. largest: the largest compute of the runs. params_range: sizes that are
    looked at where flops_per is a function. Raises UserError for a budget that is not positive and finite.
    """
    budget = checked_budget(budget)
    point = np.array([[law.constants[name] for name in CONSTANTS]])
    every = np.concatenate([point, law.draws])
    if callable(flops_per):
        found = optimum_along(every, budget, flops_per, params_range)
    else:
        if not (np.isfinite(flops_per) and flops_per > 0):
            raise UserError(f"flops_per is {flops_per:g}; it must be positive and finite")
        found = optimum(every, budget, float(flops_per))
    if not all(np.isfinite(values[0]) for values in found) or min(point[0, :2]) <= 0:
        raise UserError("the law has no optimum: it does not fall with both parameters and examples")
    (params, p), (examples, n), (loss, l) = ((float(values[0]), interval(values[1:], law.level)) for values in found)
    beyond = float("nan") if largest is None else budget / largest
    return Recommendation(budget, params, p, examples, n, loss, l, beyond)


def checked_budget(budget) -> float:
    """The budget as a float. Raises UserError where it is not a positive, finite number."""
    try:
        value = float(budget)
    except (TypeError, ValueError):
        raise UserError(f"budget {budget!r} is not a number") from None
    if not (np.isfinite(value) and value > 0):
        raise UserError(f"budget is {value:g}; it must be a positive, finite number of operations")
    return value


def of_law(law: Joint) -> Exponents:
    """P* ~ C^(beta / (alpha + beta)) and N* ~ C^(alpha / (alpha + beta)), for compute proportional to P x N."""
    alpha, beta = law.constants["alpha"], law.constants["beta"]
    if not min(law.constants["A"], law.constants["B"]) > 0:
        flat = "params" if not law.constants["A"] > 0 else "examples"
        nan = float("nan")
        return Exponents(law.method, nan, (nan, nan), nan, (nan, nan), f"the loss does not fall with {flat}")
    share = law.draws[:, 4] / law.draws[:, 3:].sum(axis=1)
    share = np.where((law.draws[:, :2] > 0).all(axis=1), share, np.nan)
    open_ones = [name for name in ("alpha", "beta") if not law.identified[name]]
    note = f"{' and '.join(open_ones)} not identified" if open_ones else ""
    return Exponents(
        law.method,
        beta / (alpha + beta),
        interval(share, law.level),
        alpha / (alpha + beta),
        interval(1 - share, law.level),
        note,
    )


def of_grid(method: str, runs: pd.DataFrame, draws: int, seed: int, level: float) -> Exponents:
    """Exponents by `frontier` or `isoflop`; nan, and a note that says why, where the grid gives none."""
    none = (float("nan"), float("nan"))
    try:
        found = (frontier if method == "frontier" else isoflop)(runs, draws=draws, seed=seed)
    except UserError as error:
        return Exponents(method, float("nan"), none, float("nan"), none, str(error))
    if method == "frontier":
        left = int((~found.models["edge"]).sum())
        note = f"{left} of {len(found.models)} sizes on the envelope lie inside of the grid"
    else:
        left = int((found.minima["rejected"] == "").sum())
        note = f"{left} of {len(found.minima)} budgets have a minimum inside of the grid"
    ends = [interval(found.draws[:, i], level) if draws else none for i in range(2)]
    return Exponents(method, found.params_exponent, ends[0], found.examples_exponent, ends[1], note)


def allocation(
    runs: pd.DataFrame, laws: dict[str, Joint] | None = None, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Exponents]:
    """Exponents of P*(C) and N*(C) by the joint law ("huber", "varpro"), "frontier" and "isoflop".

    runs: columns params, examples, loss, compute. laws: fitted already, by method; those that are missing are fitted.
    """
    laws = laws or {}
    found = {}
    for method in METHODS:
        law = laws.get(method) or fit_joint(
            runs["params"], runs["examples"], runs["loss"], method=method, draws=draws, seed=seed, level=level
        )
        found[method] = of_law(law)
    for method in ("frontier", "isoflop"):
        found[method] = of_grid(method, runs, draws, seed, level)
    return found
