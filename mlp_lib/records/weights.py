"""Whether a file of weights is whole, told from its first bytes and its size, so that no page needs torch for it."""

import json
import os
import struct
from pathlib import Path

from mlp_lib.paths import check_regular, whats_wrong

_MOST_HEADER = 100_000_000  # bytes, as safetensors itself allows


def weights_at_hand(path: Path) -> bool:
    """Whether there is a whole safetensors file: one that is truncated, empty or something else counts as none."""
    return os.path.isfile(path) and weights_fault(path) is None


def weights_fault(path: Path) -> str | None:
    """What is wrong with a file of weights, in words that go after its name; None where it is whole."""
    try:
        check_regular(path)
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MOST_HEADER, size - 8):
                return whats_wrong(path, ValueError("it is truncated, or no safetensors file"))
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if 8 + length + max(ends, default=0) != size:
            return "it is truncated, or no safetensors file"
    except OSError as error:
        return whats_wrong(path, error)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return whats_wrong(path, ValueError("it is no safetensors file"))
    return None
