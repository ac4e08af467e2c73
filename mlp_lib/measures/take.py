"""What is measured on trained weights, after training. Each measure is a function (model, run, data) -> JSON values.

The path to a figure goes through the record, so a measure returns what a figure needs and no more: statistics over
all units, pictures of at most 64.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from mlp_lib import datasets
from mlp_lib.errors import NotMeasurable, UserError
from mlp_lib.measures.applicable import TARGETS, obstacle, target_of
from mlp_lib.measures.first_layer import first_layer, first_layer_change, first_layer_initial, first_layer_spread
from mlp_lib.measures.linear_probe import linear_probe
from mlp_lib.measures.low_shot import low_shot
from mlp_lib.measures.sharpness import gradient_noise, sharpness
from mlp_lib.measures.test_crops import test_crops
from mlp_lib.measures.trained_probe import trained_probe
from mlp_lib.measures.translation import translated
from mlp_lib.output import say
from mlp_lib.training.loaders import Data

MEASURES: dict[str, Callable[[nn.Module, Any, Data], dict[str, Any]]] = {
    "first_layer": first_layer,
    "first_layer_initial": first_layer_initial,
    "first_layer_spread": first_layer_spread,
    "first_layer_change": first_layer_change,
    "translated": translated,
    "test_crops": test_crops,
    "sharpness": sharpness,
    "gradient_noise": gradient_noise,
    **{
        f"{kind}_{target}": partial(read, target=target)
        for kind, read in (("probe", linear_probe), ("trained_probe", trained_probe), ("low_shot", low_shot))
        for target in TARGETS
    },
}


def check_names(names: tuple[str, ...]) -> None:
    """Raises UserError for the first name that is no measure."""
    for name in names:
        if name not in MEASURES:
            raise UserError(f"unknown measure {name!r}; there are: {', '.join(MEASURES)}")


def check(names: tuple[str, ...], run) -> None:
    """Raises UserError for the first that is no measure, cannot be taken of this run (`applicable.obstacle`), or looks
    at images that are not at hand: to be asked before training, not after."""
    check_names(names)
    for name in names:
        if reason := obstacle(name, run):
            raise UserError(f"{reason}; leave this measure out")
        if target := target_of(name):
            datasets.load(target)


def measure(names: tuple[str, ...], model: nn.Module, run, data: Data) -> dict[str, dict[str, Any]]:
    """The named measures of a trained model, which is put into evaluation mode. Raises UserError as `check` does.

    One that fails, because weights are so large that a product overflows, memory does not suffice or a library does
    not bear it, is written down as such, `{"not_measured": why}`, and the others are taken: asked for again, it would
    fail again.
    """
    check(names, run)
    found = {}
    with torch.random.fork_rng():
        for name in names:
            try:
                found[name] = MEASURES[name](model.eval(), run, data)
            except NotMeasurable as error:
                found[name] = {"not_measured": str(error)}
            except UserError:  # images that have vanished since, say: to be put right, and measured then
                raise
            except Exception as error:
                found[name] = {"not_measured": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            if "not_measured" in found[name]:
                say(f"{name} of run {run.key} is not measured: {found[name]['not_measured']}")
    return found
