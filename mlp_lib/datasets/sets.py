"""The door to all image sets: facts, images, splits, sizes. Where they come from is the business of the rooms below.

Everything here is numpy: uint8 images (N, C, H, W) and int64 labels. torch, torchvision, Pillow and scikit-learn are
imported inside the functions that need them, so that reading records stays quick. Image sets live under `data_root()`.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlp_lib.datasets import decode, own, published
from mlp_lib.datasets.catalogue import FACTS, Facts
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY, path_from_environment, user_path

KEPT_PIXELS = 2**26  # of sets that `load` keeps: 64 MB


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
    labels_in_files: tuple[int, ...] = ()  # class k is this label of the files; empty where they have 0..K-1


def canonical_name(name: str) -> str:
    """The one spelling of a set's name that goes into run keys. Raises UserError for a path that cannot be one."""
    return str(own.parse(name)) if own.is_user_set(name) else name


def facts(name: str, root: Path | str | None = None) -> Facts:
    """Facts of a set by name; no image is read. `root`, for the reader's own sets, defaults to `data_root()`.

    Raises UserError: for an unknown name one that lists the names; for a set of one's own, when it is not there.
    """
    name = canonical_name(name)
    if name in FACTS:
        return FACTS[name]
    if own.is_user_set(name):
        return own.facts(name, resolved(root))
    raise UserError(f"there is no data set {name!r}: choose one of {', '.join(FACTS)}, or npz:NAME or folder:NAME")


def at_hand(name: str) -> bool:
    """Whether `facts` can say something: not so for a set of somebody else's whose images are not here."""
    return name in FACTS or not own.is_user_set(name) or own.at_hand(name, resolved(None))


def data_root() -> Path:
    """The folder of image sets: $MLP_LIB_DATA, else data/ of the checkout, from which a relative one counts too."""
    return path_from_environment("MLP_LIB_DATA", REPOSITORY / "data")


def load(name: str, root: Path | str | None = None) -> ImageSet:
    """The whole set. `root` defaults to `data_root()`. A small one is kept for the life of the process.

    Of a large one `loaders` keeps what a run reads; with the whole beside it the images would be in memory twice.
    Raises UserError when the set is unknown, absent, incomplete or damaged, saying which.
    """
    f = facts(name, root)
    pixels = (f.train_size + f.test_size) * f.channels * f.resolution**2
    read = _load if pixels <= KEPT_PIXELS else _load.__wrapped__
    return read(canonical_name(name), resolved(root))


def resolved(root: Path | str | None) -> Path:
    """The folder of image sets that `root` means."""
    return (data_root() if root is None else user_path(root, "the data root")).resolve()


@functools.lru_cache(maxsize=4)
def _load(name: str, root: Path) -> ImageSet:
    known = facts(name, root)
    arrays = own.read(name, root) if own.is_user_set(name) else published.read(name, root)
    if name in FACTS and own.is_user_set(name):
        found = own.facts(name, root)
        if replace(known, mean=(), std=(), title=found.title, stats_source=found.stats_source) != found:
            raise UserError(
                f"{name} under {root} is not the set that the project knows by this name ({known.title}: "
                f"{known.train_size:,} + {known.test_size:,} images of {known.resolution} pixels); rename the folder"
            )
    elif own.is_user_set(name):
        mean, std = (arrays.mean, arrays.std) if arrays.mean else decode.statistics(arrays.train_images, name)
        known = replace(known, mean=mean, std=std, stats_source="all pixels of the training images")
    return ImageSet(known, *arrays[:5], decode.fingerprint(arrays[:4]), arrays.labels_in_files)


def fetch(name: str, root: Path | str | None = None) -> Path:
    """Download a set into `root` (default `data_root()`) and return that folder; nothing happens if it is there.

    May be interrupted and repeated at any point: a download goes to a .part file and resumes there, an archive is
    opened only after its MD5 agrees, and a damaged file is taken from it again. A folder of one's own is decoded.
    Raises UserError on an unknown name and when the network, the server or the disk fails.
    """
    known, root = facts(name, root), resolved(root)
    if own.is_user_set(name):
        images = load(name, root).facts
        print(f"{known.name}: nothing to fetch; {images.train_size:,} + {images.test_size:,} images are at hand")
    else:
        published.bring(name, root)
    return root


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
