"""Measures of first-layer weights against layers whose locality is known."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mlp_lib.errors import UserError
from mlp_lib.measures.applicable import READERS, applicable, obstacle
from mlp_lib.measures.first_layer import locality
from mlp_lib.measures.take import MEASURES, check_names, measure
from mlp_lib.measures.weight_images import decode_pictures
from mlp_lib.models import build
from mlp_lib.records.run import make_run

RUN = make_run(model="S-1/Wi-70", dataset="shapes", epochs=1)


def measured(weight: torch.Tensor) -> dict:
    """`first_layer` of a model with these weights, (70, 3, 32, 32)."""
    model = build("S-1/Wi-70", 10, 32)
    with torch.no_grad():
        model.linear_in.weight.copy_(weight.flatten(1))
    state = torch.get_rng_state()
    result = measure(("first_layer",), model.train(), RUN, None)["first_layer"]
    assert torch.equal(state, torch.get_rng_state()) and not model.training
    return json.loads(json.dumps(result))


def test_even_weights_are_spread_evenly():
    result = measured(torch.full((70, 3, 32, 32), -0.5))
    assert result["entropy_mean"] == pytest.approx(1) and result["radius_mean"] == pytest.approx(1)
    assert result["entropy_std"] == pytest.approx(0, abs=1e-9) and (result["units"], result["side"]) == (70, 32)


def test_one_pixel_is_one_pixel_whatever_its_channel():
    weight = torch.zeros(70, 3, 32, 32)
    for unit in range(70):
        weight[unit, unit % 3, unit % 32, 5] = -2.0
    result = measured(weight)
    assert result["entropy_mean"] == pytest.approx(0, abs=1e-9) and result["radius_mean"] == pytest.approx(0, abs=1e-6)
    pictures = decode_pictures(result)
    assert pictures.shape == (64, 32, 32) and pictures.dtype == np.uint8
    assert all(pictures[unit, unit % 32, 5] == 255 and pictures[unit].sum() == 255 for unit in range(64))


def test_two_pixels_by_hand():
    maps = np.zeros((1, 16))
    maps[0, 0], maps[0, 3] = 1.0, np.sqrt(3)  # the first row's ends of a 4 x 4 map: masses 1/4 and 3/4
    entropy, radius = locality(maps, 4)
    assert entropy[0] == pytest.approx((0.25 * np.log(4) + 0.75 * np.log(4 / 3)) / np.log(16))
    spread = 0.25 * 0.75 * 9  # variance of the position
    grid = np.arange(4)
    assert radius[0] == pytest.approx(np.sqrt(spread / (2 * grid.var())))


def test_dead_units_have_no_picture_and_break_nothing():
    result = measured(torch.zeros(70, 3, 32, 32))
    assert decode_pictures(result).max() == 0 and np.isfinite(result["radius_mean"])


def test_unknown_names_and_convolutions_are_one_line():
    with pytest.raises(UserError, match="unknown measure 'probes'.*first_layer"):
        check_names(("first_layer", "probes"))
    with pytest.raises(UserError, match="CNN-4 starts with a convolution"):
        measure(("first_layer",), build("CNN-4", 10, 32), RUN.but(model="CNN-4"), None)


@pytest.mark.parametrize("name", ["S-1/Wi-8", "B-1/Wi-8", "CNN-4", "ResNet18", "ViT-32x1/4", "Mixer-32x1/4"])
def test_what_looks_at_an_embedding_is_for_networks_that_start_with_one(name):
    run = RUN.but(model=name)
    dense = isinstance(build(name, 10, 32).first_layer, nn.Linear)
    layers = {"first_layer", "first_layer_initial", "first_layer_spread", "first_layer_change"}
    assert all((obstacle(measured, run) is None) == dense for measured in layers)
    general = {"translated", "test_crops", "sharpness", "gradient_noise"}
    general |= {f"{reader}_{target}" for reader in READERS for target in ("digits-32", "cifar10", "cifar100")}
    assert set(applicable(tuple(MEASURES), run)) - layers == general  # shapes has colours, and digits have none


def test_the_initial_layer_is_the_one_that_training_starts_from(tmp_path):
    from mlp_lib.measures.weight_images import encode
    from mlp_lib.training.loop import initial_model

    run = RUN.but(seed=5)
    start = initial_model(run, tmp_path)
    other = build("S-1/Wi-70", 10, 32)
    found = measure(("first_layer", "first_layer_initial", "first_layer_spread"), other, run, None)
    assert found["first_layer_initial"] == measure(("first_layer",), start, run, None)["first_layer"]
    spread, before, after = found["first_layer_spread"], found["first_layer_initial"], found["first_layer"]
    for name in ("radius_mean", "radius_std", "entropy_mean", "entropy_std"):
        assert spread[name] == after[name] and spread[f"initial_{name}"] == before[name] != after[name]
    assert "pictures" not in spread and len(json.dumps(spread)) < 500
    assert set(encode(np.ones((3, 4)), 2)) == {"pictures", "pictures_units"}


def test_the_change_is_what_training_added_to_the_weights_it_started_from(tmp_path):
    """A model whose first layer is the initial one plus a single pixel in every unit."""
    from mlp_lib.training.loop import initial_model

    run = RUN.but(seed=5)
    model = initial_model(run, tmp_path)
    before = model.first_layer.weight.detach().clone()
    with torch.no_grad():
        model.first_layer.weight[:, 40] += 0.5
    found = measure(("first_layer_change", "first_layer_spread"), model, run, None)
    change = found["first_layer_change"]
    assert change["entropy_mean"] == pytest.approx(0, abs=1e-6) and change["radius_mean"] == pytest.approx(0, abs=1e-3)
    assert change["moved"] == pytest.approx(0.5 * np.sqrt(70) / float(before.norm()), rel=1e-4)
    assert found["first_layer_spread"]["entropy_mean"] > 0.5
    still = measure(("first_layer_change",), initial_model(run, tmp_path), run, None)["first_layer_change"]
    assert still["moved"] == 0 and np.isfinite(still["radius_mean"])


def test_a_run_that_starts_from_another_has_no_initial_layer_of_its_own():
    child = RUN.but(init={"run": RUN})
    with pytest.raises(UserError, match=f"run {child.key} starts from another run's weights"):
        measure(("first_layer_spread",), build("S-1/Wi-70", 10, 32), child, None)
    assert obstacle("first_layer_change", child)
