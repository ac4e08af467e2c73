"""Low-shot probes: what a linear classifier reads from features when it sees a few images of each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlp_lib.errors import NotMeasurable
from mlp_lib.measures.features import Features, features_on
from mlp_lib.measures.linear_probe import probe
from mlp_lib.training.loaders import Data
from mlp_lib.training.seeds import stream_seed

SHOTS = (1, 5, 10, 25)  # images of each class
DRAWS = 5  # of the images, the same for every model
STRENGTHS = (1e0, 1e-1, 1e-2, 1e-3)  # of the penalty: few images ask for more of it


def drawn(labels: Tensor, shots: int, draw: int) -> Tensor:
    """Positions of `shots` images of every class, drawn by lot without replacement: (K * shots,) int64.

    A draw depends on the labels and its own number; of two numbers of shots, the smaller set lies in the larger.
    Raises NotMeasurable where a class has too few.
    """
    rng = np.random.default_rng(stream_seed("low shot", draw))
    order = rng.permutation(len(labels))
    own = labels.cpu().numpy()[order]
    chosen = []
    for k in range(int(own.max()) + 1):
        of_class = order[own == k]
        if len(of_class) < shots:
            raise NotMeasurable(f"class {k} has {len(of_class)} training images, and {shots} are asked for")
        chosen.append(of_class[:shots])
    return torch.from_numpy(np.concatenate(chosen))


def curve(features: Features, shots: Sequence[int] = SHOTS, draws: int = DRAWS) -> dict[str, list]:
    """Test top-1 in percent of the convex probe by number of images a class: the mean over draws, and each draw.

    The penalty is chosen on the validation part, which is larger than the training set here: all models have that
    help, so that they compare, and the level is that of someone who knows a good penalty.
    """
    tables = []
    for count in shots:
        tops = []
        for draw in range(draws):
            index = drawn(features.train.labels, count, draw).to(features.train.labels.device)
            train = (features.train.features[index], features.train.labels[index])
            tops.append(probe(train, features.val, features.test, features.num_classes, STRENGTHS).test_top1)
        tables.append(tops)
    return {"shots": list(shots), "top1": [sum(row) / len(row) for row in tables], "draws": tables}


def low_shot(model: nn.Module, run, data: Data, target: str) -> dict[str, Any]:
    """`curve` of `run`'s trained model on the data set `target` (`features.features_on`)."""
    return {**curve(features_on(model, run, data, target)), "target": target}
