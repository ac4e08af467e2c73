"""How long work takes on a device, and which precision is the faster one."""

import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from mlp_lib.training.loaders import Batch, Data
from mlp_lib.training.step import batch_gradient


def faster_precision(model: nn.Module, run, data: Data, seconds: float = 0.5) -> str:
    """fp32 or bf16, whichever trains this model faster on this machine, measured on a copy for `seconds` each.

    fp32 without more ado for a run so short that the measurement would be a good part of it.
    """
    model = copy.deepcopy(model).train()
    size = min(run.batch_size, 512)
    images = torch.randn(size, *data.train.images.shape[1:], device=data.mean.device)
    batch = Batch(images, torch.full((size, data.num_classes), 1 / data.num_classes, device=images.device))

    def step_seconds(precision: str, limit: float) -> float:
        return seconds_of(lambda: batch_gradient(model, batch, 1, precision), images.device, limit)

    if step_seconds("fp32", 0.0) * run.total_steps < 4 * seconds:
        return "fp32"
    return "bf16" if step_seconds("bf16", seconds) < step_seconds("fp32", seconds) else "fp32"


def seconds_of(work: Callable[[], object], device: torch.device, limit: float) -> float:
    """Mean seconds of a call of `work` on `device`: once to warm up, then at least once and for `limit` seconds."""
    work()
    _wait_for(device)
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < limit:
        work()
        _wait_for(device)
        count += 1
    return (time.perf_counter() - start) / count


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
