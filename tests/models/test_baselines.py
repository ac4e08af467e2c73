"""The controls from torchvision and timm: published counts, forward passes written out, and the study's interface."""

import math
import socket

import pytest
import torch
from torch.nn import functional as F

from mlp_lib import datasets, models, plots
from mlp_lib.errors import UserError
from mlp_lib.models import build, build_for, parameter_counts
from mlp_lib.models.flops import Cost, cost
from mlp_lib.records import architectures
from mlp_lib.records.architectures import family_of
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs, execute
from mlp_lib.training import loop
from mlp_lib.training.how import How

SMALL = ["ResNet18", "ViT-32x2/4", "Mixer-32x2/4"]

# --- names


def test_a_published_size_is_another_spelling():
    assert architectures.parse("ViT-Ti/4").name == architectures.parse("ViT-192x12/4").name == "ViT-192x12/4"
    short = make_run(model="ViT-Ti/8", dataset="cifar10", epochs=1)
    assert short.model == "ViT-192x12/8" and short.key == make_run(model=short.model, dataset="cifar10", epochs=1).key
    assert architectures.parse("Mixer-512x8/16").name == "Mixer-512x8/16"
    assert architectures.parse("Mixer-B/4").name == "Mixer-768x12/4"
    assert architectures.parse("Mixer-S/16").name == "Mixer-512x8/16"
    assert [architectures.parse(f"ViT-{size}/4").heads for size in ("Ti", "S", "B")] == [3, 6, 12]  # as published


@pytest.mark.parametrize(
    "name",
    [
        "ResNet50",
        "resnet18",
        "ResNet18-32",
        "ViT-Ti",
        "ViT-L/4",
        "ViT-0x4/8",
        "ViT-64x0/8",
        "ViT-64x4/0",
        "ViT-48x4/8",
        "ViT-224x4/8",
        "ViT-64/8",
        "Mixer-64x4",
        "Mixer-63x4/8",
        "Mixer-Ti/4",
        "ResNet152-64",
    ],
)
def test_names_outside_the_grammar_are_one_line(name):
    with pytest.raises(UserError) as caught:
        build(name, 10, 32)
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "option",
    [
        {"norm": "none"},
        {"activation": "relu"},
        {"skip": True},
        {"bottleneck": False},
        {"norm_position": "pre"},
        {"block_form": "code"},
        {"dropout": 0.1},
    ],
)
def test_options_of_mlps_do_not_apply(name, option):
    with pytest.raises(UserError, match=name.split("-")[0]):
        build(name, 10, 32, **option)
    with pytest.raises(UserError, match=name.split("-")[0]):
        make_run(model=name, dataset="shapes", epochs=1, **option)


def test_patches_that_do_not_tile_the_image_are_refused_with_what_would_do():
    with pytest.raises(UserError, match="ViT-64x4/3.*patches of 3 pixels.*image of 8; set resolution=9"):
        make_run(model="ViT-64x4/3", dataset="digits", epochs=1)
    with pytest.raises(UserError, match="patches of 16 pixels"):
        build("Mixer-64x4/16", 10, 40)
    assert make_run(model="ViT-64x4/3", dataset="digits", epochs=1, resolution=9).pixels == 9


def test_batch_norm_is_known_without_building():
    expected = {
        ("ResNet18", None): True,
        ("ViT-32x1/4", None): False,
        ("Mixer-32x1/4", None): False,
        ("CNN-4", None): True,
        ("CNN-4", "none"): False,
        ("B-2/Wi-8", None): False,
        ("S-2/Wi-8", "batch"): True,
    }
    for (name, norm), has in expected.items():
        assert architectures.uses_batch_norm(architectures.parse(name), {"norm": norm}) == has
        with torch.device("meta"):
            assert models.has_batch_norm(build(name, 5, 8, norm=norm)) == has
    with pytest.raises(UserError, match="batch_size=1"):
        make_run(model="ResNet18", dataset="digits", epochs=1, batch_size=1)


# --- published sizes


@pytest.mark.parametrize(
    ("name", "resolution", "classes", "parameters"),
    [
        # torchvision states 11,689,512 for its stem of 7x7x3x64 and 1000 classes; ours has 3x3x3x64 and 10.
        ("ResNet18", 32, 10, 11_689_512 - 49 * 3 * 64 + 9 * 3 * 64 - 513 * 1000 + 513 * 10),
        ("ResNet152", 64, 1000, 60_192_808),  # torchvision's: its stem's 7x7 kernel stays
        # timm's list of results, in millions to two places: 5.72, 22.05, 86.57, 18.53, 59.88
        ("ViT-Ti/16", 224, 1000, 5_717_416),
        ("ViT-S/16", 224, 1000, 22_050_664),
        ("ViT-B/16", 224, 1000, 86_567_656),
        ("Mixer-512x8/16", 224, 1000, 18_528_264),
        ("Mixer-768x12/16", 224, 1000, 59_880_472),
    ],
)
def test_parameters_are_the_published_ones(name, resolution, classes, parameters):
    with torch.device("meta"):
        assert parameter_counts(build(name, classes, resolution))["parameters"] == parameters


