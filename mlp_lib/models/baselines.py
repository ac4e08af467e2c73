"""Models with a vision prior, the controls beside every MLP claim.

The CNN is ours; ResNet18 and ResNet152 are torchvision's and ViT and Mixer are timm's classes, built here without
weights: nothing is looked up or downloaded. Forward multiply-adds (`flops.cost`) and parameters for 32 x 32 x 3 and 10
classes:

| name         | multiply-adds | parameters |
|--------------|---------------|------------|
| CNN-16       |         1.9 M |       71 k |
| ResNet18     |         555 M |     11.2 M |
| ViT-64x4/8   |         3.7 M |      214 k |
| ViT-Ti/8     |          92 M |      5.4 M |
| ViT-Ti/4     |         365 M |      5.4 M |
| Mixer-64x4/8 |         2.6 M |      151 k |

ResNet152 is there for inference at 64 x 64 x 3 and 1,000 classes: 14.9 G multiply-adds, 60.2 M parameters.

With T tokens (one a patch, and the class token of a ViT), width d, depth L, patches of p pixels, C channels and
K classes, multiply-adds are: patches p^2 C d each; a ViT's block 12 T d^2 + 2 T^2 d; a Mixer's block 9 T d^2; head d K.
"""

from torch import Tensor, nn

from mlp_lib.errors import UserError
from mlp_lib.records.architectures import Architecture

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}  # exact GELU, as in the public code


class CNN(nn.Module):
    """Five 3x3 convolutions, (B, C, H, W) -> (B, K): a stride-2 stem, two stages of two, global average pooling.

    CNN-16 costs 1.9M multiply-adds and 71k parameters at 32x32x3: fewer parameters than any MLP of the study, so
    that what it does better is due to its prior. norm="batch" normalises each convolution; "none" has biases instead.
    Raises UserError below 8x8, where the last stage would have no pixel.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        resolution: int,
        *,
        channels: int = 3,
        activation: str = "relu",
        norm: str = "batch",
    ):
        super().__init__()
        if resolution < 8:
            raise UserError(f"resolution={resolution}: the CNN halves its input three times and needs at least 8")

        def convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=norm == "none"),
                nn.BatchNorm2d(outputs) if norm == "batch" else nn.Identity(),
                ACTIVATIONS[activation](),
            )

        w = width
        self.body = nn.Sequential(
            convolution(channels, w, 2),  # (B, w, H/2, W/2)
            convolution(w, 2 * w, 2),  # (B, 2w, H/4, W/4)
            convolution(2 * w, 2 * w, 1),
            convolution(2 * w, 4 * w, 2),  # (B, 4w, H/8, W/8)
            convolution(4 * w, 4 * w, 1),
        )
        self.linear_out = nn.Linear(4 * w, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """What the head sees: (B, C, H, W) -> (B, 4w)."""
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_out(self.features(x))

    @property
    def first_layer(self) -> nn.Conv2d:
        return self.body[0][0]

    @property
    def head(self) -> nn.Linear:
        return self.linear_out


class Headed(nn.Module):
    """Another library's network without its head, (B, C, H, W) -> (B, m), under the study's own, (B, m) -> (B, K)."""

    def __init__(self, body: nn.Module, first: str, width: int, num_classes: int):
        super().__init__()
        self.body, self.first = body, first
        self.linear_out = nn.Linear(width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """What the head sees: (B, C, H, W) -> (B, m)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_out(self.features(x))

    @property
    def first_layer(self) -> nn.Conv2d:
        return self.body.get_submodule(self.first)

    @property
    def head(self) -> nn.Linear:
        return self.linear_out


def _resnet18(arch: Architecture, num_classes: int, resolution: int, channels: int) -> Headed:
    """He et al. 2016 by torchvision, m = 512. The stem of 7x7, stride 2 and pooling would leave 8 x 8 of a 32-pixel
    image; the usual one for small images is a 3x3 convolution of stride 1. Initialisation is torchvision's (He et al.
    2015, fan-out), for the new stem too."""
    from torchvision.models import resnet18

    body = resnet18(weights=None)
    body.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)  # (B, 64, H, W)
    nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    body.maxpool, body.fc = nn.Identity(), nn.Identity()
    return Headed(body, "conv1", 512, num_classes)


def _resnet152(arch: Architecture, num_classes: int, resolution: int, channels: int) -> Headed:
    """He et al. 2016 by torchvision, m = 2048, with stride and pooling of the stem removed, as the paper has it at 64
    pixels: the 7x7 convolution is kept, so that parameters are torchvision's. Initialisation is torchvision's."""
    from torchvision.models import resnet152

    body = resnet152(weights=None)
    body.conv1 = nn.Conv2d(channels, 64, 7, padding=3, bias=False)  # (B, 64, H, W)
    nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    body.maxpool, body.fc = nn.Identity(), nn.Identity()
    return Headed(body, "conv1", 2048, num_classes)


def _vit(arch: Architecture, num_classes: int, resolution: int, channels: int) -> Headed:
    """Dosovitskiy et al. 2021 by timm: pre-norm blocks, learned positions, the class token as feature, m = width.
    Initialisation is timm's: truncated normal of deviation 0.02, zero biases."""
    from timm.models.vision_transformer import VisionTransformer

    body = VisionTransformer(
        img_size=resolution,
        patch_size=arch.patch,
        in_chans=channels,
        num_classes=0,
        embed_dim=arch.width,
        depth=arch.depth,
        num_heads=arch.heads,
    )
    for block in body.blocks:  # plain products: fused kernels need not repeat their gradients to the bit on a GPU,
        block.attn.fused_attn = False  # and timm's choice between the two hangs on the environment
    model = Headed(body, "patch_embed.proj", arch.width, num_classes)
    nn.init.trunc_normal_(model.linear_out.weight, std=0.02)
    nn.init.zeros_(model.linear_out.bias)
    return model


def _mixer(arch: Architecture, num_classes: int, resolution: int, channels: int) -> Headed:
    """Tolstikhin et al. 2021 by timm, m = width: hidden layers of half the width for tokens and of four times the width
    for channels, as published. Initialisation is timm's, with the head at zero."""
    from timm.models.mlp_mixer import MlpMixer

    body = MlpMixer(
        num_classes=0,
        img_size=resolution,
        in_chans=channels,
        patch_size=arch.patch,
        num_blocks=arch.depth,
        embed_dim=arch.width,
        mlp_ratio=(0.5, 4.0),
    )
    model = Headed(body, "stem.proj", arch.width, num_classes)
    nn.init.zeros_(model.linear_out.weight)
    nn.init.zeros_(model.linear_out.bias)
    return model


def build_baseline(arch: Architecture, num_classes: int, resolution: int, channels: int, **options) -> nn.Module:
    """The control of that architecture, initialised from torch's current random state. `options` are the CNN's.

    Raises UserError where the resolution does not fit it.
    """
    if arch.family == "CNN":
        return CNN(arch.width, num_classes, resolution, channels=channels, **options)
    make = {"ResNet18": _resnet18, "ResNet152": _resnet152, "ViT": _vit, "Mixer": _mixer}[arch.family]
    return make(arch, num_classes, resolution, channels)
