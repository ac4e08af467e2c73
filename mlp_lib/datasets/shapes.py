"""`shapes`: coloured shapes on textured ground, drawn by distance functions, with every factor known.

Ten classes that stay distinct under rotation, all of one area, so that brightness alone says nothing. Where the shape
lies, its size, angle, colour, the ground's texture, the clutter behind it and the noise are drawn independently,
returned as numbers and can each be switched off. There are as many examples as one asks for, so scaling laws can be
measured in one pass, and the worth of a prior against a symmetry that is really there.

Example i depends on (seed, i) alone: all randomness is a hash of the two. Arithmetic per pixel uses only operations
that IEEE 754 rounds correctly (+ - * / sqrt min max floor), so that images are the same bytes on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mlp_lib.errors import UserError

CHUNK = 128  # images drawn at a time: a plane of them, 512 KB at 32 x 32, stays in a core's cache
STROKES = 4  # at most, behind the shape

Field = np.ndarray  # (b, r, r) float32
Switch = bool | tuple[float, float]


@dataclass(frozen=True)
class Factors:
    """What varies between examples. True: over the usual range; (low, high): uniformly over that; False: not at all.

    Lengths are in units of half the image's side. Each factor has its own random stream: switching one off leaves
    the others' values as they were.
    """

    position: Switch = True  # of the centre, each of dx (right) and dy (down); off: in the middle
    scale: Switch = True  # radius of the disc of the same area
    rotation: Switch = True  # radians, counter-clockwise as one sees it
    colour: Switch = True  # hue of the shape, in turns; with it the ground's hue, and which of them is brighter
    texture: Switch = True  # contrast of the waves on the ground
    clutter: Switch = True  # number of thin strokes behind the shape, 0 to 4
    noise: Switch = True  # standard deviation of noise on each pixel and channel, as a share of full brightness


USUAL = Factors(
    position=(-0.22, 0.22),
    scale=(0.28, 0.46),
    rotation=(0.0, 2 * np.pi),
    colour=(0.0, 1.0),
    texture=(0.2, 1.0),
    clutter=(0, 4),
    noise=(0.0, 0.06),
)
CANONICAL = dict(position=0.0, scale=0.42, rotation=0.0, colour=0.08, texture=0.0, clutter=0, noise=0.0)


class Stock(NamedTuple):
    """A set of the catalogue: so many training images of the stream 0 and test images of the stream 1."""

    train: int
    test: int
    factors: Factors


SETS = {
    "shapes": Stock(5000, 1000, Factors()),
    # Where objects lie is all that sets these apart. At 0.45 the largest disc (0.46) still lies in the picture.
    "shapes-centred": Stock(15_000, 5000, Factors(position=False)),
    "shapes-near": Stock(15_000, 5000, Factors()),
    "shapes-moved": Stock(15_000, 5000, Factors(position=(-0.45, 0.45))),
}


class Rendered(NamedTuple):
    images: np.ndarray  # (n, 3, r, r) uint8
    labels: np.ndarray  # (n,) int64, index into CLASSES
    factors: dict[str, np.ndarray]  # name -> (n,): the true values, see `sample`


def fresh(name: str, count: int, seed: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) uint8 and labels (n,) of a set of the catalogue that are not in it: examples start ..
    start + count - 1 of a stream of their own, which `seed` names."""
    beyond = 2 + seed  # 0 and 1 are the streams of the set's own parts
    drawn = render(count, beyond, SETS[name].factors, start=start)
    return drawn.images, drawn.labels


# Signed distance to each shape, negative inside, at points u (right) and v (up) of its own frame. Exact near the edge,
# which is all that anti-aliasing asks. Every shape has area pi, that of the unit disc.


def _disc(u: Field, v: Field) -> Field:
    return np.sqrt(u * u + v * v) - np.float32(1)


def _ring(u: Field, v: Field) -> Field:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(1)) - np.float32(0.25)  # width x mean circumference = pi


def _half_disc(u: Field, v: Field) -> Field:
    v = v + np.float32(0.6002)  # the centroid, 4 R / 3 pi above the flat side, goes to the origin; R = sqrt 2
    return np.maximum(np.sqrt(u * u + v * v) - np.float32(1.41421), -v)


def _crescent(u: Field, v: Field) -> Field:
    """A disc less a smaller one 0.83 below its centre; the centroid, 0.59 above that centre, goes to the origin."""
    v = v + np.float32(0.588083)
    cut = v + np.float32(0.828113)
    return np.maximum(np.sqrt(u * u + v * v) - np.float32(1.449198), np.float32(1.242169) - np.sqrt(u * u + cut * cut))


