"""What theory of batch size talks about, measured on trained weights: the sharpest curvature of the training loss, and
how noisy its gradient is from batch to batch.

Both look at the loss that was trained on (label smoothing included, images not augmented), in fp32 and in evaluation
mode, so that every example has a loss of its own even under BatchNorm. Which images are looked at is drawn from the
run's seed: runs of one seed are measured on the same ones.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlp_lib.errors import NotMeasurable, UserError
from mlp_lib.training import augment
from mlp_lib.training.loaders import Data
from mlp_lib.training.seeds import stream_seed

CURVATURE_IMAGES = 1024
LEAST_PRODUCTS, MAX_PRODUCTS = 10, 60
TOLERANCE = 0.01  # relative, of the top eigenvalue
NOISE_BATCH, NOISE_BATCHES = 64, 128  # the small batch; the large one is all of them together


class Eigenvalue(NamedTuple):
    """A largest eigenvalue: some eigenvalue of the matrix lies within `residual` of `value`."""

    value: float
    residual: float
    products: int  # matrix-vector products that it took


class Noise(NamedTuple):
    """Unbiased estimates of |G|^2 and tr(Sigma): G is the mean gradient, Sigma the covariance of one example's."""

    gradient_square: float
    variance: float

    @property
    def scale(self) -> float | None:
        """B_simple = tr(Sigma) / |G|^2 (McCandlish et al. 2018, equation 2.9), in examples. None where the estimate of
        |G|^2 is not positive: the gradient is lost in its noise, and the ratio has no meaning."""
        return self.variance / self.gradient_square if self.gradient_square > 0 else None


def top_eigenvalue(
    product: Callable[[Tensor], Tensor], start: Tensor, tolerance: float = TOLERANCE, most: int = MAX_PRODUCTS
) -> Eigenvalue:
    """The largest (most positive) eigenvalue of a symmetric matrix that is known by its products with vectors.

    Lanczos 1950: a power iteration that keeps what every product has told, and so needs far fewer of them, and that is
    not drawn to a large negative eigenvalue. Three vectors are held, not the whole basis: rounding then brings copies
    of eigenvalues that were found already, which leaves the largest as it is (Paige 1980).

    Args:
        product: v -> A v for vectors like `start`, (P,).
        start: a random vector, (P,); not zero.
        tolerance: stop when the residual is below this share of the value.
        most: products after which to stop anyway; the residual says how far it came.

    Raises UserError where a product is not finite.
    """
    vector, before, off = start / start.norm(), torch.zeros_like(start), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(vector) - off * before
        along = torch.dot(image, vector).item()
        image = image - along * vector
        diagonal.append(along)
        off = image.norm().item()
        if not np.isfinite([along, off]).all():
            raise NotMeasurable("the curvature is not finite: the weights or the loss have overflowed; lower the lr")
        values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, beside)
        residual = off * abs(vectors[-1, -1])  # |A x - value x| of the unit vector x that belongs to the value
        steps = len(diagonal)
        # A small residual says that an eigenvalue is near, not that it is the largest: that takes a few products more.
        settled = residual <= tolerance * abs(values[-1]) and steps >= min(LEAST_PRODUCTS, len(start))
        exhausted = off <= 1e-6 * np.abs(values).max()  # the vectors so far span everything that the start contains
        if settled or exhausted or steps == most:
            return Eigenvalue(float(values[-1]), float(residual), steps)
        beside.append(off)
        before, vector = vector, image / off


def curvature(model: nn.Module, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> H v for the Hessian H of the mean cross-entropy over all trainable parameters, as flat vectors (P,).

    images: (N, C, H, W); targets: (N, K) probabilities. One forward pass is kept for all products, each of which is
    the gradient of (gradient . v) (Pearlmutter 1994).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = F.cross_entropy(model(images).float(), targets)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradients])  # (P,)

    def product(vector: Tensor) -> Tensor:
        parts = torch.autograd.grad(flat, parameters, vector, retain_graph=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])

    return product


def gradients(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    """The gradient (P,) of the mean cross-entropy of each batch of (images, target probabilities)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    for images, targets in batches:
        parts = torch.autograd.grad(F.cross_entropy(model(images).float(), targets), parameters)
        yield torch.cat([part.reshape(-1) for part in parts])


def noise(batch_gradients: Iterable[Tensor], batch: int) -> Noise:
    """|G|^2 and tr(Sigma) from the gradients of several batches of `batch` examples each.

    E|g|^2 = |G|^2 + tr(Sigma) / B for the mean gradient g of B independent examples. Two batch sizes are two equations
    in the two unknowns (McCandlish et al. 2018, appendix A.1): each batch alone, and all of them as one large batch.
    Raises UserError for fewer than two batches.
    """
    total, squares, count = None, 0.0, 0
    for gradient in batch_gradients:
        gradient = (gradient.cpu() if gradient.is_mps else gradient).double()
        total = gradient if total is None else total + gradient
        squares += torch.dot(gradient, gradient).item()
        count += 1
    if count < 2:
        raise UserError(f"the gradient's noise needs at least 2 batches, not {count}")
    small, large = squares / count, torch.dot(total, total).item() / count**2
    variance = (small - large) / (1 / batch - 1 / (batch * count))
    return Noise((count * large - small) / (count - 1), variance)


def sharpness(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """The top eigenvalue of the training loss's Hessian, on a fixed draw of training images."""
    device = data.mean.device
    images, targets = _examples(run, data, _draw(run, "sharpness", min(CURVATURE_IMAGES, len(data.train.labels))))
    model.eval()
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    start = torch.randn(size, generator=torch.Generator().manual_seed(stream_seed(run.seed, "direction")))
    with torch.enable_grad():
        found = top_eigenvalue(curvature(model, images, targets), start.to(device))
    return {
        "top_eigenvalue": found.value,
        "residual": found.residual,
        "products": found.products,
        "examples": len(images),
    }


def gradient_noise(model: nn.Module, run, data: Data) -> dict[str, Any]:
    """B_simple at the trained weights. Examples are drawn with replacement: the training part is the population."""
    device, examples = data.mean.device, len(data.train.labels)
    generator = torch.Generator().manual_seed(stream_seed(run.seed, "noise"))
    drawn = torch.randint(examples, (NOISE_BATCHES, NOISE_BATCH), generator=generator).to(device)
    model.eval()
    with torch.enable_grad():
        found = noise(gradients(model, (_examples(run, data, index) for index in drawn)), NOISE_BATCH)
    return {
        "noise_scale": found.scale,
        "gradient_square": found.gradient_square,
        "variance": found.variance,
        "batch": NOISE_BATCH,
        "batches": NOISE_BATCHES,
    }


def _draw(run, stream: str, count: int) -> Tensor:
    """Positions of `count` different training images, drawn from the run's seed."""
    generator = torch.Generator().manual_seed(stream_seed(run.seed, stream))
    return torch.randperm(run.train_examples, generator=generator)[:count]


def _examples(run, data: Data, index: Tensor) -> tuple[Tensor, Tensor]:
    """Training images (N, C, H, W) as the model sees them, not augmented, and their smoothed targets (N, K)."""
    index = index.to(data.mean.device)
    images = data.permute(data.normalise(data.train.images[index]))
    return images, augment.soft_targets(data.train.labels[index], data.num_classes, run.label_smoothing)
