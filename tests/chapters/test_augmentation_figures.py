"""The chapter on augmentation: its figures and tables of made-up runs, and of none."""

import subprocess
import sys

import pandas as pd
import pytest
from test_augmentation import FULL, LAPTOP, Fake, lr_by_augmentation

from mlp_lib import plots
from mlp_lib.chapters import planning
from mlp_lib.chapters.augmentation import figures, first_layer, gain_by_family, moved_images, overtraining
from mlp_lib.chapters.augmentation import study as augmentation
from mlp_lib.chapters.notebook import open_chapter
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
    first_layer.table_at_one_lr,
)


@pytest.fixture(scope="module")
def collected():
    fake = Fake()
    return fake, augmentation.collect(LAPTOP, fake)


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
    over = overtraining.table_of_overfitting(results).set_index(["model", "augmentation"])
    column = "rise of the validation loss, nats [95%]"
    rises = [over.loc[("CNN-16", name), column].split()[0] for name in ("none", "all")]
    assert rises == ["0.30", "0.10"]
    smoothing = figures.table_of_smoothing(results)
    assert smoothing["smoothing"].tolist() == ["0", "0.1", "0.3"] * 2 and set(smoothing["model"]) == {"B-6/Wi-256"}
    layers = first_layer.table_of_locality(results)
    assert len(layers) == 2 * (5 + 3) and set(layers["radius, % [95%]"]) == {"100.0 [100.0, 100.0] n=3"}
    assert moved_images.table_of_moves(results)["4 px"].tolist() == ["-8.0 [-8.0, -8.0] n=3"] * 4
    assert len(plots.table_of_plan(planning.plan(augmentation.STUDY, LAPTOP, Store("nowhere")))) == 168


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
    assert at_last == t_interval([7.5, 7.5, 7.5]) and lost.mean == pytest.approx(13 / 3)
    assert over_best.mean == pytest.approx(7.5 - 13 / 3) and over_best.n == 3
    assert over_best.interval == pytest.approx(t_interval([3.5, 3.5, 2.5]).interval)
    table = overtraining.table_over_the_best(results)
    assert table["model"].tolist() == list(LAPTOP.models) and table.iloc[0, 2] == over_best.text()
    words = overtraining.protection(results).split("; ")
    assert words[0] == f"S-MLP 7.5, {over_best.text()} and {lost.text()}" and len(words) == 4


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
    assert (at_last, over_best, lost) == tuple(t_interval([mean] * 3) for mean in (1, 1, 0))
    assert all(t_interval([0.0] * 3) == rise for rises in overtraining.rises(results).values() for rise in rises)
    assert overtraining.between_over_the_best(results, "CNN", "B-MLP") == t_interval([0.0] * 3)
    alone = augmentation.collect(augmentation.resolve("laptop", seeds=(0,)), Noisy())
    at_last, over_best, lost = overtraining.gains_over_the_best(alone)["B-6/Wi-256", "B-MLP"]
    assert at_last.n == 1 and over_best.n == lost.n == 0, "one seed has no others that choose"
    row = overtraining.table_of_overfitting(alone).iloc[0]
    assert row["train - test top-1, points [95%]"].endswith("n=1") and row.iloc[-1] == ""
    assert overtraining.protection(alone).startswith("S-MLP not run with two seeds")


def test_overfitting_is_read_from_the_intervals_of_the_rise():
    words = overtraining.overfitting(augmentation.collect(LAPTOP, Overtrained()))
    assert words["without"].count("0.30 [") == 4 and "not shown" not in words["without"]
    shown, not_shown = words["with"].split("; not shown for ")
    assert shown.startswith("for S-MLP 0.10 [0.10, 0.10] n=3, B-MLP") and "ViT" in shown and "CNN" not in shown
    assert not_shown.startswith("CNN -0.03 [-0.1")
    assert words["less"].startswith("for S-MLP 0.20") and "B-MLP" in words["less"]
    nothing = augmentation.collect(LAPTOP, not_run)
    assert {*overtraining.overfitting(nothing).values()} == {
        "for no model; not run with two seeds: S-MLP, B-MLP, CNN, ViT"
    }
    assert overtraining.protection(nothing).count("not run") == 4


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
    assert more.iloc[0, -3].startswith("7.5")
    worth = figures.by_length(figures.table_of_worth, longer)
    assert worth["augmentation"].tolist() == ["none", "flip", "crop", "flip + crop", "MixUp", "all"]
    assert "gain, points [95%]" in worth and "times as many" not in worth, "its curve has not been run: no such column"
    assert figures.by_length(overtraining.table_over_the_best, {}).empty
    assert open_chapter("rq2-augmentation", {"preset": "laptop", "train": False, "seeds": [0]}, store).beyond() == {}


