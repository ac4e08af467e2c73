"""Image sets of the reader's own, by a name that says where under the data root they are.

    npz:NAME             NAME/train.npz, and NAME/test.npz or NAME/val.npz, with `images` (uint8, N x H x W x C or
                         N x H x W) and `labels` (integers from 0); class names in NAME/classes.json, if it is there
    folder:NAME[@SIDE]   NAME/train/CLASS/*.png or .jpg, and NAME/test/... or NAME/val/...; every image becomes colour,
                         its centred square, SIDE pixels a side (64, the paper's, where none is given)

The name goes into run keys, so it is relative: a link in the data root stands for a folder elsewhere. Which images it
stood for, the fingerprint in each record says. Nothing that is read here can run code.
"""

import functools
import hashlib
import json
import math
import os
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlp_lib.datasets import decode
from mlp_lib.datasets.catalogue import Facts
from mlp_lib.datasets.decode import Arrays, Source
from mlp_lib.errors import UserError

SIDE = 64  # of a folder's images, in pixels: the paper trains everything at this size (section 4)
SUFFIXES = (".png", ".jpg", ".jpeg")


class Name(NamedTuple):
    """A parsed name. `path` is relative to the data root, with forward slashes; `side` is 0 for npz."""

    kind: str
    path: str
    side: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f"@{self.side}" if self.side not in (0, SIDE) else "")


def is_user_set(name: str) -> bool:
    return name.startswith(("npz:", "folder:"))


def parse(name: str) -> Name:
    """Read a name. Raises UserError for a path that is empty, absolute or leads out of the data root."""
    kind, text = name.split(":", 1)
    side = 0
    if kind == "folder":
        match = re.fullmatch(r"(.*?)(?:@(\d+))?", text)
        text, side = match[1], int(match[2] or SIDE)
        if not 4 <= side <= 512:
            raise UserError(f"dataset {name!r}: images of {side} pixels; take 4 to 512, as in folder:NAME@32")
    path = posixpath.normpath(text) if text else "."
    if path == "." or path.startswith(("/", "..")) or "\\" in path or ":" in path:
        raise UserError(
            f"dataset {name!r}: write a path relative to the data root, like {kind}:flowers, because the name becomes "
            "part of run keys; for a folder elsewhere, put a link to it into the data root"
        )
    return Name(kind, path, side)


def at_hand(name: str, root: Path) -> bool:
    return (root / parse(name).path).is_dir()


def facts(name: str, root: Path) -> Facts:
    """Facts without loading images: from headers and labels (npz), from the list of files (folder).

    Kept for the life of the process. Raises UserError when the set is absent or not of the form above.
    """
    parsed = parse(name)
    if not (root / parsed.path).is_dir():
        raise UserError(f"dataset {name!r}: there is no folder {root / parsed.path}; put it there, or a link to it")
    return (_npz_facts if parsed.kind == "npz" else _folder_facts)(parsed, root)


def read(name: str, root: Path) -> Arrays:
    """The images. A folder's are decoded once, into `decoded/` under the data root, and again when its files change.

    Raises UserError: one line that names the file that is wrong.
    """
    facts(name, root)
    parsed = parse(name)
    return (_read_npz if parsed.kind == "npz" else _read_folder)(parsed, root)


def _facts(name: Name, num_classes: int, channels: int, side: int, train: int, test: int) -> Facts:
    return Facts(str(name), name.path, num_classes, channels, side, train, test, (), (), "computed when loaded", False)


# --- npz


class _Part(NamedTuple):
    path: Path
    shape: tuple[int, ...]  # of the images, (N, H, W, C)
    labels: np.ndarray  # (N,) int64


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read as `images` and `labels` of an .npz file: {reason}") from error


