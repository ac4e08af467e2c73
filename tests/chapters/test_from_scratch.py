"""The paper's Table 1 beside runs of ours: which cells are left over, and what a repeated cell says."""

import pandas as pd
import pytest
from test_plots import PAPER, curves, frame

from mlp_lib.chapters.from_scratch import figures

THREE = frame().assign(key=lambda f: f["model"] + f["seed"].astype(str))  # S-MLP: 54, 55, 56


def repeated(shift: float = 0.0, **changes) -> str:
    return figures.replication(THREE.assign(test_top1=THREE["test_top1"] + shift, **changes), PAPER, "cifar10")


def test_papers_cells_without_a_finished_run_are_listed_with_their_marks():
    table = figures.table_of_the_rest(PAPER, [frame(), pd.DataFrame()])
    numbers = table.filter(like="top-1").to_numpy().ravel()
    assert (numbers != "").sum() == len(PAPER) - 2  # all but S-MLP and B-MLP on CIFAR-10 without augmentation
    assert table.columns.tolist()[:4] == ["model", "augm.", "epochs", "CIFAR-10, top-1 %"]
    plain, *_, resnet = table.to_dict("records")
    assert (plain["model"], plain["CIFAR-10, top-1 %"], plain["TinyImageNet, top-1 %"]) == ("S-MLP", "", "8.5")
    assert plain["ImageNet, top-1 %"] == "9.2*"
    assert (resnet["epochs"], resnet["CIFAR-10, top-1 %"]) == ("not known to us", "93.2*")
    assert not table.isin(["nan"]).any(axis=None)


def test_runs_that_have_not_finished_leave_the_papers_cell_in_the_list():
    nothing = figures.table_of_the_rest(PAPER, [frame(status="not run")])
    assert (nothing.filter(like="top-1").to_numpy() != "").sum() == len(PAPER)
    assert figures.table_of_the_rest(PAPER.iloc[:1], [frame()]).iloc[0, 0] == "all of them are run here"


@pytest.mark.parametrize("shift, where", [(0.0, "inside"), (-10.0, "above"), (10.0, "below")])
def test_a_repeated_cell_says_where_the_papers_number_lies(shift, where):
    """54.2 against the interval of 54, 55, 56, and against the same ten points lower and higher."""
    assert repeated(shift).endswith(f"the paper's 54.2 (read in the paper) lies {where} our interval")


def test_a_repeated_cell_is_that_of_the_same_model_images_and_length():
    for other in (
        {"model": "S-6/Wi-256"},
        {"train_examples": 45_000},
        {"epochs": 75},
        {"augmented": True},
        {"status": "not run"},
    ):
        assert "not run" in repeated(**other)
    assert "not run" in figures.replication(pd.DataFrame(), PAPER, "cifar10")
    twice = pd.concat([THREE, THREE], ignore_index=True)  # a run in two presets is one run
    assert figures.replication(twice, PAPER, "cifar10") == repeated()
    one = figures.replication(THREE[THREE["seed"] == 0], PAPER, "cifar10")
    assert one.startswith("ours 54.0 n=1") and one.endswith("is 0.2 above it, without interval")


@pytest.mark.parametrize("end, says", [(20.0, "a loss"), (30.5, "neither")])
def test_what_comes_after_the_best_epoch_of_the_other_seeds(end, says):
    runs = frame()
    runs["curve"] = [
        [{"epoch": float(e), "val_top1": top1 + seed / 10} for e, top1 in ((1, 25), (5, 31), (9, end))]
        for seed in runs["seed"]
    ]
    if says == "neither":
        for curve, noise in zip(runs["curve"], (0.3, -0.3, 0.1, 0.3, -0.3, 0.1), strict=True):
            curve[-1]["val_top1"] += noise
    text = figures.after_the_peak(curves(runs), "S-MLP")
    assert "from the best epoch of the other seeds to the last of 9" in text and says in text
    assert text.startswith("-11.0 [-11.0, -11.0]" if says == "a loss" else "-0.5 ")
    assert figures.after_the_peak(curves(frame()), "B-MLP") == "highest at the last of 100 epochs"
    for other in (frame(augmented=True), frame().iloc[:0], frame()[frame()["seed"] == 0]):
        assert figures.after_the_peak(curves(other), "S-MLP") == "not measured with two seeds"


def points(family: str, augmented: bool, curve: list[tuple], flops: float, seeds=(0, 1, 2)) -> pd.DataFrame:
    """Points (epoch, validation top-1) of runs whose seeds differ by ten points each."""
    return pd.DataFrame(
        dict(
            family=family,
            augmented=augmented,
            seed=seed,
            epoch=epoch,
            step=epoch,
            total_steps=curve[-1][0],
            train_flops=flops,
            val_top1=top1 + 10 * seed,
        )
        for seed in seeds
        for epoch, top1 in curve
    )


def test_the_gain_over_the_best_epoch_leaves_out_what_the_other_lost_since():
    without, with_it = [(1, 30.0), (2, 40.0), (4, 35.0)], [(9, 45.0)]
    found = pd.concat([points("CNN", False, without, 1.0), points("CNN", True, with_it, 1.0)])
    last, gain = figures.gains(found, "CNN")
    assert last.mean == pytest.approx(10) and last.n == 3
    assert gain.mean == pytest.approx(5) and gain.n == 3 and gain.interval == pytest.approx((5, 5))
    for nothing, family in ((found, "S-MLP"), (pd.DataFrame(), "CNN")):
        assert [gain.n for gain in figures.gains(nothing, family)] == [0, 0]


def test_at_equal_compute_the_dearer_model_is_read_where_it_has_cost_as_much():
    """The B-MLP spends 100 a step; the S-MLP 200 in all: half-way, in logarithms, between the B-MLP's steps 1 and 4."""
    found = pd.concat(
        [
            points("S-MLP", False, [(1, 20.0), (10, 33.0)], 200.0),
            points("B-MLP", False, [(1, 30.0), (4, 36.0), (10, 50.0)], 1000.0),
        ]
    )
    ahead = figures.at_equal_compute(found, augmented=False)
    assert ahead.mean == pytest.approx(33.0 - 33.0) and ahead.n == 3
    assert figures.at_equal_compute(found, augmented=True).n == 0
    dear = found.assign(train_flops=found["train_flops"].where(found["family"] == "B-MLP", 2000.0))
    assert figures.at_equal_compute(dear, augmented=False).n == 0  # beyond the end of its curve nothing is read
