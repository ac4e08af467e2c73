"""Sets of the reader's own in .npz files: checked by their headers, then read. Nothing that is read can run code."""

import functools
import json
import math
import multiprocessing
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlp_lib.datasets.catalogue import Facts
from mlp_lib.datasets.decode import Arrays
from mlp_lib.datasets.names import Name
from mlp_lib.errors import UserError
from mlp_lib.machine import check_fits
from mlp_lib.paths import check_regular, is_pointer, on_one_line, shown, whats_wrong


class _Part(NamedTuple):
    path: Path
    shape: tuple[int, ...]  # of the images, (N, H, W, C)
    labels: np.ndarray  # (N,) uint64, as the file has them
    state: tuple[int, ...]  # changes when the file does


class Parts(NamedTuple):
    """Both parts, and what the files call the classes: class k is label `labels[k]`."""

    train: _Part
    test: _Part
    labels: np.ndarray  # (K,) distinct, ascending


def facts(name: Name, root: Path) -> Facts:
    """Facts from headers and labels; no image is read."""
    parts = read_parts(name, root)
    (count, side, _, channels), tested = parts.train.shape, parts.test.shape[0]
    sizes = (len(parts.labels), channels, side, count, tested)
    return Facts(str(name), name.path, *sizes, (), (), "computed when loaded", False)


def read(name: Name, root: Path) -> Arrays:
    """The images, with labels mapped to 0..K-1. Says so where the files have others."""
    parts, arrays = read_parts(name, root), []
    for part in (parts.train, parts.test):
        check_fits(math.prod(part.shape), f"the images of {part.path}", "take a smaller set")
        with _readable(part.path), zipfile.ZipFile(part.path) as archive:
            images = _array(archive, "images").reshape(part.shape)  # (N, H, W, C)
            if _state(part.path) != part.state:
                raise UserError(f"{part.path} was changed since its labels were read; start again when it is at rest")
        labels = np.searchsorted(parts.labels, part.labels).astype(np.int64)
        arrays += [np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels]
    own = tuple(map(int, parts.labels))
    mapped = own != tuple(range(len(own)))
    first = multiprocessing.parent_process() is None  # once, not in every worker
    if mapped and first:
        print(f"{name}: labels {_listed(own)} of the files are the classes 0 to {len(own) - 1}, in this order")
    if first and parts.test.path.name == "test.npz" and os.path.lexists(root / name.path / "val.npz"):
        print(f"{name}: val.npz is not read, because there is test.npz")
    classes = _class_names(root / name.path / "classes.json", own)
    return Arrays(*arrays, classes, labels_in_files=own if mapped else ())


def _listed(labels: tuple[int, ...]) -> str:
    if len(labels) > 8 and labels[-1] - labels[0] == len(labels) - 1:
        return f"{labels[0]} to {labels[-1]}"
    return ", ".join(map(str, labels[:8])) + (f", ... {labels[-1]}" if len(labels) > 8 else "")


@functools.lru_cache(maxsize=16)
def read_parts(name: Name, root: Path) -> Parts:
    """Headers and labels of train.npz and test.npz (or val.npz). Kept for the life of the process.

    Raises UserError for files that are missing or of another form, and for a class without images in either part.
    """
    folder = root / name.path
    test_path = folder / ("test.npz" if os.path.lexists(folder / "test.npz") else "val.npz")
    for path in (folder / "train.npz", test_path):
        if not path.is_file():
            what = "is missing"
            if os.path.lexists(path):
                what = "is a folder" if path.is_dir() else "is no regular file, or a link to nothing"
            raise UserError(f"dataset '{name}': {path} {what}; it needs train.npz, and test.npz or val.npz")
    train, test = _npz_part(folder / "train.npz"), _npz_part(test_path)
    if train.shape[1:] != test.shape[1:]:
        raise UserError(f"{test_path}: images of {test.shape[1:]}, but those of train.npz are {train.shape[1:]}")
    labels, tested = np.unique(train.labels), np.unique(test.labels)
    if len(unknown := np.setdiff1d(tested, labels)):
        raise UserError(f"{test_path}: label {unknown[0]} does not occur in train.npz, so nothing is learned of it")
    if len(labels) < 2:
        raise UserError(f"{train.path}: all labels are {labels[0]}; classification needs at least two classes")
    if len(absent := np.setdiff1d(labels, tested)):
        raise UserError(
            f"{test_path}: no image has label {absent[0]}, which train.npz has; every class needs images in both "
            f"({len(labels)} classes in train.npz, {len(tested)} here)"
        )
    return Parts(train, test, labels)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # zip, its four compressions and numpy's header raise nearly anything for damage
        reason = whats_wrong(path, error)
        raise UserError(f"{path} cannot be read as `images` and `labels` of an .npz file: {reason}") from error


def _header(archive: zipfile.ZipFile, array: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in an .npz, without its data. What the header promises must be there."""
    if f"{array}.npy" not in archive.namelist():
        there = ", ".join(shown(name.removesuffix(".npy")) for name in archive.namelist()[:8])
        raise ValueError(f"there is no array `{array}` in it, only: {there or 'nothing'}")
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
        state = _state(path)
        shape, dtype = _header(archive, "images")
        label_shape, label_dtype = _header(archive, "labels")
        grey = len(shape) == 3
        if dtype != np.uint8 or len(shape) not in (3, 4) or (not grey and shape[3] not in (1, 3)):
            raise ValueError(f"images are {dtype} {shape}, not uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
        if shape[1] != shape[2] or min(shape) < 1:
            raise ValueError(f"images are {shape}: at least one, and square")
        if label_dtype.kind not in "iu" or label_shape != shape[:1]:
            raise ValueError(f"labels are {label_dtype} {label_shape}, not integers {shape[:1]}")
        check_fits(label_dtype.itemsize * shape[0], f"the labels of {path}", "take a smaller set")
        labels = _array(archive, "labels")
        if labels.min() < 0:
            raise ValueError("labels start below 0, which often means 'no label': take those images out")
    # One type for both parts: NumPy compares large numbers of two types as floats, which cannot tell them apart.
    return _Part(path, (*shape, 1) if grey else shape, labels.astype(np.uint64), state)


def _state(path: Path) -> tuple[int, ...]:
    state = os.stat(path)
    return state.st_ino, state.st_size, state.st_mtime_ns


def _class_names(path: Path, labels: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the classes: the labels themselves where there is no file.

    It holds a list, a name a class or a name for every number from 0 to the last label, or an object with a name for
    each label; or either under "words".
    """
    if not os.path.lexists(path):
        return tuple(map(str, labels))
    try:
        check_regular(path)
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # with the mark that Windows puts first, or without
    except (OSError, ValueError, RecursionError) as error:
        reason = whats_wrong(path, error) if isinstance(error, OSError) or is_pointer(path) else error
        raise UserError(f"{path} cannot be read as JSON: {str(reason)[:200]}") from error
    names = content["words"] if isinstance(content, dict) and "words" in content else content
    if isinstance(names, dict):
        names = [names.get(str(label)) for label in labels]
    elif isinstance(names, list) and len(names) == labels[-1] + 1:
        names = [names[label] for label in labels]
    if not isinstance(names, list) or len(names) != len(labels) or not all(isinstance(n, str) for n in names):
        raise UserError(f'{path} must be a list of {len(labels)} names, one a class, or hold one under "words"')
    if odd := next((name for name in names if not on_one_line(name)), None):
        raise UserError(f"{path}: the name {odd!r} cannot be printed on a line as UTF-8; take another")
    return tuple(names)