def _header(archive: zipfile.ZipFile, array: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in an .npz, without its data. What the header promises must be there."""
    info = archive.getinfo(f"{array}.npy")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"{array} has the unusual .npy version {version}")
        shape, _, dtype = read_header[version](file)
        if dtype.hasobject:
            raise ValueError(f"{array} holds Python objects, which could run code")
        if info.file_size - file.tell() != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{array} has another size than its header says")
    return shape, dtype


def _array(archive: zipfile.ZipFile, array: str) -> np.ndarray:
    with archive.open(f"{array}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _npz_part(path: Path) -> _Part:
    with _readable(path), zipfile.ZipFile(path) as archive:
        shape, dtype = _header(archive, "images")
        label_shape, label_dtype = _header(archive, "labels")
        grey = len(shape) == 3
        if dtype != np.uint8 or len(shape) not in (3, 4) or (not grey and shape[3] not in (1, 3)):
            raise ValueError(f"images are {dtype} {shape}, not uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
        if shape[1] != shape[2] or shape[0] < 1:
            raise ValueError(f"images are {shape}: at least one, and square")
        if label_dtype.kind not in "iu" or label_shape != shape[:1]:
            raise ValueError(f"labels are {label_dtype} {label_shape}, not integers {shape[:1]}")
        labels = _array(archive, "labels").astype(np.int64)
        if labels.min() < 0:
            raise ValueError("labels start below 0")
    return _Part(path, (*shape, 1) if grey else shape, labels)


@functools.lru_cache(maxsize=16)
def _npz_parts(name: Name, root: Path) -> tuple[_Part, _Part]:
    folder = root / name.path
    test_path = folder / "test.npz" if (folder / "test.npz").is_file() else folder / "val.npz"
    for path in (folder / "train.npz", test_path):
        if not path.is_file():
            raise UserError(f"dataset '{name}': {path} is missing; it needs train.npz, and test.npz or val.npz")
    train, test = _npz_part(folder / "train.npz"), _npz_part(test_path)
    if train.shape[1:] != test.shape[1:]:
        raise UserError(f"{test_path}: images of {test.shape[1:]}, but those of train.npz are {train.shape[1:]}")
    if test.labels.max() > train.labels.max():
        raise UserError(
            f"{test_path}: label {test.labels.max()} does not occur in train.npz, which ends at {train.labels.max()}"
        )
    return train, test


def _npz_facts(name: Name, root: Path) -> Facts:
    train, test = _npz_parts(name, root)
    classes = int(train.labels.max()) + 1
    if classes < 2:
        raise UserError(f"{train.path}: all labels are 0; classification needs at least two classes")
    return _facts(name, classes, train.shape[3], train.shape[1], train.shape[0], test.shape[0])


def _read_npz(name: Name, root: Path) -> Arrays:
    arrays = []
    for part in _npz_parts(name, root):
        with _readable(part.path), zipfile.ZipFile(part.path) as archive:
            images = _array(archive, "images").reshape(part.shape)  # (N, H, W, C)
        arrays += [np.ascontiguousarray(images.transpose(0, 3, 1, 2)), part.labels]
    return Arrays(*arrays, _class_names(root / name.path / "classes.json", int(arrays[1].max()) + 1))


def _class_names(path: Path, count: int) -> tuple[str, ...]:
    """A list of names, or an object with such a list under "words"; numbers where there is no file."""
    if not path.is_file():
        return tuple(map(str, range(count)))
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    names = content.get("words") if isinstance(content, dict) else content
    if not isinstance(names, list) or len(names) != count or not all(isinstance(n, str) for n in names):
        raise UserError(f'{path} must be a list of {count} names, one a class, or hold one under "words"')
    return tuple(names)


# --- folders of image files


class _Listing(NamedTuple):
    classes: tuple[str, ...]
    train: Source
    test: Source
    signature: str


@functools.lru_cache(maxsize=16)
def _listing(name: Name, root: Path) -> _Listing:
    """All image files, by class and path, with a hash of their paths, sizes and times of change."""
    folder = root / name.path
    train_folder = folder / "train"
    test_folder = folder / "test" if (folder / "test").is_dir() else folder / "val"
    for part in (train_folder, test_folder):
        if not part.is_dir():
            raise UserError(f"dataset '{name}': {part} is missing; it needs train/CLASS/*.png, and test/ or val/")
    classes = tuple(sorted(entry.name for entry in os.scandir(train_folder) if entry.is_dir()))
    strange = sorted({entry.name for entry in os.scandir(test_folder) if entry.is_dir()} - set(classes))
    if strange:
        raise UserError(f"{test_folder / strange[0]}: there is no class {strange[0]!r} in {train_folder}")
    if len(classes) < 2:
        raise UserError(f"{train_folder} has {len(classes)} folders of classes; classification needs at least two")
    digest = hashlib.sha256(f"{name.side}".encode())
    sources = []
    for part in (train_folder, test_folder):
        names, labels = [], []
        for label, wanted in enumerate(classes):
            found = sorted(_image_files(part / wanted))
            if not found and part is train_folder:
                raise UserError(f"{part / wanted} holds no image ({', '.join(SUFFIXES)}); add some or remove it")
            for path in found:
                state = os.stat(path)
                digest.update(f"{os.path.relpath(path, folder)}|{state.st_size}|{state.st_mtime_ns}\n".encode())
            names += found
            labels += [label] * len(found)
        if not names:
            raise UserError(f"{part} holds no image ({', '.join(SUFFIXES)})")
        sources.append(Source(names, labels))
    return _Listing(classes, *sources, digest.hexdigest()[:32])


def _image_files(folder: Path) -> Iterator[str]:
    for where, _, files in os.walk(folder, followlinks=False):
        yield from (os.path.join(where, file) for file in files if file.lower().endswith(SUFFIXES))


def _folder_facts(name: Name, root: Path) -> Facts:
    listing = _listing(name, root)
    return _facts(name, len(listing.classes), 3, name.side, len(listing.train.names), len(listing.test.names))


def _read_folder(name: Name, root: Path) -> Arrays:
    listing = _listing(name, root)
    target = root / "decoded" / f"{name.path.replace('/', '+')}@{name.side}"
    if (arrays := decode.read(target, listing.signature)) is not None:
        return arrays
    return decode.decode(
        target,
        listing.signature,
        listing.train,
        listing.test,
        listing.classes,
        lambda path: open(path, "rb"),
        name.side,
        f"folder:{name.path}",
    )
