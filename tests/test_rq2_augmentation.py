"""The chapter on augmentation: which runs it asks for, its rule, its figures and tables. Nothing is trained."""

import base64
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import record_of

from mlp_lib import claims, costs, plots, studies
from mlp_lib.architectures import family_of
from mlp_lib.errors import UserError
from mlp_lib.plots import augmentation as figures
from mlp_lib.records import Store, row_of
from mlp_lib.studies import augmentation
from mlp_lib.studies.tuning import TUNING_SEED, not_run

LAPTOP = augmentation.resolve("laptop")
FULL = "flip+crop+mixup"
FIGURES = (
    figures.gains, figures.read_off_the_curve, figures.locality_over_images, figures.first_layers_over_images,
    figures.accuracy_when_moved,
)  # fmt: skip
TABLES = (
    figures.table_of_worth, figures.table_of_overfitting, figures.table_of_smoothing, figures.table_of_locality,
    figures.table_of_moves,
)  # fmt: skip


class Fake:
    """An `ensure` with made-up results: 5 points a doubling of the images and 7.5 points for all of the augmentation.
    `radius(run)` is that of the first layer. Notes what was asked to be measured."""

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
                "radius_mean": self.radius(run), "entropy_mean": 0.9, "initial_radius_mean": 1.0,
                "initial_entropy_mean": 0.98,
            }  # fmt: skip
        asked = self.measures[run.key] or ()
        for name in {"first_layer", "first_layer_initial"} & {*asked}:
            pictures = base64.b64encode(bytes(64 * 32 * 32)).decode()
            measures[name] = {"pictures": pictures, "pictures_units": 64, "side": 32}
        if "translated" in asked:
            measures["translated"] = {"shifts": list(range(9)), "top1": [top1 - 2 * i for i in range(9)]}
        tuned = 50 - abs(np.log(run.lr / self.best_lr))
        return record_of(
            run, measures=measures,
            metrics={"train_top1": 90.0, "val_top1": tuned if run.seed == TUNING_SEED else top1, "test_top1": top1,
                     "test_loss": 1.5},
            curve=[{"epoch": 1.0, "step": 10.0, "val_top1": 20.0, "train_top1": 20.0, "val_loss": 1.5},
                   {"epoch": 5.0, "step": 50.0, "val_top1": top1, "train_top1": 90.0, "val_loss": 1.8 - 0.2 * share}],
        )  # fmt: skip


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

    assert with_measure("first_layer") == {
        ("B-6/Wi-256", a, n, 0) for a in ("none", FULL) for n in (500, 2000, 32_000)
    }  # fmt: skip
    assert with_measure("first_layer_initial") == {("B-6/Wi-256", "none", 2000, 0)}
    assert with_measure("translated") == {
        (m, a, 2000, s) for m in ("B-6/Wi-256", "CNN-16") for a in ("none", FULL) for s in (0, 1, 2)
    }  # fmt: skip
    assert all("first_layer_spread" in fake.measures[key] for key in runs)


def test_grey_images_are_not_flipped():
    frame = augmentation.collect(augmentation.resolve("smoke"), not_run).frame
    assert set(frame["augment"]) == {"none", "crop", "mixup", "crop+mixup"}
    assert set(frame["augmentation"]) == {"none", "crop", "MixUp", "all"}


