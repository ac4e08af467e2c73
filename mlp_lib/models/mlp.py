"""The paper's two MLPs (section 3).

S-MLP:  z <- sigma(W LN(z))                    isotropic, no skip
B-MLP:  z <- z + W_c sigma(W_e LN(z))          inverted bottleneck of expansion k, skip

Both embed the flattened image linearly and end in a linear head. Every difference between the two is an option, so
the paper's ablations are walks from one to the other.
"""

from torch import Tensor, nn

from mlp_lib.models.baselines import ACTIVATIONS

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
