"""The paper's own linear probe: a linear layer on frozen features, trained by LION at 1e-5 for 50 epochs (section 4).

It stops where it is: its answer depends on the scale of the features, on the batch size and on the length of training.
The convex probe (linear_probe.py) is what such a training approaches.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlp_lib.measures.features import Features, features_on
from mlp_lib.training.loaders import Data
from mlp_lib.training.optim import Lion
from mlp_lib.training.seeds import stream_seed

LR, EPOCHS = 1e-5, 50  # paper section 4
BATCH = 128  # not given in the paper
SEED = 2023


def train_linear(features: Tensor, labels: Tensor, num_classes: int, lr: float, epochs: int, batch: int) -> nn.Linear:
    """A linear layer from torch's initialisation, trained on mean cross-entropy by LION, betas 0.9 and 0.99, without
    decay or smoothing. features: (N, m) float32; labels: (N,) int64. A last smaller batch is dropped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("trained probe", SEED))
        head = nn.Linear(features.shape[1], num_classes)
    head.to(features.device)
    optimizer = Lion(head.parameters(), lr=lr, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(stream_seed("trained probe order", SEED))
    size = min(batch, len(labels))
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator).to(features.device)
        for index in order[: len(labels) // size * size].split(size):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(head(features[index]), labels[index]).backward()
            optimizer.step()
    return head


def score(features: Features, lr: float = LR, epochs: int = EPOCHS, batch: int = BATCH) -> dict[str, float]:
    """Train the probe on the training part; top-1 in percent on every part. Nothing is chosen."""
    head = train_linear(*features.train, features.num_classes, lr, epochs, batch)
    with torch.no_grad():
        return {
            f"{name}_top1": 100 * (head(part.features).argmax(1) == part.labels).double().mean().item()
            for name, part in zip(("train", "val", "test"), features, strict=False)
            if len(part.labels)
        }


def trained_probe(model: nn.Module, run, data: Data, target: str) -> dict[str, Any]:
    """The paper's probe of `run`'s trained model on the data set `target` (`features.features_on`)."""
    features = features_on(model, run, data, target)
    images = len(features.train.labels)
    found = score(features)
    return {**found, "lr": LR, "epochs": EPOCHS, "batch_size": BATCH, "target": target, "images": images}
