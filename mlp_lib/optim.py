"""Optimisers and learning-rate schedules, by the names that a run uses."""

import math
from collections.abc import Iterable

import torch
from lion_pytorch.foreach import Lion
from torch import nn


def make_optimizer(run, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The run's update rule over all parameters at its peak lr; `learning_rate` gives the factor for each step.

    LION (Chen et al. 2023) and AdamW decay weights decoupled from the gradient, by lr * weight_decay a step; SGD adds
    weight_decay * w to the gradient, as torch does.
    """
    parameters = list(parameters)
    if run.optimizer == "lion":
        return Lion(parameters, lr=run.lr, betas=run.betas, weight_decay=run.weight_decay)
    if run.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=run.lr, betas=run.betas, weight_decay=run.weight_decay)
    return torch.optim.SGD(parameters, lr=run.lr, momentum=run.momentum, weight_decay=run.weight_decay)


def learning_rate(run, step: int) -> float:
    """The lr of update number `step` (from 0): linear warm-up to the peak, then constant, cosine or linear to zero.

    The first warm-up step is already lr / warmup_steps, and the last step of a decay is not quite zero, so that no
    update is spent on nothing.
    """
    if step < run.warmup_steps:
        return run.lr * (step + 1) / run.warmup_steps
    if run.schedule == "constant":
        return run.lr
    done = (step - run.warmup_steps) / (run.total_steps - run.warmup_steps)  # in [0, 1)
    return run.lr * (0.5 * (1 + math.cos(math.pi * done)) if run.schedule == "cosine" else 1 - done)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