def test_one_learning_rate_separates_it_from_augmentation():
    """A first layer that shrinks by 1% for every 1e-4 of learning rate, and by 2% more without augmentation."""
    fake = Fake(lambda run: 1 - 100 * run.lr - 0.02 * (run.augment == "none"), lr_by_augmentation)
    results = augmentation.collect(LAPTOP, fake)
    table = first_layer.table_at_one_lr(results)
    assert table["learning rate"].tolist() == ["0.0001", "0.0001 (chosen)", "0.0003 (chosen)", "0.0003"]
    assert table["augmentation"].tolist() == ["none", "all"] * 2
    assert [text.split()[0] for text in table["radius, % [95%]"]] == ["97.0", "99.0", "95.0", "97.0"]
    assert table["radius, all - none [95%]"].tolist() == ["", "2.0 [2.0, 2.0] n=2"] * 2
    words = first_layer.beside_the_verdict(results)
    assert (words["images"], words["lr-none"], words["lr-all"]) == ("32,000", "0.0003", "0.0001")
    assert words["train-none"] == words["train-all"] == "90.0 [90.0, 90.0] n=3"
    missing = first_layer.table_at_one_lr(augmentation.Results(results.cells, results.frame, 2000))
    rows = missing[missing["model"] == "B-6/Wi-256"].set_index(["augmentation", "learning rate"])
    assert rows.loc[("none", "0.0001"), "radius, % [95%]"] == "not run"
    assert set(rows["radius, all - none [95%]"]) == {""}


def test_the_sign_of_the_verdicts_difference_at_one_rate():
    def at(radius):
        return first_layer.at_either_rate(augmentation.collect(LAPTOP, Fake(radius, lr_by_augmentation)))

    # Seeds differ by a little noise that is the same on both sides; the rate without is 3e-4, with 1e-4.
    kept = at(lambda run: 1 - 100 * run.lr - 0.02 * (run.augment == "none"))
    assert kept["between"] == "less local (4.0 [4.0, 4.0] n=3)"
    assert kept["at-one"] == "at 0.0001 less local (2.0 [2.0, 2.0] n=2); at 0.0003 less local (2.0 [2.0, 2.0] n=2)"
    assert kept["sign"] == "is the same at either rate, so the learning rates alone do not make it"
    rate = at(lambda run: 1 - 100 * run.lr + 0.001 * (run.augment == "none") * (-1) ** run.seed)
    assert rate["between"].startswith("less local (2.0 [")
    assert rate["sign"] == "is the same at neither (at 0.0001 not shown, at 0.0003 not shown)"
    lost = at(lambda run: 1.0 + 0.01 * (run.augment == "none") * (-1) ** run.seed)
    assert lost["sign"].startswith("is not there to be kept")
    one = first_layer.at_either_rate(augmentation.collect(LAPTOP, Fake()))
    assert one["at-one"] == "the two chosen rates are one, 0.0003" and one["sign"].endswith("the sides have one rate")
    results = augmentation.collect(LAPTOP, Fake(best_lr=lr_by_augmentation))
    uncontrolled = augmentation.Results(
        results.cells, results.frame.assign(radius=1 - 0.02 * (results.frame["augmentation"] == "none")), 2000
    )
    assert first_layer.at_either_rate(uncontrolled)["sign"].startswith(
        "cannot be judged at both rates yet (at 0.0001 not"
    )


