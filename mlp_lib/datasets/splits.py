"""Which images a run trains on and validates on: seeded, the same everywhere, computed and never stored."""

import numpy as np

from mlp_lib.errors import UserError


def proportional_order(labels: np.ndarray, num_classes: int, rng: np.random.Generator) -> np.ndarray:
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
        order = proportional_order(labels, num_classes, np.random.default_rng(20232))
        tenth = round(len(labels) / 10)
        train, val = np.sort(order[tenth:]), np.sort(order[:tenth])
    if subset is not None:
        if not 1 <= subset <= len(train):
            raise UserError(f"subset must be between 1 and {len(train)} with split {split!r} here, not {subset}")
        order = proportional_order(labels[train], num_classes, np.random.default_rng(20233))
        train = np.sort(train[order[:subset]])
    return train, val
