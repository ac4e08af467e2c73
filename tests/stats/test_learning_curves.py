"""What a prior is worth: points and compute beside the best MLP, on curves whose crossings are known."""

import math

import numpy as np
import pandas as pd
import pytest

from mlp_lib.chapters.controls import beside_the_mlp
from mlp_lib.chapters.controls import figures as drawn
from mlp_lib.stats import learning_curves
from mlp_lib.stats.intervals import Estimate, t_interval


def frame_of(errors: dict[str, list[float]], flops: dict[str, float] | None = None, steps=(1, 2, 4, 8)) -> pd.DataFrame:
    """One row a run from {family: final error by seed}: error falls as compute^-1/2, so all is known exactly.

    Validation and test error agree; `flops` are those of a family's whole training.
    """
    rows = []
    for family, by_seed in errors.items():
        for seed, error in enumerate(by_seed):
            curve = [
                {"epoch": float(s), "step": float(s), "val_top1": 100 - error * (steps[-1] / s) ** 0.5} for s in steps
            ]
            rows.append(
                dict(
                    family=family,
                    model=family,
                    seed=seed,
                    status="ok",
                    preset="laptop",
                    searched=True,
                    chosen=True,
                    at_edge=False,
                    trials=13,
                    dataset="cifar10",
                    train_examples=10_000,
                    schedule="constant",
                    epochs=30,
                    optimizer="lion",
                    lr=1e-3,
                    augment="none",
                    augmented=False,
                    curve=curve,
                    test_top1=100 - error,
                    val_top1=100 - error,
                    train_top1=99.0,
                    total_steps=steps[-1],
                    train_flops=(flops or {}).get(family, 1e12),
                    paper_flops=5e11,
                    macs=1_000_000,
                    parameters=70_000,
                )
            )
    return pd.DataFrame(rows)


def ratios(frame: pd.DataFrame, share: float = 1.0) -> dict[str, learning_curves.ComputeRatio]:
    """The compute ratios at the error that the best MLP came to by a share of its training."""
    level = learning_curves.error_reached_by(frame, learning_curves.best_mlp(frame), share)
    return learning_curves.compute_ratios(frame, level)


def texts(frame: pd.DataFrame, share: float = 1.0) -> dict[str, str]:
    return {family: beside_the_mlp.ratio_text(ratio) for family, ratio in ratios(frame, share).items()}


def test_compute_to_reach_a_level_is_exact_on_a_power_law():
    compute = np.array([1.0, 2.0, 5.0, 40.0])
    points = pd.DataFrame({"compute": compute, "error": 60 * compute**-0.3}).sample(frac=1, random_state=0)
    for level in (50.0, 40.0, 25.0):
        found, at_first = learning_curves.compute_to_reach(points, level)
        assert found == pytest.approx((60 / level) ** (1 / 0.3)) and not at_first
    assert learning_curves.compute_to_reach(points, 70.0) == (1.0, True)
    assert learning_curves.compute_to_reach(points, 5.0) == (math.inf, False)
    noisy = pd.DataFrame({"compute": [1.0, 2.0, 3.0, 4.0], "error": [50.0, 40.0, 45.0, 39.0]})
    assert learning_curves.compute_to_reach(noisy, 40.0)[0] == pytest.approx(2.0)  # the first time


