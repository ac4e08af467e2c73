"""What is measured on trained weights, after training. Each measure is a function (model, run, data) -> JSON values.

The path to a figure goes through the record, so a measure returns what a figure needs and no more: statistics over
all units, pictures of at most 64.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from mlp_lib import datasets
from mlp_lib.errors import NotMeasurable, UserError
from mlp_lib.loaders import Data
from mlp_lib.measurable import obstacle
from mlp_lib.models import build_for
from mlp_lib.pictures import encode
from mlp_lib.sharpness import gradient_noise, sharpness
from mlp_lib.shifts import translated
from mlp_lib.transfer import linear_probe


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


def _first_layer_maps(model: nn.Module, run) -> np.ndarray:
    """Greatest |weight| over channels of every unit, (m, H * W)."""
    weight = model.first_layer.weight.detach().float().cpu()  # (m, C * H * W)
    return weight.view(len(weight), -1, run.pixels**2).abs().amax(1).numpy()


def _spread(maps: np.ndarray, side: int) -> dict[str, float]:
    entropy, radius = locality(maps, side)
    return {
        "entropy_mean": float(entropy.mean()), "entropy_std": float(entropy.std()),
        "radius_mean": float(radius.mean()), "radius_std": float(radius.std()),
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


MEASURES: dict[str, Callable[[nn.Module, Any, Data], dict[str, Any]]] = {
    "first_layer": first_layer,
    "first_layer_initial": first_layer_initial,
    "first_layer_spread": first_layer_spread,
    "translated": translated,
    "sharpness": sharpness,
    "gradient_noise": gradient_noise,
    **{f"probe_{target}": partial(linear_probe, target=target) for target in ("digits", "cifar10", "cifar100")},
}


def check_names(names: tuple[str, ...]) -> None:
    """Raises UserError for the first name that is no measure."""
    for name in names:
        if name not in MEASURES:
            raise UserError(f"unknown measure {name!r}; there are: {', '.join(MEASURES)}")


def check(names: tuple[str, ...], run) -> None:
    """Raises UserError for the first that is no measure, cannot be taken of this run (`measurable.obstacle`), or looks
    at images that are not at hand: to be asked before training, not after."""
    check_names(names)
    for name in names:
        if reason := obstacle(name, run):
            raise UserError(f"{reason}; leave this measure out")
        if name.startswith("probe_"):
            datasets.load(name.removeprefix("probe_"))


def measure(names: tuple[str, ...], model: nn.Module, run, data: Data) -> dict[str, dict[str, Any]]:
    """The named measures of a trained model, which is put into evaluation mode. Raises UserError as `check` does.

    One that this model does not let be taken, whose weights are so large that a product overflows, say, is written
    down as such, `{"not_measured": why}`: asked for again, it would fail again.
    """
    check(names, run)
    found = {}
    with torch.random.fork_rng():
        for name in names:
            try:
                found[name] = MEASURES[name](model.eval(), run, data)
            except NotMeasurable as error:
                found[name] = {"not_measured": str(error)}
    return found
