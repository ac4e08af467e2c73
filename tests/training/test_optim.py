"""Optimisers against their published algorithms, schedules against closed forms."""

import math

import numpy as np
import pytest
import torch
from lion_pytorch import foreach

from mlp_lib.errors import UserError
from mlp_lib.models import build_for
from mlp_lib.records.run import make_run
from mlp_lib.training import optim
from mlp_lib.training.optim import learning_rate, make_optimizer, set_learning_rate

BASE = dict(model="B-2/Wi-32", dataset="digits")  # 10 steps an epoch


def trajectory(run, start: np.ndarray, gradients: list[np.ndarray], lrs: list[float]) -> list[np.ndarray]:
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = make_optimizer(run, [parameter])
    path = []
    for gradient, lr in zip(gradients, lrs, strict=True):
        set_learning_rate(optimizer, lr)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return path


def example() -> tuple[np.ndarray, list[np.ndarray], list[float]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=6), [rng.normal(size=6) for _ in range(4)], [0.1, 0.1, 0.05, 0.02]


@pytest.mark.parametrize("betas", [{}, {"beta1": 0.5, "beta2": 0.7}])
def test_lion_is_the_published_algorithm(betas):
    """Chen et al. 2023, algorithm 2: update by the sign of an interpolation, decay decoupled and scaled by lr."""
    start, gradients, lrs = example()
    run = make_run(**BASE, epochs=1, lr=0.1, weight_decay=0.3, **betas)
    beta1, beta2 = betas.get("beta1", 0.9), betas.get("beta2", 0.99)
    w, m, expected = start.copy(), np.zeros(6), []
    for g, lr in zip(gradients, lrs, strict=True):
        c = beta1 * m + (1 - beta1) * g
        w = w - lr * (np.sign(c) + 0.3 * w)
        m = beta2 * m + (1 - beta2) * g
        expected.append(w)
    np.testing.assert_allclose(trajectory(run, start, gradients, lrs), expected, rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("block", [16, 100, optim.BLOCK])
def test_lion_in_blocks_is_lion_pytorchs_to_the_last_bit(monkeypatch, block, threads):
    monkeypatch.setattr(optim, "BLOCK", block)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shapes = [(), (1,), (7,), (100, 3), (33, 17), (130, 1000)] + [(3, 100_001)] * (block == optim.BLOCK)
    ours, theirs = ([torch.nn.Parameter(torch.randn(s)) for s in shapes] for _ in range(2))
    for a, b in zip(ours, theirs, strict=True):
        b.data.copy_(a.data)
    one = make_optimizer(make_run(**BASE, epochs=1, lr=0.01, weight_decay=0.3), ours)
    other = foreach.Lion(theirs, lr=0.01, betas=(0.9, 0.99), weight_decay=0.3)
    for step in range(4):
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a.grad = None if (step, number) == (0, 2) else torch.randn_like(a) * 10 ** torch.randn_like(a)
            b.grad = None if a.grad is None else a.grad.clone()
        one.step()
        other.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    torch.set_num_threads(before)
    states = one.state_dict(), other.state_dict()  # what a checkpoint holds
    assert states[0]["param_groups"][0].keys() == states[1]["param_groups"][0].keys()
    for number, state in states[1]["state"].items():
        assert torch.equal(states[0]["state"][number]["exp_avg"], state["exp_avg"])


def test_lion_takes_parameters_that_are_not_contiguous():
    parameter = torch.nn.Parameter(torch.ones(3, 4).t())
    optimizer = make_optimizer(make_run(**BASE, epochs=1, lr=0.5), [parameter])
    parameter.grad = torch.full_like(parameter, -2.0)
    optimizer.step()
    assert torch.equal(parameter, torch.full((4, 3), 1.5))


def test_sgd_has_heavy_ball_momentum_and_coupled_decay():
    start, gradients, lrs = example()
    run = make_run(**BASE, epochs=1, optimizer="sgd", lr=0.1, momentum=0.8, weight_decay=0.01)
    w, v, expected = start.copy(), np.zeros(6), []
    for g, lr in zip(gradients, lrs, strict=True):
        v = 0.8 * v + g + 0.01 * w
        w = w - lr * v
        expected.append(w)
    np.testing.assert_allclose(trajectory(run, start, gradients, lrs), expected, rtol=1e-12)


def test_adamw_is_the_published_algorithm():
    """Loshchilov and Hutter 2019, algorithm 2, with Adam's betas of the run's defaults."""
    start, gradients, lrs = example()
    run = make_run(**BASE, epochs=1, optimizer="adamw", lr=0.1, weight_decay=0.2)
    w, m, v, expected = start.copy(), np.zeros(6), np.zeros(6), []
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - lr * 0.2 * w - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        expected.append(w)
    np.testing.assert_allclose(trajectory(run, start, gradients, lrs), expected, rtol=1e-10)


def test_constant_schedule_is_constant():
    run = make_run(**BASE, epochs=2, lr=0.3)
    assert {learning_rate(run, step) for step in range(20)} == {0.3}


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_decays_by_their_closed_form(schedule):
    run = make_run(**BASE, epochs=2, lr=0.3, schedule=schedule)
    rates = [learning_rate(run, step) for step in range(20)]
    forms = {"cosine": lambda t: 0.3 * math.cos(math.pi * t / 40) ** 2, "linear": lambda t: 0.3 * (20 - t) / 20}
    np.testing.assert_allclose(rates, [forms[schedule](t) for t in range(20)], rtol=1e-12)
    assert rates[0] == 0.3 and 0 < rates[-1] < 0.02


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_warm_up_is_linear_then_the_schedule_starts_at_the_peak(schedule):
    run = make_run(**BASE, steps=12, lr=0.4, schedule=schedule, warmup_steps=4)
    rates = [learning_rate(run, step) for step in range(12)]
    np.testing.assert_allclose(rates[:5], [0.1, 0.2, 0.3, 0.4, 0.4])
    middle = {"constant": 0.4, "cosine": 0.2, "linear": 0.2}[schedule]
    assert rates[8] == pytest.approx(middle)
    assert [r > 0 for r in rates] == [True] * 12
    whole = make_run(**BASE, steps=4, lr=0.4, schedule=schedule, warmup_steps=4)
    assert learning_rate(whole, 3) == pytest.approx(0.4)


def test_the_body_takes_its_share_of_the_learning_rate():
    """Fine-tuning (paper section 4): SGD with momentum at 0.01 for the head and 0.001 for the body."""
    parent = make_run(**BASE, epochs=1)
    init = {"run": parent, "transform": "new_head"}
    child = make_run(**BASE, epochs=1, init=init, optimizer="sgd", lr=0.01, body_share=0.1, momentum=0.0)
    model = build_for(child)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(child, optim.parameters_of(child, model))
    for lr in (0.01, 0.005):
        set_learning_rate(optimizer, lr)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    for name, p in model.named_parameters():
        moved = 0.015 if name.startswith("linear_out") else 0.0015
        assert torch.allclose(p, before[name] - moved, atol=1e-7)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)


def test_a_share_needs_a_parent_and_keeps_old_keys():
    with pytest.raises(UserError, match="body_share=0.1 has no effect without init"):
        make_run(**BASE, epochs=1, body_share=0.1)
    assert make_run(**BASE, epochs=1).key == make_run(**BASE, epochs=1, body_share=1.0).key
    assert "body_share" not in make_run(**BASE, epochs=1).canonical()