def test_a_family_that_needs_an_eighth_of_the_compute_is_worth_a_factor_of_eight():
    lower = 20 * 8**-0.5  # error goes with the root of compute: at an eighth of its training it is at 20
    errors = {"S-MLP": [30.0] * 3, "B-MLP": [20.0] * 3, "CNN": [lower] * 3}
    frame = frame_of(errors, {"B-MLP": 4e12, "CNN": 4e12}, steps=(1, 2, 6, 12, 64))
    assert learning_curves.best_mlp(frame) == "B-MLP" and learning_curves.error_reached_by(
        frame, "B-MLP"
    ) == pytest.approx(20.0)
    beside = learning_curves.others_beside_best_mlp(frame)
    assert texts(frame) == {"S-MLP": "never reached", "CNN": "8 [8, 8] n=3"} and ratios(frame)["S-MLP"].estimate.n == 0
    assert {one.family: one.at_the_end.mean for one in beside}["CNN"] == pytest.approx(20 - lower)
    late = frame_of(errors, steps=(12, 64))  # the first point is beyond the crossing
    assert texts(late)["CNN"] == "at least 5.33 [5.33, 5.33] n=3"
    assert beside_the_mlp.families_by_sign(beside) == {"ahead": ["CNN"], "behind": ["S-MLP"], "undecided": []}


def test_the_ratio_is_a_geometric_mean_paired_by_seed():
    frame = frame_of({"B-MLP": [20.0, 20.0, 20.0], "CNN": [10.0, 12.0, 15.0]}, steps=(1, 2, 4, 8, 16, 32, 64))
    logs = [2 * math.log(20 / error) for error in (10.0, 12.0, 15.0)]  # compute goes with the square
    found = ratios(frame)["CNN"].estimate
    expected = t_interval(logs)
    assert found.mean == pytest.approx(math.exp(expected.mean)) and found.n == 3
    assert found.interval == pytest.approx([math.exp(end) for end in expected.interval])


def test_the_ratio_is_read_at_several_levels_and_differs_where_the_curves_have_other_slopes():
    """The MLP's error falls as compute^-1/2, the other's as compute^-1: all crossings are known."""
    frame = frame_of({"B-MLP": [20.0, 20.0], "CNN": [10.0, 10.0]}, steps=(1, 2, 4, 8, 16, 32, 64))
    steep = frame["family"] == "CNN"
    frame.loc[steep, "curve"] = pd.Series(
        [[{**p, "val_top1": 100 - 10 * 64 / p["step"]} for p in curve] for curve in frame.loc[steep, "curve"]],
        index=frame.index[steep],
    )
    levels = learning_curves.error_levels(frame)
    assert levels == pytest.approx({1.0: 20, 1 / 2: 20 * 2**0.5, 1 / 4: 40, 1 / 8: 20 * 8**0.5})
    for share, level in levels.items():
        ratio = ratios(frame, share)["CNN"].estimate.mean  # both trainings cost the same
        assert ratio == pytest.approx(share / (10 / level))
    table = beside_the_mlp.table_beside_mlp(frame)
    assert [name for name in table if "ratio" in name] == [
        "compute ratio at 20.0% (all) [95%]",
        "compute ratio at 28.3% (half) [95%]",
        "compute ratio at 40.0% (a quarter) [95%]",
        "compute ratio at 56.6% (an eighth) [95%]",
    ]
    assert table.iloc[0, 2] == "2 [2, 2] n=2" and table.iloc[0, 4] == "1 [1, 1] n=2"
    assert beside_the_mlp.ratio_at(frame, "CNN") == "2 [2, 2] n=2"
    assert beside_the_mlp.ratio_at(frame, "CNN", 1 / 2) == "1.41 [1.41, 1.41] n=2"
    assert beside_the_mlp.ratio_at(frame, "Mixer") == "not run"


def test_a_level_is_what_every_seed_has_come_to_and_never_below_its_curve():
    frame = frame_of({"B-MLP": [20.0, 24.0]}, steps=(2, 3, 4))
    assert learning_curves.error_levels(frame) == pytest.approx({1.0: 24, 0.5: 24 * 2**0.5})  # the curves begin at half
    rising = [{"epoch": s, "step": s, "val_top1": 100 - e} for s, e in ((1.0, 50.0), (2.0, 40.0), (8.0, 60.0))]
    frame = frame_of({"B-MLP": [60.0]}).assign(curve=lambda f: [rising] * len(f))
    assert learning_curves.error_levels(frame) == {1.0: 40.0, 0.5: 40.0, 0.25: 40.0, 0.125: 50.0}  # the lowest so far
    between = [{"epoch": s, "step": s, "val_top1": 100 - e} for s, e in ((1.0, 80.0), (4.0, 20.0), (8.0, 20.0))]
    frame = frame_of({"B-MLP": [20.0]}).assign(curve=lambda f: [between] * len(f))
    assert learning_curves.error_levels(frame) == pytest.approx(
        {1.0: 20, 0.5: 20, 0.25: 40, 0.125: 80}
    )  # log-log: 80 / 2 at twice 1
    for level in learning_curves.error_levels(frame).values():
        assert math.isfinite(learning_curves.compute_to_reach(learning_curves.with_compute(frame), level)[0])


