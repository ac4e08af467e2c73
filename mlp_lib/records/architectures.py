"""Names of architectures and what they mean, without torch, so that a run can be checked before anything is loaded.

Grammar (the paper's names; both the text's and the public code's spellings are read):

    S-6/Wi-1024        standard MLP, 6 blocks of width 1024
    B-12/Wi-512        inverted-bottleneck MLP, expansion 4
    B_12-Wi_512-E_2    the same with expansion 2
    CNN-16             the small convolutional control, 16 channels after the stem
    ResNet18           with a 3x3 stem of stride 1 and no pooling after it, as is usual for images of 32 pixels
    ResNet152          with its own 7x7 stem at stride 1 and no pooling after it, as the paper times it at 64 pixels
    ViT-64x4/8         vision transformer of width 64 and 4 blocks on patches of 8 pixels
    ViT-Ti/4           a published size: another spelling of ViT-192x12/4 (S is 384x12, B is 768x12)
    Mixer-64x4/8       MLP-Mixer of width 64 and 4 blocks on patches of 8 pixels
    Mixer-B/4          a published size: another spelling of Mixer-768x12/4 (S is 512x8)
"""

import re
from dataclasses import dataclass

from mlp_lib.errors import UserError

_MLP = re.compile(r"([SB])[-_](\d+)[/-]Wi[-_](\d+)(?:[-_]E[-_](\d+))?")
_CNN = re.compile(r"CNN[-_](\d+)")
_PATCHES = re.compile(r"(ViT|Mixer)-(\d+)x(\d+)/(\d+)")
_PUBLISHED = re.compile(r"(ViT-(?:Ti|S|B)|Mixer-(?:S|B))/(\d+)")
_PUBLISHED_SIZES = {  # width and depth (Touvron et al. 2021, table 1; Tolstikhin et al. 2021, table 1)
    "ViT-Ti": (192, 12),
    "ViT-S": (384, 12),
    "ViT-B": (768, 12),
    "Mixer-S": (512, 8),
    "Mixer-B": (768, 12),
}

EXAMPLES = "S-6/Wi-1024, B-12/Wi-512, B-6/Wi-256-E_2, CNN-16, ResNet18, ViT-64x4/8, ViT-Ti/4, Mixer-64x4/8"
MLP_FAMILIES = ("S", "B")
RESNETS = ("ResNet18", "ResNet152")
MOST = 2**17  # the greatest number in a name
MOST_DEPTH = 1000

# What each family is made of where the run says nothing (paper section 3; `None` options of a run mean these).
FAMILY_DEFAULTS = {
    "S": dict(activation="relu", norm="layer", norm_position="pre", skip=False, bottleneck=False, block_form="text"),
    "B": dict(activation="gelu", norm="layer", norm_position="pre", skip=True, bottleneck=True, block_form="text"),
    "CNN": dict(activation="relu", norm="batch"),
    "ResNet18": {},
    "ResNet152": {},
    "ViT": {},
    "Mixer": {},
}
CHOICES = {
    "activation": ("relu", "gelu"),
    "norm": ("layer", "batch", "none"),
    "norm_position": ("pre", "post"),
    "skip": (True, False),
    "bottleneck": (True, False),
    "block_form": ("text", "code"),
}


@dataclass(frozen=True)
class Architecture:
    """A parsed name. `depth` counts blocks (0 for CNN and ResNets), `expansion` is the bottleneck's k (paper section
    3), `patch` the side of a patch in pixels (0 where there are none)."""

    family: str
    depth: int
    width: int
    expansion: int = 4
    patch: int = 0

    @property
    def name(self) -> str:
        """The one spelling that goes into run keys."""
        if self.family in RESNETS:
            return self.family
        if self.family == "CNN":
            return f"CNN-{self.width}"
        if self.patch:
            return f"{self.family}-{self.width}x{self.depth}/{self.patch}"
        suffix = f"-E_{self.expansion}" if self.expansion != 4 else ""
        return f"{self.family}-{self.depth}/Wi-{self.width}{suffix}"

    @property
    def is_mlp(self) -> bool:
        """One of the paper's two, without a vision prior."""
        return self.family in MLP_FAMILIES

    @property
    def heads(self) -> int:
        """Attention heads of a ViT: of 64 channels from width 192 up, as in the published sizes, of 32 below."""
        return self.width // (64 if self.width >= 192 else 32)


