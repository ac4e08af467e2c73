"""The chapter on augmentation: its figures and tables of made-up runs, and of none."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from test_augmentation import FULL, LAPTOP, Fake, lr_by_augmentation

from mlp_lib import plots
from mlp_lib.chapters import claims, planning
from mlp_lib.chapters.augmentation import (
    figures,
    first_layer,
    gain_by_family,
    moved_images,
    overtraining,
    rate_check,
)
from mlp_lib.chapters.augmentation import study as augmentation
from mlp_lib.chapters.augmentation.rules import RULES, by_setting
from mlp_lib.chapters.notebook import open_chapter
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import not_run
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.architectures import family_of
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import t_interval

FIGURES = (
    figures.gains,
    figures.read_off_the_curve,
    first_layer.locality_over_images,
    first_layer.first_layers_over_images,
    moved_images.accuracy_when_moved,
)
TABLES = (
    figures.table_of_worth,
    figures.table_of_gains_by_images,
    figures.table_of_smoothing,
    overtraining.table_of_overfitting,
    overtraining.table_over_the_best,
    moved_images.table_of_moves,
    first_layer.table_of_locality,
    first_layer.table_of_differences,
    first_layer.table_of_movement,
    first_layer.table_at_other_rates,
    gain_by_family.table_of_families,
)


@pytest.fixture(scope="module")
def collected():
    fake = Fake()
    return fake, augmentation.collect(LAPTOP, fake)


def test_worth_is_read_off_the_models_own_curve(collected):
    """7.5 points at 5 points a doubling are 2^1.5 times the images; half of them 2^0.75 times."""
    found = {(w.model, w.augmentation): w for w in figures.worth(collected[1])}
    assert len(found) == 4 * 3
    for model in LAPTOP.models:
        assert found[model, "all"].gain.mean == pytest.approx(7.5) and found[model, "all"].gain.n == 3
        assert found[model, "all"].equivalent.examples == pytest.approx(2000 * 2**1.5)
        assert found[model, "flip + crop"].equivalent.examples == pytest.approx(2000 * 2**0.75)
        assert found[model, "none"].equivalent.examples == pytest.approx(2000)


def test_tables_hold_the_frames_numbers(collected):
    results = collected[1]
    worth = figures.table_of_worth(results)
    row = worth[(worth["model"] == "CNN-16") & (worth["augmentation"] == "all")].iloc[0]
    assert row["gain, points [95%]"] == "7.5 [7.5, 7.5] n=3" and row["times as many"].startswith("2.8 [2.8")
    over = overtraining.table_of_overfitting(results).set_index(["model", "augmentation"])
    column = "rise of the validation loss, nats [95%]"
    rises = [over.loc[("CNN-16", name), column].split()[0] for name in ("none", "all")]
    assert rises == ["0.30", "0.10"]
    assert figures.table_of_smoothing(results).iloc[0, 0] == "not run: this preset does not vary it"
    smoothing = figures.table_of_smoothing(augmentation.collect(augmentation.resolve("overnight"), Fake()))
    assert smoothing["smoothing"].tolist() == ["0", "0.1", "0.3"] * 2 and set(smoothing["model"]) == {"B-6/Wi-256"}
    layers = first_layer.table_of_locality(results)
    assert len(layers) == 2 * (4 + 3) and set(layers["radius, % [95%]"]) == {"100.0 [100.0, 100.0] n=3"}
    assert moved_images.table_of_moves(results)["4 px"].tolist() == ["-8.0 [-8.0, -8.0] n=3"] * 4
    assert len(plots.table_of_plan(planning.plan(augmentation.STUDY, LAPTOP, Store("nowhere")))) == 166


def test_gains_stand_by_number_of_images_where_a_model_has_augmentation(collected):
    results = collected[1]
    table = figures.table_of_gains_by_images(results)
    mlp, control = ["500", "2,000", "32,000"], ["2,000"]
    assert table["images"].tolist() == 2 * mlp + 2 * control
    assert table["times each is seen"].tolist() == 2 * ["200", "50", "3.12"] + 2 * ["50"]  # 1,000 steps of 100
    assert set(table["gain of all, points of test top-1 [95%]"]) == {"7.5 [7.5, 7.5] n=3"}
    most, gains = figures.gains_at_most(results)
    assert most == 32_000 and list(gains) == ["S-MLP", "B-MLP"] and gains["B-MLP"][:4] == t_interval([7.5] * 3)[:4]


class Overtrained(Fake):
    """Without augmentation, validation top-1 was 4 points higher on the way, and 5 in seed 2; its loss has risen by 0.3
    nats, by 0.1 with augmentation, but of a CNN with augmentation by noise alone."""

    def record(self, run):
        record, plain = super().record(run), run.augment == "none"
        end = record.metrics["val_top1"]
        peak = end + (4 + (run.seed == 2) if plain else -9)
        rise = 0.3 if plain else (0.1, -0.1, 0.0)[run.seed % 3] if run.model.startswith("CNN") else 0.1
        curve = [
            {"epoch": 1.0, "step": 10.0, "val_top1": peak, "val_loss": 1.5},
            {"epoch": 5.0, "step": 50.0, "val_top1": end, "val_loss": 1.5 + rise + run.seed / 1000},
        ]
        return record.model_copy(update={"curve": curve})


def test_the_gain_over_the_best_point_leaves_out_what_was_lost_after_it():
    results = augmentation.collect(LAPTOP, Overtrained())
    (at_last, over_best, lost), *_ = overtraining.gains_over_the_best(results).values()
    assert at_last[:4] == t_interval([7.5, 7.5, 7.5])[:4] and lost.mean == pytest.approx(13 / 3)
    assert over_best.mean == pytest.approx(7.5 - 13 / 3) and over_best.n == 3
    assert over_best.interval == pytest.approx(t_interval([3.5, 3.5, 2.5]).interval)
    table = overtraining.table_over_the_best(results)
    assert table["model"].tolist() == list(LAPTOP.models) and table.iloc[0, 2] == over_best.text()


class Noisy(Fake):
    """Without augmentation, validation top-1 is level, but for a point of its own in each seed at which it is 6 points
    higher, and its loss 0.6 nats lower; with augmentation all is level, 1 point higher."""

    def record(self, run):
        record, plain = super().record(run), run.augment == "none"
        curve = [
            {
                "epoch": float(i),
                "step": 10.0 * i,
                "val_top1": 31.0 - plain + 6 * (plain and i == run.seed),
                "val_loss": 1.5 - 0.6 * (plain and i == run.seed),
            }
            for i in range(5)
        ]
        return record.model_copy(update={"curve": curve})


def test_noise_of_a_runs_own_is_no_best_point():
    """A run's own maximum would be 6 points above its level, and its own lowest loss 0.6 nats below it."""
    grid = augmentation.resolve("laptop", seeds=(0, 1, 2))
    results = augmentation.collect(grid, Noisy())
    at_last, over_best, lost = overtraining.gains_over_the_best(results)["B-6/Wi-256", "B-MLP"]
    assert [part[:4] for part in (at_last, over_best, lost)] == [t_interval([mean] * 3)[:4] for mean in (1, 1, 0)]
    assert all(
        t_interval([0.0] * 3)[:4] == rise[:4] for rises in overtraining.rises(results).values() for rise in rises
    )
    assert overtraining.between_over_the_best(results, "CNN", "B-MLP")[:4] == t_interval([0.0] * 3)[:4]
    alone = augmentation.collect(augmentation.resolve("laptop", seeds=(0,)), Noisy())
    at_last, over_best, lost = overtraining.gains_over_the_best(alone)["B-6/Wi-256", "B-MLP"]
    assert at_last.n == 1 and over_best.n == lost.n == 0, "one seed has no others that choose"
    row = overtraining.table_of_overfitting(alone).iloc[0]
    assert row["train - test top-1, points [95%]"].endswith("n=1") and row.iloc[-1] == ""


