"""The chapters on scaling laws: on made-up runs that follow a known law, with a made-up store."""

import numpy as np
import pandas as pd
import pytest

from mlp_lib.chapters import scaling
from mlp_lib.chapters.allocation import rules as allocation
from mlp_lib.chapters.laws import rules as laws

WIDTHS = {"B-6/Wi-32": 1.5e5, "B-6/Wi-64": 4e5, "B-6/Wi-128": 1.2e6, "B-6/Wi-256": 4e6}


def frame(alpha: float, beta: float) -> pd.DataFrame:
    """Finished runs whose validation error is 0.2 + A / P^alpha + B / N^beta after every pass, with a little noise."""
    rows, noise = [], np.random.default_rng(0)
    for seed in range(3):
        for model, params in WIDTHS.items():
            for images in (500, 2000, 8000, 32_000):
                error = 0.2 + 0.1 * (params / 1.5e5) ** -alpha + 0.3 * (images / 500) ** -beta
                curve = [
                    {
                        "epoch": float(epoch),
                        "step": epoch * 5,
                        "val_top1": 100 * (1 - error * np.exp(noise.normal(0, 0.002))),
                        "val_loss": 2 * error,
                    }
                    for epoch in (1, 2, 3)
                ]
                rows.append(
                    {
                        "key": f"{len(rows):012x}",
                        "model": model,
                        "family": "B-MLP",
                        "seed": seed,
                        "status": "ok",
                        "train_examples": images,
                        "parameters": params,
                        "parameters_body": params / 2,
                        "train_flops": 6 * params * images * 3,
                        "paper_flops": 3 * params * images * 3,
                        "total_steps": 15,
                        "curve": curve,
                    }
                )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.35), (0.4, 0.4)])
def test_the_rules_find_the_exponents_of_a_known_law(alpha, beta):
    runs = frame(alpha, beta)
    (difference,) = laws.steeper_in_parameters(runs).values()
    assert difference.mean == pytest.approx(alpha - beta, abs=0.2) and difference.n == 3
    (share,) = allocation.optimal_parameters(runs).values()
    assert share.mean == pytest.approx(beta / (alpha + beta), abs=0.08)


def test_points_are_every_length_and_the_best_epoch_is_chosen_by_the_other_seeds():
    points = scaling.points_of(frame(1.0, 0.35))
    assert len(points) == 3 * 4 * 4 * 3 and scaling.most_passes(points) == 3
    first = points[(points["epoch"] == 1) & (points["examples"] == 500) & (points["params"] == 1.5e5)]
    assert first["compute"].tolist() == pytest.approx([6 * 1.5e5 * 500] * 3)
    best = scaling.at_best_epoch(points)
    assert len(best) == 3 * 4 * 4
    cell = points[(points["examples"] == 500) & (points["params"] == 1.5e5)]
    others = cell[cell["seed"] != 0].groupby("epoch")["error"].mean().idxmin()
    chosen = best[(best["examples"] == 500) & (best["params"] == 1.5e5) & (best["seed"] == 0)]
    assert chosen["epoch"].tolist() == [others]


def test_without_records_everything_says_so():
    empty = frame(1.0, 0.35).assign(status="not run")
    assert {part.n for part in laws.law_holds(empty).values()} == {0}
    assert {part.n for part in laws.steeper_in_parameters(empty).values()} == {0}
    assert {part.n for part in allocation.optimal_parameters(empty).values()} == {0}
