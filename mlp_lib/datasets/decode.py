"""Image files decoded once, into uint8 arrays that later calls map from the disk.

A decoded set is a folder of four .npy files and `index.json`, which is written last: without it, or when it was made
from other files, the set counts as not decoded. Nothing in these files can run code when it is read.
"""

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import filelock
import numpy as np

from mlp_lib.errors import UserError

VERSION = 1  # raise it when the same files would be decoded to other pixels


class Arrays(NamedTuple):
    """A set's images (N, C, H, W) uint8, labels (N,) int64 and class names."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()  # of the training images, per channel in 0..1, where it was kept
    std: tuple[float, ...] = ()


class Source(NamedTuple):
    """Where the images of one split are: a name that `open_image` understands and a label for each."""

    names: Sequence[str]
    labels: Sequence[int]


def fingerprint(arrays: Sequence[np.ndarray]) -> str:
    """16 hex digits of SHA-256 over arrays, their types and shapes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel for pixels in 0..1, rounded to 4 places so that all machines agree.

    images: (N, C, H, W) uint8. Raises UserError for a channel without contrast, by which nothing can be divided.
    """
    counts = np.zeros((images.shape[1], 256), np.int64)
    for low in range(0, len(images), 2000):
        for channel, row in enumerate(counts):
            row += np.bincount(images[low : low + 2000, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    share = counts / counts.sum(1, keepdims=True)  # (C, 256)
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
    if (std < 1e-3).any():
        raise UserError(f"channel {int(std.argmin())} of the training images is the same everywhere; leave it out")
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


def read(folder: Path, signature: str) -> Arrays | None:
    """The set decoded in `folder` from what `signature` stands for; None where there is no such set.

    The images are mapped from the disk. Raises UserError when they are not those that were written.
    """
    try:
        index = json.loads((folder / "index.json").read_text())
        if (index["version"], index["signature"]) != (VERSION, signature):
            return None
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in _FILES]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is damaged ({type(error).__name__}); delete it and run again") from error
    if fingerprint(arrays) != index["fingerprint"]:
        raise UserError(f"{folder} is damaged: its images are not those that were decoded; delete it and run again")
    return Arrays(*arrays, tuple(index["classes"]), tuple(index["mean"]), tuple(index["std"]))


_FILES = ("train-images", "train-labels", "test-images", "test-labels")


def decode(
    folder: Path,
    signature: str,
    train: Source,
    test: Source,
    classes: Sequence[str],
    open_image: Callable[[str], IO[bytes]],
    pixels: int,
    title: str,
) -> Arrays:
    """Decode every image into `folder` and return the set: colour, the centred square, `pixels` a side by Lanczos.

    An image of that size is kept as it is. A call that is killed leaves nothing that `read` would take; of two calls
    at a time, one waits for the other. Raises UserError for an image that cannot be decoded and for a full disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock"):
            if (done := read(folder, signature)) is not None:
                return done
            (folder / "index.json").unlink(missing_ok=True)
            total, count = len(train.names) + len(test.names), 0
            for split, source in (("train", train), ("test", test)):
                _write_images(folder / f"{split}-images.npy", source, open_image, pixels, title, count, total)
                np.save(folder / f"{split}-labels.npy", np.asarray(source.labels, np.int64), allow_pickle=False)
                count += len(source.names)
            arrays = [np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in _FILES]
            mean, std = statistics(arrays[0])
            index = {
                "version": VERSION,
                "signature": signature,
                "fingerprint": fingerprint(arrays),
                "classes": list(classes),
                "mean": mean,
                "std": std,
            }
            part = folder / "index.json.part"
            part.write_text(json.dumps(index, indent=1))
            os.replace(part, folder / "index.json")
    except OSError as error:
        raise UserError(f"{title}: cannot write {folder}: {error.strerror or error}; free some space") from error
    return Arrays(*arrays, tuple(classes), mean, std)


def _write_images(path: Path, source: Source, open_image, pixels: int, title: str, done: int, total: int) -> None:
    """An .npy file image by image. Written, not mapped: on a full disk, a mapping would kill the process."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(source.names), 3, pixels, pixels)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for count, name in enumerate(source.names, done + 1):
            file.write(_pixels(name, open_image, pixels, title).tobytes())
            if 10 * count // total > 10 * (count - 1) // total:
                print(f"{title}: {count:,} of {total:,} images decoded", flush=True)


def _pixels(name: str, open_image, pixels: int, title: str) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with open_image(name) as file, Image.open(file) as image:
            square = ImageOps.fit(image.convert("RGB"), (pixels, pixels), Image.Resampling.LANCZOS)
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zipfile.BadZipFile,
        Image.DecompressionBombError,
    ) as error:  # Pillow raises SyntaxError for a broken PNG
        raise UserError(f"{title}: {name} cannot be decoded ({error}); replace it or take it out") from error
    return np.asarray(square).transpose(2, 0, 1)  # (3, pixels, pixels)