def resnet18_by_hand(channels: int, side: int, classes: int) -> tuple[int, int]:
    """Multiply-adds of all and of the first convolution: 8 blocks of two 3x3 convolutions, a 1x1 at each change."""
    first = 9 * channels * 64 * side**2
    macs, width = first, 64
    for stage, out in enumerate((64, 128, 256, 512)):
        here = (side // 2**stage) ** 2
        macs += 9 * width * out * here + 3 * 9 * out * out * here + (width * out * here if out != width else 0)
        width = out
    return macs + 512 * classes, first


def test_resnet18_costs_what_is_known_for_cifar():
    macs, first = resnet18_by_hand(3, 32, 10)
    assert round(macs / 1e9, 2) == 0.56  # the number usually quoted
    assert cost(build("ResNet18", 10, 32), 3, 32) == Cost(macs, 3 * macs, 2 * (3 * macs - first))
    assert cost(build("ResNet18", 5, 64, channels=1), 1, 64).macs == resnet18_by_hand(1, 64, 5)[0]


def test_resnet152_costs_what_its_layers_say():
    """Bottlenecks of 1x1, 3x3 (which halves the side) and 1x1, and a 1x1 at each change, from a stem at full side."""
    macs, inputs, before = 49 * 3 * 64 * 64**2, 64, 64
    for stage, blocks in enumerate((3, 8, 36, 3)):
        width, side = 64 * 2**stage, 64 // 2**stage
        for block in range(blocks):
            macs += inputs * width * before**2 + (9 * width**2 + width * 4 * width) * side**2
            macs += inputs * 4 * width * side**2 if block == 0 else 0
            inputs, before = 4 * width, side
    macs += 2048 * 1000
    with torch.device("meta"):
        assert cost(build("ResNet152", 1000, 64), 3, 64).macs == macs


def test_without_its_stride_and_pooling_resnet152_is_torchvisions():
    """With the stem's stride and pooling put back, the two give the same logits from the same weights."""
    from torchvision.models import resnet152

    torch.manual_seed(0)
    ours, theirs = build("ResNet152", 5, 32).eval(), resnet152(weights=None, num_classes=5).eval()
    state = {name.removeprefix("body."): tensor for name, tensor in ours.state_dict().items()}
    state |= {f"fc.{kind}": state.pop(f"linear_out.{kind}") for kind in ("weight", "bias")}
    theirs.load_state_dict(state)
    x = torch.randn(1, 3, 32, 32)
    assert ours.body.relu(ours.body.bn1(ours.body.conv1(x))).shape == (1, 64, 32, 32)
    assert not torch.allclose(ours(x), theirs(x))
    ours.body.conv1.stride, ours.body.maxpool = (2, 2), torch.nn.MaxPool2d(3, 2, 1)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("family", "width", "depth", "patch", "side", "channels"),
    [
        ("ViT", 64, 4, 8, 32, 3),
        ("ViT", 192, 12, 4, 32, 3),
        ("ViT", 32, 1, 2, 8, 1),
        ("Mixer", 64, 4, 8, 32, 3),
        ("Mixer", 128, 2, 8, 64, 3),
        ("Mixer", 32, 1, 4, 8, 1),
    ],
)
def test_patch_models_cost_what_the_formulas_say(family, width, depth, patch, side, channels):
    """Attention included: T x T scores and their use, each T^2 d. Backward: twice the forward, less the image's."""
    patches = (side // patch) ** 2
    first = patches * patch**2 * channels * width
    if family == "ViT":
        tokens = patches + 1
        block = 12 * tokens * width**2 + 2 * tokens**2 * width
    else:
        block = 2 * width * patches * (width // 2) + 2 * patches * width * 4 * width
    macs = first + depth * block + width * 10
    with torch.device("meta"):
        model = build(f"{family}-{width}x{depth}/{patch}", 10, side, channels=channels)
    assert cost(model, channels, side) == Cost(macs, 3 * macs, 2 * (3 * macs - first))


def test_there_are_small_ones_for_two_cores():
    for name in ("ViT-64x4/8", "Mixer-64x4/8"):
        assert cost(build(name, 10, 32), 3, 32).macs <= 4_000_000


# --- forward passes written out


def test_resnet18_by_torch_functions():
    torch.manual_seed(0)
    model = build("ResNet18", 5, 16).double().eval()
    state = model.state_dict()
    for name, tensor in state.items():  # running statistics start as zeros and ones, which would hide a missing one
        if "running" in name:
            tensor.uniform_(0.5, 1.5)

    def normalised(z, name):
        parts = [state[f"body.{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(z, *parts)

    def convolved(z, name, stride=1, padding=1):
        return F.conv2d(z, state[f"body.{name}.weight"], stride=stride, padding=padding)

    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    z = F.relu(normalised(convolved(x, "conv1"), "bn1"))  # full resolution, and no pooling
    for stage in range(1, 5):
        for block in range(2):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.relu(normalised(convolved(z, f"{at}.conv1", stride), f"{at}.bn1"))
            out = normalised(convolved(out, f"{at}.conv2"), f"{at}.bn2")
            if stride == 2:
                z = normalised(convolved(z, f"{at}.downsample.0", 2, 0), f"{at}.downsample.1")
            z = F.relu(out + z)
    expected = F.linear(z.mean((2, 3)), state["linear_out.weight"], state["linear_out.bias"])
    torch.testing.assert_close(model(x), expected)


def randomised(name: str, **options) -> torch.nn.Module:
    """In double precision, every parameter random: norms start as ones and zeros, which would hide a missing one."""
    torch.manual_seed(0)
    model = build(name, 5, 8, **options).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def linear(state, name, z):
    return F.linear(z, state[f"body.{name}.weight"], state[f"body.{name}.bias"])


def layer_norm(state, name, z):
    return F.layer_norm(z, z.shape[-1:], state[f"body.{name}.weight"], state[f"body.{name}.bias"], eps=1e-6)


def patches_of(state, name, x, patch):
    """(B, C, H, W) -> (B, T, d): each patch flattened, channels first, row by row, times the embedding's matrix."""
    b, c, h, w = x.shape
    cut = x.reshape(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch**2)
    return F.linear(cut, state[f"body.{name}.weight"].flatten(1), state[f"body.{name}.bias"])


def test_vit_by_hand():
    model = randomised("ViT-64x2/4")
    state = model.state_dict()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    z = patches_of(state, "patch_embed.proj", x, 4)  # (3, 4, 64)
    z = torch.cat([state["body.cls_token"].expand(3, 1, 64), z], 1) + state["body.pos_embed"]  # (3, 5, 64)
    for i in range(2):
        at = f"blocks.{i}"
        q, k, v = linear(state, f"{at}.attn.qkv", layer_norm(state, f"{at}.norm1", z)).split(64, -1)
        heads = []
        for h in (slice(0, 32), slice(32, 64)):  # 2 heads of 32 channels
            scores = q[..., h] @ k[..., h].transpose(1, 2) / math.sqrt(32)
            heads.append(scores.softmax(-1) @ v[..., h])
        z = z + linear(state, f"{at}.attn.proj", torch.cat(heads, -1))
        hidden = F.gelu(linear(state, f"{at}.mlp.fc1", layer_norm(state, f"{at}.norm2", z)))
        assert hidden.shape == (3, 5, 256)
        z = z + linear(state, f"{at}.mlp.fc2", hidden)
    features = layer_norm(state, "norm", z)[:, 0]
    torch.testing.assert_close(model.features(x), features)
    torch.testing.assert_close(model(x), F.linear(features, state["linear_out.weight"], state["linear_out.bias"]))


def test_mixer_by_hand():
    model = randomised("Mixer-16x2/4", channels=1)
    state = model.state_dict()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    z = patches_of(state, "stem.proj", x, 4)  # (3, 4, 16)
    for i in range(2):
        at = f"blocks.{i}"
        columns = layer_norm(state, f"{at}.norm1", z).transpose(1, 2)  # (3, 16, 4)
        hidden = F.gelu(linear(state, f"{at}.mlp_tokens.fc1", columns))
        assert hidden.shape == (3, 16, 8)  # half the width, as in Mixer-S and -B
        z = z + linear(state, f"{at}.mlp_tokens.fc2", hidden).transpose(1, 2)
        hidden = F.gelu(linear(state, f"{at}.mlp_channels.fc1", layer_norm(state, f"{at}.norm2", z)))
        assert hidden.shape == (3, 4, 64)
        z = z + linear(state, f"{at}.mlp_channels.fc2", hidden)
    torch.testing.assert_close(model.features(x), layer_norm(state, "norm", z).mean(1))


# --- the study's interface


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "resolution"), [(1, 8), (3, 32), (3, 64)])
def test_head_of_features_is_forward(name, channels, resolution):
    model = build(name, 7, resolution, channels=channels).eval()
    x = torch.randn(2, channels, resolution, resolution)
    assert model.features(x).shape == (2, model.head.in_features) and model(x).shape == (2, 7)
    torch.testing.assert_close(model.head(model.features(x)), model(x), rtol=0, atol=0)
    assert model.head is model.linear_out and model.first_layer.weight.shape[1] == channels
    ends = sum(p.numel() for layer in (model.first_layer, model.head) for p in layer.parameters())
    assert parameter_counts(model)["parameters_body"] == parameter_counts(model)["parameters"] - ends


@pytest.mark.parametrize("name", SMALL)
def test_initialisation_depends_on_the_seed_alone_and_asks_no_network(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    run = make_run(model=name, dataset="digits", epochs=1, seed=3)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = build_for(run)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(100)
    second, other = build_for(run).state_dict(), build_for(run.but(seed=4)).state_dict()
    assert all(torch.equal(v, second[k]) for k, v in first.state_dict().items())
    embedding = next(k for k, p in first.named_parameters() if p is first.first_layer.weight)
    assert not torch.equal(second[embedding], other[embedding])


def test_initial_weights_are_those_of_the_papers():
    torch.manual_seed(0)
    stem = build("ResNet18", 10, 32).first_layer.weight
    assert abs(stem.std().item() - math.sqrt(2 / (9 * 64))) < 0.003  # He et al. 2015, fan-out
    vit = build("ViT-64x2/4", 10, 32)
    assert abs(vit.body.blocks[0].mlp.fc1.weight.std().item() - 0.02) < 0.001
    assert abs(vit.linear_out.weight.std().item() - 0.02) < 0.003 and vit.linear_out.bias.abs().max() == 0
    mixer = build("Mixer-32x2/4", 10, 32)
    loss = F.cross_entropy(mixer(torch.randn(4, 3, 32, 32)), torch.arange(4))
    assert abs(loss.item() - math.log(10)) < 1e-6  # the head starts at zero: all classes alike


@pytest.mark.parametrize(
    ("model", "options", "lr", "steps"),
    [
        ("ResNet18", {}, 1e-3, 10),
        ("ViT-32x2/4", {}, 1e-2, 60),
        ("Mixer-32x2/4", {}, 1e-2, 40),
        ("CNN-8", {"norm": "none"}, 1e-2, 60),
    ],
)
def test_each_learns_64_digits_by_heart(model, options, lr, steps):
    """Without norm, too, torch's default initialisation is enough for the CNN's five layers."""
    digits = datasets.load("digits")
    x = torch.from_numpy(digits.train_images[:64]).float().div(128).sub(0.6)
    y = torch.from_numpy(digits.train_labels[:64])
    network = build_for(make_run(model=model, dataset="digits", epochs=1, **options))
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5


def test_a_trained_body_takes_a_new_head(tmp_path):
    parent = make_run(model="ViT-32x1/4", dataset="shapes", epochs=1)
    child = make_run(
        model="ViT-32x1/4", dataset="cifar100", epochs=1, seed=5, init=dict(run=parent, transform="new_head")
    )
    trained = build_for(parent)
    loop.save_weights(trained, tmp_path / f"{parent.key}.safetensors")
    model = loop.initial_model(child, tmp_path)
    state = model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in trained.state_dict().items() if not k.startswith("linear_out."))
    assert state["linear_out.weight"].shape == (100, 32)


def test_a_record_of_a_control(tmp_path):
    run = make_run(model="ViT-32x1/4", dataset="digits", subset=64, batch_size=32, steps=2)
    with pytest.raises(UserError, match="first_layer looks at the embedding of an MLP"):
        execute.execute(run, Store(tmp_path), How("cpu", "fp32"), measures=("first_layer",))
    assert not list(tmp_path.glob("*.json"))  # refused before it was trained
    record = execute.execute(run, Store(tmp_path), How("cpu", "fp32")).record
    assert record.status == "ok" and record.measures == {}
    assert record.macs == cost(build_for(run), 1, 8).macs and "timm" in record.versions


def test_families_have_names_colours_and_a_planned_rate():
    expected = {
        "S-6/Wi-64": "S-MLP",
        "B-6/Wi-64": "B-MLP",
        "CNN-16": "CNN",
        "ResNet18": "ResNet18",
        "ResNet152": "ResNet152",
        "ViT-64x4/8": "ViT",
        "ViT-Ti/4": "ViT",
        "Mixer-64x4/8": "Mixer",
    }
    assert {name: family_of(name) for name in expected} == expected
    assert set(plots.FAMILY_COLOURS) == {*expected.values(), "CNN without norm"}
    assert len(set(plots.FAMILY_COLOURS.values())) == len(plots.FAMILY_COLOURS)
    for name in ("ResNet18", "ViT-64x4/8", "Mixer-64x4/8"):
        run = make_run(model=name, dataset="cifar10", epochs=1)
        assert costs.planned_seconds(run) == costs.training_flops(run) / costs.PLANNED_RATE["convolution"]
