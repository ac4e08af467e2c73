"""Accuracy by several right labels an image: the reassessed (ReaL) labels of ImageNet's validation images.

Source: Beyer et al. 2020, "Are we done with ImageNet?". An answer is right where it is one of an image's labels; images
that were left without any are not counted.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from mlp_lib.errors import UserError
from mlp_lib.paths import shown, whats_wrong


def real_accuracy(predictions: Sequence[int], labels: Sequence[Collection[int]]) -> float:
    """Top-1 in percent: answers that are among an image's labels, of the images that have any.

    predictions: (N,) classes; labels: the right classes of each of the N images, none where there are none. Raises
    UserError where the numbers differ, and where no image has a label.
    """
    if len(predictions) != len(labels):
        raise UserError(f"{len(predictions):,} predictions and the labels of {len(labels):,} images: give one an image")
    right = [int(said) in allowed for said, allowed in zip(predictions, labels, strict=True) if len(allowed)]
    if not right:
        raise UserError("no image has a label; accuracy is of those that have one")
    return 100 * float(np.mean(right))


def read_real_labels(path: Path, num_classes: int = 1000) -> list[frozenset[int]]:
    """The published real.json: for each validation image, in the order of ImageNet's numbers, a list of its labels.

    Raises UserError, one line, for a file that is missing or no such list, with the place of the first fault.
    """
    name = shown(str(path))
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{name} cannot be read: {whats_wrong(Path(path), error)}") from None
    except (ValueError, RecursionError):
        raise UserError(
            f"{name} is no JSON; give real.json of github.com/google-research/reassessed-imagenet"
        ) from None
    if not isinstance(found, list) or not found:
        raise UserError(f"{name} is no list of lists of labels; give real.json of the reassessed labels")
    for place, labels in enumerate(found):
        whole = isinstance(labels, list) and all(isinstance(k, int) and not isinstance(k, bool) for k in labels)
        if not whole or not all(0 <= label < num_classes for label in labels):
            raise UserError(f"{name}: entry {place} is no list of labels from 0 to {num_classes - 1:,}")
    return [frozenset(labels) for labels in found]
