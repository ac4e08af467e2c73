"""What is measured on trained weights, after training. Each measure is a function (model, run, data) -> JSON values.

The path to a figure goes through the record, so a measure returns what a figure needs and no more: statistics over
all units, pictures of at most 64.
"""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from mlp_lib.errors import UserError
from mlp_lib.loaders import Data


def first_layer(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """First-layer weights of an MLP as images: 64 units as pictures, locality statistics over all units (claim 12).

    A unit's map is the greatest |weight| over channels, as the paper draws it, (H, W). `entropy`: of the map's squared
    values as a distribution over pixels, divided by log(H W): 1 is spread evenly, 0 is one pixel. `radius`: root mean
    square distance from the distribution's centre, in units of the same for an even spread.
    `pictures`: base64 of uint8 (units, H, W), each unit scaled to 0..255; the first 64 units, not the best.
    """
    if not isinstance(model.first_layer, nn.Linear):
        raise UserError(f"first_layer looks at the embedding of an MLP; {run.model} starts with a convolution")
    weight = model.first_layer.weight.detach().float().cpu()  # (m, C * H * W)
    side = run.pixels
    maps = weight.view(len(weight), -1, side * side).abs().amax(1)  # (m, H * W)
    entropy, radius = locality(maps.numpy(), side)
    shown = maps[:64].numpy()
    scaled = np.round(255 * shown / np.maximum(shown.max(1, keepdims=True), 1e-12)).astype(np.uint8)
    return {
        "units": len(weight),
        "side": side,
        "entropy_mean": float(entropy.mean()), "entropy_std": float(entropy.std()),
        "radius_mean": float(radius.mean()), "radius_std": float(radius.std()),
        "pictures": base64.b64encode(scaled.tobytes()).decode(),
        "pictures_units": len(shown),
    }  # fmt: skip


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


def decode_pictures(measure: dict[str, Any]) -> np.ndarray:
    """The `pictures` of `first_layer` as uint8 (units, H, W)."""
    raw = np.frombuffer(base64.b64decode(measure["pictures"]), np.uint8)
    return raw.reshape(measure["pictures_units"], measure["side"], measure["side"])


MEASURES: dict[str, Callable[[nn.Module, Any, Data], dict[str, Any]]] = {"first_layer": first_layer}


def check_names(names: tuple[str, ...]) -> None:
    """Raises UserError for the first name that is no measure: to be asked before training, not after."""
    for name in names:
        if name not in MEASURES:
            raise UserError(f"unknown measure {name!r}; there are: {', '.join(MEASURES)}")


def measure(names: tuple[str, ...], model: nn.Module, run, data: Data) -> dict[str, dict[str, Any]]:
    """The named measures of a trained model, which is put into evaluation mode. Raises UserError for unknown names."""
    check_names(names)
    with torch.random.fork_rng():
        return {name: MEASURES[name](model.eval(), run, data) for name in names}