def test_readers_change_the_model_and_the_data_set():
    preset = augmentation.resolve("laptop", model="B-6/Wi-128", dataset="cifar100", steps=50)
    assert preset.models == ("S-6/Wi-256", "B-6/Wi-128", "CNN-16", "ViT-32x4/8")
    assert (preset.dataset, preset.subset, preset.steps) == ("cifar100", 2000, 50)
    for changes, says in (
        ({"dataset": "digits"}, "subset"), ({"batch_size": 600}, "batch_size=600"), ({"sizes": ()}, "sizes is empty"),
        ({"length": 3}, "unknown parameter 'length'"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=says):
            augmentation.resolve("laptop", **changes)


@pytest.mark.parametrize("preset, least, most", [("smoke", 0, 0.1), ("laptop", 15, 24), ("overnight", 240, 480)])
def test_presets_keep_to_their_budgets(preset, least, most, tmp_path):
    """Planned minutes from nothing on two CPU cores; the laptop leaves a minute for grids that are widened."""
    plan = studies.plan(augmentation, augmentation.resolve(preset), Store(tmp_path))
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
    others = (frame["family"] != "B-MLP") | (frame["label_smoothing"] != 0.3) | ~frame["augmentation"].isin(
        ("none", "all")
    )  # fmt: skip
    assert others.sum() > 50
    spoilt = frame.assign(radius=frame["radius"].where(~others, 7.0))
    assert claims.judge(12, spoilt).parts == claims.judge(12, frame).parts


def test_claim_12_is_not_tested_without_measures_and_undecided_with_two_seeds():
    frame = augmentation.collect(LAPTOP, Fake(shrinking(0.1, 0.0))).frame
    assert claims.judge(12, frame.assign(radius=float("nan"))).verdict == "not tested"
    assert claims.judge(12, frame.drop(columns="radius")).verdict == "not tested"
    assert claims.judge(12, frame[frame["seed"] < 2]).verdict == "inconclusive at this scale"
    assert "1,000 steps" in claims.scale_of(frame)


# --- what is drawn and written


def test_worth_is_read_off_the_models_own_curve(collected):
    """7.5 points at 5 points a doubling are 2^1.5 times the images; half of them 2^0.75 times."""
    found = {(w.model, w.augmentation): w for w in figures.worth(collected[1])}
    assert len(found) == 4 * 6
    for model in LAPTOP.models:
        assert found[model, "all"].gain.mean == pytest.approx(7.5) and found[model, "all"].gain.n == 3
        assert found[model, "all"].equivalent.examples == pytest.approx(2000 * 2**1.5)
        assert found[model, "flip"].equivalent.examples == pytest.approx(2000 * 2**0.75)
        assert found[model, "none"].equivalent.examples == pytest.approx(2000)


def test_tables_hold_the_frames_numbers(collected):
    results = collected[1]
    worth = figures.table_of_worth(results)
    row = worth[(worth["model"] == "CNN-16") & (worth["augmentation"] == "all")].iloc[0]
    assert row["gain, points [95%]"] == "7.5 [7.5, 7.5] n=3" and row["times as many"].startswith("2.8 [2.8")
    over = figures.table_of_overfitting(results).set_index(["model", "augmentation"])
    column = "rise of the validation loss, nats [95%]"
    rises = [over.loc[("CNN-16", name), column].split()[0] for name in ("none", "all")]
    assert rises == ["0.30", "0.10"]
    smoothing = figures.table_of_smoothing(results)
    assert smoothing["smoothing"].tolist() == ["0", "0.1", "0.3"] * 2 and set(smoothing["model"]) == {"B-6/Wi-256"}
    locality = figures.table_of_locality(results)
    assert len(locality) == 2 * (5 + 3) and set(locality["radius, % [95%]"]) == {"100.0 [100.0, 100.0] n=3"}
    assert figures.table_of_moves(results)["4 px"].tolist() == ["-8.0 [-8.0, -8.0] n=3"] * 4
    assert len(plots.table_of_plan(studies.plan(augmentation, LAPTOP, Store("nowhere")))) == 168


def test_figures_draw_what_is_there(collected):
    results = collected[1]
    assert len(figures.gains(results).axes[0].containers) == 4 * 5
    panels = figures.read_off_the_curve(results).axes
    assert [p.get_title() for p in panels] == list(LAPTOP.models)
    dashed, solid, reading = panels[1].lines[:3]
    assert dashed.get_xdata().tolist() == [500, 2000, 4000, 8000, 32_000]
    assert solid.get_xdata().tolist() == [500, 2000, 32_000]
    assert reading.get_xdata().tolist() == pytest.approx([2000, 2000 * 2**1.5, 2000 * 2**1.5])
    layers = figures.first_layers_over_images(results)
    assert len(layers.axes) == 8 and all(axis.images for axis in layers.axes)
    assert len(figures.accuracy_when_moved(results).axes[0].lines) == 4
    assert len(figures.locality_over_images(results).axes[0].lines) == 5  # two families, with and without; the start


@pytest.mark.parametrize("draw", [*FIGURES, *TABLES], ids=lambda f: f.__name__)
@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_nothing_has_run_yet(draw, preset):
    results = augmentation.collect(augmentation.resolve(preset), not_run)
    drawn = draw(results)
    if isinstance(drawn, pd.DataFrame):
        assert drawn.astype(str).apply(lambda c: c.str.contains("not run")).to_numpy().any()
    else:
        assert not any(axis.images for axis in drawn.axes)


def test_the_road_from_records_to_figures_does_not_import_torch(tmp_path):
    code = (
        "import sys\nfrom mlp_lib import claims, records, studies\nfrom mlp_lib.plots import augmentation as figures\n"
        "from mlp_lib.studies import augmentation\n"
        "read = studies.from_records(records.Store(sys.argv[1]))\n"
        "results = augmentation.collect(augmentation.resolve('smoke'), read)\n"
        "figures.table_of_worth(results), figures.read_off_the_curve(results), claims.judge(12, results.frame)\n"
        "assert 'torch' not in sys.modules"
    )
    root = Path(claims.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
