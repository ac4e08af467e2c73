"""Augmentation in batches, on whatever device the images are.

An example's draw depends on (seed, epoch, example) only: `draws` fills a table for a whole epoch, indexed by the
example's position in the training subset, and `apply` reads the rows of the batch at hand. How the epoch is cut into
batches, shuffled or shared between processes therefore changes no image. Nothing here waits for the device.

The recipe is the paper's (section 4): random resized crop with scale 0.08 to 1 and ratio 3/4 to 4/3, horizontal flip,
MixUp with alpha 0.8 and one lambda a batch, as the public code draws it. Padded crops are the usual CIFAR
alternative. `apply` does the geometry; `mixup` is for the caller, who needs the targets at hand as well.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mlp_lib.errors import UserError
from mlp_lib.training.seeds import _generator, stream_seed

PARTS = ("flip", "crop", "pad", "mixup")
ATTEMPTS = 10  # boxes that torchvision's RandomResizedCrop tries before it falls back to the centre
CROP_UNIFORMS = 2 * ATTEMPTS + 2  # an area and a ratio for each attempt, then the position of the one that is taken


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image. `pad` in pixels and `mixup_alpha` are 0 when off."""

    flip: bool = False
    crop: bool = False
    pad: int = 0
    mixup_alpha: float = 0.0
    crop_scale: float = 0.08  # smallest share of the image's area; the largest is 1
    crop_ratio: float = 4 / 3  # largest width/height; the smallest is its inverse

    @classmethod
    def from_run(cls, run) -> "Augmentation":
        """Read `augment` ("none", or some of flip, crop, pad, mixup joined by "+") and its numbers from a run.

        Raises UserError for a part that does not exist and for a number that makes no sense.
        """
        parts = set() if run.augment == "none" else set(run.augment.split("+"))
        unknown = sorted(parts - set(PARTS))
        if unknown:
            raise UserError(f"augment has no part {unknown[0]!r}: use 'none' or join some of {', '.join(PARTS)} by '+'")
        if "crop" in parts and not 0 < run.crop_scale <= 1:
            raise UserError(f"crop_scale is a share of the image's area, above 0 and at most 1, not {run.crop_scale}")
        if "crop" in parts and not run.crop_ratio >= 1:
            raise UserError(f"crop_ratio is the largest aspect ratio, at least 1, not {run.crop_ratio}")
        if "pad" in parts and run.pad < 1:
            raise UserError(f"pad is in pixels, at least 1 when augment names it, not {run.pad}")
        if "mixup" in parts and not run.mixup_alpha > 0:
            raise UserError(f"mixup_alpha must be above 0 when augment names mixup, not {run.mixup_alpha}")
        return cls(
            flip="flip" in parts,
            crop="crop" in parts,
            pad=run.pad if "pad" in parts else 0,
            mixup_alpha=run.mixup_alpha if "mixup" in parts else 0.0,
            crop_scale=run.crop_scale,
            crop_ratio=run.crop_ratio,
        )


class Draws(NamedTuple):
    """One epoch's draws, row i for the example at position i of the training subset; None for what is off."""

    flip: Tensor | None  # (n,) bool
    shift: Tensor | None  # (n, 2) int64: dy, dx of the padded crop
    crop: Tensor | None  # (n, 22) uniforms in [0, 1) for `crop_boxes`


def draws(augmentation: Augmentation, n: int, seed: int, epoch: int, device: torch.device | str = "cpu") -> Draws:
    """Draw one epoch for all n examples of the training subset, on `device`.

    Each part has its own stream, so that switching crops on does not change who is flipped. Streams differ between
    kinds of device (torch's generators do), not between machines of one kind.
    """
    flip = shift = crop = None
    if augmentation.flip:
        flip = torch.rand(n, generator=_generator(device, "augment flip", seed, epoch), device=device) < 0.5  # (n,)
    if augmentation.pad:
        generator = _generator(device, "augment pad", seed, epoch)
        shift = torch.randint(0, 2 * augmentation.pad + 1, (n, 2), generator=generator, device=device)  # (n, 2)
    if augmentation.crop:
        generator = _generator(device, "augment crop", seed, epoch)
        crop = torch.rand(n, CROP_UNIFORMS, generator=generator, device=device)  # (n, 22)
    return Draws(flip, shift, crop)


