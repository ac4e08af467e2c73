"""The chapter on augmentation: which runs it asks for, and its rule. Nothing is trained."""

import base64
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.chapters import claims, planning
from mlp_lib.chapters.augmentation import study as augmentation
from mlp_lib.chapters.augmentation.rules import by_setting, least
from mlp_lib.chapters.parameters import TUNING_SEEDS
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import LEAST_SEEDS, flagged, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import family_of
from mlp_lib.records.frames import row_of
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import t_interval
from mlp_lib.sweeps import costs

# With grids of the tests' own, so that centring the preset's anew changes no test.
MIDDLES = dict.fromkeys(("S-MLP", "B-MLP", "CNN", "ViT"), (3e-4, 1e-4))
LAPTOP = replace(augmentation.resolve("laptop"), middle_lrs=MIDDLES)
FULL = "flip+crop+mixup"


class Fake:
    """An `ensure` with made-up results: 5 points a doubling of the images and 7.5 points for all of the augmentation.
    `radius(run)` is that of the first layer; `best_lr`, a number or a function of the run, that of a choice. Notes what
    was asked to be measured."""

    def __init__(self, radius=lambda run: 1.0, best_lr=3e-4):
        self.radius, self.best_lr = radius, best_lr
        self.trained, self.measures, self.records = {}, {}, {}

    def __call__(self, runs, train=True, measures=None):
        for run in runs:
            self.trained[run.key] = train or self.trained.get(run.key, False)
            self.measures[run.key] = tuple(dict.fromkeys((*self.measures.get(run.key, ()), *(measures or ()))))
            if train:
                self.records[run.key] = self.record(run)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])

    def record(self, run):
        share = {"none": 0.0, FULL: 1.0}.get(run.augment, 0.5)
        top1 = 30 + 5 * np.log2(run.train_examples / 2000) + 7.5 * share + run.seed % 7
        measures = {}
        if family_of(run.model).endswith("MLP"):
            measures["first_layer_spread"] = {
                "radius_mean": self.radius(run),
                "entropy_mean": 0.9,
                "initial_radius_mean": 1.0,
                "initial_entropy_mean": 0.98,
            }
            change = {"radius_mean": self.radius(run) - 0.01, "entropy_mean": 0.8, "moved": 0.5}
            measures |= {"first_layer_change": change} if "first_layer_change" in (self.measures[run.key] or ()) else {}
        asked = self.measures[run.key] or ()
        for name in {"first_layer", "first_layer_initial"} & {*asked}:
            pictures = base64.b64encode(bytes(64 * 32 * 32)).decode()
            measures[name] = {"pictures": pictures, "pictures_units": 64, "side": 32}
        if "translated" in asked:
            measures["translated"] = {"shifts": list(range(9)), "top1": [top1 - 2 * i for i in range(9)]}
        best = self.best_lr(run) if callable(self.best_lr) else self.best_lr
        tuned = 50 - abs(np.log(run.lr / best))
        return record_of(
            run,
            measures=measures,
            metrics={
                "train_top1": 90.0,
                "val_top1": tuned + 0.1 * (run.seed % 10) + 5 * share
                if run.seed in TUNING_SEEDS
                else top1 - 0.01 * abs(np.log(run.lr / best)),
                "test_top1": top1,
                "test_loss": 1.5,
            },
            curve=[
                {"epoch": 1.0, "step": 10.0, "val_top1": 20.0, "train_top1": 20.0, "val_loss": 1.5},
                {"epoch": 5.0, "step": 50.0, "val_top1": top1, "train_top1": 90.0, "val_loss": 1.8 - 0.2 * share},
            ],
        )


@pytest.fixture(scope="module")
def collected():
    fake = Fake()
    return fake, augmentation.collect(LAPTOP, fake)


# --- which runs


def test_every_reported_run_takes_the_same_steps_of_the_same_batch(collected):
    frame = collected[1].frame
    assert set(frame["steps"]) == {LAPTOP.steps} and set(frame["batch_size"]) == {LAPTOP.batch_size}
    assert frame["key"].is_unique and set(frame["seed"]) == {0, 1, 2}