def test_an_mlp_that_is_there_by_its_first_point_gives_an_upper_bound():
    frame = frame_of({"B-MLP": [20.0] * 2, "CNN": [30.0] * 2})
    late = ratios(frame, 1 / 8)["CNN"]  # by the square of 20 / 30
    assert late.upper_bound and not late.lower_bound
    assert beside_the_mlp.ratio_text(late) == "at most 0.444 [0.444, 0.444] n=2"
    same = frame_of({"B-MLP": [20.0] * 2, "CNN": [10.0] * 2})
    assert texts(same, 1 / 8)["CNN"] == "both there by their first points"


def test_seeds_that_never_arrive_are_not_left_out_of_a_mean():
    found = ratios(frame_of({"B-MLP": [20.0] * 3, "ViT": [15.0, 25.0, 15.0]}))["ViT"]
    assert beside_the_mlp.ratio_text(found) == "reached by 2 of 3 seeds" and found.estimate.n == 0
    frame = frame_of({"B-MLP": [20.0] * 3, "ViT": [15.0, 15.0, 15.0]})
    frame.loc[frame.index[-1], "status"] = "diverged"
    assert texts(frame)["ViT"] == "reached by 2 of 3 seeds"
    one = learning_curves.ComputeRatio(Estimate(3.0, None, 1), reached=1, seeds=1)
    assert beside_the_mlp.ratio_text(one) == "3 n=1"


def test_a_schedule_that_is_not_constant_is_not_read_for_shorter_trainings():
    frame = frame_of({"B-MLP": [20.0] * 3, "ResNet18": [10.0]})
    resnet = frame["family"] == "ResNet18"
    frame.loc[resnet, ["schedule", "searched"]] = ["cosine", False]
    assert learning_curves.others_beside_best_mlp(frame)[0].at_the_end.n == 1
    assert texts(frame)["ResNet18"] == "not comparable: no constant rate"
    axis = drawn.error_against_compute(frame).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    assert lines["ResNet18, its usual recipe"].get_xydata().tolist() == [[1e12, 10.0]]
    assert lines["B-MLP"].get_xdata().tolist() == pytest.approx([1.25e11, 2.5e11, 5e11, 1e12])
    assert lines["B-MLP"].get_ydata()[-1] == pytest.approx(20.0)
    levels = {float(line.get_ydata()[0]) for line in axis.lines if line.get_ls() == ":"}
    assert levels == set(learning_curves.error_levels(frame).values()) and 20.0 in levels


def test_only_what_saw_the_same_images_is_compared():
    frame = frame_of({"B-MLP": [20.0] * 3})
    given = frame_of({"ResNet18": [10.0]}).assign(searched=False, preset="overnight")
    searched = frame_of({"CNN": [10.0]}).assign(preset="overnight")
    larger = pd.concat([given, given.assign(train_examples=45_000), searched], ignore_index=True)
    assert beside_the_mlp.on_the_same_images(frame, larger)["family"].tolist() == ["B-MLP"] * 3 + ["ResNet18"]
    assert len(beside_the_mlp.on_the_same_images(frame, pd.DataFrame())) == 3
    assert (
        len(beside_the_mlp.on_the_same_images(pd.concat([frame, given.assign(train_examples=5)]), pd.DataFrame())) == 3
    )


