"""The gradient of one batch, in fp32 or bf16, whole or in parts."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlp_lib.training.loaders import Batch


def batch_gradient(model: nn.Module, batch: Batch, parts: int, precision: str) -> Tensor:
    """Add the gradient of the batch's mean cross-entropy, computed in `parts` parts; returns that loss."""
    total = torch.zeros((), device=batch.images.device)
    size = len(batch.images)
    for images, targets in zip(batch.images.chunk(parts), batch.targets.chunk(parts), strict=True):
        with _autocast(images.device, precision):
            logits = model(images)  # (B / parts, K)
        loss = F.cross_entropy(logits.float(), targets, reduction="sum") / size
        loss.backward()
        total += loss.detach()
    return total


def _autocast(device: torch.device, precision: str):
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
