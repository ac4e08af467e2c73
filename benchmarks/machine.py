"""What is measured on: the machine, its state before the measurement, and what its processor has."""

import os
import time
from pathlib import Path
from typing import Any

import torch

from mlp_lib.records.record import now
from mlp_lib.sweeps.execute import processor_name

BUSY_LOAD = 0.5  # processes running or waiting, averaged over the last minute
BUSY_SPREAD = 1.25  # slowest over fastest of equal matrix products
FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel's tiles, x86 vectors, Arm; as /proc/cpuinfo writes them


def describe(device: torch.device) -> dict[str, Any]:
    """The machine's name and size, and the versions that matter."""
    return {
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "device": device.type,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": now(),
    }


def state(device: torch.device) -> dict[str, Any]:
    """`load_before`, `matmul_spread` and whether both say that the machine is `idle`. A second or two."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    a = torch.randn(1024, 1024, device=device)
    seconds = []
    for _ in range(22):
        start = time.perf_counter()
        for _ in range(3):
            (a @ a)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    spread = max(seconds[2:]) / min(seconds[2:])  # the first two warm up
    return {"load_before": load, "matmul_spread": spread, "idle": load <= BUSY_LOAD and spread <= BUSY_SPREAD}


def has_bf16_units(device: torch.device, bf16_over_fp32: float, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the device multiplies bf16 matrices in units of their own.

    By the processor's flags where Linux lists them, else by the ratio of measured matrix products: above 1.5.
    """
    if device.type == "cpu" and cpuinfo.exists():
        return bool(FLAGS & set(cpuinfo.read_text().split()))
    return bf16_over_fp32 > 1.5