def test_overfitting_is_read_from_the_rise_of_the_validation_loss():
    table = overtraining.table_of_overfitting(augmentation.collect(LAPTOP, Overtrained())).set_index(
        ["model", "augmentation"]
    )
    rises = table["rise of the validation loss, nats [95%]"]
    assert all(rises[model, "none"].startswith("0.30 [0.30, 0.30]") for model in LAPTOP.models)
    assert rises["B-6/Wi-256", "all"] == "0.10 [0.10, 0.10] n=3" and rises["CNN-16", "all"].startswith("-0.03 [-0.1")
    assert table.loc[("S-6/Wi-256", "all"), "smaller with it by [95%]"].startswith("0.20 [")
    assert set(table.loc[(slice(None), "none"), "smaller with it by [95%]"]) == {""}


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
    table = figures.by_preset(figures.table_of_gains_by_images, {"laptop": results} | longer)
    own, more = table[table["preset"].str.startswith("laptop")], table[table["preset"].str.startswith("overnight")]
    assert own.drop(columns="preset").values.tolist() == figures.table_of_gains_by_images(results).values.tolist()
    assert set(own["preset"]) == {"laptop: 1,000 steps of 100"}
    assert more[["preset", "model", "images"]].values.tolist() == [
        ["overnight: 5,000 steps of 200", "S-6/Wi-256", "10,000"]
    ]
    assert more.iloc[0, -3].startswith("7.5")
    worth = figures.by_preset(figures.table_of_worth, longer)
    assert worth["augmentation"].tolist() == ["none", "flip", "crop", "flip + crop", "MixUp", "all"]
    assert "gain, points [95%]" in worth and "times as many" not in worth, "its curve has not been run: no such column"
    assert figures.by_preset(overtraining.table_over_the_best, {}).empty
    assert open_chapter("rq2-augmentation", {"preset": "laptop", "train": False, "seeds": [0]}, store).beyond() == {}


