"""`Stack`: training loops of one architecture taken on as one, their weights stacked.

A small model leaves a GPU waiting for its kernels to be launched, and R models stacked need the launches of one. Each
keeps its own batches, learning rate, clipping, learning curve and checkpoint.
"""

import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mlp_lib.training import optim
from mlp_lib.training.loaders import Batch
from mlp_lib.training.loop import Loop
from mlp_lib.training.seeds import stream_seed


class Stack:
    """Loops that stand at one step, taken on as one: `loop.take_remaining_steps` drives it in a single loop's place.

    Weights, optimiser states and running losses of the members live here, stacked; `hand_out` gives each its own.
    """

    def __init__(self, loops: list[Loop]):
        self.run, self.step, self.running_steps = loops[0].run, loops[0].step, loops[0].running_steps
        self.precision = loops[0].precision
        self.lost: list[Loop] = []  # diverged
        self.loop_seconds, self.started, self.clock = 0.0, time.perf_counter(), time.perf_counter()
        self._stack(sorted(loops, key=lambda loop: loop.run.lr))

    def _stack(self, loops: list[Loop]) -> None:
        self.loops = loops
        self.running = torch.stack([loop.running for loop in loops])  # (R,)
        models = [dict(loop.model.named_parameters()) for loop in loops]
        self.weights = {name: torch.stack([m[name].detach() for m in models]).requires_grad_() for name in models[0]}
        self.optimizers, start = [], 0  # one for the rows of each learning rate
        for _, same_rate in groupby(loops, key=lambda loop: loop.run.lr):
            members = list(same_rate)
            rows = slice(start, start + len(members))
            start = rows.stop
            parts = [stacked.detach()[rows] for stacked in self.weights.values()]  # views
            optimizer = optim.make_optimizer(members[0].run, parts)
            for part, *owns in zip(parts, *map(_parameters, members), strict=True):
                states = [m.optimizer.state.get(own, {}) for m, own in zip(members, owns, strict=True)]
                optimizer.state[part] = {
                    k: torch.stack([s[k] for s in states]) if v.dim() else v.clone() for k, v in states[0].items()
                }
            self.optimizers.append((optimizer, rows))

    @torch.no_grad()
    def hand_out(self) -> None:
        """Give each member what a single run would have here: copies, because a saved view would take all along."""
        now = time.perf_counter()
        for i, loop in enumerate(self.loops):
            loop.step, loop.running, loop.running_steps = self.step, self.running[i].clone(), self.running_steps
            loop.seconds, loop.started = loop.seconds + (now - self.started) / len(self.loops), now
            loop.loop_seconds = self.loop_seconds
            for own, stacked in zip(_parameters(loop), self.weights.values(), strict=True):
                own.copy_(stacked[i])
        for optimizer, rows in self.optimizers:
            for i, loop in enumerate(self.loops[rows]):
                optim.set_learning_rate(loop.optimizer, optimizer.param_groups[0]["lr"])
                for own, part in zip(_parameters(loop), optimizer.param_groups[0]["params"], strict=True):
                    state = optimizer.state[part].items()
                    loop.optimizer.state[own] = {k: v[i].clone() if v.dim() else v.clone() for k, v in state}
        self.started = now

    def batches(self, epoch: int, start: int) -> Iterator[list[Batch]]:
        """The members' own batches side by side."""
        loops = self.loops
        for batches in zip(*(loop.batches(epoch, start) for loop in loops), strict=True):
            pairs = zip(loops, batches, strict=True)
            yield [batch for loop, batch in pairs if loop in self.loops]  # some may have diverged on the way

    def take_step(self, batches: list[Batch]) -> None:
        """Train each member on its batch. Nothing here waits for the device."""
        for optimizer, rows in self.optimizers:
            optim.set_learning_rate(optimizer, optim.learning_rate(self.loops[rows.start].run, self.step))
        self.running += self.update(batches)
        self.step += 1
        self.running_steps += 1

    def update(self, batches: list[Batch]) -> Tensor:
        """One step of the optimisers; the losses before it, (R,), on the device."""
        images = torch.stack([batch.images for batch in batches])  # (R, B, C, H, W)
        targets = torch.stack([batch.targets for batch in batches])  # (R, B, K)
        model = self.loops[0].model
        # Each weight is read once: there is nothing to cache, and a cache would hold what vmap wraps them in.
        with torch.autocast(images.device.type, torch.bfloat16, self.precision == "bf16", cache_enabled=False):
            logits = vmap(lambda weights, x: functional_call(model, weights, (x,)))(self.weights, images)  # (R, B, K)
        losses = -(targets * logits.float().log_softmax(-1)).sum((1, 2)) / targets.shape[1]
        losses.sum().backward()  # no weight is in two losses, so that each gets the gradient of its own
        gradients = [stacked.grad for stacked in self.weights.values()]
        if self.run.clip is not None:
            _clip_each(gradients, self.run.clip)
        for optimizer, rows in self.optimizers:
            for part, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
                part.grad = gradient[rows]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for stacked in self.weights.values():
            stacked.grad = None
        return losses.detach()

    def check_and_keep(self, point: bool, keep: bool, weights: Path) -> bool:
        """What `Loop.look` does, for each member; those that diverged leave. False when one or none is left."""
        finite = bool(self.running.isfinite().all())  # waits for the device
        self.loop_seconds += time.perf_counter() - self.clock
        if point or keep or not finite:
            self.hand_out()
            kept = []
            for loop in self.loops:
                loop.clock = time.perf_counter()
                (kept if loop.check_and_keep(point, keep, weights) else self.lost).append(loop)
            if len(kept) == len(self.loops):
                self.running = torch.stack([loop.running for loop in kept])
            elif len(kept) > 1:
                self._stack(kept)
            self.loops, self.running_steps = kept, 0 if point else self.running_steps
        self.clock = time.perf_counter()
        return len(self.loops) > 1

    def save(self, weights: Path) -> None:
        """Write a checkpoint of each member, in which nothing says that it was not alone."""
        self.hand_out()
        for loop in self.loops:
            torch.manual_seed(stream_seed("dropout", loop.run.seed))  # where the generator stands in its own
            loop.save(weights)


def _parameters(loop: Loop) -> list[nn.Parameter]:
    return loop.optimizer.param_groups[0]["params"]


def _clip_each(gradients: list[Tensor], most: float) -> None:
    """torch's `clip_grad_norm_` for each run by itself; gradients: (R, ...) each, changed in place."""
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)  # (R,)
    factors = (most / (norms + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factors.view(-1, *[1] * (g.dim() - 1)))
