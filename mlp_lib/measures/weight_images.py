"""Weights as pictures inside a record: base64 of uint8, small enough to commit.

Measured layers go in through `encode`, figures take them out through `decode_pictures`.
"""

import base64
from typing import Any

import numpy as np

SHOWN = 64  # units a record keeps; statistics are over all of them


def encode(maps: np.ndarray, side: int) -> dict[str, Any]:
    """The first `SHOWN` of (units, side * side) non-negative maps, each scaled to 0..255: `pictures` (base64) and
    `pictures_units`. The first, not the best."""
    shown = maps[:SHOWN].reshape(-1, side * side)
    scaled = np.round(255 * shown / np.maximum(shown.max(1, keepdims=True), 1e-12)).astype(np.uint8)
    return {"pictures": base64.b64encode(scaled.tobytes()).decode(), "pictures_units": len(shown)}


def decode_pictures(measure: dict[str, Any]) -> np.ndarray:
    """The `pictures` of `first_layer` or `first_layer_initial` as uint8 (units, H, W)."""
    raw = np.frombuffer(base64.b64decode(measure["pictures"]), np.uint8)
    return raw.reshape(measure["pictures_units"], measure["side"], measure["side"])
