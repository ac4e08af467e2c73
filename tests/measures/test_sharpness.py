"""Curvature and gradient noise against quadratics, explicit Hessians and gradients that are known one by one."""

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlp_lib.errors import UserError
from mlp_lib.measures import sharpness
from mlp_lib.models import build
from mlp_lib.records.run import make_run
from mlp_lib.training.loaders import Data, Split


def symmetric(eigenvalues: list[float], seed: int = 0) -> torch.Tensor:
    """A matrix with these eigenvalues in a random basis."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator).double())
    return basis @ torch.diag(torch.tensor(eigenvalues).double()) @ basis.T


def start(size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).double()


# --- the top eigenvalue ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "eigenvalues",
    [
        [5.0, 1.0, 0.5, 0.0],
        [3.0, -10.0, 1.0, 0.2],  # a plain power iteration would go to -10
        [-1.0, -2.0, -3.0],
        [2.0, 2.0, 1.0],  # twice the same
        [0.0, 0.0, 7.0],
        list(np.linspace(0, 1, 300)) + [1.3],
        list(np.geomspace(1e-6, 100, 200)),
    ],
)
def test_top_eigenvalue_of_a_quadratic(eigenvalues):
    matrix = symmetric(eigenvalues)
    found = sharpness.top_eigenvalue(lambda v: matrix @ v, start(len(matrix)), tolerance=1e-4)
    top = np.linalg.eigvalsh(matrix.numpy())[-1]
    assert found.value == pytest.approx(top, rel=1e-3)
    assert found.value <= top + 1e-9 and found.products <= len(matrix)  # no Ritz value exceeds the eigenvalue
    assert abs(found.value - top) <= found.residual + 1e-9


def test_a_power_iteration_comes_to_the_same_with_more_products():
    matrix, vector = symmetric([4.0, 3.6, 2.0, *np.linspace(0, 1, 60)]), start(63)
    for _ in range(400):
        vector = matrix @ vector / (matrix @ vector).norm()
    found = sharpness.top_eigenvalue(lambda v: matrix @ v, start(63, seed=2), tolerance=1e-6)
    assert found.value == pytest.approx(float(vector @ matrix @ vector), rel=1e-5) and found.products < 40


def test_products_are_limited_and_the_residual_says_how_far_it_came():
    matrix = symmetric(list(np.linspace(0, 1, 400)))
    found = sharpness.top_eigenvalue(lambda v: matrix @ v, start(400), tolerance=1e-9, most=12)
    assert found.products == 12 and found.residual > 1e-9 and abs(found.value - 1) < 0.1


def test_curvature_that_is_not_finite_is_one_line():
    with pytest.raises(UserError, match="not finite"):
        sharpness.top_eigenvalue(lambda v: v * float("inf"), start(3))


def test_products_with_the_hessian_are_those_of_the_whole_hessian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)).double()
    images, targets = torch.randn(7, 4).double(), torch.randn(7, 3).double().softmax(1)
    names, shapes = zip(*((n, p.shape) for n, p in model.named_parameters()), strict=True)
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def loss(vector):
        parts = vector.split([s.numel() for s in shapes])
        weights = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, weights, images), targets)

    hessian = torch.autograd.functional.hessian(loss, flat)
    product = sharpness.curvature(model, images, targets)
    v = start(len(flat))
    torch.testing.assert_close(product(v).double(), hessian @ v, rtol=1e-4, atol=1e-6)  # the loss is in fp32
    found = sharpness.top_eigenvalue(product, start(len(flat), 3), tolerance=1e-5)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-3)


# --- the noise scale ------------------------------------------------------------------------------------------------


def test_noise_is_unbiased_over_every_draw_there_can_be():
    """Three examples with gradients known one by one, two batches of two: all 81 draws with replacement, averaged."""
    examples = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 1.0]]).double()
    mean = examples.mean(0)
    variance = (examples - mean).square().sum(1).mean().item()
    estimates = [
        sharpness.noise([examples[[a, b]].mean(0), examples[[c, d]].mean(0)], batch=2)
        for a, b, c, d in itertools.product(range(3), repeat=4)
    ]
    assert np.mean([e.variance for e in estimates]) == pytest.approx(variance)
    assert np.mean([e.gradient_square for e in estimates]) == pytest.approx(mean.square().sum().item())


def test_equal_gradients_have_no_noise_and_pure_noise_has_no_scale():
    same = sharpness.noise([torch.tensor([3.0, 4.0])] * 5, batch=8)
    assert same.gradient_square == pytest.approx(25) and same.scale == pytest.approx(0, abs=1e-12)
    opposite = sharpness.noise([torch.tensor([1.0]), torch.tensor([-1.0])], batch=1)
    assert opposite.gradient_square < 0 and opposite.scale is None
    with pytest.raises(UserError, match="at least 2 batches, not 1"):
        sharpness.noise([torch.ones(2)], batch=4)


class Softmax(nn.Module):
    """Softmax regression: the gradient of one example is (p - y) x^T, known in closed form."""

    def __init__(self, pixels: int, classes: int):
        super().__init__()
        self.head = nn.Linear(pixels, classes, bias=False)

    def forward(self, x):
        return self.head(x.flatten(1))


def data_of(count: int, classes: int = 3) -> Data:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 1, 2, 2), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.randint(classes, (count,), generator=generator))
    statistic = torch.full((1, 1, 1), 128.0)
    return Data(split, split, split, statistic, statistic, None, classes, "")


RUN = make_run(model="B-1/Wi-16", dataset="digits", subset=60, batch_size=16, epochs=1)


def test_noise_scale_of_a_model_with_known_gradients(monkeypatch):
    torch.manual_seed(0)
    model, data = Softmax(4, 3), data_of(60)
    x = data.normalise(data.train.images).flatten(1).double()
    targets = F.one_hot(data.train.labels, 3).double() * 0.7 + 0.1  # smoothing 0.3
    p = (x @ model.head.weight.detach().double().T).softmax(1)
    each = ((p - targets)[:, :, None] * x[:, None, :]).flatten(1)  # (N, K * pixels)
    mean = each.mean(0)
    variance, square = (each - mean).square().sum(1).mean().item(), mean.square().sum().item()
    monkeypatch.setattr(sharpness, "NOISE_BATCHES", 4000)
    found = sharpness.gradient_noise(model, RUN, data)
    assert found["variance"] == pytest.approx(variance, rel=0.03)
    assert found["gradient_square"] == pytest.approx(square, rel=0.03)
    assert found["noise_scale"] == pytest.approx(variance / square, rel=0.05)


# --- as measures of a run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["B-1/Wi-16", "CNN-4"])
def test_measures_are_repeatable_json_and_change_nothing(name):
    from mlp_lib.measures.take import measure
    from mlp_lib.training.loaders import load_data

    run = RUN.but(model=name)
    torch.manual_seed(0)
    model = build(name, 10, 8, channels=1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    names = ("sharpness", "gradient_noise")
    first, second = (measure(names, model, run, load_data(run)) for _ in range(2))
    assert first == second == json.loads(json.dumps(first))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    curved = first["sharpness"]
    assert curved["examples"] == 60 and curved["top_eigenvalue"] > 0
    assert curved["residual"] <= 0.01 * curved["top_eigenvalue"]
    other = measure(("gradient_noise",), model, run.but(seed=1), load_data(run))["gradient_noise"]
    assert other != first["gradient_noise"]
