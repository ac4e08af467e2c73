"""What an image file looks like: its pixels as a viewer shows them, as 8-bit colour.

`MEANINGS` says for every mode of Pillow how it becomes colour; a mode that no two viewers show alike is refused. What
the file says besides its pixels counts too: transparency, the orientation tag, a colour profile, several frames.
"""

import io
import warnings
from typing import IO

import numpy as np

# The ground under transparent pixels: white, as on a page.
GROUND = (255, 255, 255)

MEANINGS = {
    "1": "black is 0, white is 255",
    "L": "grey: red, green and blue are equal",
    "P": "the palette's colours",
    "PA": "the palette's colours, over white",
    "LA": "grey, over white",
    "La": "grey, multiplied by its opacity already; over white",
    "RGB": "as it is; of 16 bits a channel the upper 8",
    "RGBA": "over white",
    "RGBa": "multiplied by its opacity already; over white",
    "RGBX": "its colour; the fourth channel is padding",
    "CMYK": "ink to light, by the file's colour profile where it has one",
    "YCbCr": "by the JPEG standard",
    "HSV": "by hue, saturation and value",
    "LAB": "CIE L*a*b* to sRGB",
    "I;16": "16-bit grey: white, 65535, becomes 255; 12-bit TIFF: 4095 does",
    "I;16B": "as I;16",
    "I;16L": "as I;16",
    "I;16N": "as I;16",
    "I": "16-bit grey of PNG and PGM: as I;16; 32-bit integers of other files are refused",
    "F": "refused: a float has no white",
}

# Formats by Pillow's name that are left alone: EPS starts another program, WMF needs Windows, the others are no
# pictures that Pillow itself can draw.
_NOT_READ = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FPX", "MIC", "IPTC"}
_WITH_FRAMES = {"GIF", "PNG", "WEBP", "TIFF", "AVIF", "FLI", "DCX", "IM"}  # whose further frames are pictures too
_TURNS = {  # EXIF orientation -> the Pillow transposition that undoes it
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
ORIENTATION = 0x0112


class Unclear(ValueError):
    """The file does not say what its pixels look like. The message completes "... cannot be decoded ("."""


def formats() -> list[str]:
    """Names of the formats that are read."""
    from PIL import Image

    Image.init()
    return sorted(set(Image.OPEN) - _NOT_READ)


def endings() -> tuple[str, ...]:
    """Endings of image files that are read, in lower case, with the dot."""
    from PIL import Image

    read = {*formats(), "MPO"}
    return tuple(sorted(ending for ending, kind in Image.registered_extensions().items() if kind in read))


def plain_rgb(file: IO[bytes]):
    """The file's image as Pillow's RGB, whatever else the file says: for published sets, whose pixels are fixed."""
    from PIL import Image

    with Image.open(file) as image:
        return image.convert("RGB")


def as_shown(file: IO[bytes]):
    """The file's image as a viewer shows it: an RGB image of Pillow's, upright, over white, its first frame.

    Raises Unclear where the file does not say what it looks like; Pillow raises nearly anything for a damaged one.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of large images that are read all the same
        with Image.open(file, formats=formats()) as image:
            image.load()
            coloured = _in_srgb(image)
            shown = _opaque(image) if coloured is None else coloured
            return _upright(shown, image)


def frames(file: IO[bytes]) -> int:
    """How many pictures the file holds, of which `as_shown` gives the first. 1 for a file that cannot be read."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats()) as image:
                return getattr(image, "n_frames", 1) if image.format in _WITH_FRAMES else 1
    except Exception:  # `as_shown` says what is wrong with it
        return 1


def _opaque(image):
    """RGB by the mode's meaning, transparent pixels over white."""
    from PIL import Image

    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _from_numbers(image)
    if mode == "LAB":
        return _lab(image)
    if mode not in MEANINGS:
        raise Unclear(f"its mode {mode} is not one that is known; save it as 8-bit colour")
    see_through = image.info.get("transparency")
    if mode == "RGB" and isinstance(see_through, tuple) and max(see_through) > 255:
        raise Unclear("16-bit colour with a transparent colour; save it as 8-bit colour")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if mode == "La":
        image = image.convert("LA")
    ground = Image.new("RGBA", image.size, (*GROUND, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def _from_numbers(image):
    """RGB of grey levels beyond 8 bits, by the white that the format states."""
    from PIL import Image

    if image.mode == "F":
        raise Unclear("its pixels are floats, and nothing says which is white; save it as 8 or 16 bits")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise Unclear("its pixels are 32-bit integers, and nothing says which is white; save it as 8 or 16 bits")
    white, inverted = 65535, False
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (16,))
        white = 2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1
        inverted = image.tag_v2.get(262) == 0  # Pillow turns white-is-zero round for 8 bits only
    levels = np.asarray(image).astype(np.int64)
    if levels.min(initial=0) < 0 or levels.max(initial=0) > white:
        raise Unclear(f"grey levels of {levels.min()} to {levels.max()}, but white is {white}; save it as 8 bits")
    grey = np.rint(levels * (255 / white)).astype(np.uint8)
    if inverted:
        grey = 255 - grey
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):
        grey[levels == see_through] = GROUND[0]
    return Image.fromarray(grey).convert("RGB")


def _in_srgb(image):
    """RGB by the colour profile in the file; None where there is none, or it is sRGB, or not one for these pixels."""
    from PIL import Image, ImageCms

    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK", "L", "RGBA"):
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in (own.profile.profile_description or "").lower():
            return None
        mode = "RGB" if image.mode == "RGBA" else image.mode
        colours = image.convert(mode) if image.mode != mode else image
        plain = ImageCms.profileToProfile(colours, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a broken or foreign profile: viewers ignore it
        return None
    if not image.has_transparency_data:
        return plain
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    plain.putalpha(image.getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", image.size, (*GROUND, 255)), plain).convert("RGB")


def _lab(image):
    from PIL import ImageCms

    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )


def _upright(shown, image):
    """`shown` turned as the file's orientation tag says; a tag that cannot be read, or says nothing known, is none."""
    from PIL import Image

    try:
        turn = _TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # damaged metadata of a picture that is whole
        turn = None
    return shown.transpose(Image.Transpose[turn]) if turn else shown