def test_the_grid_is_what_the_chapter_says(collected):
    frame = collected[1].frame

    def cells(**where) -> set:
        rows = frame[np.logical_and.reduce([frame[k] == v for k, v in where.items()])]
        assert (rows.groupby(["augment", "train_examples", "label_smoothing"])["seed"].nunique() == 3).all()
        return set(zip(rows["augment"], rows["train_examples"], rows["label_smoothing"], strict=True))

    parts = {(a, 2000, 0.3) for a in ("none", "flip+crop", FULL)}
    curve = {("none", n, 0.3) for n in (2000, 8000, 32_000)}
    both = {(a, n, 0.3) for a in ("none", FULL) for n in (500, 32_000)}
    assert cells(family="CNN") == cells(family="ViT") == parts | curve
    assert cells(family="S-MLP") == cells(family="B-MLP") == parts | curve | both
    assert set(augmentation.resolve("smoke").sizes) | {300} == {100, 300, 1200}


def test_overnight_takes_the_augmentation_apart_and_varies_label_smoothing():
    preset = augmentation.resolve("overnight")
    runs = [run for run, _ in augmentation.asked(preset, dict.fromkeys(augmentation.candidates(preset), 1e-4))]
    own = [run for run in runs if run.model == "B-6/Wi-256" and run.train_examples == preset.subset]
    seeds = {run.augment: {r.seed for r in own if (r.augment, r.label_smoothing) == (run.augment, 0.3)} for run in own}
    assert {augment: len(found) for augment, found in seeds.items()} == {
        **dict.fromkeys(("flip", "crop", "flip+crop", "mixup"), 3),
        **dict.fromkeys(("none", FULL), 5),
    }
    smoothed = {(run.augment, run.label_smoothing, run.seed) for run in runs if run.label_smoothing != 0.3}
    assert smoothed == {(a, s, seed) for a in ("none", FULL) for s in (0.0, 0.1) for seed in (0, 1, 2)}
    assert len({run.key for run in runs}) == len(runs)


def test_fewer_images_than_the_compared_stand_where_augmentation_is_trained_at_them_or_where_there_are_no_others():
    assert LAPTOP.sizes_of("CNN-16") == [8000, 32_000] and LAPTOP.sizes_of("B-6/Wi-256") == [500, 8000, 32_000]
    assert augmentation.resolve("laptop", sizes=(500,)).sizes_of("CNN-16") == [500]
    assert LAPTOP.both_sides("CNN-16") == {2000} and LAPTOP.both_sides("S-6/Wi-256") == {500, 2000, 32_000}


def test_parts_take_the_lr_of_all_and_the_curve_that_of_none():
    lrs = {key: lr for key, lr in zip(augmentation.candidates(LAPTOP), np.linspace(1e-4, 8e-4, 8), strict=True)}
    for run, _ in augmentation.asked(LAPTOP, lrs):
        assert run.lr == lrs[run.model, "none" if run.augment == "none" else "all"]


def test_learning_rates_are_tuned_at_the_full_length_with_three_seeds_of_their_own_and_nothing_is_measured(collected):
    fake, results = collected
    tuned = [r.run for r in fake.records.values() if r.run.seed in TUNING_SEEDS]
    assert {run.steps for run in tuned} == {LAPTOP.steps} and {run.subset for run in tuned} == {LAPTOP.subset}
    by_rate = {(run.model, run.augment, run.lr): set() for run in tuned}
    for run in tuned:
        by_rate[run.model, run.augment, run.lr].add(run.seed)
    assert {frozenset(seeds) for seeds in by_rate.values()} == {frozenset(TUNING_SEEDS)}
    assert {fake.measures[run.key] for run in tuned} == {()}
    assert results.complete and {cell.choice.lr for cell in results.cells} <= {3e-4, 3.33e-4}
    assert {cell.choice.seeds for cell in results.cells} == {LEAST_SEEDS} and not flagged(results.choices)


def test_each_family_has_a_grid_of_its_own_on_either_side_and_a_readers_grid_replaces_all():
    for preset in (augmentation.resolve("laptop"), augmentation.resolve("overnight"), augmentation.resolve("gpu")):
        for (model, name), run in augmentation.candidates(preset).items():
            grid = preset.grid(family_of(model), name)
            assert len(grid) == 3 and run.lr == grid[1] == preset.middle_lrs[family_of(model)][name == "all"]
    own = augmentation.resolve("laptop", lrs=(1e-4, 2e-4))
    assert {own.grid(family_of(model), name) for model, name in augmentation.candidates(own)} == {(1e-4, 2e-4)}


