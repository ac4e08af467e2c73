"""Averaging over random views: models of one pixel, of one colour, linear ones, and answers worked out by hand."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as TF

from mlp_lib.datasets import facts
from mlp_lib.measures import test_crops as crops
from mlp_lib.measures.applicable import applicable
from mlp_lib.measures.right_or_wrong import pack, unpack
from mlp_lib.measures.take import MEASURES, measure
from mlp_lib.measures.test_crops import Predictions, Views, predictions
from mlp_lib.models import build
from mlp_lib.records.run import make_run
from mlp_lib.training.loaders import Data, Split

RUN = make_run(model="S-1/Wi-8", dataset="shapes", steps=1)


def data_of(images: torch.Tensor, labels: torch.Tensor, classes: int = 2, permutation=None) -> Data:
    """Pixels as they are, in 0..1."""
    empty = Split(images[:0], labels[:0])
    zero, full = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 255.0)
    return Data(empty, empty, Split(images, labels), zero, full, permutation, classes, "")


def noise(count: int, channels: int = 3, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def measured(model: nn.Module, data: Data, run=RUN) -> dict:
    return json.loads(json.dumps(measure(("test_crops",), model, run, data)["test_crops"]))


class MeanColour(nn.Module):
    """Says class 1 where the image is bright on the whole."""

    def forward(self, x):
        bright = x.mean((1, 2, 3))
        return torch.stack([torch.full_like(bright, 0.5), bright], 1)


class Corner(nn.Module):
    """Says class 1 where the first pixel is bright."""

    def forward(self, x):
        bright = x[:, 0, 0, 0]
        return torch.stack([torch.full_like(bright, 0.5), bright], 1)


def test_a_model_of_the_mean_colour_sees_even_images_through_any_crop():
    images = torch.full((8, 3, 32, 32), 50, dtype=torch.uint8)
    images[:4] = 200
    found = measured(MeanColour(), data_of(images, torch.tensor([1] * 4 + [0] * 3 + [1])))
    assert found["top1_plain"] == 87.5 and found["views"] == [1, 2, 5, 10, 20, 50]
    assert found["top1_logits"] == found["top1_probabilities"] == [87.5] * 6
    right = [True] * 7 + [False]
    assert unpack(found["right_plain"], 8).tolist() == unpack(found["right_logits"], 8).tolist() == right


def test_a_model_of_one_pixel_loses_it_when_crops_move_it():
    """Bright in the very corner alone: crops nearly never have it, and half of those that do are flipped."""
    images = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
    images[:20, :, 0, 0] = 255
    found = measured(Corner(), data_of(images, torch.tensor([1] * 20 + [0] * 20)))
    assert found["top1_plain"] == 100 and found["top1_logits"][-1] == 50
    left = images.clone()
    left[:20, :, :, :16] = 255  # bright on the left: crops see the corner bright or dark by where they are cut
    found = measured(Corner(), data_of(left, torch.tensor([1] * 20 + [0] * 20)))
    assert 50 < found["top1_logits"][0] < 100


@pytest.mark.parametrize("views", [Views(), Views(0.4, 1.0, False)])
def test_of_a_linear_model_the_mean_of_the_answers_is_the_answer_to_the_meanview_of(views):
    """Views are cut here by torchvision, from the numbers that the measure draws."""
    torch.manual_seed(0)
    images = noise(30)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7)).eval()
    data = data_of(images, torch.zeros(30, dtype=torch.int64), 7)
    found = predictions(model, data, data.test, views, (1, 3, 8))
    plain = images.float() / 255
    total = torch.zeros_like(plain)
    for view in range(8):
        generator = crops._generator("cpu", "test crops", 0, view, 0)
        u = torch.rand(30, 23, generator=generator)
        boxes = crops.augment.crop_boxes(u[:, :22], 32, 32, views.scale, views.ratio)
        for i, (top, left, height, width) in enumerate(zip(*(b.tolist() for b in boxes), strict=True)):
            seen = TF.resized_crop(plain[i], top, left, height, width, [32, 32], antialias=True)
            total[i] += TF.horizontal_flip(seen) if views.flip and u[i, 22] < 0.5 else seen
        if view + 1 in found.logits:
            expected = model(total / (view + 1)).topk(5).indices
            assert (found.logits[view + 1] == expected).float().mean() > 0.98  # but for ties within rounding
            assert torch.equal(found.logits[view + 1][:, 0], expected[:, 0])
    assert torch.equal(found.plain, model(plain).topk(5).indices)


class Script(nn.Module):
    """Answers with given logits, one batch a call: the plain image first."""

    def __init__(self, answers):
        super().__init__()
        self.answers = iter(answers)

    def forward(self, x):
        return torch.tensor([next(self.answers)] * len(x))


def test_the_two_means_may_disagree():
    """Two of three views are mildly for class 0, one strongly for class 1: the logits (2, 6) / 3 are for 1. The mean
    of the probabilities of 0, of 0.731, 0.731 and 0.0025, is 0.488, for 1 too; with a fourth view 0.549, for 0."""
    mild, strong = [1.0, 0.0], [0.0, 6.0]
    script = [[0.0, 1.0], mild, mild, strong, mild]
    data = data_of(noise(1), torch.tensor([0]))
    found = predictions(Script(script), data, data.test, Views(), (1, 2, 3, 4))
    first = {n: ranked[0, 0].item() for n, ranked in found.logits.items()}
    second = {n: ranked[0, 0].item() for n, ranked in found.probabilities.items()}
    assert found.plain[0].tolist() == [1, 0]
    assert first == {1: 0, 2: 0, 3: 1, 4: 1} and second == {1: 0, 2: 0, 3: 1, 4: 0}


def test_views_are_the_same_in_every_batch_subset_and_order_of_models():
    images = noise(1100)
    model = build("S-1/Wi-8", 10, 32)
    whole = data_of(images, torch.zeros(1100, dtype=torch.int64), 10)
    first = predictions(model, whole, whole.test, Views(), (1, 4))
    few = Split(images[:700], torch.zeros(700, dtype=torch.int64))
    again = predictions(model, whole, few, Views(), (4,))
    assert torch.equal(first.logits[4][:700], again.logits[4])
    other = predictions(model, whole, whole.test, Views(), (1, 4), seed=1)
    assert not torch.equal(first.logits[1], other.logits[1])
    assert torch.equal(first.plain, other.plain)
    seen = crops.view_of(images[:2].float(), Views(), 0, 0, 0), crops.view_of(images[:2].float(), Views(), 0, 1, 0)
    assert not torch.equal(*seen)
    blocks = [crops.view_of(torch.ones(2, 1, 32, 32) * torch.arange(32.0), Views(), 0, 0, start) for start in (0, 500)]
    assert not torch.equal(*blocks)


def test_crops_come_before_the_permutation_of_the_pixels():
    """A permuted image seen by a model with permuted columns is the image: all answers agree."""
    torch.manual_seed(0)
    model, images = build("S-1/Wi-8", 10, 32).eval(), noise(50)
    order = torch.randperm(1024)
    from mlp_lib.measures.permuted_twin import permuted_twin

    labels = torch.zeros(50, dtype=torch.int64)
    plain, permuted = data_of(images, labels, 10), data_of(images, labels, 10, order)
    one = predictions(model, plain, plain.test, Views(), (3,))
    two = predictions(permuted_twin(model, order), permuted, permuted.test, Views(), (3,))
    assert (one.logits[3] == two.logits[3]).float().mean() > 0.98 and torch.equal(one.plain[:, 0], two.plain[:, 0])


def test_the_crops_are_the_runs_own_and_grey_images_are_not_flipped():
    own = RUN.but(augment="flip+crop", crop_scale=0.4, crop_ratio=1.0)
    assert Views.of_run(own, 3) == Views(0.4, 1.0, True)
    assert Views.of_run(RUN, 3) == Views(0.08, 4 / 3, True)  # the paper's
    digits = make_run(model="S-1/Wi-8", dataset="digits", steps=1)
    found = measured(build("S-1/Wi-8", 10, 8, channels=1), data_of(noise(30, 1, 8), torch.arange(30) % 10, 10), digits)
    assert facts("digits").channels == 1 and not found["flip"] and (found["scale"], found["images"]) == (0.08, 30)
    centre = torch.arange(8.0).expand(1, 1, 8, 8)  # brighter to the right: no view turns that round
    for view in range(20):
        seen = crops.view_of(centre, Views(flip=False), 0, view, 0)
        assert (seen.diff(dim=3) >= 0).all()


def test_at_most_5000_images_are_looked_at_and_every_run_can_be_measured(monkeypatch):
    monkeypatch.setattr(crops, "COUNTS", (1, 2))
    model = build("S-1/Wi-2", 10, 32)
    found = measured(model, data_of(noise(1).expand(5200, 3, 32, 32), torch.arange(5200) % 10, 10))
    assert found["images"] == 5000 and len(unpack(found["right_plain"], 5000)) == 5000
    assert len(json.dumps(found)) < 3000
    for name in ("S-1/Wi-8", "B-1/Wi-8", "CNN-4", "ViT-32x1/4"):
        assert applicable(("test_crops",), RUN.but(model=name)) == ("test_crops",)
    assert "test_crops" in MEASURES


def test_bits_come_back_and_others_are_refused():
    for count in (0, 1, 8, 9, 77):
        right = np.random.default_rng(count).random(count) < 0.5
        assert np.array_equal(unpack(pack(right), count), right)
    with pytest.raises(ValueError, match="2 bytes are not the bits of 7 images"):
        unpack(pack(np.ones(9, bool)), 7)


def test_predictions_hold_five_classes_at_most():
    data = data_of(noise(3), torch.zeros(3, dtype=torch.int64), 2)
    found = predictions(MeanColour(), data, data.test, Views(), (1,))
    assert isinstance(found, Predictions) and found.plain.shape == found.logits[1].shape == (3, 2)