def apply(images: Tensor, index: Tensor, draws: Draws, augmentation: Augmentation) -> Tensor:
    """Crop, padded crop, then flip a batch. MixUp comes after, by `mixup`.

    images: (B, C, H, W) normalised float32; index: (B,) int64, the examples' positions in the table `draws`.
    Returns (B, C, H, W).
    """
    height, width = images.shape[-2:]
    mirror = None if draws.flip is None else draws.flip[index]  # (B,)
    if draws.crop is not None:
        boxes = crop_boxes(draws.crop[index], height, width, augmentation.crop_scale, augmentation.crop_ratio)
        if draws.shift is None:  # nothing in between: the crop can mirror as it samples, one pass over memory fewer
            return resized_crop(images, *boxes, size=(height, width), mirror=mirror)
        images = resized_crop(images, *boxes, size=(height, width))
    if draws.shift is not None:
        dy, dx = draws.shift[index].unbind(1)
        images = padded_crop(images, dy, dx, augmentation.pad)
    return images if mirror is None else hflip(images, mirror)


def crop_boxes(u: Tensor, height: int, width: int, scale: float, ratio: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes with the distribution of torchvision's `RandomResizedCrop.get_params`, from given uniforms.

    u: (B, 22) in [0, 1): ten areas, ten aspect ratios, then the vertical and the horizontal position. The area is
    uniform on [scale, 1] of the image's, the ratio w/h log-uniform on [1/ratio, ratio]; the first of ten attempts
    that fits is taken, else the largest centred box of an allowed ratio. Returns top, left, height, width, (B,) int64.
    """
    # Sides are rounded to pixels: double precision keeps the rounding the same as in a plain Python loop. Apple's mps
    # has no doubles, and a rounding that goes the other way once in a million boxes is harmless.
    u = u if u.device.type == "mps" else u.double()
    log_ratio = float(np.log(ratio))
    area = height * width * (scale + (1.0 - scale) * u[:, :ATTEMPTS])  # (B, 10)
    aspect = torch.exp(log_ratio * (2.0 * u[:, ATTEMPTS : 2 * ATTEMPTS] - 1.0))  # (B, 10)
    w = torch.round(torch.sqrt(area * aspect)).long()
    h = torch.round(torch.sqrt(area / aspect)).long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)  # (B, 10)

    order = torch.arange(ATTEMPTS, device=u.device)
    first = torch.where(fits, order, ATTEMPTS).amin(1, keepdim=True)  # (B, 1), 10 where none fits
    found = (first < ATTEMPTS).squeeze(1)
    taken = first.clamp(max=ATTEMPTS - 1)
    centre_h, centre_w = _largest_centred_box(height, width, ratio)
    h = torch.where(found, h.gather(1, taken).squeeze(1), centre_h)  # (B,)
    w = torch.where(found, w.gather(1, taken).squeeze(1), centre_w)

    # u < 1, but in float32 u * k may round up to k: hence the minimum.
    top = torch.minimum((u[:, -2] * (height - h + 1)).long(), height - h)
    left = torch.minimum((u[:, -1] * (width - w + 1)).long(), width - w)
    top = torch.where(found, top, (height - centre_h) // 2)
    left = torch.where(found, left, (width - centre_w) // 2)
    return top, left, h, w


def _largest_centred_box(height: int, width: int, ratio: float) -> tuple[int, int]:
    if width / height < 1 / ratio:
        return round(width * ratio), width
    if width / height > ratio:
        return height, round(height * ratio)
    return height, width


def _sample_positions(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where `size` output pixels fall in the image, by pixel centres, clamped to the crop: (B, size) float32."""
    centre = (torch.arange(size, device=start.device) + 0.5) / size  # (size,) in (0, 1)
    inside = centre * length[:, None] - 0.5  # (B, size) in pixels from the crop's first
    return start[:, None] + torch.minimum(inside.clamp(min=0), length[:, None] - 1.0)


def resized_crop(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    size: int | tuple[int, int],
    mirror: Tensor | None = None,
) -> Tensor:
    """Cut one box from each image and scale it to `size`, bilinearly (align_corners=False); then flip where `mirror`.

    images: (B, C, H, W) float32; top, left, height, width: (B,) int64 in pixels, one box an image; mirror: (B,) bool.
    Returns (B, C, size, size). Equal to torchvision's `resized_crop` with antialias=True wherever the output is at
    least as large as the box. That is always so in training: images are at the training resolution already, crops only
    enlarge, and antialiasing acts on reductions only. It is not for reducing.

    One grid_sample: on a CPU core 7 ms for 1024 x 3 x 32 x 32, against 10 ms for two batched matmuls and 24 ms for
    gathered taps; and it knows nothing of TF32 or autocast, which would round the matmuls.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    y = _sample_positions(top, height, rows)  # (B, rows); clamped to the crop, not to the image
    x = _sample_positions(left, width, columns)  # (B, columns)
    if mirror is not None:
        x = torch.where(mirror[:, None], x.flip(1), x)
    # grid_sample's own units: -1 and 1 are the outer edges of the first and last pixel.
    y = (2 * y + 1) / images.shape[-2] - 1
    x = (2 * x + 1) / images.shape[-1] - 1
    shape = (len(images), rows, columns)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)  # (B, rows, columns, 2)
    # "border" only guards the last pixel against rounding: y and x lie inside the image already.
    return F.grid_sample(images, grid.to(images.dtype), mode="bilinear", padding_mode="border", align_corners=False)


def padded_crop(images: Tensor, dy: Tensor, dx: Tensor, pad: int) -> Tensor:
    """Pad by `pad` pixels of 0 on every side and cut the original size out again at offset (dy, dx).

    images: (B, C, H, W); dy, dx: (B,) int64 in 0..2*pad, where `pad` leaves the image as it is. 0 in a normalised
    image is the mean colour; the usual code pads before it normalises, with black. torchvision's F.pad(fill=0)
    followed by F.crop.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (pad, pad, pad, pad))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2 pad + 1, 2 pad + 1, H, W), a view
    return windows[torch.arange(len(images), device=images.device), :, dy, dx]


