"""The order of batch sizes at every training length and under a schedule: numbers worked out by hand."""

import math

import pandas as pd
import pytest
import torch

from mlp_lib.chapters.batch_size import comparisons, training_lengths

NOISE = {0: -0.1, 1: 0.0, 2: 0.1}


def run(architecture, batch_size, seed, curve, budget="epochs", test=50.0, status="ok"):
    points = [{"epoch": epoch, "step": epoch, "val_top1": top1 + NOISE[seed]} for epoch, top1 in curve]
    return dict(
        architecture=architecture,
        optimizer="lion",
        budget=budget,
        batch_size=batch_size,
        seed=seed,
        status=status,
        schedule="constant",
        dataset="cifar10",
        test_top1=test + NOISE[seed],
        curve=points,
    )


def tuned(curves, **options) -> pd.DataFrame:
    return pd.DataFrame(run("B-MLP", size, seed, curve, **options) for size, curve in curves.items() for seed in NOISE)


def test_a_small_batch_that_overtrains_is_worse_at_the_end_only():
    frame = tuned({64: [(1, 40.0), (5, 50.0), (30, 47.0)], 4096: [(1, 20.0), (5, 45.0), (30, 49.0)]})
    found = comparisons.means_by_length(frame)
    assert found["epoch"].tolist() == [1, 5, 30, comparisons.BEST]
    assert [round(change.mean, 6) for change in found["difference"]] == [-20, -5, 2, -1]  # each at its best: 49 - 50
    assert found["means"].iloc[-1] == pytest.approx({64: 50.0, 4096: 49.0})
    assert [*comparisons.at_lengths(frame, "B-MLP")] == [1, 5, 30, comparisons.BEST]
    assert comparisons.at_lengths(frame, "CNN") == {}


def test_only_lengths_that_every_batch_size_has_are_compared():
    frame = tuned({64: [(1, 40.0), (2, 41.0)], 1024: [(2, 30.0), (3, 35.0)]})
    assert comparisons.means_by_length(frame)["epoch"].tolist() == [2, comparisons.BEST]


@pytest.mark.parametrize("status", ["diverged", "not run"])
def test_the_ends_are_those_of_all_judged_batch_sizes_whether_they_have_curves_or_not(status):
    """256 - 64 is not the largest minus the smallest where 1,024 is judged too, and has nothing to show."""
    there = tuned({64: [(1, 40.0), (2, 41.0)], 256: [(2, 30.0), (3, 35.0)]})
    frame = pd.concat([there, tuned({1024: []}, status=status)])
    found = comparisons.means_by_length(frame)
    assert found["epoch"].tolist() == [2, comparisons.BEST]  # what every size with curves has
    assert [change.n for change in found["difference"]] == [0, 0]
    row = training_lengths.table_by_length(frame).iloc[0]
    assert row["batch 64":].tolist() == ["41.0", "30.0", "not run", "not run"]
    assert comparisons.at_lengths(frame, "B-MLP")[comparisons.BEST].n == 0
    between = pd.concat([there.replace({"batch_size": {256: 1024}}), tuned({256: []}, status=status)])
    assert training_lengths.table_by_length(between).iloc[0]["batch 64":].tolist() == [
        "41.0",
        "not run",
        "30.0",
        "-11.0 [-11.0, -11.0] n=3",
    ]


def test_one_batch_size_has_no_change():
    frame = tuned({64: [(1, 40.0)]})
    assert training_lengths.table_by_length(frame).iloc[0]["batch 64":].tolist() == ["40.0", "not run"]


def test_what_stands_under_a_schedule_is_not_read_for_shorter_trainings():
    frame = tuned({64: [(1, 40.0)], 1024: [(1, 30.0)]}, budget="cosine")
    assert comparisons.means_by_length(frame).empty
    assert training_lengths.table_by_length(frame).iloc[0, 0] == "not run"


def test_the_best_epoch_is_the_other_seeds():
    """Flat curves with one lucky point a seed: its own maximum would be 60, where the others are it is 50."""
    frame = pd.concat(
        [
            pd.DataFrame(
                [
                    run("B-MLP", 64, seed, [(epoch, 60.0 if epoch == seed else 50.0) for epoch in range(4)])
                    for seed in NOISE
                ]
            ),
            tuned({4096: [(epoch, 40.0 + epoch) for epoch in range(4)]}),
        ]
    )
    at_best = comparisons.at_lengths(frame, "B-MLP")[comparisons.BEST]
    assert at_best.mean == pytest.approx(43 - 50) and at_best.n == 3


def test_the_floor_is_the_loss_of_a_network_that_answers_what_smoothing_asks_for():
    smoothing, classes = 0.3, 10
    taught = torch.full((classes,), smoothing / classes)
    taught[4] += 1 - smoothing
    loss = torch.nn.functional.cross_entropy(taught.log()[None], torch.tensor([4]))
    assert training_lengths.floor_of_loss(classes, smoothing) == pytest.approx(loss.item(), rel=1e-6)
    assert (
        training_lengths.floor_of_loss(10, 0.0) == 0 and math.copysign(1, training_lengths.floor_of_loss(10, 0.0)) == 1
    )