def test_first_layers_stand_at_every_rate_that_was_tried_at_the_most_images():
    """A first layer that shrinks by 1% for every 1e-4 of learning rate, and by 2% more without augmentation."""
    fake = Fake(lambda run: 1 - 100 * run.lr - 0.02 * (run.augment == "none"), lr_by_augmentation)
    results = augmentation.collect(LAPTOP, fake)
    table = first_layer.table_at_other_rates(results)
    own = table[table["model"] == "B-6/Wi-256"]
    assert own["learning rate"].tolist() == [
        "0.0001",
        "0.0003 (chosen)",
        "0.001",
        "3.33e-05",
        "0.0001 (chosen)",
        "0.0003",
    ]
    assert own["augmentation"].tolist() == ["none"] * 3 + ["all"] * 3
    assert [text.split()[0] for text in own["radius, % [95%]"]] == ["97.0", "95.0", "88.0", "99.7", "99.0", "97.0"]
    images, train = first_layer.training_at_most_images(results)
    assert images == 32_000 and train["none"][:4] == train["all"][:4] == t_interval([90.0] * 3)[:4]
    alone = first_layer.table_at_other_rates(augmentation.Results(results.cells, results.frame, 2000))
    assert alone["learning rate"].str.endswith("(chosen)").all()


def test_the_change_of_the_weights_stands_beside_the_weights():
    results = augmentation.collect(LAPTOP, Fake(lambda run: 0.9 + 0.05 * (run.augment != "none"), lr_by_augmentation))
    table = first_layer.table_of_differences(results)
    assert table["images"].tolist() == ["500", "2,000", "32,000"] * 2
    assert set(table["radius [95%]"]) == set(table["radius of the change [95%]"]) == {"5.0 [5.0, 5.0] n=3"}
    assert set(table["entropy [95%]"]) == {"0.0 [0.0, 0.0] n=3"}
    moved = first_layer.table_of_movement(results)
    assert len(moved) == 2 * 2 * 3 and set(moved["moved, % of the initial norm [95%]"]) == {"50.0 [50.0, 50.0] n=3"}
    assert set(moved["learning rate"]) == {"0.0003", "0.0001"}
    old = augmentation.Results(
        results.cells, results.frame.assign(moved=float("nan"), change_radius=float("nan")), 2000
    )
    assert set(first_layer.table_of_movement(old).iloc[:, -1]) == {""}, "records from before the measure"
    assert set(first_layer.table_of_differences(old)["radius of the change [95%]"]) == {""}


