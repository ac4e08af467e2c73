"""The generated images against analytic areas, rotations and shifts by numpy, and colorsys."""

import colorsys

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from mlp_lib.datasets import shapes
from mlp_lib.datasets.shapes import Factors
from mlp_lib.errors import UserError

PLAIN = dict(position=False, scale=False, rotation=False, colour=False, texture=False, clutter=False, noise=False)


def plain(n: int = 200, resolution: int = 32, **on) -> shapes.Rendered:
    return shapes.render(n, 0, Factors(**PLAIN | on), resolution)


def inside(rendered: shapes.Rendered) -> np.ndarray:
    """Share of each pixel covered by the shape, (n, r, r), where shape and ground are each of one known colour."""
    red = rendered.images[:, 0].astype(float)
    ground, shape = red[:, :1, :1], red.max(axis=(1, 2), keepdims=True)
    return (red - ground) / (shape - ground)


def grid(cells: int = 1600) -> tuple[np.ndarray, np.ndarray]:
    """Points of [-2, 2] squared, turned a little so that no edge runs along the cells."""
    x = (np.arange(cells, dtype=np.float32) + 0.5) / cells * 4 - 2
    across, up = x[None, None, :], -x[None, :, None]
    c, s = np.float32(np.cos(0.3)), np.float32(np.sin(0.3))
    return c * across + s * up, c * up - s * across


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_every_shape_has_area_pi_about_its_centroid_and_fits(name):
    u, v = grid()
    mask = shapes.DISTANCES[name](u, v) < 0
    assert abs(mask.mean() * 16 - np.pi) < 0.01
    assert abs(u[mask].mean()) < 0.005
    assert abs(v[mask].mean()) < 0.005
    assert np.hypot(u, v)[mask].max() < 1.85


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_distances_grow_at_unit_rate_across_the_edge(name):
    u, v = grid(800)
    distance = shapes.DISTANCES[name](u, v)[0]
    slope = np.hypot(*np.gradient(distance, 4 / 800))
    edge = np.abs(distance) < 0.02
    assert abs(np.median(slope[edge]) - 1) < 0.01


def test_no_two_shapes_look_alike_at_any_angle():
    u, v = grid(64)

    def mask(name, angle):
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return shapes.DISTANCES[name](c * u + s * v, c * v - s * u) < 0

    for i, one in enumerate(shapes.CLASSES):
        upright = mask(one, 0.0)
        for other in shapes.CLASSES[i + 1 :]:
            for angle in np.arange(0, 2 * np.pi, np.pi / 30):
                turned = mask(other, angle)
                assert (upright & turned).sum() / (upright | turned).sum() < 0.88


def test_an_example_depends_on_seed_and_position_only():
    long = shapes.render(300, 7)
    short = shapes.render(50, 7)
    assert np.array_equal(long.images[:50], short.images) and np.array_equal(long.labels[:50], short.labels)
    middle = shapes.render(40, 7, start=250)
    assert np.array_equal(long.images[250:290], middle.images)
    for name, values in middle.factors.items():
        assert np.array_equal(long.factors[name][250:290], values)
    assert not np.array_equal(shapes.render(50, 8).images, short.images)
    assert len(np.unique(long.images.reshape(300, -1), axis=0)) == 300


def test_shapes_and_types():
    rendered = shapes.render(5, 0, resolution=20)
    assert rendered.images.shape == (5, 3, 20, 20) and rendered.images.dtype == np.uint8
    assert rendered.labels.shape == (5,) and rendered.labels.dtype == np.int64
    assert all(values.shape == (5,) for values in rendered.factors.values())
    assert shapes.render(0, 0).images.shape == (0, 3, 32, 32)


def test_values_lie_in_their_ranges_and_are_uniform():
    n = 20_000
    values = shapes.sample(n, 0)
    assert np.abs(np.bincount(values["label"], minlength=10) - n / 10).max() < 4.5 * np.sqrt(n * 0.09)
    for name, (low, high) in {
        "dx": (-0.22, 0.22),
        "dy": (-0.22, 0.22),
        "scale": (0.28, 0.46),
        "hue": (0, 1),
        "rotation": (0, 2 * np.pi),
        "texture": (0.2, 1),
        "noise": (0, 0.06),
    }.items():
        x = (values[name] - low) / (high - low)
        assert x.min() >= 0 and x.max() <= 1
        assert np.abs(np.histogram(x, 10, (0, 1))[0] - n / 10).max() < 4.5 * np.sqrt(n * 0.09), name
    assert np.abs(np.bincount(values["clutter"]) - n / 5).max() < 4.5 * np.sqrt(n * 0.16)
    columns = np.array(
        [
            values[name]
            for name in (
                "label",
                "dx",
                "dy",
                "scale",
                "rotation",
                "hue",
                "bright",
                "texture",
                "clutter",
                "noise",
                "ground_hue",
            )
        ],
        dtype=float,
    )
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 4.5 / np.sqrt(n)


@pytest.mark.parametrize("name", list(PLAIN))
def test_switching_one_factor_off_leaves_the_others(name):
    on, off = shapes.sample(50, 3), shapes.sample(50, 3, Factors(**{name: False}))
    touched = {"position": {"dx", "dy"}, "colour": {"hue", "ground_hue", "bright"}}.get(name, {name})
    for key in on:
        if key in touched:
            assert len(np.unique(off[key])) == 1 < len(np.unique(on[key]))
        else:
            assert np.array_equal(on[key], off[key])


