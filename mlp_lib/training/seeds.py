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
