"""Published weights on a test set: the row of the paper's Table 2, with test-time augmentation and ReaL labels."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlp_lib import datasets
from mlp_lib.datasets import folders, names
from mlp_lib.datasets.catalogue import IMAGENET
from mlp_lib.errors import UserError
from mlp_lib.measures.real_labels import read_real_labels, real_accuracy
from mlp_lib.measures.test_crops import Views, predictions
from mlp_lib.models.factory import parameter_counts
from mlp_lib.models.published import load_published
from mlp_lib.training.loaders import Data, Split

# Mean and deviation by the paper's public code, where they are not the data set's own in `datasets.FACTS`: the weights
# were trained with these.
_OF_CIFAR10 = (datasets.FACTS["cifar10"].mean, datasets.FACTS["cifar10"].std)
PUBLIC_STATISTICS = {"cifar100": _OF_CIFAR10, "stl10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))}
VALIDATION_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})\.")


def public_statistics(dataset: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel with which the public weights saw a data set; a reader's own is taken for one of
    the ImageNet family."""
    if names.is_user_set(dataset):
        return IMAGENET
    facts = datasets.facts(dataset)
    return PUBLIC_STATISTICS.get(dataset, (facts.mean, facts.std))


def load_test_part(dataset: str, resolution: int, device: torch.device | str = "cpu") -> Data:
    """The test images of a set at a resolution, normalised as the public weights saw them; the other parts are empty.
    Raises UserError where the images are missing."""
    images = datasets.load(dataset)
    resized = datasets.resize(images.test_images, resolution)
    test = Split(
        torch.from_numpy(np.ascontiguousarray(resized)).to(device), torch.from_numpy(images.test_labels).to(device)
    )
    mean, std = (torch.tensor(values, device=device).mul(255).view(-1, 1, 1) for values in public_statistics(dataset))
    empty = Split(test.images[:0], test.labels[:0])
    return Data(empty, empty, test, mean, std, None, images.facts.num_classes, images.fingerprint)


def row(
    checkpoint: Path,
    model: str,
    dataset: str,
    resolution: int = 64,
    *,
    views: int = 0,
    crops: Views = Views(0.4, 1.0),
    real_labels: Path | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Accuracies in percent of published weights on a test set, as plain values.

    views: random crops whose logits are averaged, none at 0; crops: what they are, by default the paper's of
    fine-tuning. real_labels: the file real.json, for the validation images of ImageNet.

    Returns {"model", "dataset", "resolution", "parameters", "images", "top1", "top5", "views", "top1_views",
    "top5_views", "top1_views_probabilities", "real", "real_views"}; None for what was not asked for. Raises UserError
    as `load_published`, `load_test_part` and `read_real_labels` do.
    """
    facts = datasets.facts(dataset)
    network = load_published(checkpoint, model, facts.num_classes, resolution, facts.channels).to(device)
    labels = None if real_labels is None else _in_order(read_real_labels(real_labels, facts.num_classes), dataset)
    data = load_test_part(dataset, resolution, device)
    crops = crops._replace(flip=crops.flip and facts.channels > 1)
    found = predictions(network, data, data.test, crops, (views,) if views else ())
    averaged = found.logits.get(views)

    def top(ranked: Tensor | None, first: int) -> float | None:
        if ranked is None:
            return None
        right = (ranked[:, :first] == data.test.labels[:, None]).any(1)
        return 100 * float(right.cpu().numpy().mean())

    def real(ranked: Tensor | None) -> float | None:
        return None if ranked is None or labels is None else real_accuracy(ranked[:, 0].tolist(), labels)

    return {
        "model": model,
        "dataset": dataset,
        "resolution": resolution,
        "parameters": parameter_counts(network)["parameters"],
        "images": len(data.test.labels),
        "top1": top(found.plain, 1),
        "top5": top(found.plain, 5),
        "views": views,
        "top1_views": top(averaged, 1),
        "top5_views": top(averaged, 5),
        "top1_views_probabilities": top(found.probabilities.get(views), 1),
        "real": real(found.plain),
        "real_views": real(averaged),
    }


def _in_order(labels: Sequence[Collection[int]], dataset: str) -> list[Collection[int]]:
    """Labels that stand in the order of ImageNet's numbers, in the order of a set's test images. Images in folders say
    their numbers by their names, as published; of another set the orders are taken to be the same."""
    if not dataset.startswith("folder:"):
        return list(labels)
    paths = folders.listing(names.parse(dataset), datasets.resolved(None)).test.names
    numbers = [VALIDATION_NUMBER.search(path) for path in paths]
    unnamed = next((path for path, number in zip(paths, numbers, strict=True) if number is None), None)
    if unnamed is not None:
        raise UserError(
            f"{unnamed}: the name has no number of ImageNet's validation images, as ILSVRC2012_val_00000001.JPEG "
            "has; ReaL labels are by that number"
        )
    places = [int(number[1]) - 1 for number in numbers]
    if max(places) >= len(labels) or min(places) < 0:
        raise UserError(
            f"the file has the labels of {len(labels):,} images, and there is one of number {max(places) + 1:,}"
        )
    return [labels[place] for place in places]
