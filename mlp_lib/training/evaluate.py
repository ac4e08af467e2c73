"""Accuracy and loss of a model on the parts of a data set, in fp32."""

import torch
import torch.nn.functional as F
from torch import nn

from mlp_lib.training import loaders
from mlp_lib.training.loaders import Data, Split

CURVE_EXAMPLES = 5_000  # training examples, without augmentation, behind each point of a learning curve


@torch.inference_mode()
def evaluate(model: nn.Module, data: Data, split: Split) -> dict[str, float]:
    """top1 and top5 in percent and mean cross-entropy (no smoothing, nats) on a split, in fp32."""
    was_training = model.training
    model.eval()
    totals = torch.zeros(3, device=data.mean.device, dtype=torch.float32 if data.mean.is_mps else torch.float64)
    for images, labels in loaders.plain_batches(data, split):
        logits = model(images).float()  # (B, K)
        ranked = logits.topk(min(5, data.num_classes), dim=1).indices == labels[:, None]  # (B, 5)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        totals += torch.stack([ranked[:, 0].sum(), ranked.sum(), loss])
    model.train(was_training)
    top1, top5, loss = (totals / max(len(split.labels), 1)).tolist()
    return {"top1": 100 * top1, "top5": 100 * top5, "loss": loss}


def glimpse(split: Split, count: int) -> Split:
    """`count` examples of a split: the first of them; where they lie class by class, some of every class."""
    size, labels = len(split.labels), split.labels
    if size <= count or not (labels[1:] >= labels[:-1]).all():
        return Split(split.images[:count], labels[:count])
    spread = torch.arange(count, device=labels.device) * size // count
    return Split(split.images[spread], labels[spread])


def final_metrics(model: nn.Module, data: Data) -> dict[str, float]:
    """Every split, once, after the last step. The only place where test images are looked at."""
    train = glimpse(data.train, 2 * CURVE_EXAMPLES)
    metrics = {f"train_{k}": v for k, v in evaluate(model, data, train).items()}
    if len(data.val.labels):
        metrics |= {f"val_{k}": v for k, v in evaluate(model, data, data.val).items()}
    return metrics | {f"test_{k}": v for k, v in evaluate(model, data, data.test).items()}