def test_settings_stand_with_all_their_parts_and_whether_they_hold():
    fake = Fake(lambda run: 1 - 0.1 * (run.augment != "none") * (run.train_examples > 500) + 1e-4 * run.seed)
    settings = by_setting(Shown(augmentation.collect(LAPTOP, fake)))
    table = first_layer.table_of_settings(settings, RULES[12])
    assert [name for name in table["setting"] if name] == list(settings)
    holds = table[table["setting"] != ""].set_index("setting")["holds"]
    assert holds["S-MLP"] == "yes" and holds["S-MLP, entropy"] == "no" and holds["overnight preset"] == ""
    judged = claims.judge(12, augmentation.collect(LAPTOP, fake).frame, Shown(augmentation.collect(LAPTOP, fake)))
    assert (holds == "yes").sum() == judged.held and holds.isin(("yes", "no")).sum() == judged.checked


def test_rates_are_checked_at_the_most_images():
    """Test top-1 falls by a point for every factor of e between the rate and 1e-3, whatever was chosen."""

    class Steep(Fake):
        def record(self, run):
            record = super().record(run)
            less = abs(np.log(run.lr / 1e-3))
            scores = {name: record.metrics[name] - less for name in ("test_top1", "val_top1")}
            scores = scores if run.train_examples == 32_000 else {}
            return record.model_copy(update={"metrics": record.metrics | scores})

    results = augmentation.collect(LAPTOP, Steep(best_lr=lr_by_augmentation))
    table = rate_check.table_of_rates(results)
    own = table[(table["model"] == "B-6/Wi-256") & (table["augmentation"] == "none")]
    assert own["learning rate"].tolist()[:3] == ["0.0001", "0.0003 (chosen at fewer images)", "0.001 (best here)"]
    more = own["more than at the chosen rate [95%]"].tolist()
    assert more[0].startswith("-1.1 [") and more[1] == "" and more[2].startswith("1.2 [")
    gain = next(gain for gain in rate_check.gains_at_most(results) if gain.family == "B-MLP")
    assert gain.images == 32_000 and gain.best == (1e-3, 9e-4) and (gain.at_chosen.n, gain.at_best.n) == (3, 2)
    assert gain.at_chosen.mean == pytest.approx(7.5 - np.log(3)) and gain.at_best.mean == pytest.approx(
        7.5 - 0.1, abs=0.01
    )
    assert rate_check.table_of_gains(results)["best rate without"].tolist() == ["0.001", "0.001"]
    assert rate_check.table_of_rates(augmentation.collect(augmentation.resolve("smoke"), not_run)).empty


class Apart(Fake):
    """A CNN that gains 6 points more than the others from all of the augmentation, and whose moved images cost twice as
    much; its MixUp adds 3 points to flips and crops, a ViT's takes 3. Points differ by 0.1 between seeds."""

    def record(self, run):
        record, family, mixed = super().record(run), family_of(run.model), run.augment == FULL
        more = 0.1 * (run.seed - 1) * mixed + (6 if family == "CNN" and mixed else 0)
        if run.augment == "flip+crop":
            more += 3.75 + {"CNN": 3, "ViT": 3}.get(family, 0)
        measures = record.measures
        if "translated" in measures:
            top1 = [100.0, 50.0] if family == "CNN" else [100.0, 20.0 + 20 * mixed + run.seed * mixed]
            measures = measures | {"translated": {"shifts": [0, 8], "top1": top1}}
        return record.model_copy(
            update={
                "metrics": record.metrics | {"test_top1": record.metrics["test_top1"] + more},
                "measures": measures,
            }
        )