def curves_of(**families: list[list[float]]) -> pd.DataFrame:
    """One row a run: validation top-1 after 1, 2 and 3 epochs by seed, for each family (an underscore is a hyphen)."""
    named = {name.replace("_", "-"): by_seed for name, by_seed in families.items()}
    frame = frame_of({name: [100 - values[-1] for values in by_seed] for name, by_seed in named.items()})
    rows = [
        [{"epoch": float(e), "step": float(e), "val_top1": v} for e, v in enumerate(values, start=1)]
        for by_seed in named.values()
        for values in by_seed
    ]
    return frame.assign(curve=rows)


STILL_RISING = [[50.0, 60.0, 62.0], [51.0, 61.0, 64.0], [49.0, 59.0, 63.0]]
PAST_ITS_BEST = [[40.0, 66.0, 60.0], [41.0, 70.0, 71.0], [42.0, 65.0, 61.0]]  # but for one seed, which does not choose


def test_a_family_is_read_at_its_best_length_which_the_other_seeds_choose():
    frame = curves_of(B_MLP=STILL_RISING, CNN=PAST_ITS_BEST)
    assert learning_curves.at_best_length(frame, family="CNN").to_dict() == {
        0: 66.0,
        1: 70.0,
        2: 65.0,
    }  # not the 71 of seed 1
    assert learning_curves.at_best_length(frame, family="B-MLP").to_dict() == {0: 62.0, 1: 64.0, 2: 63.0}
    assert learning_curves.at_last_length(frame, family="CNN").to_dict() == {0: 60.0, 1: 71.0, 2: 61.0}
    assert [beside_the_mlp.length_text(frame, family) for family in ("CNN", "B-MLP")] == ["2 of 3", "3 of 3"]
    assert beside_the_mlp.epochs_of_points(frame) == [1, 2, 3]
    found = learning_curves.others_beside_best_mlp(frame)[0]
    # 4, 6, 2 at the best lengths, of deviation 2; -2, 7, -2 at the end, of deviation 27^1/2; t(0.975, 2) is 4.3027
    assert found.at_best.mean == pytest.approx(4) and found.at_the_end.mean == pytest.approx(1)
    half = 4.3027 * 2 / 3**0.5
    assert found.at_best.interval == pytest.approx([4 - half, 4 + half], abs=1e-3)
    assert beside_the_mlp.table_at_best_length(frame).values.tolist() == [
        ["B-MLP", "3 of 3", "63.0 [60.5, 65.5] n=3", "", ""],
        ["CNN", "2 of 3", "67.0 [60.4, 73.6] n=3", "4.0 [-1.0, 9.0] n=3", "1.0 [-11.9, 13.9] n=3"],
    ]


def test_sides_can_be_taken_at_the_best_lengths():
    lead = [[first + 9, second + 9, third - 9] for first, second, third in STILL_RISING]
    found = learning_curves.others_beside_best_mlp(curves_of(B_MLP=STILL_RISING, CNN=lead))
    behind = beside_the_mlp.families_by_sign(found)  # by 9 for every seed
    ahead = beside_the_mlp.families_by_sign(found, "at_best")  # by 7, 6, 5
    assert behind == {"ahead": [], "behind": ["CNN"], "undecided": []}
    assert ahead == {"ahead": ["CNN"], "behind": [], "undecided": []}


