"""Where images come from: two sets that need no network, and CIFAR, fetched once and checked.

Everything here is numpy: uint8 images (N, C, H, W) and int64 labels. torch, torchvision and scikit-learn are imported
inside the functions that need them, so that reading records stays quick. Image sets live under `data_root()`.
"""

import functools
import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlp_lib import shapes
from mlp_lib.errors import UserError


@dataclass(frozen=True)
class Facts:
    """What one may know of a set without loading it. `mean` and `std` are per channel, for pixels in 0..1."""

    name: str
    title: str
    num_classes: int
    channels: int
    resolution: int
    train_size: int
    test_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stats_source: str
    embedded: bool  # at hand without a download


COMPUTED = "all pixels of the training images"
FACTS = {
    facts.name: facts
    for facts in (
        Facts("digits", "scikit-learn digits", 10, 1, 8, 1437, 360, (0.3056,), (0.3759,), COMPUTED, True),
        Facts(
            "shapes", "coloured shapes", 10, 3, 32, 5000, 1000,
            (0.4536, 0.4556, 0.4546), (0.2848, 0.2833, 0.2849), COMPUTED, True,
        ),
        Facts(
            "cifar10", "CIFAR-10", 10, 3, 32, 50_000, 10_000,
            (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768),
            "the public code of the paper; the training images give the same to 4e-7", False,
        ),
        Facts(
            "cifar100", "CIFAR-100", 100, 3, 32, 50_000, 10_000,
            (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
            "all pixels of the training images, rounded; the public code of the paper uses CIFAR-10's here, a slip",
            False,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class ImageSet:
    """A set in memory. Shared by everyone in the process who loads it: do not write into its arrays."""

    facts: Facts
    train_images: np.ndarray  # (N, C, H, W) uint8
    train_labels: np.ndarray  # (N,) int64
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str  # 16 hex digits of SHA-256 over the four arrays


def facts(name: str) -> Facts:
    """Facts of a set by name. Raises UserError that lists the names."""
    if name not in FACTS:
        raise UserError(f"there is no data set {name!r}: choose one of {', '.join(FACTS)}")
    return FACTS[name]


def data_root() -> Path:
    """The folder of image sets: $MLP_LIB_DATA, else data/ beside the library."""
    folder = os.environ.get("MLP_LIB_DATA")
    return Path(folder).expanduser() if folder else Path(__file__).resolve().parents[1] / "data"


def load(name: str, root: Path | str | None = None) -> ImageSet:
    """The whole set, kept for the life of the process. `root` defaults to `data_root()`.

    Raises UserError when the set is unknown, absent, incomplete or damaged, saying which.
    """
    facts(name)
    return _load(name, _resolved(root))


def _resolved(root: Path | str | None) -> Path:
    return (data_root() if root is None else Path(root).expanduser()).resolve()


@functools.lru_cache(maxsize=4)
def _load(name: str, root: Path) -> ImageSet:
    arrays = {"digits": _digits, "shapes": _shapes}[name]() if FACTS[name].embedded else _cifar(name, root)
    *images_and_labels, classes = arrays
    digest = hashlib.sha256()
    for array in images_and_labels:
        digest.update(f"{array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return ImageSet(FACTS[name], *images_and_labels, tuple(classes), digest.hexdigest()[:16])


def _digits():
    """8 x 8 grey levels 0..16, spread over 0..255. The set has no split of its own: ours is seeded and fixed."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    labels = raw.target.astype(np.int64)
    order = _proportional_order(labels, 10, np.random.default_rng(20231))
    test, train = np.sort(order[:360]), np.sort(order[360:])
    return images[train], labels[train], images[test], labels[test], [str(name) for name in raw.target_names]


def _shapes():
    train, test = shapes.render(5000, seed=0), shapes.render(1000, seed=1)
    return train.images, train.labels, test.images, test.labels, shapes.CLASSES


def _torchvision_class(name: str):
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _published(source) -> dict[str, str]:
    """File names of a CIFAR set, each with its published MD5."""
    return dict(source.train_list + source.test_list) | {source.meta["filename"]: source.meta["md5"]}


def _state(source, root: Path) -> tuple[list[str], list[str]]:
    """Names of a CIFAR set's files that are missing, and of those whose MD5 is not the published one."""
    from torchvision.datasets.utils import check_integrity

    folder, files = root / source.base_folder, _published(source)
    missing = [name for name in files if not (folder / name).is_file()]
    damaged = [name for name in files if name not in missing and not check_integrity(folder / name, files[name])]
    return missing, damaged


def _cifar(name: str, root: Path):
    """CIFAR through torchvision, which compares each file with its published MD5 before it unpickles anything."""
    source, title, repair = _torchvision_class(name), FACTS[name].title, f"python -m mlp_lib fetch {name}"
    try:
        train, test = source(root, train=True), source(root, train=False)
    except OSError as error:
        raise UserError(f"{title} under {root} cannot be read: {error}") from error
    except RuntimeError as error:  # torchvision's one message for both; we tell absent from damaged
        missing, damaged = _state(source, root)
        if damaged:
            bad = root / source.base_folder / damaged[0]
            raise UserError(f"{title}: {bad} is damaged (its MD5 is wrong); run: {repair}") from error
        if missing:
            nothing = len(missing) == len(_published(source))
            what = "is not" if nothing else f"is incomplete ({missing[0]} is missing)"
            raise UserError(f"{title} {what} under {root}; run: {repair}") from error
        raise
    images = [np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in (train, test)]  # (N, 3, 32, 32)
    labels = [np.asarray(part.targets, dtype=np.int64) for part in (train, test)]
    return images[0], labels[0], images[1], labels[1], train.classes


def fetch(name: str, root: Path | str | None = None) -> Path:
    """Download a set into `root` (default `data_root()`) and return that folder; nothing happens if it is there.

    Addresses and hashes are torchvision's. May be interrupted and repeated at any point: the download goes to a .part
    file and resumes there, an archive is opened only after its MD5 agrees, and a damaged file is taken from it again.
    Raises UserError on an unknown name and when the network, the server or the disk fails.
    """
    title, root = facts(name).title, _resolved(root)
    if FACTS[name].embedded:
        print(f"{title}: nothing to fetch, it comes with the library")
        return root
    source = _torchvision_class(name)
    try:
        if any(_state(source, root)):
            root.mkdir(parents=True, exist_ok=True)
            _download(source.url, root / source.filename, source.tgz_md5, title)
            _extract(source, root)
            if any(_state(source, root)):
                raise UserError(f"{title}: the archive {root / source.filename} does not hold the published files")
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{title}: fetching {source.url} into {root} failed ({error or type(error).__name__}); "
            f"try again: python -m mlp_lib fetch {name}, which goes on where it stopped"
        ) from error
    return root


def _download(url: str, target: Path, md5: str, title: str) -> None:
    """Bring `url` to `target`. torchvision's own downloader neither resumes nor times out."""
    from torchvision.datasets.utils import check_integrity

    if check_integrity(target, md5):
        return
    part = target.with_name(target.name + ".part")
    for _ in range(2):  # if what was resumed turns out wrong, once more from the start
        resumed = part.exists()
        if not (resumed and check_integrity(part, md5)):
            _receive(url, part, title)
        if check_integrity(part, md5):
            part.replace(target)
            return
        part.unlink()
        if not resumed:
            break
    raise OSError("the archive arrived damaged, its MD5 is wrong")


def _receive(url: str, part: Path, title: str) -> None:
    """Append to `part` what is still to come, or write it anew if the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing beyond what we have, and it is wrong: the caller starts afresh
            return
        raise
    with response:
        have = have if response.status == 206 else 0
        announced = response.headers.get("Content-Length")
        total = have + int(announced) if announced else None
        with open(part, "ab" if have else "wb") as file:
            shown = -1
            while block := response.read(1 << 18):
                file.write(block)
                have += len(block)
                if total and shown < 10 * have // total:
                    shown = 10 * have // total
                    print(f"{title}: {have / 1e6:.0f} of {total / 1e6:.0f} MB", flush=True)
    if total and have < total:
        raise OSError(f"the connection broke after {have} of {total} bytes")


def _extract(source, root: Path) -> None:
    """Take the files we know by name, and no others, from a verified archive: no member can choose where it lands."""
    folder = root / source.base_folder
    folder.mkdir(exist_ok=True)
    with tarfile.open(root / source.filename) as archive:
        for name in _published(source):
            try:
                member = archive.extractfile(f"{source.base_folder}/{name}")
            except KeyError:
                continue  # the caller finds it missing
            if member is not None:
                part = folder / f"{name}.part"
                part.write_bytes(member.read())
                part.replace(folder / name)


def _proportional_order(labels: np.ndarray, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """(N,) int64 positions, random, in an order whose every beginning has the classes in proportion.

    The j-th of a class's m examples stands at (j + 1/2) / m, ties drawn by lot. With classes of equal size, every
    beginning is within one of proportional; in general within 1/2 + K/2 times the largest class's share.
    """
    counts = np.bincount(labels, minlength=num_classes)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    size = np.repeat(counts, counts)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return by_class[np.lexsort((rng.random(len(labels)), (rank + 0.5) / size))]


def split_indices(
    labels: np.ndarray, split: str, subset: int | None, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which training images a run trains on and validates on: two sorted int64 arrays of positions.

    split "all": everything, and an empty validation part. "holdout": a fixed tenth, class-proportional, is kept for
    validation, the same for every run of the set whatever its subset. subset None: all the rest; n: n examples of it,
    class-proportional, each subset contained in every larger one. Raises UserError for another split or subset size.
    """
    if split not in ("all", "holdout"):
        raise UserError(f"there is no split {split!r}: choose 'holdout' (a tenth kept for validation) or 'all'")
    train, val = np.arange(len(labels)), np.arange(0)
    if split == "holdout":
        order = _proportional_order(labels, num_classes, np.random.default_rng(20232))
        tenth = round(len(labels) / 10)
        train, val = np.sort(order[tenth:]), np.sort(order[:tenth])
    if subset is not None:
        if not 1 <= subset <= len(train):
            raise UserError(f"subset must be between 1 and {len(train)} with split {split!r} here, not {subset}")
        order = _proportional_order(labels[train], num_classes, np.random.default_rng(20233))
        train = np.sort(train[order[:subset]])
    return train, val


def train_count(name: str, split: str, subset: int | None) -> int:
    """How many images a run trains on, known without loading them: the length of `split_indices`' first part.

    Raises UserError for an unknown set, and for a subset larger than what there is.
    """
    size = facts(name).train_size
    rest = size - round(size / 10) if split == "holdout" else size
    if subset is not None and not 1 <= subset <= rest:
        raise UserError(f"subset={subset}: {name} has {rest} training images with split={split}; take 1 to {rest}")
    return rest if subset is None else subset


def resize(images: np.ndarray, resolution: int) -> np.ndarray:
    """(N, C, H, W) uint8 to (N, C, resolution, resolution), bilinear with antialias; the same array when it fits.

    Computed in float32 and rounded: torchvision's own uint8 path differs between CPUs.
    """
    if images.shape[-2:] == (resolution, resolution):
        return images
    import torch
    from torchvision.transforms.v2 import functional

    out = np.empty((*images.shape[:2], resolution, resolution), np.uint8)
    for low in range(0, len(images), 1000):  # 50 MB at a time at 64 pixels
        part = torch.from_numpy(images[low : low + 1000]).float()
        part = functional.resize(part, [resolution, resolution], antialias=True)
        out[low : low + 1000] = part.round().clamp(0, 255).byte().numpy()
    return out


def pixel_permutation(channels: int, resolution: int, seed: int) -> np.ndarray:
    """A fixed shuffle of pixel positions, (resolution * resolution,) int64; `channels` move together, so all share it.

    new.reshape(N, C, -1) = old.reshape(N, C, -1)[:, :, permutation].
    """
    return np.random.default_rng([20234, seed]).permutation(resolution * resolution)
