"""The named image sets: how each is read from the data root, and brought there.

Addresses and hashes are torchvision's where it has the set. Hashes are compared before anything is opened.
"""

import gzip
import hashlib
import http.client
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlp_lib.datasets import decode, shapes
from mlp_lib.datasets.catalogue import FACTS
from mlp_lib.datasets.decode import Arrays, Source
from mlp_lib.datasets.download import download, has_md5, take_from_tar
from mlp_lib.datasets.pixels import plain_rgb
from mlp_lib.datasets.splits import proportional_order
from mlp_lib.errors import UserError
from mlp_lib.paths import is_pointer


class Archive(NamedTuple):
    """A published .tar.gz with files of published MD5, which belong into `folder` under the data root."""

    url: str
    filename: str
    md5: str
    folder: str
    files: dict[str, str]


def read(name: str, root: Path) -> Arrays:
    """The set's arrays. Raises UserError when it is absent, incomplete or damaged, saying which and what to run."""
    return _READERS[name](name, root)


def bring(name: str, root: Path) -> None:
    """Fetch what is missing of a set into `root`. Raises UserError when the network, the server or the disk fails."""
    title = FACTS[name].title
    if FACTS[name].embedded:
        print(f"{title}: nothing to fetch, it comes with the library")
        return
    url, bring_it = _FETCHERS[name](name)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {root}: {error.strerror or error}; choose another --root") from error
    try:
        bring_it(root, title)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{title}: fetching {url} into {root} failed ({error or type(error).__name__}); "
            f"try again: python -m mlp_lib fetch {name}, which goes on where it stopped"
        ) from error


# --- embedded


def _digits(name: str, root: Path) -> Arrays:
    """8 x 8 grey levels 0..16, spread over 0..255. The set has no split of its own: ours is seeded and fixed."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    labels = raw.target.astype(np.int64)
    order = proportional_order(labels, 10, np.random.default_rng(20231))
    test, train = np.sort(order[:360]), np.sort(order[360:])
    classes = tuple(str(digit) for digit in raw.target_names)
    return Arrays(images[train], labels[train], images[test], labels[test], classes)


def _digits_32(name: str, root: Path) -> Arrays:
    """The digits in the form of the other sets: every pixel as a square of 4 x 4, in three equal channels."""
    small = _digits(name, root)
    train, test = (images.repeat(3, 1).repeat(4, 2).repeat(4, 3) for images in (small.train_images, small.test_images))
    return Arrays(train, small.train_labels, test, small.test_labels, small.classes)


def _shapes(name: str, root: Path) -> Arrays:
    stock = shapes.SETS[name]
    train = shapes.render(stock.train, seed=0, factors=stock.factors)
    test = shapes.render(stock.test, seed=1, factors=stock.factors)
    return Arrays(train.images, train.labels, test.images, test.labels, tuple(shapes.CLASSES))


# --- archives of files with published MD5: CIFAR, STL-10


def _torchvision_class(name: str):
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]


def _archive(name: str) -> Archive:
    source = _torchvision_class(name)
    files = dict(source.train_list + source.test_list)
    if name == "stl10":
        files.pop("unlabeled_X.bin", None)  # 2.8 GB that nothing here reads
    else:
        files[source.meta["filename"]] = source.meta["md5"]
    return Archive(source.url, source.filename, source.tgz_md5, source.base_folder, files)


def _state(archive: Archive, root: Path) -> tuple[list[str], list[str]]:
    """Names of an archive's files that are missing under `root`, and of those whose MD5 is not the published one."""
    folder = root / archive.folder
    missing = [name for name in archive.files if not (folder / name).is_file()]
    damaged = [n for n in archive.files if n not in missing and not has_md5(folder / n, archive.files[n])]
    return missing, damaged


