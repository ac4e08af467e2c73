"""Architectures: names, parameter counts as published, forward passes against NumPy, initialisation."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from mlp_lib import models
from mlp_lib.errors import UserError
from mlp_lib.models import build, build_for, parameter_counts
from mlp_lib.models.flops import cost
from mlp_lib.records import architectures
from mlp_lib.records.run import make_run

# Published parameter counts, in millions, at 64 x 64 x 3 and 11,230 classes (paper, table of models).
PUBLISHED = {
    "B-6/Wi-256": 9.2,
    "B-12/Wi-256": 12.3,
    "B-6/Wi-512": 24.7,
    "B-12/Wi-512": 37.3,
    "B-6/Wi-1024": 74.5,
    "B-12/Wi-1024": 124.8,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name):
    depth, width = (int(part) for part in name.removeprefix("B-").split("/Wi-"))
    with torch.device("meta"):
        counts = parameter_counts(build(name, 11_230, 64))
    block = 2 * width + (width * 4 * width + 4 * width) + (4 * width * width + width)  # norm, W_e, W_c
    ends = (64 * 64 * 3 * width + width) + (width * 11_230 + 11_230)
    assert counts == {"parameters": depth * block + ends, "parameters_body": depth * block}
    assert round(counts["parameters"] / 1e6, 1) == PUBLISHED[name]


def test_embedding_and_head_share_of_the_smallest_and_the_largest():
    shares = []
    for name in ("B-6/Wi-256", "B-12/Wi-1024"):
        with torch.device("meta"):
            counts = parameter_counts(build(name, 11_230, 64))
        shares.append(round(100 * (1 - counts["parameters_body"] / counts["parameters"])))
    assert shares == [66, 19]


def test_state_dict_has_the_names_of_the_public_checkpoints():
    expected = {"linear_in", "linear_out"}
    for i in range(2):
        expected |= {f"blocks.{i}.block.0", f"blocks.{i}.block.2", f"layernorms.{i}"}
    state = build("B-2/Wi-8", 5, 4).state_dict()
    assert set(state) == {f"{module}.{kind}" for module in expected for kind in ("weight", "bias")}
    assert state["blocks.0.block.0.weight"].shape == (32, 8) and state["blocks.0.block.2.weight"].shape == (8, 32)
    assert set(build("B-2/Wi-8", 5, 4, dropout=0.5).state_dict()) == set(state)


def test_both_spellings_name_the_same_architecture():
    for spelling in ("B-12/Wi-1024", "B_12-Wi_1024", "B-12/Wi-1024-E_4", "B_12-Wi_1024-E-4"):
        assert architectures.parse(spelling).name == "B-12/Wi-1024"
    assert architectures.parse("B_6-Wi_512-E_2").name == "B-6/Wi-512-E_2"
    assert architectures.parse("S_6-Wi_512").name == "S-6/Wi-512"
    assert architectures.parse("CNN_16").name == "CNN-16"


def test_expansion_in_the_name_and_as_a_keyword_agree():
    named, keyword = build("B-2/Wi-8-E_2", 5, 4), build("B-2/Wi-8", 5, 4, expansion=2)
    assert named.blocks[0].block[0].weight.shape == keyword.blocks[0].block[0].weight.shape == (16, 8)
    assert parameter_counts(named) == parameter_counts(keyword)


@pytest.mark.parametrize(
    "name, options",
    [
        ("B6/Wi-256", {}),
        ("C-6/Wi-256", {}),
        ("B-6/Wi-256 ", {}),
        ("B-0/Wi-8", {}),
        ("B-2/Wi-0", {}),
        ("B-2/Wi-8-E_0", {}),
        ("CNN-0", {}),
        ("S-2/Wi-8-E_2", {}),
        ("resnet18", {}),
        ("B-2/Wi-8", {"activation": "swish"}),
        ("B-2/Wi-8", {"norm": "group"}),
        ("B-2/Wi-8", {"norms": "layer"}),
        ("B-2/Wi-8", {"block_form": "code"}),
        ("B-2/Wi-8", {"dropout": 1.0}),
        ("S-2/Wi-8", {"expansion": 2}),
        ("CNN-4", {"skip": True}),
        ("CNN-4", {"norm": "layer"}),
        ("CNN-4", {"dropout": 0.1}),
        ("CNN-4", {"expansion": 2}),
    ],
)
def test_unknown_names_and_options_are_one_line(name, options):
    with pytest.raises(UserError) as caught:
        build(name, 10, 8, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) > 20


def test_an_unknown_name_is_answered_with_examples_and_a_small_image_with_the_reason():
    with pytest.raises(UserError, match="unknown model 'Bmlp'.*B-12/Wi-512"):
        build("Bmlp", 10, 32)
    with pytest.raises(UserError, match="resolution=4.*at least 8"):
        build("CNN-4", 10, 4)


# --- forward passes -------------------------------------------------------------------------------------------------


def normalised(z, weight, bias, axis):
    """Layer norm (axis 1) and batch norm in training (axis 0): biased variance, epsilon 1e-5."""
    mean, variance = z.mean(axis, keepdims=True), z.var(axis, keepdims=True)
    return (z - mean) / np.sqrt(variance + 1e-5) * weight + bias


def by_hand(state, x, *, depth, activation, norm, norm_position, skip, bottleneck, block_form):
    """The forward pass in NumPy, from the formulas of the paper's section 3 and the options' definitions."""

    def linear(name, z):
        return z @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def sigma(z):
        return np.maximum(z, 0) if activation == "relu" else z * 0.5 * (1 + erf(z / np.sqrt(2)))

    def norm_of(i, z):
        if norm == "none":
            return z
        axis = {"layer": 1, "batch": 0}[norm]
        return normalised(z, state[f"layernorms.{i}.weight"], state[f"layernorms.{i}.bias"], axis)

    def block(i, z):
        if bottleneck:
            return linear(f"blocks.{i}.block.2", sigma(linear(f"blocks.{i}.block.0", z)))
        if block_form == "text":
            return sigma(linear(f"blocks.{i}.block.0", z))
        return linear(f"blocks.{i}.block.1", sigma(z))

    z = linear("linear_in", x.reshape(len(x), -1))  # channel first
    for i in range(depth):
        out = block(i, norm_of(i, z) if norm_position == "pre" else z)
        z = z + out if skip else out
        z = norm_of(i, z) if norm_position == "post" else z
    return linear("linear_out", z)


S = dict(activation="relu", norm="layer", norm_position="pre", skip=False, bottleneck=False, block_form="text")
B = dict(activation="gelu", norm="layer", norm_position="pre", skip=True, bottleneck=True, block_form="text")


@pytest.mark.parametrize(
    "name, changed",
    [
        ("S-2/Wi-6", {}),
        ("S-2/Wi-6", {"block_form": "code", "activation": "gelu"}),  # as the public code has it
        ("S-2/Wi-6", {"bottleneck": True}),
        ("S-2/Wi-6", {"skip": True, "norm": "batch"}),
        ("B-2/Wi-6", {}),
        ("B-2/Wi-6", {"norm_position": "post"}),
        ("B-2/Wi-6", {"skip": False}),
        ("B-2/Wi-6", {"norm": "none", "activation": "relu"}),
        ("B-2/Wi-6", {"norm": "batch", "norm_position": "post"}),
        ("B-2/Wi-6", {"bottleneck": False}),
    ],
)
def test_forward_pass_by_hand(name, changed):
    torch.manual_seed(0)
    model = build(name, 4, 3, **changed).double()
    for parameter in model.parameters():  # norms start as ones and zeros, which would hide a missing one
        torch.nn.init.normal_(parameter, std=0.7)
    x = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    state = {k: v.detach().numpy().copy() for k, v in model.state_dict().items()}
    options = (S if name.startswith("S") else B) | changed
    expected = by_hand(state, x.numpy(), depth=2, **options)
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_dropout_acts_in_training_only_and_scales_what_it_keeps():
    torch.manual_seed(0)
    model, x = build("B-1/Wi-64", 4, 3, dropout=0.5), torch.randn(8, 3, 3, 3)
    block = model.blocks[0]
    inside = block.block[2](block.block[1](block.block[0](torch.ones(1, 64))))
    out = block(torch.ones(1, 64))
    kept = out != 0
    assert 10 < kept.sum() < 54
    torch.testing.assert_close(out[kept], 2 * inside[kept])
    model.eval()
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["S-2/Wi-16", "B-2/Wi-16", "CNN-4"])
def test_head_of_features_is_forward(name):
    model = build(name, 7, 16, channels=1).eval()
    x = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(model.head(model.features(x)), model(x), rtol=0, atol=0)
    assert model(x).shape == (3, 7) and model.first_layer.weight.shape[1] in (16 * 16, 1)


def test_cnn_by_torch_functions():
    from torch.nn import functional as F

    torch.manual_seed(0)
    model = build("CNN-4", 5, 16, norm="none").double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    z = x
    for layer, stride in zip(model.body, (2, 2, 1, 2, 1), strict=True):
        z = F.relu(F.conv2d(z, layer[0].weight, layer[0].bias, stride=stride, padding=1))
    expected = F.linear(z.flatten(2).mean(2), model.linear_out.weight, model.linear_out.bias)
    torch.testing.assert_close(model(x), expected)


def test_cnn_16_is_a_small_control():
    model = build("CNN-16", 10, 32)
    macs = cost(model, 3, 32).macs
    w, sides = 16, (16, 8, 8, 4, 4)
    planes = (3, w, 2 * w, 2 * w, 4 * w, 4 * w)
    by_hand = sum(9 * i * o * side * side for i, o, side in zip(planes[:-1], planes[1:], sides, strict=True))
    assert macs == by_hand + 4 * w * 10
    assert macs <= 2_000_000
    smallest = parameter_counts(build("S-1/Wi-32", 10, 32))["parameters"]
    assert parameter_counts(model)["parameters"] < smallest


def test_initialisation_depends_on_the_seed_alone_and_leaves_the_global_generator():
    run = make_run(model="B-2/Wi-16", dataset="digits", epochs=1, seed=3)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = build_for(run)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(100)
    second, other = build_for(run), build_for(run.but(seed=4))
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c) == bool((a == a.flatten()[0]).all())  # norms' ones and zeros have no seed
    torch.manual_seed(3)
    assert torch.equal(first.linear_in.weight, build("B-2/Wi-16", 10, 8, channels=1).linear_in.weight)


def test_batch_norm_is_seen():
    assert models.has_batch_norm(build("CNN-4", 2, 8))
    assert models.has_batch_norm(build("S-1/Wi-4", 2, 8, norm="batch"))
    assert not models.has_batch_norm(build("B-1/Wi-4", 2, 8))
