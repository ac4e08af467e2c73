"""Test-time augmentation: the mean of a model's answers to many random crops of an image (paper section 4, Table 2).

The paper averages the logits of 100 random crops and flips. `test_crops` goes up to 50 on at most 5,000 test images: at
a quarter of the price (1.8e12 FLOPs of B-6/Wi-256, as much as its training on 80,000 images) it sees what the curve
does; `predictions` takes any number.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mlp_lib.measures.right_or_wrong import pack
from mlp_lib.training import augment
from mlp_lib.training.evaluate import glimpse
from mlp_lib.training.loaders import Data, Split
from mlp_lib.training.seeds import _generator

COUNTS = (1, 2, 5, 10, 20, 50)  # of random views
IMAGES = 5000
BATCH = 500  # images at a time; each is seen once a view
RANKS = 5  # of an image's classes that are kept, the likeliest first


class Views(NamedTuple):
    """What a random view is: a resized crop (least share of the area, greatest aspect ratio), and whether flipped."""

    scale: float = 0.08
    ratio: float = 4 / 3
    flip: bool = True

    @classmethod
    def of_run(cls, run, channels: int) -> "Views":
        """The crops that the run was trained with, else the paper's (a run without crops has its numbers). Grey images
        are not flipped: a mirrored digit is another sign."""
        return cls(run.crop_scale, run.crop_ratio, channels > 1)


class Predictions(NamedTuple):
    """Classes by falling score, (N, at most 5) int64 each: of the plain image, and of the mean over so many views, by
    their number, where logits or where probabilities are averaged."""

    plain: Tensor
    logits: dict[int, Tensor]
    probabilities: dict[int, Tensor]


def test_crops(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """Test top-1 in percent against the number of random views whose answers are averaged.

    Looks at 5,000 test images at most (`evaluate.glimpse`), in fp32. All runs see the same crops of an image. They are
    cut before a run's pixel permutation, as in training.

    Returns {"views": [1, 2, ...], "top1_logits": one a number of views, "top1_probabilities": the same, "top1_plain":
    of the whole image without crop or flip, "images", "scale", "ratio", "flip", "right_plain" and "right_logits":
    which images are right without views and with all of them (`right_or_wrong.pack`)}.
    """
    split = glimpse(data.test, IMAGES)
    views = Views.of_run(run, split.images.shape[1])
    found = predictions(model, data, split, views, COUNTS)

    def right(ranked: Tensor) -> np.ndarray:  # (N,) bool
        return (ranked[:, 0] == split.labels).cpu().numpy()

    def top1(ranked: Tensor) -> float:
        return 100 * float(right(ranked).mean())

    return {
        "views": list(COUNTS),
        "top1_logits": [top1(found.logits[count]) for count in COUNTS],
        "top1_probabilities": [top1(found.probabilities[count]) for count in COUNTS],
        "top1_plain": top1(found.plain),
        "images": len(split.labels),
        **views._asdict(),
        "right_plain": pack(right(found.plain)),
        "right_logits": pack(right(found.logits[COUNTS[-1]])),
    }


@torch.inference_mode()
def predictions(
    model: nn.Module, data: Data, split: Split, views: Views, counts: Sequence[int], seed: int = 0
) -> Predictions:
    """Classes of every image of a split by the plain image, and by the mean over the first so many random views.

    counts: numbers of views, or none; the views of a smaller number are the first of a larger one. View v of image i
    depends on (seed, v, i) alone, on any machine: its numbers are drawn on the processor.
    """
    model.eval()
    plain: list[Tensor] = []
    logits: dict[int, list[Tensor]] = {number: [] for number in sorted({*counts})}
    probabilities: dict[int, list[Tensor]] = {number: [] for number in logits}
    for start in range(0, len(split.labels), BATCH):
        images = data.normalise(split.images[start : start + BATCH])  # (B, C, H, W)
        plain.append(_ranked(model(data.permute(images)).float()))
        sums = torch.zeros(2, len(images), data.num_classes, device=images.device)  # of logits, of probabilities
        for view in range(max(logits, default=0)):
            answer = model(data.permute(view_of(images, views, seed, view, start))).float()  # (B, K)
            sums += torch.stack([answer, answer.softmax(1)])
            if view + 1 in logits:
                logits[view + 1].append(_ranked(sums[0]))
                probabilities[view + 1].append(_ranked(sums[1]))
    both = ({number: torch.cat(parts) for number, parts in found.items()} for found in (logits, probabilities))
    return Predictions(torch.cat(plain), *both)


def view_of(images: Tensor, views: Views, seed: int, view: int, start: int) -> Tensor:
    """View number `view` of each of (B, C, H, W) images, the first of which is number `start` of its split."""
    height, width = images.shape[-2:]
    generator = _generator("cpu", "test crops", seed, view, start // BATCH)
    uniforms = torch.rand(len(images), augment.CROP_UNIFORMS + 1, generator=generator).to(images.device)
    boxes = augment.crop_boxes(uniforms[:, :-1], height, width, views.scale, views.ratio)
    mirror = uniforms[:, -1] < 0.5 if views.flip else None
    return augment.resized_crop(images, *boxes, size=(height, width), mirror=mirror)


def _ranked(scores: Tensor) -> Tensor:
    """(B, K) scores to (B, at most 5) classes, the likeliest first."""
    return scores.topk(min(RANKS, scores.shape[1]), dim=1).indices