def test_everything_off_is_one_picture_a_class():
    rendered = plain()
    for label in range(10):
        assert len(np.unique(rendered.images[rendered.labels == label], axis=0)) == 1


def test_a_quarter_turn_is_numpys():
    still, turned = plain(100), plain(100, rotation=(np.pi / 2, np.pi / 2))
    expected = np.rot90(still.images, axes=(2, 3)).astype(int)  # counter-clockwise
    assert np.abs(turned.images - expected).max() <= 1


def test_a_shift_by_four_pixels_is_numpys():
    still, moved = plain(100), plain(100, position=(0.25, 0.25))  # of half the side, 16 pixels
    assert np.abs(moved.images - np.roll(still.images, (4, 4), axis=(2, 3)).astype(int)).max() <= 1


def test_position_and_scale_are_the_centroid_and_the_area():
    rendered = plain(400, 64, position=True, scale=True, rotation=True)
    cover = inside(rendered)
    x = (np.arange(64) + 0.5) / 32 - 1
    area = cover.sum((1, 2))
    assert np.abs((cover.sum(1) * x).sum(1) / area - rendered.factors["dx"]).max() < 0.02
    assert np.abs((cover.sum(2) * x).sum(1) / area - rendered.factors["dy"]).max() < 0.02
    expected = np.pi * (rendered.factors["scale"] * 32) ** 2
    assert np.abs(area / expected - 1).max() < 0.03


def test_a_finer_image_shrinks_to_the_coarse_one():
    fine, coarse = plain(60, 128, rotation=True), plain(60, 32, rotation=True)
    shrunk = fine.images.reshape(60, 3, 32, 4, 32, 4).mean((3, 5))
    assert np.abs(shrunk - coarse.images).mean() < 1
    assert (np.abs(shrunk - coarse.images) > 32).mean() < 0.005  # sharp corners: a ramp is not a box filter


def test_hue_is_colorsys():
    rendered = plain(100, colour=True)
    for i in np.flatnonzero(rendered.labels == shapes.CLASSES.index("disc")):
        hue, _, _ = colorsys.rgb_to_hsv(*rendered.images[i, :, 16, 16] / 255)
        assert abs((hue - rendered.factors["hue"][i] + 0.5) % 1 - 0.5) < 0.02
        ground, _, _ = colorsys.rgb_to_hsv(*rendered.images[i, :, 0, 0] / 255)
        assert abs((ground - rendered.factors["ground_hue"][i] + 0.5) % 1 - 0.5) < 0.03


def test_noise_has_the_given_deviation_and_no_mean():
    clean, noisy = plain(400), plain(400, noise=(0.05, 0.05))
    difference = (noisy.images.astype(float) - clean.images)[:, 1:2] / 255  # green stays away from 0 and 255
    assert abs(difference.mean()) < 0.5 / 255 + 0.0005  # the clean image is rounded
    assert abs(difference.std() - 0.05) < 0.001


def test_clutter_lies_behind_the_shape():
    clean = plain(200)
    full = inside(clean) == 1
    changed = []
    for strokes in range(5):
        cluttered = plain(200, clutter=(strokes, strokes))
        assert (cluttered.factors["clutter"] == strokes).all()
        different = (cluttered.images != clean.images).any(1)
        assert not (different & full).any()
        changed.append(different.mean())
    assert changed[0] == 0 and all(np.diff(changed) > 0.01)


def test_the_shape_stands_out_from_its_ground():
    """Luminance differs from the ground's wherever the shape is, at any colour and texture."""
    n = 400
    rendered = shapes.render(n, 0, Factors(**PLAIN | {"colour": True, "texture": True}))
    grey = np.tensordot([0.299, 0.587, 0.114], rendered.images / 255, (0, 1))  # (n, r, r)
    cover = inside(plain(n))
    gap = np.array([abs(grey[i][cover[i] == 1].mean() - grey[i][cover[i] == 0].mean()) for i in range(n)])
    assert gap.min() > 0.1


def test_hard_enough_for_a_linear_model_and_no_harder_than_that():
    """One picture a class plus noise is linear; with every factor on it is far from it."""

    def accuracy(factors):
        train, test = shapes.render(1500, 0, factors), shapes.render(500, 1, factors)
        model = RidgeClassifier(alpha=100.0).fit(train.images.mean(1).reshape(1500, -1) / 255.0, train.labels)
        return model.score(test.images.mean(1).reshape(500, -1) / 255.0, test.labels)

    assert accuracy(Factors(**PLAIN | {"noise": True})) > 0.98
    assert accuracy(Factors()) < 0.25


def test_centred_and_moved_sets_differ_in_where_their_objects_lie_alone():
    """The same shapes, colours and grounds, in the middle and anywhere: no disc is cut by the edge of the picture."""
    values = {name: shapes.sample(2000, 1, shapes.SETS[name].factors) for name in ("shapes-centred", "shapes-moved")}
    centred, moved = values.values()
    assert not (centred["dx"].any() or centred["dy"].any())
    for name in ("dx", "dy"):
        assert moved[name].min() < -0.44 and 0.44 < moved[name].max() < 0.45
        assert np.abs(moved[name]).max() + shapes.USUAL.scale[1] < 1
    assert all(np.array_equal(centred[name], moved[name]) for name in centred if name not in ("dx", "dy"))
    assert shapes.SETS["shapes"].factors == Factors()


def test_refusals_are_user_errors():
    with pytest.raises(UserError, match="scale"):
        shapes.render(1, 0, Factors(scale=(0.5, 0.2)))
    with pytest.raises(UserError, match="resolution"):
        shapes.render(1, 0, resolution=4)
