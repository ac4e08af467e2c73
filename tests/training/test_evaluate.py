"""Training accuracy is read off examples of every class, in whatever order a set lies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp_lib import datasets
from mlp_lib.training.evaluate import glimpse
from mlp_lib.training.loaders import Split


def split(labels) -> Split:
    labels = torch.from_numpy(np.array(labels, np.int64))
    return Split(torch.arange(len(labels)), labels)


ORDERS = {
    "ascending": lambda size, k: np.arange(size) * k // size,
    "descending": lambda size, k: (np.arange(size) * k // size)[::-1],
    "blocks in any order": lambda size, k: np.random.default_rng(0).permutation(k)[np.arange(size) * k // size],
    "several sorted files": lambda size, k: np.concatenate([np.arange(size // 5) * k // (size // 5)] * 5),
    "up and down": lambda size, k: np.abs(np.arange(-size // 2, size // 2)) * k // (size // 2 + 1),
    "one class last": lambda size, k: np.r_[np.arange(size - size // k) % (k - 1), np.full(size // k, k - 1)],
    "by turns": lambda size, k: np.arange(size) % k,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("size", "classes", "count"), [(20_000, 10, 5000), (50_000, 100, 5000), (6000, 2, 5000)])
def test_every_class_is_seen_in_proportion(order, size, classes, count):
    labels = ORDERS[order](size, classes)
    seen = glimpse(split(labels), count)
    share, whole = np.bincount(seen.labels, minlength=classes) / count, np.bincount(labels) / len(labels)
    assert len(seen.labels) == count == len(set(seen.images.tolist())) and (share > 0).all()
    assert np.abs(share - whole).max() <= 6 * np.sqrt(whole.max() / count)
    assert torch.equal(glimpse(split(labels), count).images, seen.images)  # always the same


@given(st.integers(2, 12), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_where_the_order_is_by_lot_the_first_are_taken(classes, seed, uneven):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, 4000, p=rng.dirichlet(np.full(classes, 2.0)) if uneven else None)
    assert torch.equal(glimpse(split(labels), 1000).images, torch.arange(1000))
    assert torch.equal(glimpse(split(labels), 4000).images, torch.arange(4000))


@pytest.mark.parametrize("name", ["shapes", pytest.param("cifar10", marks=pytest.mark.cifar)])
def test_the_projects_own_sets_are_read_as_ever(name):
    labels = datasets.load(name).train_labels
    for part in (labels, labels[datasets.split_indices(labels, "holdout", None, 10)[0]]):
        assert torch.equal(glimpse(split(part), 3000).images, torch.arange(3000))


def test_a_set_that_lies_class_by_class_is_read_evenly_as_ever():
    labels = np.repeat(np.arange(200), 500)
    assert torch.equal(glimpse(split(labels), 5000).images, torch.arange(5000) * 100_000 // 5000)