def _triangle(u: Field, v: Field) -> Field:
    side = np.abs(u) * np.float32(0.866025) + v * np.float32(0.5)
    return np.maximum(side, -v) - np.float32(0.777609)  # the inradius of area pi: sqrt(pi / 3 sqrt 3)


def _square(u: Field, v: Field) -> Field:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.886227)  # sqrt(pi) / 2


def _star(u: Field, v: Field) -> Field:
    """Five points, inner radius 0.45 of the outer: fold the plane onto one edge by reflections."""
    c, s = np.float32(0.809017), np.float32(0.587785)  # cos and sin of 36 degrees
    u = np.abs(u)
    for side in (1, -1):
        over = np.maximum(np.float32(side) * c * u - s * v, 0) * np.float32(2)
        u, v = u - over * np.float32(side) * c, v + over * s
    u = np.abs(u)  # now within 36 degrees of the point at (0, R)
    outer = np.float32(1.541324)  # area 5 R r sin 36 = pi
    edge_u, edge_v = np.float32(0.45) * s * outer, np.float32(0.45) * c * outer - outer  # point to notch
    length = np.sqrt(edge_u * edge_u + edge_v * edge_v)
    return ((v - outer) * edge_u - u * edge_v) / length


def _box(u: Field, v: Field, centre: tuple[float, float], half: tuple[float, float]) -> Field:
    x = np.abs(u - np.float32(centre[0])) - np.float32(half[0])
    y = np.abs(v - np.float32(centre[1])) - np.float32(half[1])
    return np.maximum(x, y)


def _cross(u: Field, v: Field) -> Field:
    arm, width = 1.188998, 0.396333  # 4 (2 arm width - width^2) = pi with arm = 3 width
    return np.minimum(_box(u, v, (0, 0), (arm, width)), _box(u, v, (0, 0), (width, arm)))


# The two letters are five unit squares of side t each, with 5 t^2 = pi; their centroids go to the origin.
_T = 0.792665


def _letter_l(u: Field, v: Field) -> Field:
    upright = _box(u, v, (-0.6 * _T, 0.4 * _T), (0.5 * _T, 1.5 * _T))
    return np.minimum(upright, _box(u, v, (0.4 * _T, -0.6 * _T), (1.5 * _T, 0.5 * _T)))


def _letter_t(u: Field, v: Field) -> Field:
    bar = _box(u, v, (0, 0.6 * _T), (1.5 * _T, 0.5 * _T))
    return np.minimum(bar, _box(u, v, (0, -0.4 * _T), (0.5 * _T, 1.5 * _T)))


DISTANCES: dict[str, Callable[[Field, Field], Field]] = {
    "disc": _disc,
    "ring": _ring,
    "half-disc": _half_disc,
    "crescent": _crescent,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
    "letter L": _letter_l,
    "letter T": _letter_t,
}
CLASSES = tuple(DISTANCES)


def _hash(seed: int, index: np.ndarray, stream: int, count: int) -> np.ndarray:
    """(len(index), count) uint64, each a function of (seed, index, stream, column): SplitMix64's finaliser, chained."""

    def mix(z: np.ndarray) -> np.ndarray:
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    step = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
    state = mix(np.array([seed], np.uint64) + step) ^ np.uint64(stream)
    state = mix(mix(state) + index.astype(np.uint64) * step)  # (n,)
    return mix(state[:, None] + np.arange(1, count + 1, dtype=np.uint64) * step)


def _uniform(seed: int, index: np.ndarray, stream: int, count: int) -> np.ndarray:
    """(len(index), count) float64 in [0, 1)."""
    return (_hash(seed, index, stream, count) >> np.uint64(11)) * 2.0**-53


def _range(factors: Factors, name: str) -> tuple[float, float]:
    switch = getattr(factors, name)
    if switch is True:
        switch = getattr(USUAL, name)
    if switch is False:
        switch = (CANONICAL[name], CANONICAL[name])
    low, high = switch
    if not low <= high:
        raise UserError(f"factor {name} needs a range (low, high) with low <= high, not {switch}")
    return low, high


