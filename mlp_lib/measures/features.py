"""What a trained model's head would see of another data set: the features that probes read."""

import weakref
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlp_lib.datasets import facts
from mlp_lib.errors import UserError
from mlp_lib.records.run import make_run
from mlp_lib.training import loaders
from mlp_lib.training.loaders import Data, Split


class Part(NamedTuple):
    """Features and labels of one part of a data set."""

    features: Tensor  # (N, m) float32
    labels: Tensor  # (N,) int64


class Features(NamedTuple):
    """A model's features of a whole data set."""

    train: Part  # all of its training part but a tenth,
    val: Part  # which is this
    test: Part
    num_classes: int


@torch.no_grad()
def features_of(model: nn.Module, data: Data, split: Split) -> Tensor:
    """What the head sees of every image of a split, in order and in fp32: (N, m)."""
    model.eval()
    batches = [model.features(images).float() for images, _ in loaders.plain_batches(data, split)]
    return torch.cat(batches)


def features_on(model: nn.Module, run, data: Data, target: str) -> Features:
    """The features of `run`'s trained model on the data set `target`, kept for the next measure of the same model.

    `data` is the run's own, and says where to compute. The target's images come as the model saw its own: at its
    resolution, in its order of pixels, normalised by the target's own statistics. On Apple's mps, which knows no
    eigenvectors, features are handed out on the CPU. Raises UserError where the target's channels are not the model's.
    """
    own, others = facts(run.dataset).channels, facts(target).channels
    if own != others:
        raise UserError(f"a model of {run.dataset} sees {own} channels, and {target} has {others}; probe another set")
    of_model = _KEPT.get(model)
    if of_model is not None and of_model[0] == (run.key, target):
        return of_model[1]
    seen = make_run(
        model=run.model,
        **{k: v for k, v in run.model_options.items() if v is not None},
        dataset=target,
        resolution=run.pixels,
        permute_seed=run.permute_seed,
        batch_size=2,
        steps=1,
    )
    read = loaders.load_data(seen, data.mean.device)

    def part(split: Split) -> Part:
        found = Part(features_of(model, read, split), split.labels)
        return Part(*(tensor.cpu() for tensor in found)) if read.mean.is_mps else found

    found = Features(part(read.train), part(read.val), part(read.test), read.num_classes)
    _KEPT[model] = (run.key, target), found
    return found


_KEPT: weakref.WeakKeyDictionary[nn.Module, tuple] = weakref.WeakKeyDictionary()  # one target a model
