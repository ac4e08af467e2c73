"""Random streams by name: one for every use of a run's seed."""

import hashlib
import json
import operator

import torch


def stream_seed(*parts: int | str) -> int:
    """A seed for an independent random stream, from integers and strings that name it: 0 <= seed < 2**63.

    The first 8 bytes of BLAKE2b over the parts as JSON, so that it is the same on every machine and Python, and
    (1, 23) and (12, 3) differ. The top bit is cleared: the seed fits an int64 and every library's generator.
    """
    plain = [part if isinstance(part, str) else operator.index(part) for part in parts]
    digest = hashlib.blake2b(json.dumps(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    return torch.Generator(device).manual_seed(stream_seed(*parts))


def device_random_state(device: torch.device) -> torch.Tensor | None:
    """The state of the generator that draws on this GPU, the one that the tensors of a training are on; None of a CPU,
    whose generator is torch's own."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


def set_random_state(host: torch.Tensor, on_device: torch.Tensor | None, device: torch.device) -> None:
    """Put back the state of torch's generator, and of the device's own where one was kept."""
    torch.set_rng_state(host.cpu())
    if on_device is not None and device.type == "cuda":
        torch.cuda.set_rng_state(on_device.cpu(), device)
    elif on_device is not None and device.type == "mps":
        torch.mps.set_rng_state(on_device.cpu())
