"""One-variable laws: error against compute (or examples, or parameters), with intervals and what is not identified."""

from dataclasses import dataclass, field

import numpy as np

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.bootstrap import interval, opened, resample_counts, threshold
from mlp_lib.stats.laws.forms import FORMS, Form
from mlp_lib.stats.laws.profile import EXACT, Problem, profiles
from mlp_lib.stats.laws.solver import Fits, solve, start_from_grid

LAWS = tuple(FORMS)


@dataclass(frozen=True)
class Curve:
    """A fitted law. Constants are in the units of x and of the error.

    intervals: bootstrap over runs at `level`; profile: where the profile likelihood crosses, inf where it does not.
    open_side: for each constant "", "low", "high" or "both": the sides on which the profile does not close, or on which
    the bootstrap reaches the end of what is searched.
    """

    law: str
    constants: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    profile: dict[str, tuple[float, float]]
    open_side: dict[str, str]
    r2: float
    rms_log: float  # root mean square of log(error) - log(law)
    aicc: float
    n: int
    level: float
    relative: bool
    draws: dict[str, np.ndarray] = field(repr=False)
    _form: Form = field(repr=False)
    _place: tuple = field(repr=False)  # centre, x of the runs, shapes, amplitudes, shapes and amplitudes of the draws

    @property
    def identified(self) -> dict[str, bool]:
        """For each constant, whether the data limit it on both sides."""
        return {name: side == "" for name, side in self.open_side.items()}

    def predict(self, x) -> np.ndarray:
        """The law's error at x, any shape."""
        centre, _, shapes, amplitudes, _, _ = self._place
        return _evaluate(self._form, np.log(np.asarray(x, float)) - centre, shapes, amplitudes, self._place[1])[0]

    def band(self, x) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the bootstrap interval of the law's error at x (n,): two arrays (n,)."""
        centre, runs, _, _, shapes, amplitudes = self._place
        values = _evaluate(self._form, np.log(np.asarray(x, float)) - centre, shapes, amplitudes, runs)
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return low, high