def sample(n: int, seed: int, factors: Factors = Factors(), start: int = 0) -> dict[str, np.ndarray]:
    """Labels and true factors of examples start .. start + n - 1, without drawing them: name -> (n,).

    label int64; dx, dy, scale (units of half the side); rotation (radians); hue, ground_hue (turns); bright (bool: the
    shape is brighter than the ground, or the other way round); texture (contrast); clutter (strokes); noise (standard
    deviation). Raises UserError for a range that is upside down.
    """
    index = np.arange(start, start + n)

    def draw(name: str, stream: int, count: int = 1) -> np.ndarray:  # (n, count)
        low, high = _range(factors, name)
        return low + (high - low) * _uniform(seed, index, stream, count)

    coloured = factors.colour is not False
    dx, dy = draw("position", 1, 2).T
    other_hue, bright = _uniform(seed, index, 4, 2).T
    fewest, most = _range(factors, "clutter")
    strokes = np.floor(fewest + (most - fewest + 1) * _uniform(seed, index, 5, 1)[:, 0])
    return {
        "label": (_uniform(seed, index, 0, 1)[:, 0] * len(CLASSES)).astype(np.int64),
        "dx": dx,
        "dy": dy,
        "scale": draw("scale", 2)[:, 0],
        "rotation": draw("rotation", 3)[:, 0],
        "hue": draw("colour", 6)[:, 0] % 1.0,
        "ground_hue": other_hue if coloured else np.full(n, 0.6),
        "bright": bright < 0.5 if coloured else np.ones(n, bool),
        "texture": draw("texture", 7)[:, 0],
        "clutter": np.minimum(strokes, STROKES).astype(np.int64),
        "noise": draw("noise", 8)[:, 0],
    }


def render(n: int, seed: int, factors: Factors = Factors(), resolution: int = 32, start: int = 0) -> Rendered:
    """Draw examples start .. start + n - 1 of the stream `seed`, so render(n) is the beginning of any longer render.

    Some 25,000 images a second on one CPU core at 32 x 32. Raises UserError for a resolution under 8 or an impossible
    factor range.
    """
    if resolution < 8:
        raise UserError(f"shapes need a resolution of at least 8 pixels to be told apart, not {resolution}")
    values = sample(n, seed, factors, start)
    images = np.empty((n, 3, resolution, resolution), np.uint8)
    for low in range(0, n, CHUNK):
        part = {name: column[low : low + CHUNK] for name, column in values.items()}
        index = np.arange(start + low, start + low + len(part["label"]))
        images[low : low + CHUNK] = _draw(part, seed, index, resolution)
    labels = values.pop("label")
    return Rendered(images, labels, values)


def _hsv(hue: np.ndarray, saturation: np.ndarray | float, value: np.ndarray | float) -> np.ndarray:
    """(b,) each, in 0..1, to (b, 3) RGB."""
    k = (np.array([5.0, 3.0, 1.0]) + hue[:, None] * 6.0) % 6.0  # (b, 3)
    saturation, value = np.broadcast_to(saturation, hue.shape)[:, None], np.broadcast_to(value, hue.shape)[:, None]
    return value * (1.0 - saturation * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0))


def _plane(across: np.ndarray, down: np.ndarray, offset: np.ndarray, resolution: int) -> Field:
    """across x + down y + offset at every pixel centre, x and y in -1..1: (b,) coefficients to (b, r, r) float32."""
    centres = (2.0 * np.arange(resolution) + 1.0) / resolution - 1.0
    columns = (across[:, None] * centres).astype(np.float32)  # (b, r)
    rows = (down[:, None] * centres + offset[:, None]).astype(np.float32)
    return columns[:, None, :] + rows[:, :, None]


def _frame(dx: np.ndarray, dy: np.ndarray, angle: np.ndarray, scale: np.ndarray, r: int) -> tuple[Field, Field]:
    """Every pixel's place (u right, v up) in a frame centred at (dx, dy), turned by `angle` and scaled; all (b,)."""
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    u = _plane(c, -s, -c * dx + s * dy, r)
    v = _plane(-s, -c, s * dx + c * dy, r)
    return u, v


def _wave(phase: Field) -> Field:
    """A sine's look-alike of period 1 and amplitude 1, from two parabolas."""
    t = phase - np.floor(phase) - np.float32(0.5)
    return t * (np.float32(8) - np.float32(16) * np.abs(t))


def _cover(distance: Field, pixels: np.ndarray | float) -> Field:
    """Share of each pixel that is inside: a ramp one pixel wide over the edge. `pixels`: how many to one distance."""
    pixels = np.broadcast_to(np.asarray(pixels, np.float32), len(distance))
    return np.clip(np.float32(0.5) - distance * pixels[:, None, None], 0, 1)


