"""The joint law L = E + A/P^alpha + B/N^beta of loss in parameters P and examples N, fitted in two ways."""

import itertools
from dataclasses import dataclass, field

import numpy as np

from mlp_lib.errors import UserError
from mlp_lib.stats.laws import robust
from mlp_lib.stats.laws.bootstrap import ends, interval, open_side, opened, resample_counts, threshold
from mlp_lib.stats.laws.forms import EXPONENTS
from mlp_lib.stats.laws.profile import EXACT, STEPS, Problem, profiles
from mlp_lib.stats.laws.solver import solve, start_from_grid

METHODS = ("huber", "varpro")
CONSTANTS = ("A", "B", "E", "alpha", "beta")
NEEDED = len(CONSTANTS) + 1  # runs
GRID = np.geomspace(0.03, 2.5, 24)  # of each exponent


@dataclass(frozen=True)
class Joint:
    """A fitted joint law. Losses, parameters and examples are in the units of the runs.

    draws: (number of draws, 5), constants of each bootstrap resample in the order of CONSTANTS. profile: ends of the
    profile likelihood, infinite where it does not close. open_side: for each constant "", "low", "high" or "both": the
    sides on which the profile does not close, or on which the bootstrap reaches the end of what is searched.
    """

    method: str
    constants: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    profile: dict[str, tuple[float, float]]
    open_side: dict[str, str]
    r2: float  # of the log loss
    rms_log: float  # root mean square of log(loss) - log(law)
    n: int
    level: float
    draws: np.ndarray = field(repr=False)

    @property
    def identified(self) -> dict[str, bool]:
        """For each constant, whether the data limit it on both sides."""
        return {name: side == "" for name, side in self.open_side.items()}

    def predict(self, params, examples) -> np.ndarray:
        """The law's loss, of the shape that params and examples have together."""
        return law_of([self.constants[name] for name in CONSTANTS], params, examples)


def law_of(constants, params, examples) -> np.ndarray:
    """L for constants (..., 5) in the order of CONSTANTS, at params and examples that broadcast with (...)."""
    A, B, E, alpha, beta = np.moveaxis(np.asarray(constants, float), -1, 0)
    params, examples = np.asarray(params, float), np.asarray(examples, float)
    return E + A * params**-alpha + B * examples**-beta


def fit_joint(
    params,
    examples,
    loss,
    *,
    method: str = "varpro",
    draws: int = 1000,
    groups=None,
    delta: float = robust.DELTA,
    seed: int = 0,
    level: float = 0.95,
) -> Joint:
    """Fit the joint law to runs, with a bootstrap over runs.

    params, examples, loss: (n,), positive; a run each. method: "varpro", least squares of loss / law by variable
    projection (a search over the two exponents, non-negative least squares for the rest), or "huber", a Huber loss of
    the log residual from many starts (Hoffmann et al. 2022, approach 3). groups: (n,), rows that are resampled
    together. Raises UserError for data that cannot be fitted.
    """
    if method not in METHODS:
        raise UserError(f"no method {method!r}; there are {' and '.join(METHODS)}")
    p, q, loss = _checked(params, examples, loss)
    centre = np.array([p.mean(), q.mean()])
    p, q = p - centre[0], q - centre[1]
    distinct = len(loss) if groups is None else len(np.unique(groups))
    counts = resample_counts(len(loss), draws, seed, groups, at_least=min(NEEDED, distinct)) if draws else None
    fit = _fit_varpro if method == "varpro" else _fit_huber
    best, again, profile, sides = fit(p, q, loss, counts, centre, level, delta)
    predicted = law_of(best, np.exp(p + centre[0]), np.exp(q + centre[1]))
    residual = np.log(loss / predicted)
    for i, name in enumerate(CONSTANTS):
        values, ends = again[:, i + 3 if i < 2 else i], (0.0, np.inf) if name == "E" else EXPONENTS
        sides[name] = opened(sides[name], values <= ends[0] + 1e-9, values >= ends[1] - 1e-9, level)
    spread = ((np.log(loss) - np.log(loss).mean()) ** 2).sum()
    return Joint(
        method,
        dict(zip(CONSTANTS, map(float, best), strict=True)),
        {name: interval(again[:, i], level) for i, name in enumerate(CONSTANTS)},
        profile,
        sides,
        r2=1 - float((residual**2).sum() / max(spread, 1e-300)),
        rms_log=float(np.sqrt(np.mean(residual**2))),
        n=len(loss),
        level=level,
        draws=again,
    )


