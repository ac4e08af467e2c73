"""Why an MLP cannot see a permutation of its pixels, as something to run: in float64, to rounding error.

Let P permute pixel positions. A network whose embedding has its columns permuted alike computes from P x what the
original computes from x: f_{W P^T}(P x) = f_W(x). Update rules that treat every weight alike (SGD, AdamW, LION) keep
the two so at every step: the gradient of the permuted embedding is the permuted gradient. And columns drawn
independently from one distribution are as likely in one order as in another: over random starts nothing can tell the
two apart.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlp_lib.errors import UserError
from mlp_lib.models import build_for
from mlp_lib.training import optim
from mlp_lib.training.loaders import load_data


def permuted_twin(model: nn.Module, permutation: Tensor) -> nn.Module:
    """A copy of an MLP whose embedding reads permuted images as the original reads the images themselves.

    permutation: (H * W,) int64, as `datasets.pixel_permutation` gives it: new pixel j is old pixel permutation[j], in
    all channels. Raises UserError for a network that does not start with a weight for every pixel.
    """
    if not isinstance(model.first_layer, nn.Linear):
        raise UserError("only an MLP has a permuted twin: a first layer with shared weights has none for every pixel")
    twin = copy.deepcopy(model)
    weight = twin.first_layer.weight.data  # (m, C * H * W)
    weight.copy_(weight.unflatten(1, (-1, len(permutation)))[:, :, permutation].flatten(1))
    return twin


def relative_difference(first: Tensor, second: Tensor) -> float:
    """Greatest |first - second|, in units of the root mean square of `first`."""
    return float((first - second).abs().max() / first.square().mean().sqrt())


def apart(run, steps: int = 20, examples: int = 256) -> list[float]:
    """How far a network on images and its counterpart on permuted images come apart, before and after every step.

    run: with `permute_seed`, the permutation. Both networks start from its seed and take full-batch steps with its
    optimiser, lr and smoothing, in float64, on its first `examples` training images. An MLP's counterpart is
    `permuted_twin`; that of any other network is a copy of itself. Returns `steps` + 1 values of `relative_difference`
    of the features, from which the outputs follow linearly (a Mixer's outputs are zero at the start, its features are
    not). Raises UserError for a run without a permutation.
    """
    data = load_data(run)
    if data.permutation is None:
        raise UserError("the run has no permutation to come apart by; set permute_seed=0")
    images = data.normalise(data.train.images[:examples]).double()  # (B, C, H, W)
    labels = data.train.labels[:examples]
    model = build_for(run).double()
    is_mlp = isinstance(model.first_layer, nn.Linear)
    other = permuted_twin(model, data.permutation) if is_mlp else copy.deepcopy(model)
    inputs = {model: images, other: data.permute(images)}
    optimizers = {network: optim.make_optimizer(run, network.parameters()) for network in inputs}
    differences = []
    for step in range(steps + 1):
        with torch.no_grad():
            differences.append(relative_difference(*(network.eval().features(x) for network, x in inputs.items())))
        for network, x in inputs.items() if step < steps else ():
            optimizers[network].zero_grad()
            F.cross_entropy(network.train()(x), labels, label_smoothing=run.label_smoothing).backward()
            optimizers[network].step()
    return differences