def test_nothing_is_trained_before_every_lr_is_chosen():
    class Unfinished(Fake):
        def record(self, run):
            record = super().record(run)
            late = run.seed in TUNING_SEEDS and run.model == "CNN-16"
            return record_of(run, status="failed", error="x") if late else record

    fake = Unfinished()
    results = augmentation.collect(LAPTOP, fake)
    assert {run.run.seed for run in fake.records.values()} == {*TUNING_SEEDS} and not results.complete


def test_large_measures_are_asked_only_where_a_figure_needs_them(collected):
    fake = collected[0]
    control = {*collected[1].control["key"]}
    runs = {k: r.run for k, r in fake.records.items() if k not in control and r.run.seed not in TUNING_SEEDS}

    def with_measure(name: str) -> set:
        return {(r.model, r.augment, r.train_examples, r.seed) for k, r in runs.items() if name in fake.measures[k]}

    assert with_measure("first_layer") == {("B-6/Wi-256", a, n, 0) for a in ("none", FULL) for n in (500, 2000, 32_000)}
    assert with_measure("first_layer_initial") == {("B-6/Wi-256", "none", 2000, 0)}
    assert with_measure("translated") == {
        (m, a, 2000, s) for m in ("B-6/Wi-256", "CNN-16") for a in ("none", FULL) for s in (0, 1, 2)
    }
    assert with_measure("first_layer_change") == {
        (m, a, n, s)
        for m in ("S-6/Wi-256", "B-6/Wi-256")
        for a in ("none", FULL)
        for n in (500, 2000, 32_000)
        for s in (0, 1, 2)
    }
    assert all("first_layer_spread" in fake.measures[key] for key in runs)


def lr_by_augmentation(run):
    """A chosen learning rate that is three times as high without augmentation."""
    return 3e-4 if run.augment == "none" else 1e-4


@pytest.fixture(scope="module")
def at_two_rates():
    fake = Fake(best_lr=lr_by_augmentation)
    return fake, augmentation.collect(LAPTOP, fake)


def test_the_control_trains_mlps_beside_the_chosen_rates_and_comes_last(at_two_rates):
    fake, results = at_two_rates
    rows = results.control[results.control["model"] == "B-6/Wi-256"]
    rows = rows[["augmentation", "lr", "train_examples", "seed"]].itertuples(index=False, name=None)
    beside = {"none": (1e-4, 1e-3), "all": (3.33e-5, 3e-4)}  # of 3e-4 and of 1e-4: each is the other's neighbour too
    assert {*rows} == {(name, lr, 32_000, seed) for name, lrs in beside.items() for lr in lrs for seed in (0, 1)}
    assert {*results.control["model"]} == {"S-6/Wi-256", "B-6/Wi-256"}
    assert {*list(fake.records)[-16:]} == {*results.control["key"]}
    assert {fake.measures[key] for key in results.control["key"]} == {augmentation.MEASURES}


class RisingAtMost(Fake):
    """At 32,000 images validation top-1 is the better the higher the rate, up to 3e-3; at 2,000 best as ever."""

    def record(self, run):
        record = super().record(run)
        if run.train_examples < 32_000:
            return record
        val = 60 - abs(np.log(run.lr / 3e-3))
        return record.model_copy(update={"metrics": record.metrics | {"val_top1": val}})


def test_the_control_goes_on_until_the_best_rate_at_the_most_images_lies_inside():
    results = augmentation.collect(LAPTOP, RisingAtMost(best_lr=lr_by_augmentation))
    choice = results.at_most["B-6/Wi-256", "none"]
    assert results.choices["B-6/Wi-256", "none"].lr == 3e-4 and choice.lr == 3e-3 and not choice.at_edge
    assert choice.grid["lr"].tolist() == [1e-4, 3e-4, 1e-3, 3e-3, 9e-3] and choice.seeds == 2
    assert results.at_most["B-6/Wi-256", "all"].at_edge, "widened twice, from 3e-4, and no further"


def test_the_control_has_the_rate_of_the_other_side_where_that_is_no_neighbour():
    results = augmentation.collect(LAPTOP, Fake(best_lr=lambda run: 1e-3 if run.augment == "none" else 3.33e-5))
    assert {3.33e-5, 3e-4, 3e-3} <= {*results.at_most["B-6/Wi-256", "none"].grid["lr"]}
    smoke = augmentation.collect(augmentation.resolve("smoke"), not_run)
    assert smoke.control.empty and all(choice.given for choice in smoke.at_most.values()), "one rate, given"


