"""Checkpoints of others: every form that they come in is read, and everything else is one line."""

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import one_line

from mlp_lib.errors import UserError
from mlp_lib.models import build
from mlp_lib.models.published import load_published, read_state_dict

MODEL = "B-2/Wi-8"
LAYOUT = {  # the names of the public checkpoints, written out: 8 pixels of one channel, 10 classes, expansion 4
    "linear_in.weight": (8, 64),
    "linear_in.bias": (8,),
    **{f"blocks.{i}.block.0.weight": (32, 8) for i in (0, 1)},
    **{f"blocks.{i}.block.0.bias": (32,) for i in (0, 1)},
    **{f"blocks.{i}.block.2.weight": (8, 32) for i in (0, 1)},
    **{f"blocks.{i}.block.2.bias": (8,) for i in (0, 1)},
    **{f"layernorms.{i}.weight": (8,) for i in (0, 1)},
    **{f"layernorms.{i}.bias": (8,) for i in (0, 1)},
    "linear_out.weight": (10, 8),
    "linear_out.bias": (10,),
}


def state_of(**changes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in (LAYOUT | changes).items()}


def reference(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The published network, written out: z + W_c gelu(W_e LN(z)), no norm before the head."""
    F = torch.nn.functional
    z = F.linear(x.flatten(1), state["linear_in.weight"], state["linear_in.bias"])
    for i in (0, 1):
        h = F.layer_norm(z, (8,), state[f"layernorms.{i}.weight"], state[f"layernorms.{i}.bias"])
        h = F.linear(h, state[f"blocks.{i}.block.0.weight"], state[f"blocks.{i}.block.0.bias"])
        z = z + F.linear(F.gelu(h), state[f"blocks.{i}.block.2.weight"], state[f"blocks.{i}.block.2.bias"])
    return F.linear(z, state["linear_out.weight"], state["linear_out.bias"])


def prefixed(state: dict, prefix: str) -> dict:
    return {prefix + name: value for name, value in state.items()}


FORMS = {
    "bare": lambda state: state,
    "in model": lambda state: {"model": state, "epoch": 3},
    "in state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "in both": lambda state: {"model": {"state_dict": state, "name": "B_2-Wi_8"}},
    "with a prefix": lambda state: prefixed(state, "module."),
    "compiled and in parallel": lambda state: {"model": prefixed(prefixed(state, "_orig_mod."), "module.")},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_published_network(form, tmp_path):
    state = state_of()
    torch.save(form(state), tmp_path / "weights")
    network = load_published(tmp_path / "weights", MODEL, 10, 8, channels=1)
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(network(x), reference(state, x), atol=1e-5)
    assert not network.training


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_fp32(kind, tmp_path):
    state = {name: tensor.to(kind) for name, tensor in state_of().items()}
    torch.save(state, tmp_path / "w.pt")
    safetensors.torch.save_file(prefixed(state, "module."), tmp_path / "w.safetensors")
    safetensors.torch.save_file(state, tmp_path / "w_weights")  # without the ending
    for name in ("w.pt", "w.safetensors", "w_weights"):
        found = read_state_dict(tmp_path / name)
        assert {tensor.dtype for tensor in found.values()} == {torch.float32} and found.keys() == LAYOUT.keys()
        assert all(torch.equal(found[key], state[key].float()) for key in state)


def refused(path: Path, classes: int = 10, resolution: int = 8, model: str = MODEL) -> str:
    with pytest.raises(UserError) as error:
        load_published(path, model, classes, resolution, channels=1)
    line = one_line(error)
    assert path.name in line
    return line


def test_mismatches_are_named_one_by_one(tmp_path):
    state = state_of(**{"blocks.1.block.2.weight": (8, 16), "layernorms.0.bias": (9,)})
    del state["layernorms.1.bias"]
    state["classifier.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w")
    line = refused(tmp_path / "w")
    assert "missing: layernorms.1.bias;" in line and "not known: classifier.weight;" in line
    assert "layernorms.0.bias is 9 and should be 8" in line
    assert "blocks.1.block.2.weight is 8 x 16 and should be 8 x 32" in line


def test_another_width_depth_and_resolution_are_said(tmp_path):
    torch.save(state_of(), tmp_path / "w")
    assert "linear_in.weight is 8 x 64 and should be 16 x 64" in refused(tmp_path / "w", model="B-2/Wi-16")
    assert "missing: blocks.2.block.0.weight" in refused(tmp_path / "w", model="B-3/Wi-8")
    assert "embedding is of images of 8 pixels: --resolution 8" in refused(tmp_path / "w", resolution=16)
    assert "and 4 more" in refused(tmp_path / "w", model="B-4/Wi-8")  # two blocks of six tensors, of which eight named


def test_a_head_of_other_classes_is_said_first(tmp_path):
    torch.save(state_of(**{"linear_out.weight": (100, 8), "linear_out.bias": (100,)}), tmp_path / "w")
    assert "a head of 100 classes and the data set has 10" in refused(tmp_path / "w")
    torch.save(state_of(**{"linear_out.weight": (11_230, 8), "linear_out.bias": (11_230,)}), tmp_path / "w")
    assert "the head of pre-training, 11,230 classes of ImageNet-21k" in refused(tmp_path / "w")


class Harm:
    """What a hostile checkpoint does: it leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_nothing_in_a_checkpoint_is_executed(how, tmp_path):
    harm = {"model": state_of(), "extra": Harm(tmp_path / "harm")}
    with open(tmp_path / "w", "wb") as file:
        torch.save(harm, file) if how == "torch" else pickle.dump(harm, file)
    line = refused(tmp_path / "w")
    assert "asks for code to be executed (" in line if how == "torch" else "is no checkpoint" in line or "code" in line
    assert not (tmp_path / "harm").exists()
    torch.load(tmp_path / "w", weights_only=False) if how == "torch" else pickle.loads((tmp_path / "w").read_bytes())
    assert (tmp_path / "harm").exists()  # it would have


def test_a_whole_network_is_refused_as_code(tmp_path):
    torch.save(build(MODEL, 10, 8, channels=1), tmp_path / "w")
    assert "asks for code to be executed (mlp_lib.models.mlp.MLP)" in refused(tmp_path / "w")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.99])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_truncated_file_is_one_line(kind, share, tmp_path):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w")
    safetensors.torch.save_file(state_of(), path) if kind == "safetensors" else torch.save(state_of(), path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    assert "is no checkpoint" in refused(path)


def test_what_is_no_checkpoint_is_one_line(tmp_path):
    for name, content in {"a": b"hello, world, hello", "b": b'{"a": 1}', "c": b"", "page.html": b"<html>" * 9}.items():
        (tmp_path / name).write_bytes(content)
        assert "is no checkpoint" in refused(tmp_path / name)
    torch.save([1, 2, 3], tmp_path / "list")
    torch.save({"epoch": 3, "model": {"lr": 0.1}}, tmp_path / "dict")
    for name in ("list", "dict"):
        assert "holds no state dict" in refused(tmp_path / name)
    (tmp_path / "pointer").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "Git LFS's pointer" in refused(tmp_path / "pointer")
    assert "there is no such file" in refused(tmp_path / "nothing") and "it is a folder" in refused(tmp_path)