def _checked(params, examples, loss):
    try:
        columns = [np.asarray(values, float) for values in (params, examples, loss)]
    except (TypeError, ValueError):
        raise UserError("params, examples and loss must be numbers") from None
    names = ("params", "examples", "loss")
    if any(values.ndim != 1 or values.shape != columns[0].shape for values in columns):
        raise UserError("params, examples and loss must be three equally long lists")
    for name, values in zip(names, columns, strict=True):
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise UserError(f"{name} must be positive and finite; run {bad[0]} has {values[bad[0]]:g}")
    if len(columns[0]) < NEEDED:
        raise UserError(f"{len(columns[0])} runs; the joint law has five constants and needs {NEEDED} runs or more")
    for name, values in zip(names[:2], columns[:2], strict=True):
        if len(np.unique(values)) < 2:
            raise UserError(f"every run has {name} = {values[0]:g}; the joint law needs runs of different {name}")
    return np.log(columns[0]), np.log(columns[1]), columns[2]


def columns_of(p, q):
    """The law's columns for `solver.solve`: shapes are (alpha, beta), amplitudes (A, B, E) at the centre of p and q."""

    def columns(shapes):
        first, second = np.exp(-shapes[:, :1] * p), np.exp(-shapes[:, 1:] * q)
        phi = np.stack([first, second, np.ones_like(first)], axis=1)
        return phi, lambda c: np.stack([-c[:, :1] * p * first, -c[:, 1:2] * q * second], axis=1)

    return columns


def _constants(shapes, amplitudes, centre) -> dict[str, np.ndarray]:
    with np.errstate(over="ignore"):
        outside = amplitudes[:, :2] * np.exp(shapes * centre)
    return dict(zip(CONSTANTS, (*outside.T, amplitudes[:, 2], *shapes.T), strict=True))


def _fit_varpro(p, q, loss, counts, centre, level, delta):
    weights = 1 / loss**2
    columns = columns_of(p, q)
    low, high = np.full(2, EXPONENTS[0]), np.full(2, EXPONENTS[1])
    starts = start_from_grid(columns, loss, weights, np.array(list(itertools.product(GRID, GRID))), keep=6)
    best = solve(columns, loss, weights, starts, low, high, iterations=300).best()
    draws = np.empty((0, 5))
    if counts is not None:
        again = solve(columns, loss, counts * weights, np.repeat(best.shapes, len(counts), axis=0), low, high)
        draws = np.stack(list(_constants(again.shapes, again.amplitudes, centre).values()), axis=1)
    n = len(loss)
    profile, sides = profiles(
        Problem(columns, loss, weights, low, high),
        best,
        CONSTANTS,
        ("alpha", "beta"),
        ("A", "B", "E"),
        lambda shapes, amplitudes: _constants(shapes, amplitudes, centre),
        {"A": "alpha", "B": "beta"},
        {"E": float(loss.max())},
        freedom=max(n - 5, 1),
        limit=threshold(n, 5, level),
    )
    best = np.array([v[0] for v in _constants(best.shapes, best.amplitudes, centre).values()])
    return best, draws, profile, sides


def _outside(theta, centre, low) -> np.ndarray:
    """(A, B, E, alpha, beta) of (log A, log B, log E, alpha, beta) at the centre of the runs, (B, 5); an amplitude at
    its low limit is 0."""
    found = np.where(theta <= low + [1e-6, 1e-6, 1e-6, -np.inf, -np.inf], -np.inf, theta)
    found[:, :2] += theta[:, 3:] * centre
    with np.errstate(over="ignore"):  # an amplitude at P = 1 may lie beyond any float; its law does not
        found[:, :3] = np.exp(found[:, :3])
    return found


