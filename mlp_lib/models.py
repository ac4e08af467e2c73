"""The paper's two MLPs (section 3), and `build`, the one way to make any model of the study.

S-MLP:  z <- sigma(W LN(z))                    isotropic, no skip
B-MLP:  z <- z + W_c sigma(W_e LN(z))          inverted bottleneck of expansion k, skip

Both embed the flattened image linearly and end in a linear head. Every difference between the two is an option, so
the paper's ablations are walks from one to the other.
"""

import torch
from torch import Tensor, nn

from mlp_lib import architectures
from mlp_lib.baselines import ACTIVATIONS, build_baseline
from mlp_lib.errors import UserError

NORMS = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "none": lambda width: nn.Identity()}


class Block(nn.Module):
    """The learned part of one block, (B, m) -> (B, m), without its norm and skip.

    `block` keeps the public checkpoints' indices: 0 is W_e, 2 is W_c. The plain block has one matrix: sigma(W z) in
    the text's form, W sigma(z) in the public code's.
    """

    def __init__(self, width: int, expansion: int, activation: str, bottleneck: bool, block_form: str, dropout: float):
        super().__init__()
        act = ACTIVATIONS[activation]
        if bottleneck:
            layers = [nn.Linear(width, expansion * width), act(), nn.Linear(expansion * width, width)]
        elif block_form == "text":
            layers = [nn.Linear(width, width), act()]
        else:
            layers = [act(), nn.Linear(width, width)]
        if dropout:
            layers.append(nn.Dropout(dropout))  # last, so that the indices above stay
        self.block = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.block(z)


class MLP(nn.Module):
    """S-MLP or B-MLP, by its options. Input (B, C, H, W) or (B, C*H*W), flattened channel first; output (B, K).

    Module names are those of the public checkpoints (`linear_in`, `blocks.<i>.block.<j>`, `layernorms.<i>`,
    `linear_out`), for B-MLPs down to the state dict's keys; `layernorms` holds whatever norm was asked for.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        in_features: int,
        num_classes: int,
        *,
        expansion: int = 4,
        activation: str = "gelu",
        norm: str = "layer",
        norm_position: str = "pre",
        skip: bool = True,
        bottleneck: bool = True,
        block_form: str = "text",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.skip, self.pre = skip, norm_position == "pre"
        self.linear_in = nn.Linear(in_features, width)
        self.blocks = nn.ModuleList(
            Block(width, expansion, activation, bottleneck, block_form, dropout) for _ in range(depth)
        )
        self.layernorms = nn.ModuleList(NORMS[norm](width) for _ in range(depth))
        self.linear_out = nn.Linear(width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """What the head sees: (B, C, H, W) -> (B, m)."""
        z = self.linear_in(x.flatten(1))  # (B, m)
        for block, norm in zip(self.blocks, self.layernorms, strict=True):
            out = block(norm(z)) if self.pre else block(z)
            if self.skip:
                out = z + out
            z = out if self.pre else norm(out)
        return z

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_out(self.features(x))

    @property
    def first_layer(self) -> nn.Linear:
        return self.linear_in

    @property
    def head(self) -> nn.Linear:
        return self.linear_out


def build(
    name: str, num_classes: int, resolution: int, *, channels: int = 3, dropout: float = 0.0,
    expansion: int | None = None, **options,
) -> nn.Module:  # fmt: skip
    """Make a model by name, initialised from torch's current random state (MLPs and the CNN by torch's defaults).

    Args:
        name: see architectures.py, for example "B-6/Wi-256", "CNN-16" or "ViT-64x4/8".
        num_classes: K, the width of the head.
        resolution: height and width of the square input, in pixels.
        channels: input channels.
        dropout: probability inside each MLP block.
        expansion: k of the inverted bottleneck, when it is not in the name.
        options: activation, norm, norm_position, skip, bottleneck, block_form; None means the family's default.

    Returns a module with `forward(x)` -> (B, K), `features(x)` -> (B, m), `first_layer` and `head`.
    Raises UserError for a name or an option that does not exist or does not apply.
    """
    arch = architectures.parse(name)
    if num_classes < 1 or resolution < 1 or channels < 1:
        raise UserError("num_classes, resolution and channels must be at least 1")
    if not 0.0 <= dropout < 1.0:
        raise UserError(f"dropout={dropout} must lie in [0, 1)")
    resolved = architectures.resolve_options(arch.family, options)
    if not arch.is_mlp:
        if dropout or expansion is not None:
            raise UserError(f"dropout and expansion belong to the MLP blocks; a {arch.family} takes neither")
        architectures.check_resolution(arch, resolution)
        return build_baseline(arch, num_classes, resolution, channels, **resolved)
    if expansion is not None and not resolved["bottleneck"]:
        raise UserError("expansion needs bottleneck=True")
    return MLP(
        arch.depth, arch.width, channels * resolution**2, num_classes,
        expansion=expansion or arch.expansion, dropout=dropout, **resolved,
    )  # fmt: skip


def build_for(run) -> nn.Module:
    """The model of a `Run`, initialised from the run's seed alone (torch's global generator is left as it was)."""
    from mlp_lib.datasets import facts

    f = facts(run.dataset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return build(
            run.model, f.num_classes, run.pixels, channels=f.channels, dropout=run.dropout, **run.model_options
        )


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Trainable parameters: all of them, and without embedding (first layer) and head."""
    total = sum(p.numel() for p in model.parameters())
    ends = sum(p.numel() for layer in (model.first_layer, model.head) for p in layer.parameters())
    return {"parameters": total, "parameters_body": total - ends}


def has_batch_norm(model: nn.Module) -> bool:
    """Whether the model's output for one example depends on the rest of its training batch."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
