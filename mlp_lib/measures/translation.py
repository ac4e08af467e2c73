"""Test accuracy when the test images are moved: how much does a model rely on where things are?"""

from typing import Any

import torch
from torch import Tensor, nn

from mlp_lib.training.evaluate import evaluate
from mlp_lib.training.loaders import Data, Split

FARTHEST = 8  # pixels, a quarter of a CIFAR image; smaller images are moved by at most a quarter too
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def translated(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """Test top-1 in percent when every test image is moved by 0 to 8 pixels: the mean over four directions.

    What comes into the picture at its edge is its own mirror image, so that it looks like the rest of the photograph:
    filling with one colour would add an edge that no training image has, and measure that too. Images below 32 pixels
    are moved by at most a quarter of their side. The shift comes before a run's pixel permutation, as crops do.

    Returns {"shifts": pixels, "top1": the mean at each, "lowest": that of the direction that does worst, "padding"}.
    """
    shifts = list(range(1 + min(FARTHEST, run.pixels // 4)))
    tables = []
    for pixels in shifts:
        moves = DIRECTIONS.values() if pixels else [(0, 0)]
        moved = (Split(shifted(data.test.images, pixels * y, pixels * x), data.test.labels) for y, x in moves)
        tables.append([evaluate(model, data, split)["top1"] for split in moved])
    return {
        "shifts": shifts,
        "top1": [sum(row) / len(row) for row in tables],
        "lowest": [min(row) for row in tables],
        "padding": "reflection",
    }


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """(N, C, H, W) images moved by whole pixels, down and right where positive; edges are filled by reflection."""
    height, width = images.shape[-2:]
    rows = _reflected(height, down).to(images.device)
    columns = _reflected(width, right).to(images.device)
    return images[:, :, rows][:, :, :, columns]


def _reflected(length: int, shift: int) -> Tensor:
    """Where each of `length` pixels comes from: (length,) int64. Beyond an edge, the image goes back without repeating
    the edge's own pixel, as torch's and numpy's "reflect" do."""
    source = (torch.arange(length) - shift).abs()
    return torch.where(source > length - 1, 2 * (length - 1) - source, source)
