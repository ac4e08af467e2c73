"""Which images a model is right about, inside a record: a bit each, as base64.

With them a page can ask where a gain comes from, by anything that it knows of the images, without the weights.
"""

import base64

import numpy as np


def pack(right: np.ndarray) -> str:
    """(N,) bool as text of about N / 6 letters."""
    return base64.b64encode(np.packbits(right)).decode()


def unpack(text: str, count: int) -> np.ndarray:
    """What `pack` was given, (count,) bool. Raises ValueError for a text that is not of so many images."""
    raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(raw) != -(-count // 8):
        raise ValueError(f"{len(raw)} bytes are not the bits of {count} images")
    return np.unpackbits(raw, count=count).astype(bool)
