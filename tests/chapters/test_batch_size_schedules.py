"""The cosine control of the batch sizes: numbers worked out by hand."""

import pandas as pd
import pytest

from mlp_lib.chapters.batch_size import comparisons, schedules

NOISE = {0: -0.1, 1: 0.0, 2: 0.1}


def cell(batch_size, budget, test, train=100.0, architecture="B-MLP") -> pd.DataFrame:
    """Runs whose seeds differ by more than anything else does."""
    return pd.DataFrame(
        dict(
            architecture=architecture,
            optimizer="lion",
            budget=budget,
            batch_size=batch_size,
            seed=seed,
            status="ok",
            dataset="cifar10",
            test_top1=test + 30 * NOISE[seed],
            test_loss=1 - test / 100,
            train_loss=0.3,
            train_top1=train,
        )
        for seed in NOISE
    )


def both(architecture="B-MLP", train=100.0) -> pd.DataFrame:
    """The largest batch brings 2 points at a constant rate and costs 1 under the schedule."""
    return pd.concat(
        [
            cell(64, "epochs", 48.0, architecture=architecture),
            cell(64, "cosine", 53.0, architecture=architecture),
            cell(4096, "epochs", 50.0, train, architecture),
            cell(4096, "cosine", 52.0, train, architecture),
        ]
    )


def test_constant_and_cosine_stand_beside_each_other():
    frame = both()
    constant, cosine = (comparisons.difference(frame, "B-MLP", budget=budget) for budget in ("epochs", "cosine"))
    assert (constant.mean, constant.n, cosine.mean) == (pytest.approx(2), 3, pytest.approx(-1))
    assert comparisons.difference(frame, "CNN", budget="cosine").n == 0
    table = schedules.table_of_accuracies(both())
    assert table["learning rate"].tolist() == ["constant", "cosine"] * 2
    assert table["batch 64"].iloc[1].startswith("53.0") and table[comparisons.DIFFERENCE].iloc[3] == "not run"


def test_the_interaction_is_paired_by_seed():
    row = schedules.interactions(both()).iloc[0]
    assert (row["smaller"], row["larger"], row["fitted"]) == (64, 4096, 100.0)
    for name, mean in (("constant", 2), ("cosine", -1), ("interaction", -3)):
        assert row[name].mean == pytest.approx(mean) and row[name].n == 3
        assert row[name].interval == pytest.approx((mean, mean))  # seeds cancel
    loss = schedules.interactions(both(), "test_loss").iloc[0]
    assert loss["interaction"].mean == pytest.approx(0.03)
    more = pd.concat([both(), cell(8, "beyond", 1.0)])
    assert schedules.interactions(more)["smaller"].unique().tolist() == [64]  # what lies beyond has no schedule


def test_both_sides_are_of_the_seeds_that_all_four_cells_have():
    frame = both()
    fewer = frame[~((frame["budget"] == "cosine") & (frame["batch_size"] == 4096) & (frame["seed"] == 2))]
    row = schedules.interactions(fewer).iloc[0]
    assert {row[name].n for name in ("constant", "cosine", "interaction")} == {2}


def test_equal_fit_asks_that_all_four_cells_have_learnt_their_images():
    row = schedules.at_equal_fit(both(), "B-MLP")
    assert (row["smaller"], row["larger"]) == (64, 4096) and row["interaction"].mean == pytest.approx(-3)
    assert schedules.at_equal_fit(both(train=98.0), "B-MLP") is None
    assert schedules.at_equal_fit(both(), "CNN") is None


def test_the_control_is_complete_when_all_of_it_has_ended_and_there_is_one():
    done = cell(64, "cosine", 53.0)
    assert schedules.complete(done)
    assert not schedules.complete(cell(64, "epochs", 53.0))
    assert not schedules.complete(done.assign(status=["ok", "ok", "not run"]))
