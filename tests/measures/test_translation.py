"""Moved test images: against numpy's padding, and with models that see one pixel or none."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mlp_lib.measures.take import measure
from mlp_lib.measures.translation import shifted
from mlp_lib.records.run import make_run
from mlp_lib.training.loaders import Data, Split

RUN = make_run(model="S-1/Wi-8", dataset="shapes", steps=1)


@pytest.mark.parametrize("down, right", [(0, 0), (3, 0), (-3, 0), (0, 5), (0, -8), (2, -1)])
def test_moving_is_reflecting_and_cutting_out(down, right):
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (8, 8), (8, 8)), mode="reflect")
    expected = padded[:, :, 8 - down : 40 - down, 8 - right : 40 - right]
    assert np.array_equal(shifted(images, down, right).numpy(), expected)


class OnePixel(nn.Module):
    """Says class 1 where the pixel at (row, column) is bright."""

    def __init__(self, row: int, column: int):
        super().__init__()
        self.row, self.column = row, column

    def forward(self, x):
        bright = x[:, 0, self.row, self.column]
        return torch.stack([torch.full_like(bright, 0.5), bright], 1)


def moved(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, permutation=None, run=RUN) -> dict:
    empty = Split(images[:0], labels[:0])
    data = Data(
        empty, empty, Split(images, labels), torch.zeros(1, 1, 1), torch.full((1, 1, 1), 255.0), permutation, 2, ""
    )
    return json.loads(json.dumps(measure(("translated",), model, run, data)["translated"]))


def test_each_shift_is_the_mean_over_four_directions():
    """A bright spot in the middle of half of the images, and a model that looks 2 pixels below: right only where the
    images are moved down by 2."""
    images = torch.zeros(8, 1, 32, 32, dtype=torch.uint8)
    images[:4, :, 16, 16] = 255
    labels = torch.tensor([1] * 4 + [0] * 4)
    found = moved(OnePixel(18, 16), images, labels)
    assert found["shifts"] == list(range(9)) and found["padding"] == "reflection"
    expected = [50.0] * 9
    expected[2] = (100 + 3 * 50) / 4
    assert found["top1"] == pytest.approx(expected) and found["lowest"] == pytest.approx([50.0] * 9)
    centred = moved(OnePixel(16, 16), images, labels)
    assert centred["top1"] == pytest.approx([100.0] + [50.0] * 8)


def test_images_are_moved_before_their_pixels_are_permuted():
    images = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    images[0, :, 16, 16] = 255
    swap = torch.arange(1024)
    swap[[0, 18 * 32 + 16]] = swap[[18 * 32 + 16, 0]]  # what stands at (18, 16) is seen at (0, 0)
    found = moved(OnePixel(0, 0), images, torch.tensor([1, 0]), swap)
    assert found["top1"][2] > found["top1"][1]


def test_small_images_are_moved_by_a_quarter_at_most():
    run = make_run(model="S-1/Wi-8", dataset="digits", steps=1)
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    assert moved(OnePixel(0, 0), images, torch.zeros(4, dtype=torch.int64), run=run)["shifts"] == [0, 1, 2]
