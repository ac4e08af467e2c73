"""What an image looks like in a viewer is what the model sees: every mode, transparency, orientation, frames."""

import io
import re

import numpy as np
import pytest
from helpers import image_tree, one_line
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms

from mlp_lib import datasets
from mlp_lib.datasets import pixels
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY

LEVELS = np.array([[0, 257, 1000], [32768, 60000, 65535]], np.uint16)
GREY = np.array([[0, 1, 4], [128, 233, 255]], np.uint8)  # LEVELS in 8 bits


def as_shown(image: Image.Image, kind: str, **options) -> np.ndarray:
    raw = io.BytesIO()
    image.save(raw, kind, **options)
    raw.seek(0)
    shown = pixels.as_shown(raw)
    assert shown.mode == "RGB"
    return np.asarray(shown)


def test_every_mode_of_pillow_is_decided_and_stands_in_the_docs():
    assert set(Image.MODES) <= set(pixels.MEANINGS)
    page = (REPOSITORY / "book" / "what-happens.md").read_text()
    assert dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", page.split("## How files become colour")[1], re.M)) == (
        pixels.MEANINGS
    )


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("PPM", {}), ("JPEG2000", {})])
def test_grey_of_16_bits_keeps_its_levels(kind, options):
    levels = np.kron(LEVELS, np.ones((8, 8), np.uint16))
    assert np.array_equal(as_shown(Image.fromarray(levels), kind, **options)[::8, ::8], np.stack([GREY] * 3, 2))


def test_a_tiff_says_which_end_is_white():
    assert np.array_equal(as_shown(Image.fromarray(LEVELS), "TIFF", tiffinfo={262: 0})[..., 0], 255 - GREY)
    assert np.array_equal(as_shown(Image.fromarray(GREY), "TIFF")[..., 0], GREY)


@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 65535)))
@settings(max_examples=40, deadline=None)
def test_any_grey_of_16_bits(levels):
    expected = np.rint(levels / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(as_shown(Image.fromarray(levels), kind)[..., 1], expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_white_are_refused(mode):
    with pytest.raises(pixels.Unclear, match="nothing says which is white"):
        as_shown(Image.new(mode, (4, 4), 7), "TIFF")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "TGA"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_over_white(kind, mode):
    colours = (10, 20, 30) if mode == "RGBA" else (100,)
    bands = [Image.new("L", (3, 1), c) for c in colours] + [Image.fromarray(np.array([[0, 128, 255]], np.uint8))]
    shown = as_shown(Image.merge(mode, bands), kind, **({"lossless": True} if kind == "WEBP" else {}))[0]
    full = np.array(colours if mode == "RGBA" else colours * 3)
    assert np.array_equal(shown[0], [255] * 3) and np.array_equal(shown[2], full)
    assert np.abs(shown[1] - (255 + full) / 2).max() < 2


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palettes_with_and_without_transparency(kind):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert as_shown(image, kind).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert as_shown(image, kind, transparency=1).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    if kind == "PNG":
        assert as_shown(image, kind, transparency=bytes([255, 0, 128])).tolist()[0][1] == [255, 255, 255]


def test_a_transparent_colour_of_grey_colour_and_16_bits():
    grey = as_shown(Image.fromarray(np.array([[0, 7, 9]], np.uint8)), "PNG", transparency=7)
    assert grey[0, :, 0].tolist() == [0, 255, 9]
    colour = as_shown(Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)), "PNG", transparency=(1, 2, 3))
    assert colour.tolist() == [[[255] * 3, [4, 5, 6]]]
    assert as_shown(Image.fromarray(LEVELS), "PNG", transparency=1000)[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "PPM"])
def test_one_bit(kind):
    bits = np.array([[False, True, True], [True, False, False]])
    assert np.array_equal(as_shown(Image.fromarray(bits), kind), 255 * np.stack([bits] * 3, 2))


def test_ink_is_turned_into_light():
    for kind in ("JPEG", "TIFF"):
        shown = as_shown(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), kind)
        assert np.abs(shown.astype(int) - [0, 255, 255]).max() < 4
    assert as_shown(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "TIFF").max() == 0


def test_a_colour_profile_counts_and_srgb_changes_nothing():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile"):
        assert np.array_equal(as_shown(image, "PNG", icc_profile=profile), np.asarray(image))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # not one for RGB pixels
    assert np.array_equal(as_shown(image, "PNG", icc_profile=lab), np.asarray(image))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_the_orientation_tag_turns_the_picture(kind, orientation):
    upright = np.zeros((2, 3), np.uint8)
    upright[0, 0], upright[0, 2] = 255, 128  # all eight positions differ
    stored = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }.get(orientation, lambda a: a)(upright)
    exif = Image.Exif()
    exif[pixels.ORIENTATION] = orientation
    large = Image.fromarray(np.kron(stored, np.ones((16, 16), np.uint8)))
    shown = as_shown(large.convert("RGB"), kind, exif=exif)[8::16, 8::16, 0]
    assert shown.shape == (2, 3) and np.abs(shown.astype(int) - upright).max() < 12


def test_damaged_metadata_of_a_whole_picture_is_no_obstacle():
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"):
        assert np.array_equal(as_shown(image, "PNG", exif=exif), np.asarray(image))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken_and_said(kind, root, capsys):
    folder = image_tree(root / "moving")
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    (folder / "train" / "a" / "0.png").unlink()
    options = {"lossless": True} if kind == "WEBP" else {}
    name = folder / "train" / "a" / f"0.{kind.lower()}"
    pictures[0].save(name, kind, save_all=True, append_images=pictures[1:], **options)
    images = datasets.load("folder:moving@8")
    assert images.train_images[0].transpose(1, 2, 0).reshape(-1, 3).tolist() == [[255, 0, 0]] * 64
    assert f"of 1 files with several frames or pages the first is taken, as of {name}" in capsys.readouterr().out


def test_no_reader_starts_another_program():
    assert not {"EPS", "WMF"} & {*pixels.formats()} and not {".eps", ".ps", ".wmf"} & {*pixels.endings()}
    assert {".webp", ".bmp", ".tif", ".tiff", ".gif", ".png", ".jpg", ".jpeg", ".ppm", ".jp2"} <= {*pixels.endings()}


@pytest.mark.parametrize("mode", ["I", "F"])
def test_what_is_refused_is_one_line(root, mode):
    folder = image_tree(root / "odd")
    Image.new(mode, (8, 8), 3).save(folder / "train" / "a" / "x.tif")
    with pytest.raises(UserError, match="x.tif cannot be decoded .its pixels are .*; replace it or take it") as error:
        datasets.load("folder:odd@8")
    one_line(error)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_a_picture_or_an_exception_but_never_a_hang(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))
    raw = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(raw, kind)
    content = bytearray(raw.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert pixels.as_shown(io.BytesIO(bytes(content))).mode == "RGB"
    except Exception as error:
        assert not isinstance(error, AssertionError)
