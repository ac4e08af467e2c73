"""Accuracy and loss of a model on the parts of a data set, in fp32."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    """`count` examples of a split, its classes about in proportion: the first of them where they are so, else every
    so many-th, else some drawn by lot, always the same."""
    size, labels = len(split.labels), split.labels.cpu()
    if size <= count or _in_proportion(labels, torch.arange(count)):
        return Split(split.images[:count], split.labels[:count])
    chosen = torch.arange(count) * size // count
    if not _in_proportion(labels, chosen):
        chosen = torch.randperm(size, generator=torch.Generator().manual_seed(20235))[:count].sort().values
    chosen = chosen.to(split.labels.device)
    return Split(split.images[chosen], split.labels[chosen])


def _in_proportion(labels: Tensor, chosen: Tensor) -> bool:
    """Whether every class's share of the `chosen` is what a draw by lot gives, within six standard deviations."""
    size, count = len(labels), len(chosen)
    of_all = torch.bincount(labels)
    found = torch.bincount(labels[chosen], minlength=len(of_all))
    share = of_all.double() / size
    deviation = (count * share * (1 - share) * (size - count) / max(size - 1, 1)).sqrt()
    return bool(((found - count * share).abs() <= 6 * deviation + 1).all())


def final_metrics(model: nn.Module, data: Data) -> dict[str, float]:
    """Every split, once, after the last step. The only place where test images are looked at."""
    train = glimpse(data.train, 2 * CURVE_EXAMPLES)
    metrics = {f"train_{k}": v for k, v in evaluate(model, data, train).items()}
    if len(data.val.labels):
        metrics |= {f"val_{k}": v for k, v in evaluate(model, data, data.val).items()}
    return metrics | {f"test_{k}": v for k, v in evaluate(model, data, data.test).items()}
