"""Models with a vision prior, the controls beside every MLP claim."""

from torch import Tensor, nn

from mlp_lib.errors import UserError

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}  # exact GELU, as in the public code


class CNN(nn.Module):
    """Five 3x3 convolutions, (B, C, H, W) -> (B, K): a stride-2 stem, two stages of two, global average pooling.

    CNN-16 costs 1.9M multiply-adds and 72k parameters at 32x32x3: fewer parameters than any MLP of the study, so
    that what it does better is due to its prior. norm="batch" normalises each convolution; "none" has biases instead.
    Raises UserError below 8x8, where the last stage would have no pixel.
    """

    def __init__(
        self, width: int, num_classes: int, resolution: int, *, channels: int = 3, activation: str = "relu",
        norm: str = "batch",
    ):  # fmt: skip
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