def test_a_diverged_seed_is_at_chance_at_every_length_and_other_schedules_have_no_shorter_ones():
    frame = curves_of(B_MLP=STILL_RISING, CNN=PAST_ITS_BEST)
    frame.loc[frame.index[-1], "status"] = "diverged"
    assert learning_curves.by_length(frame, family="CNN").loc[2].tolist() == [10.0] * 3
    assert learning_curves.at_best_length(frame, family="CNN").to_dict() == {0: 60.0, 1: 70.0, 2: 10.0}
    cosine = curves_of(B_MLP=STILL_RISING, ResNet18=PAST_ITS_BEST)
    cosine.loc[cosine["family"] == "ResNet18", "schedule"] = "cosine"
    assert (
        learning_curves.by_length(cosine, family="ResNet18").empty
        and learning_curves.others_beside_best_mlp(cosine)[0].at_best.n == 0
    )
    row = beside_the_mlp.table_at_best_length(cosine).iloc[1].tolist()
    assert row == ["ResNet18", "", *["not comparable: no constant rate"] * 3]
    one = curves_of(B_MLP=STILL_RISING[:1], CNN=PAST_ITS_BEST[:1])  # chooses nothing for itself
    assert (
        learning_curves.at_best_length(one, family="CNN").empty
        and learning_curves.others_beside_best_mlp(one)[0].at_best.n == 0
    )


# --- one cell's table of seeds by lengths -----------------------------------------------------------------------------


def lengths(**columns: list[float]) -> pd.DataFrame:
    """Seeds by epochs, by hand: e1=[...] is the column of epoch 1."""
    return pd.DataFrame({float(name[1:]): values for name, values in columns.items()})


def test_what_a_training_brings_after_its_best_and_in_its_last_part():
    table = lengths(e1=[25.0, 25.1], e5=[31.0, 31.1], e6=[30.0, 30.1], e9=[20.0, 20.1])
    assert learning_curves.best_length(table) == 5
    after = learning_curves.change_after_best(table)
    assert after.mean == pytest.approx(-11) and after.interval == pytest.approx((-11, -11))
    since, rise = learning_curves.late_rise(table)
    assert since == 6 and rise.mean == pytest.approx(-10) and rise.n == 2
    assert learning_curves.change_after_best(table[[1.0, 5.0]]).mean == 0  # the best is the last
    for nothing in (pd.DataFrame(), lengths(e9=[1.0, 2.0])):
        assert learning_curves.late_rise(nothing)[1].n == 0
    assert learning_curves.change_after_best(pd.DataFrame()).n == 0


def test_two_tables_are_compared_at_the_longest_length_that_both_have():
    first, second = lengths(e1=[10.0, 11.0], e4=[20.0, 21.0], e9=[30.0, 33.0]), lengths(e1=[9.0, 9.0], e4=[15.0, 15.0])
    epoch, gain = learning_curves.at_longest_common(first, second)
    assert epoch == 4 and gain.mean == pytest.approx(5.5) and gain.n == 2
    assert learning_curves.at_longest_common(first, pd.DataFrame())[1].n == 0


def test_at_equal_compute_the_dearer_cell_is_read_where_it_has_cost_as_much():
    """The dearer cell spends 100 a step and the other 200 in all: half-way, in logarithms, between steps 1 and 4."""
    dear = frame_of({"B-MLP": [50.0, 40.0]}, {"B-MLP": 1000.0})
    dear["curve"] = [
        [{"epoch": s, "step": s, "val_top1": v + 10 * seed} for s, v in ((1, 30.0), (4, 36.0), (10, 50.0))]
        for seed in (0, 1)
    ]
    cheap = frame_of({"S-MLP": [70.0, 60.0]}, {"S-MLP": 200.0})
    cheap["curve"] = [
        [{"epoch": s, "step": s, "val_top1": v + 10 * seed} for s, v in ((1, 20.0), (10, 31.0))] for seed in (0, 1)
    ]
    for rows in (dear, cheap):
        rows["total_steps"] = 10
    ahead = learning_curves.at_equal_compute(dear, cheap)
    assert ahead.mean == pytest.approx(33.0 - 31.0) and ahead.n == 2
    assert (
        learning_curves.at_equal_compute(dear, cheap.assign(train_flops=2000.0)).n == 0
    )  # beyond the end of its curve
    assert learning_curves.at_equal_compute(dear, cheap.iloc[:0]).n == 0
    assert learning_curves.at_equal_compute(dear.assign(schedule="cosine"), cheap).n == 0