def test_families_are_set_beside_each_other():
    results = augmentation.collect(LAPTOP, Apart(best_lr=lr_by_augmentation))
    assert gain_by_family.between(results, "CNN", "B-MLP").mean == pytest.approx(6)
    assert gain_by_family.unpaired(results, "CNN", "B-MLP").mean == pytest.approx(6)
    added = gain_by_family.mixup_adds(results)
    assert added["CNN"].mean == pytest.approx(3) and added["ViT"].mean == pytest.approx(-3)
    table = gain_by_family.table_of_families(results).set_index("family")
    assert table.loc["CNN", "gain of all, points [95%]"].startswith("13.5 [")
    assert set(table["without augmentation, % [95%]"]) == {"31.0 [28.5, 33.5] n=3"}  # seeds add 0, 1 and 2 points
    assert table.loc["B-MLP", ["rate without", "rate with"]].tolist() == ["0.0003", "0.0001"]
    (row,) = gain_by_family.table_between(results, [("CNN", "B-MLP")]).to_dict("records")
    assert row["gain of"] == "CNN minus B-MLP" and row["points, paired by seed [95%]"].startswith("6.0 [6.0, 6.0]")


def test_a_gain_stands_beside_what_it_is_at_either_neighbour():
    """On validation: 5 points for augmentation, and a point less for every factor of e from the best rate."""
    results = augmentation.collect(LAPTOP, Fake(best_lr=lr_by_augmentation))
    found = gain_by_family.gain_at_neighbours(results, "B-MLP")
    assert list(found) == ["0.0001, 0.0003", "3.33e-05, 0.0003", "0.0003, 0.0003", "0.0001, 0.0001", "0.0001, 0.001"]
    assert [round(estimate.mean, 1) for estimate in found.values()] == [5.0, 3.9, 3.9, 6.1, 6.2]
    four = gain_by_family.between_at_neighbours(results, "CNN", "B-MLP")
    assert len(four) == 9 and next(iter(four.values())).mean == pytest.approx(0, abs=0.3)
    table = gain_by_family.table_of_families(results).set_index("family")
    assert table.loc["B-MLP", "at either neighbour, validation"] == "3.9 to 6.2; sign kept at 4 of 4"


def test_a_flagged_rate_is_marked_where_it_is_used():
    results = augmentation.collect(LAPTOP, Fake(best_lr=lambda run: 3e-4 if run.augment == "none" else 1e-9))
    worth = figures.table_of_worth(results)
    assert set(worth.loc[worth["augmentation"] == "none", "learning rate"]) <= {"0.0003", "0.000333"}
    assert worth.loc[worth["augmentation"] != "none", "learning rate"].str.endswith("(flagged)").all()


def test_the_share_that_is_kept_compares_models_that_start_at_different_accuracies():
    table = moved_images.table_of_moves(augmentation.collect(LAPTOP, Apart()))
    kept, more = table.iloc[:, -2].tolist(), table.iloc[:, -1].tolist()
    assert table["model"].tolist() == ["B-6/Wi-256"] * 2 + ["CNN-16"] * 2
    assert kept[:2] == ["20.0 [20.0, 20.0] n=3", "41.0 [38.5, 43.5] n=3"]
    assert more == ["", "21.0 [18.5, 23.5] n=3", "", "0.0 [0.0, 0.0] n=3"]


def test_numbers_of_nothing():
    nothing = augmentation.collect(LAPTOP, not_run)
    assert gain_by_family.between(nothing, "CNN", "B-MLP").n == gain_by_family.unpaired(nothing, "CNN", "B-MLP").n == 0
    assert overtraining.between_over_the_best(nothing, "CNN", "B-MLP").n == 0
    assert {gain.n for gain in gain_by_family.mixup_adds(nothing).values()} == {0}
    assert first_layer.training_at_most_images(nothing)[1]["all"].n == 0


