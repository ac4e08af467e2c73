"""First-layer weights of an MLP as images, and how local they are (claim 12)."""

from typing import Any

import numpy as np
import torch
from torch import nn

from mlp_lib.measures.weight_images import encode
from mlp_lib.models import build_for
from mlp_lib.training.loaders import Data


def first_layer(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """First-layer weights of an MLP as images: 64 units as pictures, locality statistics over all units (claim 12).

    A unit's map is the greatest |weight| over channels, as the paper draws it, (H, W). `entropy`: of the map's squared
    values as a distribution over pixels, divided by log(H W): 1 is spread evenly, 0 is one pixel. `radius`: root mean
    square distance from the distribution's centre, in units of the same for an even spread.
    `pictures`: base64 of uint8 (units, H, W), each unit scaled to 0..255; the first 64 units, not the best.
    """
    maps = _first_layer_maps(model, run)  # (m, H * W)
    return {"units": len(maps), "side": run.pixels, **_spread(maps, run.pixels), **encode(maps, run.pixels)}


def first_layer_initial(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """`first_layer` of the same model before its first step, which the run's seed alone decides."""
    return first_layer(build_for(run), run, data)


def first_layer_spread(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """The statistics of `first_layer` without its pictures, after training and, as `initial_*`, before it."""
    statistics = _spread(_first_layer_maps(model, run), run.pixels)
    initial = _spread(_first_layer_maps(build_for(run), run), run.pixels)
    return statistics | {f"initial_{name}": value for name, value in initial.items()}


def first_layer_change(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """The statistics of `first_layer` for what training has added: the weights minus those before its first step.

    `moved`: the norm of that difference divided by the norm of the weights before the first step.
    """
    now, before = _weights(model), _weights(build_for(run))
    change = now - before
    moved = float(change.norm() / before.norm())
    return _spread(_maps(change, run.pixels), run.pixels) | {"moved": moved}


def _first_layer_maps(model: nn.Module, run) -> np.ndarray:
    return _maps(_weights(model), run.pixels)


def _weights(model: nn.Module) -> torch.Tensor:
    """(m, C * H * W)"""
    return model.first_layer.weight.detach().float().cpu()


def _maps(weight: torch.Tensor, side: int) -> np.ndarray:
    """Greatest |weight| over channels of every unit, (m, H * W)."""
    return weight.view(len(weight), -1, side**2).abs().amax(1).numpy()


def _spread(maps: np.ndarray, side: int) -> dict[str, float]:
    entropy, radius = locality(maps, side)
    return {
        "entropy_mean": float(entropy.mean()),
        "entropy_std": float(entropy.std()),
        "radius_mean": float(radius.mean()),
        "radius_std": float(radius.std()),
    }


def locality(maps: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Relative entropy and relative radius of (units, side * side) non-negative maps, each (units,)."""
    mass = np.square(maps.astype(np.float64))
    mass /= np.maximum(mass.sum(1, keepdims=True), 1e-300)
    entropy = -(mass * np.log(np.maximum(mass, 1e-300))).sum(1) / np.log(side * side)
    y, x = np.divmod(np.arange(side * side), side)
    centre_y, centre_x = mass @ y, mass @ x  # (units,)
    square = (mass * ((y - centre_y[:, None]) ** 2 + (x - centre_x[:, None]) ** 2)).sum(1)
    even = (side * side - 1) / 6  # mean squared distance from the centre of an even spread on the grid
    return entropy, np.sqrt(square / even)
