"""Names of architectures and what they mean, without torch, so that a run can be checked before anything is loaded.

Grammar (the paper's names; both the text's and the public code's spellings are read):

    S-6/Wi-1024        standard MLP, 6 blocks of width 1024
    B-12/Wi-512        inverted-bottleneck MLP, expansion 4
    B_12-Wi_512-E_2    the same with expansion 2
    CNN-16             the small convolutional control, 16 channels after the stem
"""

import re
from dataclasses import dataclass

from mlp_lib.errors import UserError

_MLP = re.compile(r"([SB])[-_](\d+)[/-]Wi[-_](\d+)(?:[-_]E[-_](\d+))?")
_CNN = re.compile(r"CNN[-_](\d+)")

EXAMPLES = "S-6/Wi-1024, B-12/Wi-512, B-6/Wi-256-E_2, CNN-16"

# What each family is made of where the run says nothing (paper section 3; `None` options of a run mean these).
FAMILY_DEFAULTS = {
    "S": dict(activation="relu", norm="layer", norm_position="pre", skip=False, bottleneck=False, block_form="text"),
    "B": dict(activation="gelu", norm="layer", norm_position="pre", skip=True, bottleneck=True, block_form="text"),
    "CNN": dict(activation="relu", norm="batch"),
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
    """A parsed name. `depth` counts blocks (0 for CNN); `expansion` is the bottleneck's k (paper section 3)."""

    family: str
    depth: int
    width: int
    expansion: int = 4

    @property
    def name(self) -> str:
        """The one spelling that goes into run keys."""
        if self.family == "CNN":
            return f"CNN-{self.width}"
        suffix = f"-E_{self.expansion}" if self.expansion != 4 else ""
        return f"{self.family}-{self.depth}/Wi-{self.width}{suffix}"


def parse(name: str) -> Architecture:
    """Read an architecture's name. Raises UserError for a name outside the grammar or a size of zero."""
    if match := _MLP.fullmatch(name):
        family, depth, width, expansion = match[1], int(match[2]), int(match[3]), int(match[4] or 4)
        if family == "S" and match[4]:
            raise UserError(f"model {name!r}: an S-MLP has no expansion; leave out -E_{expansion}, or use a B-MLP")
        if min(depth, width, expansion) < 1:
            raise UserError(f"model {name!r}: depth, width and expansion must be at least 1")
        return Architecture(family, depth, width, expansion)
    if match := _CNN.fullmatch(name):
        if int(match[1]) < 1:
            raise UserError(f"model {name!r}: the width must be at least 1")
        return Architecture("CNN", 0, int(match[1]))
    raise UserError(f"unknown model {name!r}; write a name like one of: {EXAMPLES}")


def resolve_options(family: str, options: dict) -> dict:
    """The family's defaults overlaid with `options` (None = default). Raises UserError for what does not apply."""
    defaults = FAMILY_DEFAULTS[family]
    resolved = dict(defaults)
    for field, value in options.items():
        if value is None:
            continue
        if field not in defaults:
            raise UserError(f"option {field!r} does not apply to {family} models; it takes: {', '.join(defaults)}")
        if value not in CHOICES[field]:
            raise UserError(f"{field}={value!r} is not one of: {', '.join(map(str, CHOICES[field]))}")
        resolved[field] = value
    if family == "CNN" and resolved["norm"] == "layer":
        raise UserError("norm='layer' does not apply to CNN models; use 'batch' or 'none'")
    if resolved.get("bottleneck") and options.get("block_form") is not None:
        raise UserError("block_form distinguishes the two forms of the plain block; it needs bottleneck=False")
    return resolved