def test_figures_draw_what_is_there(collected):
    results = collected[1]
    assert len(figures.gains(results).axes[0].containers) == 4 * 2
    panels = figures.read_off_the_curve(results).axes
    assert [p.get_title() for p in panels] == list(LAPTOP.models)
    dashed, solid, reading = panels[1].lines[:3]
    assert dashed.get_xdata().tolist() == [500, 2000, 8000, 32_000]
    assert solid.get_xdata().tolist() == [500, 2000, 32_000]
    assert reading.get_xdata().tolist() == pytest.approx([2000, 2000 * 2**1.5, 2000 * 2**1.5])
    (legend,) = figures.read_off_the_curve(results).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "no augmentation",
        "all of it",
        "read across, then down",
        "95% interval of the reading",
    ]
    layers = first_layer.first_layers_over_images(results)
    assert len(layers.axes) == 8 and all(axis.images for axis in layers.axes)
    assert len(moved_images.accuracy_when_moved(results).axes[0].lines) == 4
    drawn = first_layer.locality_over_images(results)
    assert len(drawn.axes[0].lines) == 5  # two families, with and without; the start
    assert len(drawn.legends[0].get_texts()) == 5 and drawn.axes[0].get_legend() is None  # it covers no line


class Lost(Fake):
    """Two seeds of the B-MLP diverge, one at 8,000 images without augmentation and one at 32,000 with all of it."""

    def record(self, run):
        record = super().record(run)
        lost = {("none", 8000): 1, (FULL, 32_000): 2}.get((run.augment, run.train_examples))
        if run.model != "B-6/Wi-256" or run.seed != lost:
            return record
        return record.model_copy(update={"status": "diverged", "metrics": {}, "curve": [], "measures": {}})


def test_the_drawn_curve_is_the_one_that_is_read():
    """Seeds 0 and 2 have 40 and 42% at 8,000 images, seed 1, diverged, counts as chance, 10%; the same at 32,000."""
    results = augmentation.collect(LAPTOP, Lost())
    dashed, solid = figures.read_off_the_curve(results).axes[1].lines[:2]
    read = figures.learning_curve(results, "B-6/Wi-256").mean()
    assert dashed.get_xdata().tolist() == read.index.tolist() and dashed.get_ydata() == pytest.approx(read)
    assert dashed.get_ydata()[2] == pytest.approx((40 + 10 + 42) / 3)
    assert solid.get_ydata()[-1] == pytest.approx((57.5 + 58.5 + 10) / 3)


def test_a_measure_that_could_not_be_taken_is_left_out():
    results = augmentation.collect(LAPTOP, Fake())
    refused = {"first_layer": {"not_measured": "why"}, "translated": {"not_measured": "why"}}
    none = results.frame.assign(measures=[refused] * len(results.frame))
    results = augmentation.Results(results.cells, none, results.subset)
    assert moved_images.table_of_moves(results).iloc[0, 0] == "not run"
    assert not any(axis.images for axis in first_layer.first_layers_over_images(results).axes)


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
        "import sys\nfrom mlp_lib.chapters import claims\nfrom mlp_lib.chapters import planning\n"
        "from mlp_lib.chapters.augmentation import figures\n"
        "from mlp_lib.chapters.augmentation import study as augmentation\n"
        "from mlp_lib.records.store import Store\n"
        "read = planning.from_records(Store(sys.argv[1]))\n"
        "results = augmentation.collect(augmentation.resolve('smoke'), read)\n"
        "figures.table_of_worth(results), figures.read_off_the_curve(results), claims.judge(12, results.frame)\n"
        "assert 'torch' not in sys.modules"
    )
    root = REPOSITORY
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
