"""Compute accounting against counts by hand, in both conventions."""

import pytest
import torch

from mlp_lib.models import build
from mlp_lib.models.flops import Cost, cost, cost_of
from mlp_lib.records.run import make_run

MODELS = [(depth, width) for width in (256, 512, 1024) for depth in (6, 12)]


def b_mlp_by_hand(depth: int, width: int, inputs: int, classes: int) -> Cost:
    """Matrix products of one example. Backward: each matrix once more for its own gradient, and once more for its
    input's, which the first layer does not need."""
    macs = inputs * width + depth * (2 * 4 * width * width) + width * classes
    return Cost(macs, 3 * macs, 2 * (3 * macs - inputs * width))


@pytest.mark.parametrize("depth, width", MODELS)
def test_published_models_by_hand(depth, width):
    with torch.device("meta"):
        model = build(f"B-{depth}/Wi-{width}", 11_230, 64)
    assert cost(model, 3, 64) == b_mlp_by_hand(depth, width, 3 * 64 * 64, 11_230)


def test_true_over_paper_convention():
    ratios = {}
    for depth, width in MODELS:
        counted = b_mlp_by_hand(depth, width, 3 * 64 * 64, 11_230)
        with torch.device("meta"):
            ours = cost(build(f"B-{depth}/Wi-{width}", 11_230, 64), 3, 64)
        assert ours.true / ours.paper == counted.true / counted.paper
        ratios[depth, width] = round(ours.true / ours.paper, 2)
    assert ratios[6, 256] == min(ratios.values()) == 1.77
    assert ratios[12, 1024] == max(ratios.values()) == 1.93


def test_cnn_by_hand():
    w, sides, planes = 4, (8, 4, 4, 2, 2), (3, 4, 8, 8, 16, 16)
    layers = [9 * i * o * s * s for i, o, s in zip(planes[:-1], planes[1:], sides, strict=True)]
    macs = sum(layers) + 4 * w * 10
    assert cost(build("CNN-4", 10, 16), 3, 16) == Cost(macs, 3 * macs, 2 * (3 * macs - layers[0]))


def test_counting_leaves_the_model_untouched():
    model = build("CNN-4", 10, 16).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    cost(model, 3, 16)
    assert not model.training and all(p.grad is None and p.device.type == "cpu" for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_run_is_counted_at_its_resolution_without_touching_the_generator():
    before = torch.get_rng_state()
    run = make_run(model="B-2/Wi-16", dataset="digits", epochs=1, resolution=12, dropout=0.2)
    assert cost_of(run) == b_mlp_by_hand(2, 16, 12 * 12, 10)
    assert torch.equal(torch.get_rng_state(), before)
