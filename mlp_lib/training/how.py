"""How a run is executed: device, precision, threads, memory. None of it is part of what a run is."""

import ctypes
import os
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from mlp_lib.errors import UserError
from mlp_lib.machine import check_count


class How(NamedTuple):
    """How a run is executed. None of it is part of what the run is."""

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = None  # of torch; as torch finds them when None
    accumulate: int = 1  # parts a batch is split into
    together: int | None = None  # runs trained side by side: at most so many; None measures on CUDA and is 1 elsewhere


def pick_device(name: str = "auto") -> torch.device:
    """The device to use: what was asked for, else CUDA, Apple's mps, the CPU. Raises UserError if it is not there."""
    count = {"cuda": max(torch.cuda.device_count(), 1) if torch.cuda.is_available() else 0}
    count |= {"mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        return torch.device(next(kind for kind, found in count.items() if found))
    kind, colon, index = name.partition(":")
    is_number = index.isascii() and index.isdigit() if colon else True
    if not is_number or int(index or 0) >= count.get(kind, 0):
        found = [kind if n == 1 else f"{kind}:0 to {kind}:{n - 1}" for kind, n in count.items() if n]
        raise UserError(f"device={name!r} is not available here; use one of: auto, {', '.join(found)}")
    return torch.device(f"{kind}:{int(index)}" if colon else kind)


def check_how(how: How) -> None:
    """Raises UserError for a precision that is none, and for counts below 1 or beyond any machine."""
    check_precision(how.precision)
    for name in ("threads", "accumulate", "together"):
        check_count(getattr(how, name), name)


def check_precision(name: str) -> None:
    if name not in ("auto", "fp32", "bf16"):
        raise UserError(f"precision={name!r} is not one of: auto, fp32, bf16")


def prepare(how: How, weights: Path) -> torch.device:
    """The device to train on, with the process set up for it and a folder for weights."""
    check_how(how)
    device = pick_device(how.device)
    if device.type == "cpu":
        keep_freed_memory()
    if how.threads:
        torch.set_num_threads(how.threads)
    weights.mkdir(parents=True, exist_ok=True)
    return device


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next allocation; False where it cannot be asked to (no glibc).

    glibc gives a freed block of megabytes back to the system, and taking it anew costs a page fault every 4 KiB. A
    training step on a CPU frees and takes all its activations: without this it is 10 to 25% slower, and needs as much.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h
    return bool(mallopt(mmap_threshold, 32 * 2**20) and mallopt(trim_threshold, 2**31 - 1))  # the largest it accepts
