"""`build`, the one way to make any model of the study, and what can be asked of a model."""

import torch
from torch import nn

from mlp_lib.errors import UserError
from mlp_lib.machine import check_fits
from mlp_lib.models.baselines import build_baseline
from mlp_lib.models.mlp import MLP
from mlp_lib.records import architectures


def build(
    name: str,
    num_classes: int,
    resolution: int,
    *,
    channels: int = 3,
    dropout: float = 0.0,
    expansion: int | None = None,
    **options,
) -> nn.Module:
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
        arch.depth,
        arch.width,
        channels * resolution**2,
        num_classes,
        expansion=expansion or arch.expansion,
        dropout=dropout,
        **resolved,
    )


def build_for(run) -> nn.Module:
    """The model of a `Run`, initialised from the run's seed alone (torch's global generator is left as it was).

    Raises UserError for one whose weights are more than the memory holds, before they are allocated.
    """
    from mlp_lib.datasets import facts

    f = facts(run.dataset)

    def make() -> nn.Module:
        return build(
            run.model, f.num_classes, run.pixels, channels=f.channels, dropout=run.dropout, **run.model_options
        )

    with torch.random.fork_rng(devices=[]):
        if torch.empty(0).device.type != "meta":
            with torch.device("meta"):  # nothing is allocated there
                count = sum(p.numel() for p in make().parameters())
            check_fits(4 * count, f"model {run.model}, {count:,} parameters", "take a smaller one")
        torch.manual_seed(run.seed)
        return make()


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Trainable parameters: all of them, and without embedding (first layer) and head."""
    total = sum(p.numel() for p in model.parameters())
    ends = sum(p.numel() for layer in (model.first_layer, model.head) for p in layer.parameters())
    return {"parameters": total, "parameters_body": total - ends}


def has_batch_norm(model: nn.Module) -> bool:
    """Whether the model's output for one example depends on the rest of its training batch."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
