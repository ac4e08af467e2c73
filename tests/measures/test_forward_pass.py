"""What a forward pass costs: operations and live memory against counts by hand, and time against a clock."""

import time

import pytest
import torch
from torch import nn

from mlp_lib.measures import inference
from mlp_lib.models import build

SIDE, CLASSES = 8, 10


def test_an_mlps_operations_are_those_of_its_matrices():
    model = build("B-2/Wi-32", CLASSES, SIDE)
    macs = 3 * SIDE**2 * 32 + 2 * (2 * 32 * 128) + 32 * CLASSES
    parameters = macs + 32 + 2 * (128 + 32 + 2 * 32) + CLASSES  # biases, and two vectors of each norm
    assert inference.facts(model, 3, SIDE) == inference.Facts(parameters, macs, 2 * macs, 4 * parameters)


def test_a_convolutions_operations_are_its_window_at_every_place():
    model = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5))
    found = inference.facts(model, 3, SIDE)
    assert found.macs == 3 * 3 * 3 * 5 * 4 * 4 and found.flops == 2 * found.macs
    assert found.parameters == 27 * 5 + 5 + 2 * 5
    assert found.weight_bytes == 4 * (found.parameters + 2 * 5) + 8  # running statistics, and their counter


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_live_memory_is_that_of_the_widest_moment(device):
    """At the activation: the skip, the normed vector, the hidden vector and the activated one: (1 + 1 + 4 + 4) m."""
    model = build("B-3/Wi-64", CLASSES, SIDE).to(device).eval()
    images = torch.zeros(5, 3, SIDE, SIDE, device=device)
    assert inference.activation_bytes(model, images) == 4 * 5 * 10 * 64


def test_what_is_done_in_place_or_seen_in_another_shape_is_counted_once():
    in_place = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(inplace=True))
    assert inference.activation_bytes(in_place, torch.zeros(2, 1, 4, 4)) == 4 * 2 * 8
    apart = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU())
    assert inference.activation_bytes(apart, torch.zeros(2, 1, 4, 4)) == 2 * 4 * 2 * 8
    kept = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))  # what is past is given up
    assert inference.activation_bytes(kept, torch.zeros(2, 8)) == 2 * 4 * 2 * 8


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        assert torch.is_inference_mode_enabled()
        self.calls += 1
        time.sleep(0.01)
        return x


@pytest.mark.parametrize(("wanted", "count"), [({"seconds": 0.0}, 1), ({"seconds": 0.0, "least": 3}, 3)])
def test_every_call_is_timed_by_itself(wanted, count):
    model = Slow()
    taken = inference.seconds_of_calls(model, torch.zeros(1), **wanted)
    assert len(taken) == model.calls == count and min(taken) >= 0.01


def test_calls_go_on_for_the_seconds_and_stop_at_the_most():
    assert 2 <= len(inference.seconds_of_calls(Slow(), torch.zeros(1), seconds=0.03)) <= 3
    assert len(inference.seconds_of_calls(Slow(), torch.zeros(1), seconds=9.0, most=2)) == 2


def test_a_vit_is_served_with_fused_attention_and_computes_the_same():
    torch.manual_seed(0)
    model, x = build("ViT-64x2/4", CLASSES, SIDE).eval(), torch.randn(2, 3, SIDE, SIDE)
    plain = model(x)
    served = inference.as_served(model.train())
    assert not served.training and all(block.attn.fused_attn for block in served.body.blocks)
    torch.testing.assert_close(served(x), plain)


def test_the_clock_may_leave_out_what_others_take():
    (slept,) = inference.seconds_of_calls(Slow(), torch.zeros(1), seconds=0.0, clock=time.process_time)
    assert slept < 0.01  # it slept: the processor was not its own