def _check(name: str, root: Path) -> None:
    """Raises UserError that tells absent, incomplete and damaged apart."""
    archive, title, repair = _archive(name), FACTS[name].title, f"python -m mlp_lib fetch {name}"
    missing, damaged = _state(archive, root)
    if damaged:
        bad = root / archive.folder / damaged[0]
        what = "is a Git LFS pointer, not the file itself" if is_pointer(bad) else "is damaged (its MD5 is wrong)"
        raise UserError(f"{title}: {bad} {what}; run: {repair}")
    if missing:
        nothing = len(missing) == len(archive.files)
        what = "is not" if nothing else f"is incomplete ({missing[0]} is missing)"
        raise UserError(f"{title} {what} under {root}; run: {repair}")


def _archive_fetcher(name: str):
    archive = _archive(name)

    def bring_it(root: Path, title: str) -> None:
        if not any(_state(archive, root)):
            return
        download(archive.url, root / archive.filename, archive.md5, title)
        take_from_tar(root / archive.filename, archive.folder, list(archive.files), root / archive.folder)
        if any(_state(archive, root)):
            raise UserError(f"{title}: the archive {root / archive.filename} does not hold the published files")

    return archive.url, bring_it


def _cifar(name: str, root: Path) -> Arrays:
    """CIFAR through torchvision, which compares each file with its published MD5 before it unpickles anything."""
    source, title = _torchvision_class(name), FACTS[name].title
    try:
        train, test = source(root, train=True), source(root, train=False)
    except OSError as error:
        raise UserError(f"{title} under {root} cannot be read: {error}") from error
    except RuntimeError:  # torchvision's one message for absent and damaged: ours tells them apart
        _check(name, root)
        raise
    images = [np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in (train, test)]  # (N, 3, 32, 32)
    labels = [np.asarray(part.targets, dtype=np.int64) for part in (train, test)]
    return Arrays(images[0], labels[0], images[1], labels[1], tuple(train.classes))


STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def _stl10(name: str, root: Path) -> Arrays:
    """The labelled images, stored as plain bytes: (N, 3, width, height), column by column, and labels from 1."""
    _check(name, root)
    folder = root / _archive(name).folder
    arrays = []
    for part in ("train", "test"):
        images = np.fromfile(folder / f"{part}_X.bin", np.uint8).reshape(-1, 3, 96, 96)
        arrays.append(np.ascontiguousarray(images.swapaxes(2, 3)))
        arrays.append(np.fromfile(folder / f"{part}_y.bin", np.uint8).astype(np.int64) - 1)
    return Arrays(*arrays, STL10_CLASSES)


# --- Fashion-MNIST: four files

# MD5 of the unpacked files: the .gz may have been packed anew, as in Debian's package dataset-fashion-mnist.
FASHION_CONTENT = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
FASHION_FOLDER = Path("FashionMNIST", "raw")  # torchvision's
FASHION_LIMIT = 50_000_000  # bytes; the largest file has 47,040,016, and a damaged .gz can unpack to anything


def _fashion_content(root: Path, name: str) -> bytes:
    """A file's unpacked content, from `name` or `name`.gz, its MD5 checked. Raises UserError."""
    title, repair = FACTS["fashion-mnist"].title, "python -m mlp_lib fetch fashion-mnist"
    plain = root / FASHION_FOLDER / name
    path = plain if plain.is_file() else plain.with_name(f"{name}.gz")
    try:
        with path.open("rb") if path == plain else gzip.open(path) as file:
            content = file.read(FASHION_LIMIT)
    except FileNotFoundError:
        raise UserError(f"{title}: {path.name} is not under {root / FASHION_FOLDER}; run: {repair}") from None
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{title}: {path} is damaged ({error}); run: {repair}") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != FASHION_CONTENT[name]:
        raise UserError(f"{title}: {path} is damaged (the MD5 of its content is wrong); run: {repair}")
    return content


