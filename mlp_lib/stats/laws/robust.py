"""Hoffmann et al. 2022, approach 3: L = E + A/P^alpha + B/N^beta by a Huber loss of the log residual.

Constants are kept as (log A, log B, log E, alpha, beta). `objective` has its gradient; `minimise` runs L-BFGS from many
starts; `refit` moves many fits at a time by iteratively reweighted least squares, for the bootstrap and the profile.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import erf

from mlp_lib.stats.laws.forms import EXPONENTS
from mlp_lib.stats.laws.solver import chunks, damped_step

DELTA = 1e-3  # Hoffmann et al.: beyond it a log residual counts by its size, not its square
DEPTH = 14.0  # an amplitude below exp(-DEPTH) of the least loss, at the centre of the runs, is none


def limits(log_loss) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of the five constants, for runs whose logs are centred."""
    low, high = np.min(log_loss) - DEPTH, np.max(log_loss) + 20
    return np.array([low, low, low, EXPONENTS[0], EXPONENTS[0]]), np.array([high, high, high, *EXPONENTS[1:] * 2])


def log_law(theta, p, q) -> tuple[np.ndarray, np.ndarray]:
    """log L (B, n) of constants (B, 5) at log P and log N (n,), and its slopes (B, 5, n)."""
    terms = np.empty((len(theta), 3, len(p)))
    terms[:, 0] = theta[:, :1] - theta[:, 3:4] * p
    terms[:, 1] = theta[:, 1:2] - theta[:, 4:5] * q
    terms[:, 2] = theta[:, 2:3]
    most = terms.max(axis=1, keepdims=True)
    shares = np.exp(terms - most)
    total = shares.sum(axis=1, keepdims=True)
    shares /= total
    slopes = np.concatenate([shares, -shares[:, :1] * p, -shares[:, 1:2] * q], axis=1)
    return (most + np.log(total))[:, 0], slopes


def huber(residual, delta: float = DELTA) -> np.ndarray:
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def objective(theta, p, q, log_loss, delta: float = DELTA) -> tuple[float, np.ndarray]:
    """Sum of the Huber loss over runs, and its gradient (5,)."""
    value, slopes = log_law(theta[None], p, q)
    residual = value[0] - log_loss
    return float(huber(residual, delta).sum()), slopes[0] @ np.clip(residual, -delta, delta)


def minimise(p, q, log_loss, starts, delta: float = DELTA) -> np.ndarray:
    """The best of L-BFGS from each start (k, 5), polished: constants (5,)."""
    low, high = limits(log_loss)
    scale = 1 / (delta * len(p))  # so that the optimiser's tolerances do not stop it early
    found = []
    for start in np.clip(starts, low, high):
        result = minimize(
            lambda theta: tuple(scale * part for part in objective(theta, p, q, log_loss, delta)),
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"maxiter": 500, "maxcor": 20},
        )
        found.append((result.fun, result.x))
    ends = np.array([x for _, x in sorted(found, key=lambda pair: pair[0])[:3]])
    polished, cost = refit(p, q, log_loss, np.ones(len(p)), ends, delta=delta, iterations=400)
    return polished[int(np.argmin(cost))]


def refit(p, q, log_loss, weights, starts, held=None, delta: float = DELTA, iterations: int = 150):
    """Fits (B, 5) and their weighted Huber losses (B,) from starts (B, 5), under weights (B, n) or (n,).

    A step is Levenberg-Marquardt's on the squares that touch the Huber loss from above at the present residuals, so a
    """
    low, high = limits(log_loss)
    thetas = np.clip(np.array(starts, float), low, high)
    weights = np.broadcast_to(np.asarray(weights, float), (len(thetas), len(p)))
    held = np.zeros(thetas.shape, bool) if held is None else held
    costs = np.empty(len(thetas))
    for at in chunks(len(thetas), len(p)):
        thetas[at], costs[at] = _refit(p, q, log_loss, weights[at], thetas[at], held[at], delta, iterations, low, high)
    return thetas, costs


def _refit(p, q, log_loss, weights, theta, held, delta, iterations, low, high):
    def state(theta, weights):
        value, slopes = log_law(theta, p, q)
        residual = log_loss - value
        pull = weights * np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300))
        heavy = slopes * pull[:, None, :]
        gradient = (heavy @ residual[..., None])[..., 0]
        return (weights * huber(residual, delta)).sum(axis=1), gradient, heavy @ slopes.transpose(0, 2, 1)

    final, final_cost = theta.copy(), np.empty(len(theta))
    rows, damping, quiet = np.arange(len(theta)), np.full(len(theta), 1e-4), np.zeros(len(theta), int)
    cost, gradient, curvature = state(theta, weights)
    for _ in range(iterations):
        stuck = held | ((theta <= low) & (gradient < 0)) | ((theta >= high) & (gradient > 0))
        step = np.clip(damped_step(gradient, curvature, damping, stuck), -3, 3)
        tried = np.clip(theta + step, low, high)
        new = state(tried, weights)
        better = new[0] < cost
        fall = cost - new[0]
        quiet = np.where(better & (fall > 1e-7 * cost), 0, quiet + better)
        done = (quiet >= 3) | (~better & (damping > 1e8)) | stuck.all(axis=1) | (cost < 1e-28 * len(p))
        damping = np.where(better, np.maximum(damping / 5, 1e-10), damping * 4)
        theta, cost, gradient, curvature = (
            np.where(better.reshape((-1,) + (1,) * (old.ndim - 1)), now, old)
            for now, old in zip((tried, *new), (theta, cost, gradient, curvature), strict=True)
        )
        final[rows], final_cost[rows] = theta, cost
        if done.all():
            break
        if done.any():
            live = ~done
            rows, weights, held, damping, quiet = (a[live] for a in (rows, weights, held, damping, quiet))
            theta, cost, gradient, curvature = (a[live] for a in (theta, cost, gradient, curvature))
    return final, final_cost


def deviance(cost, least: float, residual, constants: int, delta: float = DELTA, exact: float = 1e-9) -> np.ndarray:
    """By how many squared standard errors fits of this Huber loss are worse than the least, for residuals (n,) of it.

    The loss is a squared one times E[psi'] around the optimum, and a constant's variance is E[psi^2] / E[psi']^2 times
    the inverse of the curvature (Huber 1964). E[psi'] is that of normal noise of the residuals' spread: to count the
    residuals within delta would leave it to chance.
    """
    n = len(residual)
    spread = max(1.4826 * np.median(np.abs(residual)) * np.sqrt(n / max(n - constants, 1)), exact)
    inside = erf(delta / (spread * np.sqrt(2)))
    psi = max(float(np.mean(np.clip(residual, -delta, delta) ** 2)) * n / max(n - constants, 1), exact**2)
    return 2 * np.maximum(np.asarray(cost) - least, 0) * inside / psi
