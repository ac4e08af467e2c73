"""Batches for the training loop: the whole data set lives on the device, and nothing waits for the host.

Order of work on a batch: normalise -> crop, pad, flip -> MixUp -> fixed pixel permutation. Everything random is drawn
per (seed, epoch, example) or, for order and MixUp, per (seed, epoch): a batch can be rebuilt without those before it.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlp_lib import datasets
from mlp_lib.machine import check_fits
from mlp_lib.training import augment
from mlp_lib.training.seeds import stream_seed


class Batch(NamedTuple):
    images: Tensor  # (B, C, H, W) float32, normalised, augmented
    targets: Tensor  # (B, K) float32, class probabilities after smoothing and MixUp


class Split(NamedTuple):
    """Images and labels on the device."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64


class Data(NamedTuple):
    """A run's data on one device, with what turns bytes into inputs."""

    train: Split
    val: Split  # empty when the run trains on everything
    test: Split
    mean: Tensor  # (C, 1, 1), in units of 0..255
    std: Tensor
    permutation: Tensor | None  # (H * W,) int64
    num_classes: int
    fingerprint: str
    labels_in_files: tuple[int, ...] = ()  # class k is this label of a reader's files; empty where they have 0..K-1

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32, zero mean and unit variance by the data set's statistics."""
        return images.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)

    def permute(self, images: Tensor) -> Tensor:
        """Apply the fixed permutation of pixel positions, if the run has one."""
        if self.permutation is None:
            return images
        return images.flatten(2)[:, :, self.permutation].view_as(images)


def load_data(run, device: torch.device | str = "cpu", root=None) -> Data:
    """Everything a run reads, at its resolution, on `device`; kept for the next run that reads the same.

    Raises UserError where the images are missing, or more than the memory holds. Shared: do not write into its tensors.
    """
    facts = datasets.facts(run.dataset, root)
    numbers = facts.channels * run.pixels**2
    size = (facts.train_size + facts.test_size) * numbers
    check_fits(size, f"{run.dataset} at {run.pixels} pixels", "take a lower resolution")
    check_fits(12 * run.batch_size * numbers, f"a batch of {run.batch_size}", "take a smaller batch_size")
    reads = (run.dataset, run.split, run.subset, run.pixels, run.permute_seed)
    stock = _load_data(*reads, torch.device(device), datasets.resolved(root))
    return stock._replace(train=fresh_split(run, stock, 0)) if run.fresh else stock


@lru_cache(maxsize=1)
def _fresh(dataset: str, count: int, data_seed: int, epoch: int, pixels: int, device: torch.device) -> Split:
    images, labels = datasets.fresh(dataset, count, data_seed, start=epoch * count)
    images = torch.from_numpy(np.ascontiguousarray(datasets.resize(images, pixels)))
    return Split(images.to(device), torch.from_numpy(labels).to(device))


def fresh_split(run, data: Data, epoch: int) -> Split:
    """The images of epoch `epoch` (from 0) of a run on fresh ones (`Run.fresh`), drawn anew: each epoch has as many as
    the run's training part, and no image comes twice."""
    return _fresh(run.dataset, run.train_examples, run.data_seed, epoch, run.pixels, data.mean.device)


@lru_cache(maxsize=2)  # a run's own, and that of a probe or a parent
def _load_data(
    dataset: str, kind: str, subset: int | None, pixels: int, permute_seed: int | None, device: torch.device, root: Path
) -> Data:
    images = datasets.load(dataset, root)
    facts = images.facts
    train, val = datasets.split_indices(images.train_labels, kind, subset, facts.num_classes)

    def part(index: np.ndarray) -> Split:
        if len(index) == len(images.train_labels):  # all, in order: no second copy in memory
            return split(images.train_images, images.train_labels)
        return split(images.train_images[index], images.train_labels[index])

    def split(raw: np.ndarray, labels: np.ndarray) -> Split:
        resized = datasets.resize(raw, pixels)
        return Split(torch.from_numpy(np.ascontiguousarray(resized)).to(device), torch.from_numpy(labels).to(device))

    def statistic(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, device=device).mul(255).view(-1, 1, 1)

    permutation = None
    if permute_seed is not None:
        order = datasets.pixel_permutation(facts.channels, pixels, permute_seed)
        permutation = torch.from_numpy(order).to(device)
    return Data(
        train=part(train),
        val=part(val),
        test=split(images.test_images, images.test_labels),
        mean=statistic(facts.mean),
        std=statistic(facts.std),
        permutation=permutation,
        num_classes=facts.num_classes,
        fingerprint=images.fingerprint,
        labels_in_files=images.labels_in_files,
    )


def epoch_batches(run, data: Data, epoch: int, start: int = 0) -> Iterator[Batch]:
    """The batches number `start`, start + 1, ... of epoch `epoch` (from 0). A last smaller batch is dropped."""
    train = fresh_split(run, data, epoch) if run.fresh else data.train
    n, size, device = len(train.labels), run.batch_size, train.images.device
    augmentation = augment.Augmentation.from_run(run)
    generator = torch.Generator(device).manual_seed(stream_seed(run.seed, epoch, "order"))
    order = torch.randperm(n, generator=generator, device=device)
    draws = augment.draws(augmentation, n, run.seed, epoch, device)
    lambdas = None
    if augmentation.mixup_alpha:
        lambdas = augment.mixup_lambda(augmentation, run.seed, epoch, n // size).to(device)
    for step in range(start, n // size):
        index = order[step * size : (step + 1) * size]
        images = data.normalise(train.images.index_select(0, index))  # (B, C, H, W); indexing copies by the pixel
        images = augment.apply(images, index, draws, augmentation)
        targets = augment.soft_targets(train.labels[index], data.num_classes, run.label_smoothing)
        if lambdas is not None:
            # The order within a batch is random already, so its reverse is a random partner for every example.
            partner = torch.arange(size - 1, -1, -1, device=device)
            images, targets = augment.mixup(images, targets, lambdas[step], partner)
        yield Batch(data.permute(images), targets)


def plain_batches(data: Data, split: Split, size: int = 2048) -> Iterator[tuple[Tensor, Tensor]]:
    """A split in order, normalised and permuted but not augmented: (images, labels)."""
    for start in range(0, len(split.labels), size):
        images = data.normalise(split.images[start : start + size])
        yield data.permute(images), split.labels[start : start + size]