def _blend(canvas: np.ndarray, cover: Field, colour: np.ndarray) -> None:
    """Lay (b, 3) colours over the (b, 3, r, r) canvas where `cover`, in place."""
    for channel in range(3):
        plane = canvas[:, channel]
        plane += cover * (colour[:, channel].astype(np.float32)[:, None, None] - plane)


def _draw(part: dict[str, np.ndarray], seed: int, index: np.ndarray, resolution: int) -> np.ndarray:
    """(b,) factors to (b, 3, r, r) uint8: ground, strokes over it, the shape over both, then noise."""
    b, half, bright = len(index), resolution / 2, part["bright"]
    looks = _uniform(seed, index, 9, 7)  # (b, 7): what no factor is named after

    # Ground: waves in two tones of one hue, bent by a second wave.
    canvas = np.empty((b, 3, resolution, resolution), np.float32)
    dark_tone = _hsv(part["ground_hue"], np.where(bright, 0.6, 0.35), np.where(bright, 0.12, 0.68))
    light_tone = _hsv(part["ground_hue"], np.where(bright, 0.5, 0.15), np.where(bright, 0.40, 0.97))
    mix = np.full((b, resolution, resolution), 0.5, np.float32)
    if part["texture"].any():
        angle, frequency = 2 * np.pi * looks[:, 0:2], 0.6 + 1.4 * looks[:, 2:4]  # frequency: turns per half side
        across, down = np.cos(angle) * frequency, np.sin(angle) * frequency
        bend = _wave(_plane(across[:, 1], down[:, 1], looks[:, 4], resolution)) * np.float32(0.15)
        wave = _wave(_plane(across[:, 0], down[:, 0], looks[:, 5], resolution) + bend)
        mix += wave * (0.5 * part["texture"]).astype(np.float32)[:, None, None]
    canvas[:] = dark_tone.astype(np.float32)[:, :, None, None]
    _blend(canvas, mix, light_tone)

    # Strokes: thin capsules, as many as `clutter` says, in one colour of middling brightness.
    if part["clutter"].any():
        lines = _uniform(seed, index, 10, 4 * STROKES).reshape(b, STROKES, 4)
        nearest = np.full((b, resolution, resolution), np.inf, np.float32)
        for k in range(part["clutter"].max()):
            x, y, turn, length = lines[:, k].T
            u, v = _frame(2 * x - 1, 2 * y - 1, 2 * np.pi * turn, np.ones(b), resolution)
            u = np.maximum(np.abs(u) - (0.2 + 0.4 * length).astype(np.float32)[:, None, None], 0)
            far = np.where(part["clutter"] > k, np.float32(0), np.float32(4))[:, None, None]
            nearest = np.minimum(nearest, u * u + v * v + far)
        colour = _hsv(looks[:, 6], 0.5, np.where(bright, 0.68, 0.5))
        _blend(canvas, _cover(np.sqrt(nearest) - np.float32(0.045), half), colour)

    # The shape, class by class: each has its own distance.
    u, v = _frame(part["dx"], part["dy"], part["rotation"], part["scale"], resolution)
    distance = np.empty_like(u)
    for label, signed in enumerate(DISTANCES.values()):
        rows = np.flatnonzero(part["label"] == label)
        if len(rows):
            distance[rows] = signed(u[rows], v[rows])
    shape = _hsv(part["hue"], 0.85, np.where(bright, 0.98, 0.34))
    # Full blue is nearly as dark as the dark ground: whiten bright shapes to a luminance that stands out.
    luminance = shape @ np.array([0.299, 0.587, 0.114])
    shape += np.where(bright, np.maximum(0.5 - luminance, 0) / (1 - luminance), 0)[:, None] * (1 - shape)
    _blend(canvas, _cover(distance, part["scale"] * half), shape)

    canvas *= np.float32(255)
    if part["noise"].any():
        # The sum of two bytes: a triangular distribution of standard deviation 104.5, close enough to normal.
        words = _hash(seed, index, 11, -(-canvas[0].size * 2 // 8)).astype("<u8").view(np.uint8)
        pairs = words[:, : canvas[0].size * 2].reshape(b, -1, 2)
        total = pairs[..., 0].astype(np.float32) + pairs[..., 1] - np.float32(255)
        canvas += total.reshape(canvas.shape) * (part["noise"] * 255 / 104.5105).astype(np.float32)[:, None, None, None]
    return np.clip(np.rint(canvas, out=canvas), 0, 255, out=canvas).astype(np.uint8)