def test_the_control_is_no_part_of_what_is_judged(at_two_rates, collected):
    fake, results = at_two_rates
    assert results.sufficient and results.complete and not {*results.control["key"]} & {*results.frame["key"]}

    def reads(runs, train=True, measures=None):
        kept = [r for r in runs if r.key not in {*results.control["key"]}]
        found = {r.key: fake.records[r.key] for r in kept}
        return pd.DataFrame([row_of(run, found.get(run.key)) for run in runs])

    without = augmentation.collect(LAPTOP, reads)
    pd.testing.assert_frame_equal(without.frame, results.frame)
    assert without.sufficient and not without.complete and set(without.control["status"]) == {"not run"}
    assert collected[1].complete and len(collected[1].control) >= 16  # the neighbours of one rate for both


def test_grey_images_are_not_flipped():
    frame = augmentation.collect(augmentation.resolve("smoke"), not_run).frame
    assert set(frame["augment"]) == {"none", "crop", "mixup", "crop+mixup"}
    assert set(frame["augmentation"]) == {"none", "crop", "MixUp", "all"}
    grey = augmentation.resolve("laptop", dataset="digits", subset=300, sizes=(600, 1200), augmented_sizes=(600,))
    assert grey.augmentations == {"none": "none", "crop": "crop", "all": "crop+mixup"}


def test_readers_change_the_model_and_the_data_set():
    preset = augmentation.resolve("laptop", model="B-6/Wi-128", dataset="cifar100", steps=50)
    assert preset.models == ("S-6/Wi-256", "B-6/Wi-128", "CNN-16", "ViT-32x4/8")
    assert (preset.dataset, preset.subset, preset.steps) == ("cifar100", 2000, 50)
    for changes, says in (
        ({"dataset": "digits"}, "subset"),
        ({"batch_size": 600}, "batch_size=600"),
        ({"sizes": ()}, "sizes is empty"),
        ({"length": 3}, "unknown parameter 'length'"),
    ):
        with pytest.raises(UserError, match=says):
            augmentation.resolve("laptop", **changes)


@pytest.mark.parametrize("preset, least, most", [("smoke", 0, 0.1), ("laptop", 15, 25), ("overnight", 240, 480)])
def test_presets_keep_to_their_budgets(preset, least, most, tmp_path):
    """Planned minutes from nothing on two CPU cores. A grid that is widened is not foreseen, so grids are centred."""
    plan = planning.plan(augmentation.STUDY, augmentation.resolve(preset), Store(tmp_path))
    assert least <= sum(costs.planned_seconds(run) for run in plan.runs) / 60 <= most


def test_sufficient_asks_for_three_seeds_and_measured_layers(collected):
    results = collected[1]
    assert results.sufficient
    frame = results.frame
    for worse in (frame[frame["seed"] < 2], frame.assign(radius=float("nan")), frame.assign(status="not run")):
        assert not augmentation.Results(results.cells, worse, results.subset).sufficient
    diverged = frame.assign(status="diverged", radius=float("nan"))
    assert augmentation.Results(results.cells, diverged, results.subset).sufficient


# --- claim 12


def judged(radius):
    return claims.judge(12, augmentation.collect(LAPTOP, Fake(lambda run: radius(run) + 1e-4 * run.seed)).frame)


def shrinking(augmented: float, plain: float, start: float = 0.95):
    """Radius over the number of images, falling by so much from 500 to 32,000."""

    def radius(run) -> float:
        rate = plain if run.augment == "none" else augmented
        return start - rate * np.log2(run.train_examples / 500) / 6

    return radius


@pytest.mark.parametrize(
    "augmented, plain, verdict",
    [
        (0.10, 0.00, "supported"),
        (0.10, 0.04, "supported"),
        (0.10, 0.06, "not supported"),  # without augmentation, more than half of it happens as well
        (0.005, 0.0, "not supported"),  # half a percent is no localisation
        (-0.10, 0.0, "not supported"),
        (0.10, 0.30, "not supported"),
    ],
)
def test_claim_12_local_with_more_data_and_only_with_augmentation(augmented, plain, verdict):
    found = judged(shrinking(augmented, plain))
    assert found.verdict == verdict
    fewer, without, only = found.parts.values()
    assert fewer.mean == pytest.approx(100 * augmented) and without.mean == pytest.approx(100 * (augmented - plain))
    assert only.mean == pytest.approx(100 * (augmented / 2 - plain)) and fewer.n == 3


