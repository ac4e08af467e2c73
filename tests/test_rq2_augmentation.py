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
from mlp_lib.chapter import open_chapter
from mlp_lib.errors import UserError
from mlp_lib.plots import augmentation as figures
from mlp_lib.plots import locality
from mlp_lib.records import Store, row_of
from mlp_lib.studies import augmentation
from mlp_lib.studies.tuning import TUNING_SEED, not_run

LAPTOP = augmentation.resolve("laptop")
FULL = "flip+crop+mixup"
FIGURES = (
    figures.gains, figures.read_off_the_curve, locality.locality_over_images, locality.first_layers_over_images,
    figures.accuracy_when_moved,
)  # fmt: skip
TABLES = (
    figures.table_of_worth, figures.table_of_gains_by_images, figures.table_of_overfitting, figures.table_of_smoothing,
    figures.table_of_moves, locality.table_of_locality, locality.table_at_one_lr,
)  # fmt: skip


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
                "radius_mean": self.radius(run), "entropy_mean": 0.9, "initial_radius_mean": 1.0,
                "initial_entropy_mean": 0.98,
            }  # fmt: skip
        asked = self.measures[run.key] or ()
        for name in {"first_layer", "first_layer_initial"} & {*asked}:
            pictures = base64.b64encode(bytes(64 * 32 * 32)).decode()
            measures[name] = {"pictures": pictures, "pictures_units": 64, "side": 32}
        if "translated" in asked:
            measures["translated"] = {"shifts": list(range(9)), "top1": [top1 - 2 * i for i in range(9)]}
        best = self.best_lr(run) if callable(self.best_lr) else self.best_lr
        tuned = 50 - abs(np.log(run.lr / best))
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
    }  # fmt: skip
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
    layers = locality.table_of_locality(results)
    assert len(layers) == 2 * (5 + 3) and set(layers["radius, % [95%]"]) == {"100.0 [100.0, 100.0] n=3"}
    assert figures.table_of_moves(results)["4 px"].tolist() == ["-8.0 [-8.0, -8.0] n=3"] * 4
    assert len(plots.table_of_plan(studies.plan(augmentation, LAPTOP, Store("nowhere")))) == 168


def test_gains_stand_by_number_of_images_where_a_model_has_augmentation(collected):
    results = collected[1]
    table = figures.table_of_gains_by_images(results)
    mlp, control = ["500", "2,000", "32,000"], ["2,000"]
    assert table["images"].tolist() == 2 * mlp + 2 * control
    assert table["times each is seen"].tolist() == 2 * ["200", "50", "3.12"] + 2 * ["50"]  # 1,000 steps of 100
    assert set(table["gain of all, points of test top-1 [95%]"]) == {"7.5 [7.5, 7.5] n=3"}
    most, gains = figures.gains_at_most(results)
    assert most == 32_000 and gains == "S-MLP 7.5 [7.5, 7.5] n=3; B-MLP 7.5 [7.5, 7.5] n=3"
    words = "S-MLP, B-MLP: 3 of 5 (500, 2,000, 32,000); CNN, ViT: 1 of 5 (2,000)"
    assert figures.augmented_at(results) == words


def test_a_longer_training_stands_beside_the_presets_own(collected, tmp_path):
    fake, results = collected
    store, plain = Store(tmp_path), Fake()
    for record in fake.records.values():
        store.add(record)
    grid = augmentation.resolve("overnight")
    augmentation.collect(grid, plain)
    only = (grid.models[0], grid.subset)  # of the larger preset, one model at one number of images
    for record in plain.records.values():
        if (record.run.model, record.run.train_examples) == only:
            store.add(record)

    longer = open_chapter("rq2-augmentation", {"preset": "laptop", "train": False}, store).beyond()
    assert list(longer) == ["overnight"] and not longer["overnight"].complete
    table = figures.by_length(figures.table_of_gains_by_images, {"laptop": results} | longer)
    own, more = table[table["preset"].str.startswith("laptop")], table[table["preset"].str.startswith("overnight")]
    assert own.drop(columns="preset").values.tolist() == figures.table_of_gains_by_images(results).values.tolist()
    assert set(own["preset"]) == {"laptop: 1,000 steps of 100"}
    assert more[["preset", "model", "images"]].values.tolist() == [
        ["overnight: 5,000 steps of 200", "S-6/Wi-256", "10,000"]
    ]
    assert more.iloc[0, -3].startswith("+7.5") or more.iloc[0, -3].startswith("7.5")
    assert open_chapter("rq2-augmentation", {"preset": "laptop", "train": False, "seeds": [0]}, store).beyond() == {}


