"""What one forward pass costs a model, whatever its weights: parameters, operations, memory and time.

Convention: FLOPs = 2 x multiply-adds, of matrix products and convolutions alone, by torch's own counter. The paper
counts a multiply-add as one operation: its FLOPs are the `macs` here.
"""

import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class Facts(NamedTuple):
    """What is exact, and the same on every machine."""

    parameters: int  # trainable
    macs: int  # multiply-adds of one image's forward pass
    flops: int  # of the same: 2 x macs
    weight_bytes: int  # parameters and buffers as they are stored


def facts(model: nn.Module, channels: int, resolution: int) -> Facts:
    """Counted on a copy on the meta device: nothing is computed, and the model is left untouched."""
    model = deepcopy(model).to("meta").eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, channels, resolution, resolution, device="meta"))
    flops = counter.get_total_flops()
    stored = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    return Facts(sum(p.numel() for p in model.parameters()), flops // 2, flops, stored)


class _Live(TorchDispatchMode):
    """Counts the bytes of all storages that operations make and that something still holds, and their peak."""

    def __init__(self):
        super().__init__()
        self.known: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage(), given)
        return out

    def _add(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in given or key in self.known:  # a view, or written in place
            return
        self.known[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.now -= self.known.pop(key)


def activation_bytes(model: nn.Module, images: torch.Tensor) -> int:
    """The most bytes of tensors that live at one time during a forward pass of `images`, (B, C, H, W), the images and
    the weights not among them.

    The program's own tensors are counted, without what kernels take inside one operation and without the allocator's
    rounding: the same on every machine. On the meta device, model and images alike, nothing is computed.
    """
    live = _Live()
    with torch.inference_mode(), live:
        model(images)
    return live.peak


def as_served(model: nn.Module) -> nn.Module:
    """The model made ready for timing, and returned: in evaluation mode, and a ViT with the fused attention that timm
    uses by default (its training here does without, for the sake of gradients that repeat to the bit)."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = True
    return model.eval()


def seconds_of_calls(
    model: nn.Module,
    images: torch.Tensor,
    *,
    seconds: float,
    least: int = 1,
    most: int = 20,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of each of several forward passes of `images`, (B, C, H, W), one after the other, without gradients.

    At least `least` calls and until `seconds` have passed, at most `most`. The device is waited for after each.
    clock: what tells the time; `time.process_time` leaves out what other programs take away, on a CPU.
    """
    wait = torch.cuda.synchronize if images.device.type == "cuda" else nullcontext
    taken: list[float] = []
    with torch.inference_mode():
        wait()
        while len(taken) < least or (sum(taken) < seconds and len(taken) < most):
            start = clock()
            model(images)
            wait()
            taken.append(clock() - start)
    return taken
