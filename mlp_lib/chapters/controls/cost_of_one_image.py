"""What one image costs each model of the controls chapter, by formula, without a record.

A test holds every formula to `flops.cost` and to the parameters of the model itself.
"""

from typing import NamedTuple

import pandas as pd

from mlp_lib.chapters.controls.presets import PRESETS, base_run, label_of
from mlp_lib.datasets import facts
from mlp_lib.plots.style import FAMILY_COLOURS
from mlp_lib.records.architectures import Architecture, parse
from mlp_lib.records.run import Run, make_run


class Count(NamedTuple):
    """Multiply-adds of one image on its way forward, those of the first layer among them, and parameters."""

    macs: int
    first: int
    parameters: int

    @property
    def training(self) -> int:
        """Multiplications + additions of training on the image once: forward, and backward but for the gradient with
        respect to the image."""
        return 2 * (3 * self.macs - self.first)

    @property
    def papers(self) -> int:
        """The same as the paper counts it (section 4.4)."""
        return 3 * self.macs


def count(run: Run) -> Count:
    """By the formulas of a family's default form; of options, only a CNN's norm="none"."""
    arch, known = parse(run.model), facts(run.dataset)
    form = {"CNN": _cnn, "ResNet18": _resnet18, "ViT": _vit, "Mixer": _mixer}.get(arch.family, _mlp)
    body = form(arch, known.channels, run.pixels, run.norm != "none")
    features = {"CNN": 4 * arch.width, "ResNet18": 512}.get(arch.family, arch.width)
    head = features * known.num_classes
    return Count(body.macs + head, body.first, body.parameters + head + known.num_classes)


def _mlp(arch: Architecture, channels: int, side: int, norm: bool) -> Count:
    width, inputs = arch.width, channels * side**2
    hidden = arch.expansion * width if arch.family == "B" else 0
    weights = 2 * hidden * width if hidden else width**2  # of a block; its norm has two vectors, each matrix a bias
    vectors = hidden + 3 * width
    first = inputs * width
    return Count(first + arch.depth * weights, first, first + width + arch.depth * (weights + vectors))


def _convolutions(layers: list[tuple[int, int, int, int]], vectors: int) -> Count:
    """Layers of (kernel, inputs, outputs, side after); `vectors` of each: two with BatchNorm, one with a bias."""
    macs = [kernel**2 * inputs * outputs * side**2 for kernel, inputs, outputs, side in layers]
    parameters = [kernel**2 * inputs * outputs + vectors * outputs for kernel, inputs, outputs, _ in layers]
    return Count(sum(macs), macs[0], sum(parameters))


def _cnn(arch: Architecture, channels: int, side: int, norm: bool) -> Count:
    w = arch.width
    halved = [side := -(-side // 2) for _ in range(3)]  # of an odd side, the larger half
    layers = [(channels, w, 0), (w, 2 * w, 1), (2 * w, 2 * w, 1), (2 * w, 4 * w, 2), (4 * w, 4 * w, 2)]
    return _convolutions([(3, inputs, outputs, halved[i]) for inputs, outputs, i in layers], 2 if norm else 1)


def _resnet18(arch: Architecture, channels: int, side: int, norm: bool) -> Count:
    layers, inputs = [(3, channels, 64, side)], 64
    for width in (64, 128, 256, 512):
        if width != inputs:  # a stage begins with half the side, and a 1x1 convolution on its shortcut
            side = -(-side // 2)
            layers.append((1, inputs, width, side))
        layers += [(3, inputs, width, side), *[(3, width, width, side)] * 3]
        inputs = width
    return _convolutions(layers, 2)


def _vit(arch: Architecture, channels: int, side: int, norm: bool) -> Count:
    d, patches, pixels = arch.width, (side // arch.patch) ** 2, arch.patch**2 * channels
    tokens, first = patches + 1, patches * pixels * d  # the class token is one more
    block = 12 * tokens * d**2 + 2 * tokens**2 * d  # the products of attention have no weights
    embedding = pixels * d + d + d + tokens * d  # patches, class token, positions
    parameters = embedding + arch.depth * (12 * d**2 + 13 * d) + 2 * d
    return Count(first + arch.depth * block, first, parameters)


def _mixer(arch: Architecture, channels: int, side: int, norm: bool) -> Count:
    d, tokens, pixels = arch.width, (side // arch.patch) ** 2, arch.patch**2 * channels
    first = tokens * pixels * d
    mixing = tokens * d + d // 2 + tokens  # parameters of the two layers over places
    parameters = pixels * d + d + arch.depth * (mixing + 8 * d**2 + 5 * d + 4 * d) + 2 * d
    return Count(first + arch.depth * 9 * tokens * d**2, first, parameters)


def models() -> dict[tuple[str, str], tuple[Run, tuple[str, ...]]]:
    """A run of every model of the chapter's presets, and which these are, by family and name; without smoke, whose
    images have another size."""
    found: dict = {}
    for name, preset in PRESETS.items():
        if name == "smoke":
            continue
        runs = [base_run(preset, member) for member in preset.families]
        runs += [make_run(dataset=preset.dataset, **dict(fields)) for fields in preset.given]
        for run in runs:
            key = label_of(run.model, run.norm), run.model
            found[key] = run, (*found.get(key, (run, ()))[1], name)
    order = list(FAMILY_COLOURS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0][0])))


def table_of_one_image() -> pd.DataFrame:
    """A row a model, whether it has records or not: multiply-adds of one image of CIFAR-10 on its way forward,
    parameters, and FLOPs of training on it once (the paper's count in brackets)."""
    counted = [(key, count(run), presets) for key, (run, presets) in models().items()]
    return pd.DataFrame(
        {
            "family": label,
            "model": model,
            "mult.-adds": f"{one.macs / 1e6:,.3g} M",
            "parameters": f"{one.parameters / 1e3:,.0f} k",
            "training MFLOP (paper's)": f"{one.training / 1e6:,.0f} ({one.papers / 1e6:,.0f})",
            "presets": ", ".join(presets),
        }
        for (label, model), one, presets in counted
    )
