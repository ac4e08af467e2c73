"""The paper's Table 1 beside runs of ours: which cells are left over, and what a repeated cell says."""

import pandas as pd
import pytest
from test_plots import PAPER, curves, frame

from mlp_lib.plots import from_scratch as figures

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
    for other in ({"model": "S-6/Wi-256"}, {"train_examples": 45_000}, {"epochs": 75}, {"augmented": True},
                  {"status": "not run"}):  # fmt: skip
        assert "not run" in repeated(**other)
    assert "not run" in figures.replication(pd.DataFrame(), PAPER, "cifar10")
    twice = pd.concat([THREE, THREE], ignore_index=True)  # a run in two presets is one run
    assert figures.replication(twice, PAPER, "cifar10") == repeated()
    one = figures.replication(THREE[THREE["seed"] == 0], PAPER, "cifar10")
    assert one.startswith("ours 54.0 n=1") and one.endswith("is 0.2 above it, without interval")


@pytest.mark.parametrize("end, says", [(20.0, "a loss"), (30.5, "neither")])
def test_what_comes_after_the_highest_point_of_the_mean_curve(end, says):
    runs = frame()
    runs["curve"] = [[{"epoch": float(e), "val_top1": top1 + seed / 10} for e, top1 in ((1, 25), (5, 31), (9, end))]
                     for seed in runs["seed"]]  # fmt: skip
    if says == "neither":
        for curve, noise in zip(runs["curve"], (2, -2, -1, 2, -2, -1), strict=True):
            curve[-1]["val_top1"] += noise
    text = figures.after_the_peak(curves(runs), "S-MLP")
    assert "from epoch 5 to 9" in text and says in text
    assert figures.after_the_peak(curves(frame()), "B-MLP") == "highest at the last of 100 epochs"
    assert figures.after_the_peak(curves(frame(augmented=True)), "S-MLP") == "not measured"
    assert figures.after_the_peak(curves(frame().iloc[:0]), "S-MLP") == "not measured"
