"""Image files decoded once, into uint8 arrays that later calls map from the disk.

A decoded set is a folder of four .npy files and `index.json`, put in place as a whole and never changed after that:
other images go into another folder. Nothing in these files can run code when it is read.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import filelock
import numpy as np

from mlp_lib.datasets.pixels import as_shown
from mlp_lib.errors import UserError
from mlp_lib.paths import whats_wrong

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
    labels_in_files: tuple[int, ...] = ()  # what the files call the classes, where that is not 0..K-1


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


def statistics(images: np.ndarray, title: str = "the set") -> tuple[tuple[float, ...], tuple[float, ...]]:
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
        channel = int(std.argmin())
        raise UserError(f"{title}: channel {channel} of the training images is the same everywhere; leave it out")
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


def read(folder: Path, signature: str) -> Arrays | None:
    """The set decoded in `folder` from what `signature` stands for; None where there is no such set.

    The images are mapped from the disk. Raises UserError when they are not those that were written.
    """
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if (index["version"], index["signature"]) != (VERSION, signature):
            return None
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in _FILES]
        if fingerprint(arrays) != index["fingerprint"]:
            raise UserError(f"{folder} is damaged: its images are not those that were decoded; {_REPAIR}")
        return Arrays(*arrays, tuple(index["classes"]), tuple(index["mean"]), tuple(index["std"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise UserError(f"{error.filename} cannot be read: permission denied; change its permissions") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder} is damaged ({type(error).__name__}); {_REPAIR}") from error


_FILES = ("train-images", "train-labels", "test-images", "test-labels")
_REPAIR = "delete it and run again"
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # what file systems without locks say


def decode(
    folder: Path,
    signature: str,
    train: Source,
    test: Source,
    classes: Sequence[str],
    open_image: Callable[[str], IO[bytes]],
    pixels: int,
    title: str,
    *,
    colours: Callable[[IO[bytes]], Any] = as_shown,
    still_the_same: Callable[[], bool] = lambda: True,
) -> Arrays:
    """Decode every image into `folder` and return the set: colour, the centred square, `pixels` a side by Lanczos.

    An image of that size is kept as it is. The set is written beside and renamed into place as a whole: what others
    have mapped is never changed, and a call that is killed leaves nothing that `read` would take. Of two calls at a
    time, one waits for the other, or, where the file system has no locks, both decode and the first one's is kept.

    Args:
        colours: an open file to Pillow's RGB image.
        still_the_same: asked at the end; False is refused: files were changed while they were decoded.

    Raises UserError for an image that cannot be decoded, and for a full disk.
    """
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if (done := read(folder, signature)) is not None:
                return done
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _write(part, signature, train, test, classes, open_image, colours, pixels, title)
            if not still_the_same():
                raise UserError(f"{title}: files were changed while they were decoded; run again when they are at rest")
            _put_in_place(part, folder, signature)
    except OSError as error:
        reason = error.strerror or str(error)
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        advice = f"decoded copies go to {folder.parent}: make it writable" if denied else "free some space"
        raise UserError(f"{title}: cannot write {folder}: {reason}; {advice}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    arrays = read(folder, signature)
    if arrays is None:
        raise UserError(f"{title}: {folder} has been changed by another process; run again")
    return arrays


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold `folder` against other processes that decode it, as far as the file system can."""
    # Not the library's own way out, which takes the file that an old lock has left for a lock that is held.
    lock = filelock.FileLock(folder.with_name(f"{folder.name}.lock"), fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _write(
    part: Path, signature: str, train: Source, test: Source, classes, open_image, colours, pixels, title
) -> None:
    """The files of a decoded set, read-only, in the new folder `part`."""
    total, count = len(train.names) + len(test.names), 0
    for split, source in (("train", train), ("test", test)):
        _write_images(part / f"{split}-images.npy", source, open_image, colours, pixels, title, count, total)
        np.save(part / f"{split}-labels.npy", np.asarray(source.labels, np.int64), allow_pickle=False)
        count += len(source.names)
    arrays = [np.load(part / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in _FILES]
    mean, std = statistics(arrays[0], title)
    index = {
        "version": VERSION,
        "signature": signature,
        "fingerprint": fingerprint(arrays),
        "classes": list(classes),
        "mean": mean,
        "std": std,
    }
    (part / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    for file in part.iterdir():
        file.chmod(0o444)


def _put_in_place(part: Path, folder: Path, signature: str) -> None:
    """Rename the whole folder. What lies there and is of no use (another version) goes; whoever has mapped it keeps it,
    because a file that is removed stays for those who have it open."""
    try:
        os.rename(part, folder)
    except OSError:
        if not folder.is_dir():
            raise
        if read(folder, signature) is not None:
            return  # another process was quicker
        old = folder.with_name(f"{folder.name}.{os.getpid()}.old.part")
        os.rename(folder, old)
        os.rename(part, folder)
        shutil.rmtree(old, ignore_errors=True)


def _write_images(path: Path, source: Source, open_image, colours, pixels: int, title: str, done: int, total: int):
    """An .npy file image by image. Written, not mapped: on a full disk, a mapping would kill the process."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(source.names), 3, pixels, pixels)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for count, name in enumerate(source.names, done + 1):
            file.write(_pixels(name, open_image, colours, pixels, title).tobytes())
            if 10 * count // total > 10 * (count - 1) // total:
                print(f"{title}: {count:,} of {total:,} images decoded", flush=True)


def _pixels(name: str, open_image, colours, pixels: int, title: str) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with open_image(name) as file:
            square = ImageOps.fit(colours(file), (pixels, pixels), Image.Resampling.LANCZOS)
    except Exception as error:  # Pillow raises nearly anything for a damaged file; all of it means the same
        if isinstance(error, UnidentifiedImageError):
            error = ValueError("it is no image of a format that is read, whatever its ending")
        reason = whats_wrong(Path(name), error)
        raise UserError(f"{title}: {name} cannot be decoded ({reason}); replace it or take it out") from error
    return np.asarray(square).transpose(2, 0, 1)  # (3, pixels, pixels)