def _fit_huber(p, q, loss, counts, centre, level, delta):
    logs, n = np.log(loss), len(loss)
    exponents = np.array(list(itertools.product((0.1, 0.3, 0.6, 1.2), repeat=2)))
    first = start_from_grid(columns_of(p, q), loss, 1 / loss**2, np.array(list(itertools.product(GRID, GRID))), keep=2)
    shapes = np.concatenate([first, exponents])
    low, high = np.full(2, EXPONENTS[0]), np.full(2, EXPONENTS[1])
    held = np.ones((len(shapes), 2), bool)
    amplitudes = solve(columns_of(p, q), loss, 1 / loss**2, shapes, low, high, held).amplitudes
    starts = np.concatenate([np.log(np.maximum(amplitudes, loss.min() * 1e-3)), shapes], axis=1)
    best = robust.minimise(p, q, logs, starts, delta)
    lowest, _ = robust.limits(logs)
    draws = np.empty((0, 5))
    if counts is not None:
        again, _ = robust.refit(p, q, logs, counts, np.repeat(best[None], len(counts), 0), delta=delta)
        draws = _outside(again, centre, lowest)
    profile, sides = _huber_profiles(p, q, logs, best, centre, threshold(n, 5, level), delta)
    return _outside(best[None], centre, lowest)[0], draws, profile, sides


def _huber_profiles(p, q, logs, best, centre, limit, delta):
    """As `profile.profiles`, for the Huber loss. A and B go with their exponents, which decide them (at P = N = 1)."""
    low, high = robust.limits(logs)
    least, _ = robust.objective(best, p, q, logs, delta)
    residual = robust.log_law(best[None], p, q)[0][0] - logs
    value = _outside(best[None], centre, low)[0]
    amplitude_of = {3: 0, 4: 1}  # of an exponent, by position
    taken, starts, held = [], [], []
    for i in (2, 3, 4):
        gone = i in amplitude_of and best[amplitude_of[i]] <= low[amplitude_of[i]] + 1e-6  # it means nothing
        for sign in (-1, 1):
            top = high[i] if i in amplitude_of else max(float(logs.max()), best[2])
            reach = (top if sign > 0 else low[i]) - best[i]
            if not gone and abs(reach) >= 1e-6:
                taken.append((i, sign))
                starts.append(best + reach * STEPS[:, None] * (np.arange(5) == i))
                held.append(np.tile(np.arange(5) == i, (len(STEPS), 1)))
    stops = {(i, sign): (np.full(5, sign * np.inf), False) for i in (2, 3, 4) for sign in (-1, 1)}
    # All walks in one batch: a step of a few fits costs nearly as much as a step of many.
    if taken:
        fits, cost = robust.refit(p, q, logs, np.ones(len(p)), np.concatenate(starts), np.concatenate(held), delta)
    for number, side in enumerate(taken):
        own = slice(number * len(STEPS), (number + 1) * len(STEPS))
        far = np.maximum.accumulate(robust.deviance(cost[own], least, residual, 5, delta, EXACT))
        at = ends(STEPS, far, limit)
        if np.isfinite(at):
            path = _outside(fits[own], centre, low)
            stops[side] = np.array([np.interp(at, [0, *STEPS], [value[k], *path[:, k]]) for k in range(5)]), True
    profile, sides = {}, {}
    for i in (2, 3, 4):
        (lowest, closes_below), (highest, closes_above) = stops[i, -1], stops[i, 1]
        for k in (i, amplitude_of[i]) if i in amplitude_of else (i,):
            profile[CONSTANTS[k]] = (float(lowest[k]), float(highest[k]))
            sides[CONSTANTS[k]] = open_side(closes_below, closes_above)
    return {name: profile[name] for name in CONSTANTS}, {name: sides[name] for name in CONSTANTS}
