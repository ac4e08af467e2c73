"""How long work takes on a device, and which precision is the faster one."""

import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from mlp_lib.training.loaders import Batch, Data
from mlp_lib.training.step import batch_gradient

# Seconds of a step in fp32 and the faster precision (None until it is asked for), by what they depend on: measured once
# in a process, and handed to the next by whoever starts it.
MEASURED: dict[tuple, tuple[float, str | None]] = {}


def faster_precision(model: nn.Module, run, data: Data, seconds: float = 0.5) -> str:
    """fp32 or bf16, whichever trains this model faster on this machine, measured on a copy for `seconds` each.

    Once for a model, the shape of a batch, a device and a number of threads, whatever else the run is. fp32 without
    more ado for a run so short that the measurement would be a good part of it.
    """
    size, device = min(run.batch_size, 512), data.mean.device
    shape = (size, *data.train.images.shape[1:])
    of = run.model, *run.model_options.values(), run.dropout, shape, data.num_classes
    kind = (*of, str(device), torch.get_num_threads())
    step_fp32, faster = MEASURED.get(kind, (None, None))
    if step_fp32 is None or (faster is None and step_fp32 * run.total_steps >= 4 * seconds):
        model = copy.deepcopy(model).train()
        images = torch.randn(shape, device=device)
        batch = Batch(images, torch.full((size, data.num_classes), 1 / data.num_classes, device=device))

        def step_seconds(precision: str, limit: float) -> float:
            return seconds_of(lambda: batch_gradient(model, batch, 1, precision), device, limit)

        step_fp32 = step_seconds("fp32", 0.0) if step_fp32 is None else step_fp32
        if step_fp32 * run.total_steps >= 4 * seconds:
            faster = "bf16" if step_seconds("bf16", seconds) < step_seconds("fp32", seconds) else "fp32"
        MEASURED[kind] = step_fp32, faster
    return faster if faster and step_fp32 * run.total_steps >= 4 * seconds else "fp32"


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