def parse(name: str) -> Architecture:
    """Read an architecture's name. Raises UserError for a name outside the grammar or a size that cannot be."""
    if match := _MLP.fullmatch(name):
        family, depth, width, expansion = match[1], int(match[2]), int(match[3]), int(match[4] or 4)
        if family == "S" and match[4]:
            raise UserError(f"model {name!r}: an S-MLP has no expansion; leave out -E_{expansion}, or use a B-MLP")
        if min(depth, width, expansion) < 1:
            raise UserError(f"model {name!r}: depth, width and expansion must be at least 1")
        _check_size(name, width, expansion, depth=depth)
        return Architecture(family, depth, width, expansion)
    if match := _CNN.fullmatch(name):
        if int(match[1]) < 1:
            raise UserError(f"model {name!r}: the width must be at least 1")
        _check_size(name, int(match[1]))
        return Architecture("CNN", 0, int(match[1]))
    if name in RESNETS:
        return Architecture(name, 0, 64)
    if match := _PUBLISHED.fullmatch(name):
        width, depth = _PUBLISHED_SIZES[match[1]]
        return _with_patches(name, match[1].split("-")[0], width, depth, int(match[2]))
    if match := _PATCHES.fullmatch(name):
        return _with_patches(name, match[1], int(match[2]), int(match[3]), int(match[4]))
    raise UserError(f"unknown model {name!r}; write a name like one of: {EXAMPLES}")


def family_of(model: str) -> str:
    """What figures and verdicts call a model's family: S-MLP, B-MLP, CNN, ResNet18, ResNet152, ViT or Mixer."""
    architecture = parse(model)
    return f"{architecture.family}-MLP" if architecture.is_mlp else architecture.family


def _with_patches(name: str, family: str, width: int, depth: int, patch: int) -> Architecture:
    if min(width, depth, patch) < 1:
        raise UserError(f"model {name!r}: width, depth and patch must be at least 1")
    _check_size(name, width, patch, depth=depth)
    step = 2 if family == "Mixer" else 64 if width >= 192 else 32
    if width % step:
        why = "half of it mixes tokens" if family == "Mixer" else f"attention heads have {step} channels there"
        raise UserError(f"model {name!r}: the width must be a multiple of {step}, as {why}")
    return Architecture(family, depth, width, patch=patch)


def _check_size(name: str, *sizes: int, depth: int = 0) -> None:
    """A number that no machine could hold the weights of is a slip of the keyboard, as is a depth that takes minutes to
    build."""
    if depth > MOST_DEPTH:
        raise UserError(f"model {name!r}: {depth} blocks are too many; take at most {MOST_DEPTH}")
    if max(sizes) > MOST:
        raise UserError(f"model {name!r}: {max(sizes)} is too large; every number is at most {MOST}")


def check_resolution(architecture: Architecture, resolution: int) -> None:
    """Raises UserError where the architecture's patches do not tile an image of `resolution` pixels a side."""
    patch = architecture.patch
    if patch and resolution % patch:
        fits = -(-resolution // patch) * patch
        raise UserError(
            f"model {architecture.name!r}: patches of {patch} pixels do not tile an image of {resolution}; "
            f"set resolution={fits}, or take a patch that divides {resolution}"
        )


def resolve_options(family: str, options: dict) -> dict:
    """The family's defaults overlaid with `options` (None = default). Raises UserError for what does not apply."""
    defaults = FAMILY_DEFAULTS[family]
    resolved = dict(defaults)
    for field, value in options.items():
        if value is None:
            continue
        if field not in defaults:
            takes = f"it takes: {', '.join(defaults)}" if defaults else "it takes none"
            raise UserError(f"option {field!r} does not apply to {family} models; {takes}")
        if value not in CHOICES[field]:
            raise UserError(f"{field}={value!r} is not one of: {', '.join(map(str, CHOICES[field]))}")
        resolved[field] = value
    if family == "CNN" and resolved["norm"] == "layer":
        raise UserError("norm='layer' does not apply to CNN models; use 'batch' or 'none'")
    if resolved.get("bottleneck") and options.get("block_form") is not None:
        raise UserError("block_form distinguishes the two forms of the plain block; it needs bottleneck=False")
    return resolved


def uses_batch_norm(architecture: Architecture, options: dict) -> bool:
    """Whether the model with these options normalises over its batch (`models.has_batch_norm` asks the built one).

    Raises UserError for options that do not apply.
    """
    return resolve_options(architecture.family, options).get("norm") == "batch" or architecture.family in RESNETS


MLPS = ("S-MLP", "B-MLP")
