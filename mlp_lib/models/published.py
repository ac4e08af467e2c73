"""Weights of others in the layout of the paper's public checkpoints, into a model of ours.

A file is a state dict, by torch or as safetensors, of any float type, bare or inside a dict under a usual name, with or
without the prefix that DataParallel gives. Nothing in it is executed.
"""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlp_lib.errors import UserError
from mlp_lib.models.factory import build
from mlp_lib.paths import is_pointer, shown, whats_wrong

PRETRAINED_CLASSES = 11_230  # of ImageNet-21k after Ridnik et al. 2021
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel, of a compiled model
_NAMED = 8  # mismatches of one kind that are named one by one


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, as fp32, without wrapper and prefix.

    Raises UserError, one line: for a file that is missing, truncated or no checkpoint, for one that asks for code to be
    executed, and for a dict without tensors.
    """
    state = _tensors(_loaded(path))
    if state is None:
        raise UserError(f"{shown(str(path))} holds no state dict: a dict of tensors, bare or under {_WRAPPERS[0]!r}")
    for prefix in _PREFIXES:
        while state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _loaded(path: Path) -> Any:
    name = shown(str(path))
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{name}: {what}; give a checkpoint, see 'Re-execute a chapter'")
    if is_pointer(path):
        raise UserError(f"{name} is only Git LFS's pointer to the weights; fetch the file itself")
    try:
        if _is_safetensors(path):
            import safetensors.torch

            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old ways to pickle: what cannot be read is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:Unsupported (?:global|class|type)|GLOBAL)\W+(?:GLOBAL )?([\w.]+)", str(error))
        if asked:
            raise UserError(f"{name} asks for code to be executed ({asked[1]}); only plain weights are read") from None
        raise UserError(f"{name} is no checkpoint, or is damaged; fetch it again") from None
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        reason = whats_wrong(path, error) if isinstance(error, OSError) else type(error).__name__
        raise UserError(f"{name} is no checkpoint, or is truncated ({reason}); fetch it again") from None


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(9)
    return path.suffix == ".safetensors" or (len(head) == 9 and head[8:] == b"{" and head[:2] != b"PK")


def _tensors(found: Any) -> dict[str, Tensor] | None:
    """The first dict of nothing but tensors: what was found itself, else what is under a usual name in it."""
    if not isinstance(found, Mapping) or not found:
        return None
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()):
        return dict(found)
    inner = (_tensors(found[name]) for name in _WRAPPERS if name in found)
    return next((state for state in inner if state is not None), None)


def load_published(path: Path, model: str, num_classes: int, resolution: int, channels: int = 3) -> nn.Module:
    """The named model with the weights in a file, in evaluation mode.

    Raises UserError as `read_state_dict` does, for a head of another number of classes, and for weights of another
    shape: one line that names what is missing, what nothing takes, and which shapes differ.
    """
    state = read_state_dict(path)
    name = shown(str(path))
    with torch.device("meta"):
        wanted = {
            key: tuple(t.shape)
            for key, t in build(model, num_classes, resolution, channels=channels).state_dict().items()
        }
    _check_head(name, state, num_classes)
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    shapes = [
        f"{key} is {_by(state[key].shape)} and should be {_by(shape)}"
        for key, shape in wanted.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    faults = [
        f"{word}: {', '.join(those[:_NAMED])}" + (f" and {len(those) - _NAMED} more" if len(those) > _NAMED else "")
        for word, those in (("missing", missing), ("not known", unexpected), ("shapes", shapes))
        if those
    ]
    if faults:
        hint = _hint(state, channels, resolution)
        raise UserError(f"{name} does not fit {model} at {resolution} pixels{hint}: {'; '.join(faults)}")
    network = build(model, num_classes, resolution, channels=channels)
    network.load_state_dict(state)
    return network.eval()


def _check_head(name: str, state: Mapping[str, Tensor], num_classes: int) -> None:
    head = state.get("linear_out.weight")
    if head is None or head.ndim != 2 or len(head) == num_classes:
        return
    if len(head) == PRETRAINED_CLASSES:
        raise UserError(
            f"{name} has the head of pre-training, {PRETRAINED_CLASSES:,} classes of ImageNet-21k, and the data set "
            f"has {num_classes:,} others: give the checkpoint that was fine-tuned to this set, or fine-tune this one"
        )
    raise UserError(
        f"{name} has a head of {len(head):,} classes and the data set has {num_classes:,}: "
        "give the data set that it was fine-tuned to"
    )


def _hint(state: Mapping[str, Tensor], channels: int, resolution: int) -> str:
    """What the embedding says of the images that the weights were trained on, where they are of another size."""
    embedding = state.get("linear_in.weight")
    side = 0 if embedding is None or embedding.ndim != 2 else round((embedding.shape[1] / channels) ** 0.5)
    if not side or channels * side**2 != embedding.shape[1] or side == resolution:
        return ""
    return f" (its embedding is of images of {side} pixels: --resolution {side})"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
