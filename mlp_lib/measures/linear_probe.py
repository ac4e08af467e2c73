"""The linear probe: what a linear classifier reads from a trained model's features, on another task (paper section 4).

The paper trains its probe by LION at 1e-5 for 50 epochs, so that its result depends on the scale of the features and
on the probe's own batch size. Ours is the problem that such a training approaches: multinomial logistic regression,
which is convex and has one answer. Features are standardised and the strength of the penalty is chosen on validation,
so that neither their scale nor how long anyone trained decides.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mlp_lib.errors import NotMeasurable, UserError
from mlp_lib.measures.features import features_on
from mlp_lib.training.loaders import Data

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # from smooth to free: each fit starts where the one before it ended
MAX_ITERATIONS = 500
SMALL_GRADIENT = 1e-5  # greatest entry of the gradient at which L-BFGS stops; of up to ten times this, "converged"


class Fit(NamedTuple):
    """A linear classifier: logits are `features @ weight + bias`."""

    weight: np.ndarray  # (m, K) float64
    bias: np.ndarray  # (K,) float64
    loss: float  # the objective's value, penalty included
    converged: bool
    iterations: int


class Probe(NamedTuple):
    """A probe at the strength of the best validation accuracy. Accuracies in percent."""

    strength: float
    at_edge: bool  # of the strengths that were tried
    train_top1: float
    val_top1: float
    test_top1: float
    converged: bool


def fit_logistic(features: Tensor, labels: Tensor, num_classes: int, strength: float, start: Fit | None = None) -> Fit:
    """Minimise mean cross-entropy + strength / 2 * |weight|^2 (the bias is free) by L-BFGS.

    Args:
        features: (N, m); their device computes.
        labels: (N,) int64 in 0..K-1.
        strength: at least 0; scikit-learn's C is 1 / (strength * N).
        start: a fit to start from; zeros when None. It changes the time, not the answer.

    Raises UserError for a negative strength and for features that are not finite.
    """
    if strength < 0:
        raise UserError(f"strength={strength} of the probe's penalty must be at least 0")
    if not torch.isfinite(features).all():
        raise NotMeasurable("the features are not finite: the weights have overflowed; lower the lr of the training")
    mean = features.mean(0)
    # In the eigenvectors' basis the penalty is the same, and the curvature about variance / K + strength along each:
    # dividing by its root makes the bowl round, and tens of iterations do what took hundreds.
    centred = features - mean
    variance, basis = torch.linalg.eigh(centred.T @ centred / len(centred))  # (m,), (m, m)
    rotated = centred @ basis  # (N, m)
    scale = (variance.clamp(min=0) / num_classes + strength + 1e-9).rsqrt()[:, None]  # (m, 1)
    rows = torch.arange(len(labels), device=labels.device)

    both = torch.zeros(len(scale) + 1, num_classes).to(features)  # the unknowns: (m + 1, K), the bias last
    if start is not None:
        weight = torch.from_numpy(start.weight).to(features)
        both[:-1] = basis.T @ weight / scale
        both[-1] = torch.from_numpy(start.bias).to(features) + mean @ weight

    @torch.no_grad()
    def objective() -> Tensor:
        weight = scale * both[:-1]
        log_probabilities = torch.addmm(both[-1], rotated, weight).log_softmax(1)  # (N, K)
        loss = strength / 2 * weight.square().sum() - log_probabilities[rows, labels].mean()
        error = log_probabilities.exp_()
        error[rows, labels] -= 1
        error /= len(labels)
        both.grad = torch.cat([scale * (rotated.T @ error + strength * weight), error.sum(0, keepdim=True)])
        return loss

    both.requires_grad_()
    # torch's own L-BFGS: it stays on the device, and its products of short vectors are not spread over threads.
    solver = torch.optim.LBFGS(
        [both],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=SMALL_GRADIENT,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    solver.step(objective)
    loss = objective().item()
    both, gradient = both.detach(), both.grad
    weight = basis @ (scale * both[:-1])
    bias = both[-1] - mean @ weight
    return Fit(
        weight.cpu().double().numpy(),
        bias.cpu().double().numpy(),
        loss,
        gradient.abs().max().item() <= 10 * SMALL_GRADIENT,
        solver.state[solver.param_groups[0]["params"][0]]["n_iter"],
    )


def probe(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    num_classes: int,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fit at each strength, keep the one of the best validation accuracy (the stronger of equals), test it once.

    train, val, test: (features (N, m), labels (N,)) each. Features are standardised by the training part's mean and
    deviation; one that never moves stays as it is. Raises UserError for an empty validation part or no strengths.
    """
    if not strengths or not len(val[1]):
        raise UserError("a probe chooses its penalty on validation: it needs strengths to try and validation images")
    mean, deviation = train[0].mean(0), train[0].std(0)
    # Deviations of rounding errors are no signal: a unit that is always off stays off.
    deviation = torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, torch.ones_like(deviation))
    parts = [((features - mean) / deviation, labels) for features, labels in (train, val, test)]
    ordered, fit, tried = sorted(strengths, reverse=True), None, []
    for strength in ordered:
        fit = fit_logistic(*parts[0], num_classes, strength, fit)
        tried.append((_accuracy(fit, *parts[1]), fit))
    best = max(range(len(tried)), key=lambda i: (tried[i][0], -i))
    score, fit = tried[best]
    return Probe(
        ordered[best],
        best in (0, len(ordered) - 1),
        _accuracy(fit, *parts[0]),
        score,
        _accuracy(fit, *parts[2]),
        fit.converged,
    )


def _accuracy(fit: Fit, features: Tensor, labels: Tensor) -> float:
    weight, bias = (torch.from_numpy(part).to(features) for part in (fit.weight, fit.bias))
    return 100 * (torch.addmm(bias, features, weight).argmax(1) == labels).double().mean().item()


def linear_probe(model: nn.Module, run, data: Data, target: str) -> dict[str, Any]:
    """Probe `run`'s trained model on the data set `target` (`features.features_on`): all of its training part but a
    tenth, which chooses the penalty."""
    features = features_on(model, run, data, target)
    found = probe(*features)
    return {**found._asdict(), "target": target, "images": len(features.train.labels)}
