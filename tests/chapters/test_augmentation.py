"""The chapter on augmentation: which runs it asks for, and its rule. Nothing is trained."""

import base64

import numpy as np
import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.chapters import claims, planning
from mlp_lib.chapters.augmentation import study as augmentation
from mlp_lib.chapters.tuning import TUNING_SEED, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.architectures import family_of
from mlp_lib.records.frames import row_of
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs

LAPTOP = augmentation.resolve("laptop")
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
            assert run.key not in self.trained or self.trained[run.key] == train
            self.trained[run.key], self.measures[run.key] = train, measures
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
                "val_top1": tuned if run.seed == TUNING_SEED else top1,
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

    parts = {(a, 2000, 0.3) for a in ("none", "flip", "crop", "flip+crop", "mixup", FULL)}
    curve = {("none", n, 0.3) for n in (500, 2000, 4000, 8000, 32_000)}
    augmented = {(FULL, n, 0.3) for n in (500, 32_000)}
    smoothing = {(a, 2000, s) for a in ("none", FULL) for s in (0.0, 0.1)}
    assert cells(family="CNN") == cells(family="ViT") == parts | curve
    assert cells(family="S-MLP") == parts | curve | augmented
    assert cells(family="B-MLP") == parts | curve | augmented | smoothing
    assert set(augmentation.resolve("smoke").sizes) | {300} == {100, 300, 1200}


def test_parts_take_the_lr_of_all_and_the_curve_that_of_none():
    lrs = {key: lr for key, lr in zip(augmentation.candidates(LAPTOP), np.linspace(1e-4, 8e-4, 8), strict=True)}
    for run, _ in augmentation.asked(LAPTOP, lrs):
        assert run.lr == lrs[run.model, "none" if run.augment == "none" else "all"]


def test_learning_rates_are_tuned_at_a_third_with_a_seed_of_their_own_and_nothing_is_measured(collected):
    fake, results = collected
    tuned = [r.run for r in fake.records.values() if r.run.seed == TUNING_SEED]
    assert len(tuned) == 4 * 2 * 3 and {run.steps for run in tuned} == {333}
    assert {fake.measures[run.key] for run in tuned} == {()}
    assert results.complete and {cell.choice.lr for cell in results.cells} == {3e-4}


def test_nothing_is_trained_before_every_lr_is_chosen():
    class Unfinished(Fake):
        def record(self, run):
            record = super().record(run)
            late = run.seed == TUNING_SEED and run.model == "CNN-16"
            return record_of(run, status="failed", error="x") if late else record

    fake = Unfinished()
    results = augmentation.collect(LAPTOP, fake)
    assert {run.run.seed for run in fake.records.values()} == {TUNING_SEED} and not results.complete


def test_large_measures_are_asked_only_where_a_figure_needs_them(collected):
    fake = collected[0]
    runs = {r.run.key: r.run for r in fake.records.values() if r.run.seed != TUNING_SEED}

    def with_measure(name: str) -> set:
        return {(r.model, r.augment, r.train_examples, r.seed) for k, r in runs.items() if name in fake.measures[k]}

    assert with_measure("first_layer") == {("B-6/Wi-256", a, n, 0) for a in ("none", FULL) for n in (500, 2000, 32_000)}
    assert with_measure("first_layer_initial") == {("B-6/Wi-256", "none", 2000, 0)}
    assert with_measure("translated") == {
        (m, a, 2000, s) for m in ("B-6/Wi-256", "CNN-16") for a in ("none", FULL) for s in (0, 1, 2)
    }
    assert all("first_layer_spread" in fake.measures[key] for key in runs)


def lr_by_augmentation(run):
    """A chosen learning rate that is three times as high without augmentation."""
    return 3e-4 if run.augment == "none" else 1e-4


@pytest.fixture(scope="module")
def at_two_rates():
    fake = Fake(best_lr=lr_by_augmentation)
    return fake, augmentation.collect(LAPTOP, fake)


def test_the_control_trains_each_side_at_the_others_rate_and_comes_last(at_two_rates):
    fake, results = at_two_rates
    rows = results.control[["model", "augmentation", "lr", "train_examples", "seed"]].itertuples(index=False, name=None)
    assert {*rows} == {
        ("B-6/Wi-256", name, lr, 32_000, seed) for name, lr in (("none", 1e-4), ("all", 3e-4)) for seed in (0, 1)
    }
    assert list(fake.records)[-4:] == results.control["key"].tolist()
    assert {fake.measures[key] for key in results.control["key"]} == {augmentation.MEASURES}
    overnight = augmentation.resolve("overnight")
    lrs = {key: lr_by_augmentation(run) for key, run in augmentation.candidates(overnight).items()}
    assert len(augmentation.control(overnight, lrs)) == 2 * 2 * 3


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
    assert collected[1].control.empty and collected[1].complete  # one rate for both: there is nothing to control


def test_laptop_keeps_to_its_minutes_with_every_grid_widened_and_the_control():
    fake = Fake(best_lr=lambda run: 1.0 if run.augment == "none" else 1e-6)
    results = augmentation.collect(LAPTOP, fake)
    assert len(results.control) == 4 and len(fake.records) == 168 + 8 + 4
    assert sum(costs.planned_seconds(record.run) for record in fake.records.values()) / 60 <= 25


def test_grey_images_are_not_flipped():
    frame = augmentation.collect(augmentation.resolve("smoke"), not_run).frame
    assert set(frame["augment"]) == {"none", "crop", "mixup", "crop+mixup"}
    assert set(frame["augmentation"]) == {"none", "crop", "MixUp", "all"}


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


@pytest.mark.parametrize("preset, least, most", [("smoke", 0, 0.1), ("laptop", 15, 24), ("overnight", 240, 480)])
def test_presets_keep_to_their_budgets(preset, least, most, tmp_path):
    """Planned minutes from nothing on two CPU cores; the laptop leaves a minute for grids that are widened."""
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
    assert others.sum() > 50
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