def test_one_learning_rate_separates_it_from_augmentation():
    """A first layer that shrinks by 1% for every 1e-4 of learning rate, and by 2% more without augmentation."""
    fake = Fake(lambda run: 1 - 100 * run.lr - 0.02 * (run.augment == "none"), lr_by_augmentation)
    results = augmentation.collect(LAPTOP, fake)
    table = locality.table_at_one_lr(results)
    assert table["learning rate"].tolist() == ["0.0001", "0.0001 (chosen)", "0.0003 (chosen)", "0.0003"]
    assert table["augmentation"].tolist() == ["none", "all"] * 2
    assert [text.split()[0] for text in table["radius, % [95%]"]] == ["97.0", "99.0", "95.0", "97.0"]
    assert table["radius, all - none [95%]"].tolist() == ["", "2.0 [2.0, 2.0] n=2"] * 2
    words = locality.beside_the_verdict(results)
    assert (words["images"], words["lr-none"], words["lr-all"]) == ("32,000", "0.0003", "0.0001")
    assert words["train-none"] == words["train-all"] == "90.0 [90.0, 90.0] n=3"
    missing = locality.table_at_one_lr(augmentation.Results(results.cells, results.frame, 2000))
    rows = missing[missing["model"] == "B-6/Wi-256"].set_index(["augmentation", "learning rate"])
    assert rows.loc[("none", "0.0001"), "radius, % [95%]"] == "not run"
    assert set(rows["radius, all - none [95%]"]) == {""}


def test_figures_draw_what_is_there(collected):
    results = collected[1]
    assert len(figures.gains(results).axes[0].containers) == 4 * 5
    panels = figures.read_off_the_curve(results).axes
    assert [p.get_title() for p in panels] == list(LAPTOP.models)
    dashed, solid, reading = panels[1].lines[:3]
    assert dashed.get_xdata().tolist() == [500, 2000, 4000, 8000, 32_000]
    assert solid.get_xdata().tolist() == [500, 2000, 32_000]
    assert reading.get_xdata().tolist() == pytest.approx([2000, 2000 * 2**1.5, 2000 * 2**1.5])
    (legend,) = figures.read_off_the_curve(results).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "no augmentation", "all of it", "read across, then down", "95% interval of the reading",
    ]  # fmt: skip
    layers = locality.first_layers_over_images(results)
    assert len(layers.axes) == 8 and all(axis.images for axis in layers.axes)
    assert len(figures.accuracy_when_moved(results).axes[0].lines) == 4
    drawn = locality.locality_over_images(results)
    assert len(drawn.axes[0].lines) == 5  # two families, with and without; the start
    assert len(drawn.legends[0].get_texts()) == 5 and drawn.axes[0].get_legend() is None  # it covers no line


@pytest.mark.parametrize("draw", [*FIGURES, *TABLES], ids=lambda f: f.__name__)
@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_nothing_has_run_yet(draw, preset):
    results = augmentation.collect(augmentation.resolve(preset), not_run)
    drawn = draw(results)
    if isinstance(drawn, pd.DataFrame):
        says = drawn.astype(str).apply(lambda c: c.str.contains("not run"))
        assert (says.sum(axis=1) == 1).all(), "a row says once that it has not run, and leaves the rest blank"
    else:
        panels = [axis for axis in drawn.axes if axis.axison]
        assert all([text.get_text() for text in axis.texts] == ["not run"] for axis in panels)
        assert not any(axis.images for axis in panels)


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


@pytest.mark.parametrize(
    ("changes", "says"), [(dict(subset=300, sizes=(300,)), "needs two"), (dict(subset=0), "subset")]
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_trained(changes, says):
    with pytest.raises(UserError, match=says):
        augmentation.resolve("smoke", **changes)
