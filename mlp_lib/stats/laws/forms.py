"""The one-variable laws as `solver` takes them: columns, slopes, limits and starts of each.

x is always log(C / centre), so that shapes are of order one. A power law is a C^-alpha; the saturating law of Bachmann
et al. 2023 a (b + C)^-alpha + E_inf; M4 of Alabdulmohsin et al. 2022 (E - E_inf) / (E_0 - E)^k = a C^-alpha; and one
break of Caballero et al. 2022 is written by its two slopes: -slope_before below the break, -slope_after above it.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

EXPONENTS = (0.01, 4.0)  # a law with an exponent at either limit is reported as not identified


@dataclass(frozen=True)
class Form:
    """A law. `limits(x)`: (low, high), each (q,); `grid(x)`: starts (G, q); `columns(x)(shapes)`: what `solve` asks."""

    name: str
    constants: tuple[str, ...]  # as reported
    shapes: tuple[str, ...]  # constants that go with the shapes, in their order
    amplitudes: tuple[str, ...]  # constants that go with the amplitudes
    limits: Callable
    grid: Callable
    columns: Callable
    to_constants: Callable  # (shapes (B, q), amplitudes (B, m), log centre, x) -> {name: (B,)}


def softplus(z):
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _mesh(*axes) -> np.ndarray:
    return np.array(list(itertools.product(*axes)))


ALPHAS = np.geomspace(0.03, 2.5, 14)


def _power_columns(x):
    def columns(shapes):
        phi = np.exp(-shapes[:, :1] * x)[:, None, :]
        return phi, lambda c: -c[:, :1, None] * phi * x

    return columns


def _power_constants(shapes, c, centre, x):
    return {"a": c[:, 0] * np.exp(shapes[:, 0] * centre), "alpha": shapes[:, 0]}


def _offset_columns(x):
    """b enters as exp(x_min) (exp(u) - 1): straight in u near b = 0, which is allowed, and logarithmic far away."""
    least = np.exp(x.min())

    def columns(shapes):
        alpha, u = shapes[:, :1], shapes[:, 1:]
        total = least * np.expm1(u) + np.exp(x)
        logs = np.log(total)
        power = np.exp(-alpha * logs)
        phi = np.stack([power, np.ones_like(power)], axis=1)

        def slopes(c):
            a = c[:, :1] * power
            return np.stack([-a * logs, -a * alpha * least * np.exp(u) / total], axis=1)

        return phi, slopes

    return columns


def _offset_constants(shapes, c, centre, x):
    b = np.exp(centre + x.min()) * np.expm1(shapes[:, 1])
    a = c[:, 0] * np.exp(shapes[:, 0] * centre)
    return {"a": a, "b": b, "alpha": shapes[:, 0], "E_inf": c[:, 1]}


def _offset_high(x):
    return np.log1p(10 * np.exp(x.max() - x.min()))


def _plateau_position(right, k):
    """z that solves -softplus(-z) + k softplus(z) = right: the share of the way from E_inf to E_0 is expit(z)."""
    z = np.where(right < 0, right, right / k)
    for _ in range(60):
        slope = expit(-z) + k * expit(z)
        step = (right + softplus(-z) - k * softplus(z)) / slope
        z = z + np.clip(step, -20, 20)
        if np.abs(step).max() < 1e-12 * (1 + np.abs(z).max()):
            break
    return z


def _plateau_columns(x):
    def columns(shapes):
        alpha, offset, logk = shapes[:, :1], shapes[:, 1:2], shapes[:, 2:]
        k = np.exp(logk)
        z = _plateau_position(offset - alpha * x, k)
        share = expit(z)
        phi = np.stack([share, expit(-z)], axis=1)

        def slopes(c):
            # The difference of the two levels times d share, by the implicit function theorem.
            d = (c[:, :1] - c[:, 1:2]) * share * expit(-z) / (expit(-z) + k * share)
            return np.stack([-d * x, d, -d * k * softplus(z)], axis=1)

        return phi, slopes

    return columns


def _plateau_constants(shapes, c, centre, x):
    k = np.exp(shapes[:, 2])
    alpha = shapes[:, 0]
    gap = np.log(np.maximum(c[:, 0] - c[:, 1], 1e-300))
    return {
        "a": np.exp(np.clip(shapes[:, 1] + (1 - k) * gap + alpha * centre, -700, 700)),
        "alpha": alpha,
        "E_0": c[:, 0],
        "E_inf": c[:, 1],
        "k": k,
    }


def _break_columns(x):
    def columns(shapes):
        before, after, place, logf = (shapes[:, i : i + 1] for i in range(4))
        f = np.exp(logf)
        z = (x - place) / f
        bend = softplus(z)
        power = np.exp(-before * x - (after - before) * f * bend)
        phi = np.stack([power, np.ones_like(power)], axis=1)

        def slopes(c):
            a = c[:, :1] * power
            turn = (after - before) * expit(z)
            return np.stack(
                [a * (f * bend - x), -a * f * bend, a * turn, a * ((after - before) * -f * bend + turn * (x - place))],
                axis=1,
            )

        return phi, slopes

    return columns


def _break_constants(shapes, c, centre, x):
    before, after, place, logf = shapes.T
    return {
        "a": c[:, 0] * np.exp(before * centre),
        "slope_before": before,
        "slope_after": after,
        "break_at": np.exp(place + centre),
        "smoothness": np.exp(logf),
        "E_inf": c[:, 1],
    }


def _inner(x, count):
    """Places between the first and the last x."""
    return x.min() + np.ptp(x) * (np.arange(count) + 1) / (count + 1)


LOW, HIGH = EXPONENTS
POWER = Form(
    "power",
    ("a", "alpha"),
    ("alpha",),
    ("a",),
    lambda x: (np.array([LOW]), np.array([HIGH])),
    lambda x: _mesh(ALPHAS),
    _power_columns,
    _power_constants,
)
SATURATING = Form(
    "saturating",
    ("a", "b", "alpha", "E_inf"),
    ("alpha", "b"),
    ("a", "E_inf"),
    lambda x: (np.array([LOW, 0.0]), np.array([HIGH, _offset_high(x)])),
    lambda x: _mesh(ALPHAS, np.linspace(0, _offset_high(x), 8)),
    _offset_columns,
    _offset_constants,
)
M4 = Form(
    "m4",
    ("a", "alpha", "E_0", "E_inf", "k"),
    ("alpha", "a", "k"),
    ("E_0", "E_inf"),
    lambda x: (np.array([LOW, -60.0, np.log(0.05)]), np.array([HIGH, 60.0, np.log(20.0)])),
    lambda x: _mesh(ALPHAS, (-4.0, -2.0, -1.0, 0.0, 1.0, 3.0), np.log([0.3, 1.0, 3.0])),
    _plateau_columns,
    _plateau_constants,
)
BREAK = Form(
    "one_break",
    ("a", "slope_before", "slope_after", "break_at", "smoothness", "E_inf"),
    ("slope_before", "slope_after", "break_at", "smoothness"),
    ("a", "E_inf"),
    lambda x: (np.array([0.0, 0.0, x.min(), np.log(0.05)]), np.array([HIGH, HIGH, x.max(), np.log(3.0)])),
    lambda x: _mesh(ALPHAS[::3], ALPHAS[::3], _inner(x, 5), np.log([0.1, 1.0])),
    _break_columns,
    _break_constants,
)
FORMS = {form.name: form for form in (POWER, SATURATING, M4, BREAK)}
