"""Image sets as numpy arrays: which there are, where from, and how they are split."""

from mlp_lib.datasets.catalogue import FACTS, Facts
from mlp_lib.datasets.sets import (
    ImageSet,
    at_hand,
    canonical_name,
    data_root,
    facts,
    fetch,
    load,
    pixel_permutation,
    resize,
    resolved,
    train_count,
)
from mlp_lib.datasets.shapes import SETS as DRAWN
from mlp_lib.datasets.shapes import fresh
from mlp_lib.datasets.splits import split_indices

__all__ = [
    "DRAWN",
    "FACTS",
    "Facts",
    "ImageSet",
    "at_hand",
    "canonical_name",
    "data_root",
    "facts",
    "fetch",
    "fresh",
    "load",
    "pixel_permutation",
    "resize",
    "resolved",
    "split_indices",
    "train_count",
]