def hflip(images: Tensor, mask: Tensor) -> Tensor:
    """Mirror left and right where `mask`, (B,) bool. images: (B, C, H, W)."""
    width = images.shape[-1]
    column = torch.arange(width, device=images.device)
    column = torch.where(mask[:, None], width - 1 - column, column)  # (B, W)
    return images.gather(3, column[:, None, None, :].expand(images.shape))  # twice as fast as `where` over both


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """(B,) int64 labels to (B, K) probabilities: (1 - s) one-hot + s / K, torch's definition of label smoothing."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1.0 - smoothing + smoothing / num_classes)


def mixup(images: Tensor, targets: Tensor, lam: Tensor | float, permutation: Tensor) -> tuple[Tensor, Tensor]:
    """lam x + (1 - lam) x[permutation], and the same for the targets.

    images: (B, C, H, W); targets: (B, K) probabilities; lam: a number or a tensor of no dimensions; permutation: (B,)
    int64. Mixing soft targets is mixing losses: cross-entropy is linear in them.
    """

    def mix(x: Tensor) -> Tensor:
        return (lam * x).add_(x.index_select(0, permutation).mul_(1 - lam))  # a fifth of x[permutation]'s time

    return mix(images), mix(targets)


def mixup_lambda(augmentation: Augmentation, seed: int, epoch: int, steps: int) -> Tensor:
    """MixUp's lambda ~ Beta(alpha, alpha) for each batch of the epoch: (steps,) float32 on the CPU; ones when off."""
    if not augmentation.mixup_alpha:
        return torch.ones(steps)
    rng = np.random.default_rng(stream_seed("mixup lambda", seed, epoch))
    alpha = augmentation.mixup_alpha
    return torch.from_numpy(rng.beta(alpha, alpha, size=steps).astype(np.float32))