def _fashion_mnist(name: str, root: Path) -> Arrays:
    """Idx files: a header of 4 bytes and 4 for each dimension, then plain bytes."""
    from torchvision.datasets import FashionMNIST

    arrays = []
    for file in FASHION_CONTENT:
        content = _fashion_content(root, file)
        dimensions = content[3]
        shape = np.frombuffer(content, ">i4", dimensions, offset=4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()
        arrays.append(values[:, None] if dimensions == 3 else values.astype(np.int64))  # (N, 1, 28, 28) or (N,)
    return Arrays(*arrays, tuple(FashionMNIST.classes))


def _fashion_fetcher(name: str):
    from torchvision.datasets import FashionMNIST

    url = FashionMNIST.mirrors[0]

    def bring_it(root: Path, title: str) -> None:
        (root / FASHION_FOLDER).mkdir(parents=True, exist_ok=True)
        for packed, md5 in FashionMNIST.resources:
            try:
                _fashion_content(root, packed.removesuffix(".gz"))
            except UserError:  # absent or damaged: both are mended below
                (root / FASHION_FOLDER / packed.removesuffix(".gz")).unlink(missing_ok=True)
                download(url + packed, root / FASHION_FOLDER / packed, md5, title)

    return url, bring_it


# --- TinyImageNet: an archive of 110,000 JPEG files, decoded once


class Zip(NamedTuple):
    """A published .zip."""

    url: str
    filename: str
    md5: str


TINY = Zip(
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
)
TINY_DECODED = Path("decoded", "tinyimagenet")


def _tinyimagenet(name: str, root: Path) -> Arrays:
    arrays = decode.read(root / TINY_DECODED, TINY.md5)
    if arrays is None:
        raise UserError(f"{FACTS[name].title} is not under {root}; run: python -m mlp_lib fetch {name}")
    return arrays


def _tiny_fetcher(name: str):
    def bring_it(root: Path, title: str) -> None:
        if decode.read(root / TINY_DECODED, TINY.md5) is None:
            download(TINY.url, root / TINY.filename, TINY.md5, title)
            _decode_tiny(root, title)

    return TINY.url, bring_it


def _decode_tiny(root: Path, title: str) -> None:
    """Straight out of the verified archive; its members land nowhere. Classes are in the order of their WordNet ids;
    its test images have no labels, so the validation images are the test part, as everywhere."""
    top = "tiny-imagenet-200"
    with zipfile.ZipFile(root / TINY.filename) as archive:
        words = dict(line.split("\t", 1) for line in archive.read(f"{top}/words.txt").decode().splitlines())
        ids = sorted(archive.read(f"{top}/wnids.txt").decode().split())
        labels = {wnid: label for label, wnid in enumerate(ids)}
        train: list[tuple[str, int]] = []
        for name in sorted(archive.namelist()):
            parts = name.split("/")
            if len(parts) == 5 and parts[1] == "train" and parts[3] == "images" and parts[4].endswith(".JPEG"):
                train.append((name, labels[parts[2]]))
        train.sort(key=lambda item: (item[1], _number(item[0])))
        rows = [line.split("\t") for line in archive.read(f"{top}/val/val_annotations.txt").decode().splitlines()]
        val = sorted(((f"{top}/val/images/{row[0]}", labels[row[1]]) for row in rows), key=lambda v: _number(v[0]))
        decode.decode(
            root / TINY_DECODED,
            TINY.md5,
            Source(*zip(*train, strict=True)),
            Source(*zip(*val, strict=True)),
            [words[wnid].split(",")[0] for wnid in ids],
            lambda name: io.BytesIO(archive.read(name)),
            FACTS["tinyimagenet"].resolution,
            title,
            colours=plain_rgb,
        )


def _number(name: str) -> int:
    """12 of .../n01443537_12.JPEG and of .../val_12.JPEG."""
    return int(name.rsplit("_", 1)[1].split(".")[0])


_READERS: dict[str, Callable[[str, Path], Arrays]] = {
    "digits": _digits,
    "digits-32": _digits_32,
    **dict.fromkeys(shapes.SETS, _shapes),
    "cifar10": _cifar,
    "cifar100": _cifar,
    "fashion-mnist": _fashion_mnist,
    "stl10": _stl10,
    "tinyimagenet": _tinyimagenet,
}
_FETCHERS = {
    "cifar10": _archive_fetcher,
    "cifar100": _archive_fetcher,
    "stl10": _archive_fetcher,
    "fashion-mnist": _fashion_fetcher,
    "tinyimagenet": _tiny_fetcher,
}