def fit_curve(
    law: str,
    x,
    error,
    *,
    draws: int = 1000,
    groups=None,
    relative: bool = False,
    chance: float | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Curve:
    """Fit one of LAWS to runs by least squares, with a bootstrap over runs.

    x, error: (n,), positive. groups: (n,) labels of rows that are resampled together, every row on its own where None.
    relative: least squares of error / law rather than of error, for errors over orders of magnitude. chance: the level
    E_0 of M4, where it is known. Raises UserError for data that cannot be fitted.
    """
    if law not in FORMS:
        raise UserError(f"no law {law!r}; there are {', '.join(FORMS)}")
    if chance is not None and law != "m4":
        raise UserError(f"law {law!r} has no chance level; only m4 has")
    form = FORMS[law]
    x, error = checked(x, error, len(form.constants) + 1)
    centre = float(np.log(x).mean())
    logs = np.log(x) - centre
    weights = 1 / error**2 if relative else np.full(len(x), 1 / np.mean(error) ** 2)
    given = None if chance is None else np.array([[chance, np.nan]])
    low, high = form.limits(logs)
    columns = form.columns(logs)
    starts = start_from_grid(columns, error, weights, form.grid(logs))
    best = solve(columns, error, weights, starts, low, high, None, _rows(given, len(starts)), iterations=200).best()
    n, free = len(x), len(form.constants) - (chance is not None)
    again = Fits(best.shapes[:0], best.amplitudes[:0], best.cost[:0])
    if draws:
        counts = resample_counts(n, draws, seed, groups, at_least=min(free + 1, _independent(groups, n)))
        again = solve(
            columns,
            error,
            counts * weights,
            np.repeat(best.shapes, draws, axis=0),
            low,
            high,
            None,
            _rows(given, draws),
            iterations=60,
        )
    named = form.to_constants(best.shapes, best.amplitudes, centre, logs)
    spread = form.to_constants(again.shapes, again.amplitudes, centre, logs)
    profile, sides = profiles(
        Problem(columns, error, weights, low, high, given),
        best,
        form.constants,
        form.shapes,
        form.amplitudes,
        lambda shapes, amplitudes: form.to_constants(shapes, amplitudes, centre, logs),
        {"a": form.shapes[0]} if "a" in form.amplitudes else {},
        {"E_0": 3 * error.max(), "E_inf": error.max()},
        freedom=max(n - free, 1),
        limit=threshold(n, free, level),
    )
    if draws:
        for name in form.constants:
            i = form.shapes.index(name) if name in form.shapes else 0 if name == "a" else None
            if i is not None:
                values, ends = again.shapes[:, i], (low[i] + 1e-9, high[i] - 1e-9)
            else:
                values, ends = again.amplitudes[:, form.amplitudes.index(name)], (0.0, np.inf)
            sides[name] = opened(sides[name], values <= ends[0], values >= ends[1], level)
    intervals = {name: interval(values, level) for name, values in spread.items()}
    fitted = _evaluate(form, logs, best.shapes, best.amplitudes, logs)[0]
    cost = max(float(best.cost[0]), n * EXACT**2)
    return Curve(
        law,
        {name: float(value[0]) for name, value in named.items()},
        intervals,
        profile,
        sides,
        r2=1 - float(((error - fitted) ** 2).sum() / max(((error - error.mean()) ** 2).sum(), 1e-300)),
        rms_log=float(np.sqrt(np.mean(np.log(error / np.maximum(fitted, 1e-300)) ** 2))),
        aicc=aicc(cost, n, free),
        n=n,
        level=level,
        relative=relative,
        draws=spread,
        _form=form,
        _place=(centre, logs, best.shapes, best.amplitudes, again.shapes, again.amplitudes),
    )


def fit_saturating(x, error, **options) -> Curve:
    """E = a (b + x)^-alpha + E_inf by least squares, as Bachmann et al. 2023 fit it. Options as of `fit_curve`."""
    return fit_curve("saturating", x, error, **options)


def fit_power(x, error, **options) -> Curve:
    """E = a x^-alpha by least squares. Options as of `fit_curve`."""
    return fit_curve("power", x, error, **options)


def fit_m4(x, error, **options) -> Curve:
    """(E - E_inf) / (E_0 - E)^k = a x^-alpha, which leaves chance level E_0 and falls to E_inf (Alabdulmohsin et al.
    2022), by least squares of the error. Options as of `fit_curve`; `chance` gives E_0."""
    return fit_curve("m4", x, error, **options)


def fit_one_break(x, error, **options) -> Curve:
    """A power law whose slope changes once, smoothly, down to E_inf (Caballero et al. 2022). Options as of `fit_curve`.

    E = E_inf + a x^-slope_before (1 + (x / break_at)^(1 / smoothness))^((slope_before - slope_after) smoothness)
    """
    return fit_curve("one_break", x, error, **options)


def checked(x, error, needed: int) -> tuple[np.ndarray, np.ndarray]:
    """x and error as arrays of floats. Raises UserError where they are not positive, finite, as many as each other, or
    fewer than `needed`."""
    try:
        x, error = np.asarray(x, float), np.asarray(error, float)
    except (TypeError, ValueError):
        raise UserError("x and error must be numbers") from None
    if x.ndim != 1 or x.shape != error.shape:
        raise UserError(f"x and error must be two equally long lists; they have shapes {x.shape} and {error.shape}")
    for name, values in (("x", x), ("error", error)):
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise UserError(f"{name} must be positive and finite; run {bad[0]} has {values[bad[0]]:g}")
    if len(x) < needed:
        raise UserError(f"{len(x)} runs; this law needs {needed} or more")
    if len(np.unique(x)) < 2:
        raise UserError(f"every run has x = {x[0]:g}; a law needs different ones")
    return x, error


def aicc(cost: float, n: int, constants: int) -> float:
    """Akaike's criterion with the small-sample correction for n residuals of Gaussian noise; inf where n is too small.

    The noise's own variance counts as one more constant.
    """
    k = constants + 1
    return n * np.log(cost / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else float("inf")


def _independent(groups, n: int) -> int:
    return n if groups is None else len(np.unique(groups))


def _rows(given, count: int):
    return None if given is None else np.repeat(given, count, axis=0)


def _evaluate(form: Form, logs, shapes, amplitudes, runs) -> np.ndarray:
    """The law at centred logs (k,) for each row of shapes: (B, k). The runs' logs fix the unit in which b is kept."""
    together = np.concatenate([np.atleast_1d(logs).ravel(), runs]) if form.name == "saturating" else np.atleast_1d(logs)
    if form.name == "saturating" and together.min() < runs.min():
        shapes = shapes.copy()  # b is kept in units of the least x: the same b in the new unit
        shapes[:, 1] = np.log1p(np.expm1(shapes[:, 1]) * np.exp(runs.min() - together.min()))
    values = (amplitudes[:, None, :] @ form.columns(together)(shapes)[0])[:, 0]
    return values[:, : np.size(logs)].reshape((len(shapes),) + np.shape(logs))
