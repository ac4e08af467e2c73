"""Compute of a training, in two conventions.

`paper`: forward multiply-adds x 3, a multiply-add counted as one operation, nothing subtracted (paper section 4.4 and
the public code's counter). `true`: multiplications and additions counted apart, forward and backward, without the
gradient with respect to the input image, which no optimiser needs. Both count matrix products and convolutions only.
The counter is torch's own, run on the meta device: nothing is computed.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """Operations for one example."""

    macs: int  # forward multiply-adds
    paper: int  # one training example, the paper's convention
    true: int  # one training example, multiplications + additions that are really done


def cost(model: nn.Module, channels: int, resolution: int) -> Cost:
    """Count one example's operations. The model is copied to the meta device and left untouched."""
    from copy import deepcopy

    model = deepcopy(model).to("meta").train()
    x = torch.empty(2, channels, resolution, resolution, device="meta")  # two: BatchNorm refuses one
    with FlopCounterMode(display=False) as forward:
        out = model(x)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    macs = forward.get_total_flops() // 4  # 2 examples, 2 operations a multiply-add
    return Cost(macs, 3 * macs, (forward.get_total_flops() + backward.get_total_flops()) // 2)


def cost_of(run) -> Cost:
    """`cost` of a Run's model at the run's resolution."""
    from mlp_lib.datasets import facts
    from mlp_lib.models import build_for

    with torch.device("meta"):
        model = build_for(run)
    return cost(model, facts(run.dataset).channels, run.pixels)