def test_claim_12_looks_at_the_b_mlp_at_the_papers_smoothing_and_at_no_part():
    frame = augmentation.collect(LAPTOP, Fake(shrinking(0.1, 0.0))).frame
    others = (
        (frame["family"] != "B-MLP") | (frame["label_smoothing"] != 0.3) | ~frame["augmentation"].isin(("none", "all"))
    )
    assert others.sum() > 40
    spoilt = frame.assign(radius=frame["radius"].where(~others, 7.0))
    assert claims.judge(12, spoilt).parts == claims.judge(12, frame).parts


def test_claim_12_is_not_tested_without_measures_and_undecided_with_two_seeds():
    frame = augmentation.collect(LAPTOP, Fake(shrinking(0.1, 0.0))).frame
    assert claims.judge(12, frame.assign(radius=float("nan"))).verdict == "not tested"
    assert claims.judge(12, frame.drop(columns="radius")).verdict == "not tested"
    assert claims.judge(12, frame[frame["seed"] < 2]).verdict == "inconclusive at this scale"
    assert "1,000 steps" in claims.scale_of(frame)


@pytest.mark.parametrize(
    ("changes", "says"), [(dict(subset=300, sizes=(300,)), "needs two"), (dict(subset=0), "subset")]
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_trained(changes, says):
    with pytest.raises(UserError, match=says):
        augmentation.resolve("smoke", **changes)


# --- the checks of claim 12


def checked(fake, longer=None) -> dict:
    """The parts of the rule by setting, with another preset's results beside those of the laptop's."""
    return by_setting(Shown(augmentation.collect(LAPTOP, fake), {"overnight": longer}.get))


def test_every_setting_repeats_the_rule_and_counts_with_the_part_that_speaks_least_for_the_claim():
    fake = Fake(lambda run: shrinking(0.1, 0.0)(run) + 1e-4 * run.seed, lr_by_augmentation)
    settings = checked(fake)
    by_name = dict(settings)
    parts = by_name["radius of the change of the weights"]
    assert [part.mean for part in parts.values()] == pytest.approx([10, 10, 5]), "the fake's change shrinks alike"
    assert [part.mean for part in by_name["entropy in the place of radius"].values()] == [0, 0, 0]
    assert [part.mean for part in by_name["S-MLP"].values()] == pytest.approx([10, 10, 5])
    assert {part.n for part in by_name["overnight preset"].values()} == {0}
    found = claims.judge(12, *both_of(fake))
    assert found.verdict == "supported" and found.checks["S-MLP"].mean == pytest.approx(5)
    assert list(found.checks) == list(settings) and found.checks["overnight preset"].n == 0
    assert found.robustness == "held in 4 of 7 checks"  # neither measure of entropy, nor that of the S-MLP


def both_of(fake):
    results = augmentation.collect(LAPTOP, fake)
    return results.frame, Shown(results)


def test_at_one_learning_rate_the_second_part_is_repeated_at_every_rate_that_both_sides_have():
    """Radius falls by 1% for every 1e-4 of learning rate, by which the sides differ, and for nothing else."""
    settings = checked(Fake(lambda run: 1 - 100 * run.lr + 1e-4 * run.seed, lr_by_augmentation))
    one = settings["one learning rate for both"]
    assert list(one) == ["at 0.0001", "at 0.0003"] and all(part.mean == pytest.approx(0) for part in one.values())
    moved = settings["either learning rate moved"]
    assert set(moved) == {"at 0.0003, 3.33e-05", "at 0.0003, 0.0003", "at 0.0001, 0.0001", "at 0.001, 0.0001"}
    assert moved["at 0.001, 0.0001"].mean == pytest.approx(-9) and moved["at 0.001, 0.0001"].n == 2


def test_the_longer_preset_is_read_where_it_has_runs():
    longer = augmentation.collect(augmentation.resolve("overnight"), Fake(shrinking(0.1, 0.0)))
    settings = checked(Fake(), longer)
    assert settings["overnight preset"]["most images: without - with augmentation"].n == 5


def test_the_weakest_of_several_is_the_one_whose_interval_begins_lowest():
    wide, narrow, alone = (t_interval(values) for values in ([0, 4], [1.0, 1.1], [9]))
    assert least([narrow, wide]) == wide and least([narrow, alone]).n == least([]).n == 0