def test_radius_and_entropy_are_set_against_each_other():
    """With augmentation the radius is larger, and the entropy smaller at 500 images, larger at 32,000."""
    results = augmentation.collect(LAPTOP, Fake(lambda run: 0.9 + 0.05 * (run.augment != "none")))
    frame = results.frame
    change = frame["train_examples"].map({500: -0.1, 2000: 0.0, 32_000: 0.1}).fillna(0.0)
    noise = 0.01 * (-1.0) ** frame["seed"] * (frame["train_examples"] == 2000)
    entropy = 0.9 + (change + noise) * (frame["augmentation"] == "all")
    words = first_layer.by_radius_and_entropy(augmentation.Results(results.cells, frame.assign(entropy=entropy), 2000))
    assert (
        words["B-MLP"]
        == words["S-MLP"]
        == (
            "at 500 images less local by radius, more local by entropy; "
            "at 2,000 images less local by radius, not shown by entropy; at 32,000 images less local by either"
        )
    )
    assert words["opposed"] == "S-MLP at 500, B-MLP at 500"
    assert first_layer.by_radius_and_entropy(results)["opposed"] == "no number of images"


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
    assert figures.side(gain_by_family.between(results, "CNN", "B-MLP"), "above", "below") == "above"
    most = gain_by_family.most_gained(results)
    assert most.startswith("the CNN gained most, 13.5 [") and most.endswith("; more than S-MLP, B-MLP, ViT")
    assert gain_by_family.starts(results).count("31.0 [28.5, 33.5] n=3") == 4  # seeds 0, 1 and 2 add 0, 1 and 2 points
    added = gain_by_family.mixup_adds(results)
    assert added["CNN"].mean == pytest.approx(3) and added["ViT"].mean == pytest.approx(-3)
    assert gain_by_family.by_side(added, "adds for", "costs for", "nothing for") == (
        "adds for CNN; costs for ViT; nothing for S-MLP, B-MLP"
    )
    assert gain_by_family.to_the_mlps(results).startswith("S-MLP 7.5 [7.3, 7.7] n=3, as 5,700 [")
    assert gain_by_family.rates(results).startswith(
        "S-MLP 0.0003 without and 0.0001 with it, 3 times smaller; B-MLP 0.0003"
    )
    assert (
        gain_by_family.farthest_apart(results).startswith("the S-MLP (") and gain_by_family.at_edge(results) == "none"
    )
    assert gain_by_family.chosen_after(results, 1 / 3) == "chosen after 333 of 1,000 steps"


def test_a_rate_at_the_edge_is_flagged_where_it_is_used():
    results = augmentation.collect(LAPTOP, Fake(best_lr=lambda run: 3e-4 if run.augment == "none" else 1e-6))
    assert gain_by_family.at_edge(results).startswith("S-MLP with augmentation (3.33e-05); B-MLP with")
    worth = figures.table_of_worth(results)
    assert set(worth.loc[worth["augmentation"] == "none", "learning rate"]) == {"0.0003"}
    assert set(worth.loc[worth["augmentation"] != "none", "learning rate"]) == {"3.33e-05 (at edge)"}


def test_the_share_that_is_kept_compares_models_that_start_at_different_accuracies():
    results = augmentation.collect(LAPTOP, Apart())
    words = moved_images.kept_in_words(results)
    assert words["pixels"] == "8"
    mlp, cnn = words["families"].split("; ")
    assert mlp.startswith("the B-MLP keeps 20.0 [20.0, 20.0] n=3 without augmentation and 41.0 [38.5, 43.5] n=3 with")
    assert mlp.endswith("(more is kept with it: 21.0 [18.5, 23.5] n=3)")
    assert cnn.endswith("and 50.0 [50.0, 50.0] n=3 with it (no difference is shown: 0.0 [0.0, 0.0] n=3)")
    assert moved_images.table_of_moves(results).iloc[0, -1] == "20.0 [20.0, 20.0] n=3"


def test_words_of_nothing():
    nothing = augmentation.collect(LAPTOP, not_run)
    assert gain_by_family.most_gained(nothing) == "no gain is measured yet"
    assert gain_by_family.between(nothing, "CNN", "B-MLP").n == 0
    assert overtraining.between_over_the_best(nothing, "CNN", "B-MLP").n == 0
    assert gain_by_family.rates(nothing).count("not chosen yet") == 4
    assert (
        gain_by_family.by_side(gain_by_family.mixup_adds(nothing), "a", "b", "c") == "not run: S-MLP, B-MLP, CNN, ViT"
    )
    assert moved_images.kept_in_words(nothing) == {"pixels": "no", "families": "not run"}
    assert first_layer.by_radius_and_entropy(nothing)["B-MLP"] == "at 500, 2,000, 32,000 images not run by either"
    assert gain_by_family.chosen_after(augmentation.collect(augmentation.resolve("smoke"), not_run), 0.5).startswith(
        "given"
    )


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
    assert dashed.get_ydata()[3] == pytest.approx((40 + 10 + 42) / 3)
    assert solid.get_ydata()[-1] == pytest.approx((57.5 + 58.5 + 10) / 3)


def test_a_measure_that_could_not_be_taken_is_left_out():
    results = augmentation.collect(LAPTOP, Fake())
    refused = {"first_layer": {"not_measured": "why"}, "translated": {"not_measured": "why"}}
    none = results.frame.assign(measures=[refused] * len(results.frame))
    results = augmentation.Results(results.cells, none, results.subset)
    assert moved_images.kept_in_words(results) == {"pixels": "no", "families": "not run"}
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
