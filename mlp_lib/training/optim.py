"""Optimisers and learning-rate schedules, by the names that a run uses."""

import math
from collections.abc import Iterable

import torch
from lion_pytorch import foreach
from torch import nn

BLOCK = 2**18  # weights that LION updates at a time on a CPU: a megabyte


class Lion(foreach.Lion):
    """lion-pytorch's LION. On a CPU the same arithmetic goes block by block, to the same bits.

    Over whole tensors every operation fetches all weights from memory again, and the update needs a copy of all of
    them: for B-6/Wi-512 on two cores 20 ms and 57 MB, against 6 ms and 1 MB.
    """

    @torch.no_grad()
    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        if closure is not None or not all(p.is_cpu and p.is_contiguous() for p in parameters):
            return super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    if not state:
                        state["exp_avg"] = torch.zeros_like(p)
                    _update_in_blocks(p, p.grad, state["exp_avg"], group)
        return None


def _update_in_blocks(weight: torch.Tensor, gradient: torch.Tensor, momentum: torch.Tensor, group: dict) -> None:
    """Chen et al. 2023, algorithm 2, on contiguous tensors of one shape; `momentum` and `weight` change."""
    lr, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
    room = weight.new_empty(min(BLOCK, weight.numel()))
    flat = (t.split(BLOCK) for t in (weight.view(-1), gradient.reshape(-1), momentum.view(-1)))
    for w, g, m in zip(*flat, strict=True):
        if decay > 0:
            w.mul_(1.0 - lr * decay)
        direction = torch.lerp(m, g, 1.0 - beta1, out=room[: len(w)]).sign_()
        w.add_(direction, alpha=-lr)
        m.lerp_(g, 1.0 - beta2)


def parameters_of(run, model: nn.Module) -> list[nn.Parameter] | list[dict]:
    """What `make_optimizer` updates: the model's parameters, as two groups where the body has a learning rate of its
    own (`Run.body_share`)."""
    if run.body_share == 1:
        return list(model.parameters())
    head = list(model.head.parameters())
    of_head = {id(p) for p in head}
    body = [p for p in model.parameters() if id(p) not in of_head]
    return [{"params": body, "share": run.body_share}, {"params": head, "share": 1.0}]


def make_optimizer(run, parameters: Iterable[nn.Parameter] | Iterable[dict]) -> torch.optim.Optimizer:
    """The run's update rule over these parameters, or groups of them, at its peak lr. `learning_rate` gives the lr of
    each step, and `set_learning_rate` puts it in: a group's `share` of it where it has one.

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
        group["lr"] = lr * group.get("share", 1.0)
