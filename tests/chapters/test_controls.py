"""The controls chapter: one budget for every family, no run at guessed settings, and what a prior is worth."""

import math

import pandas as pd
import pytest
import torch
from helpers import record_of
from test_learning_curves import frame_of

from mlp_lib import plots
from mlp_lib.chapters import planning
from mlp_lib.chapters.controls import beside_the_mlp, cost_of_one_image
from mlp_lib.chapters.controls import figures as drawn
from mlp_lib.chapters.controls import search as stages
from mlp_lib.chapters.controls import study as controls
from mlp_lib.chapters.controls.presets import GRIDS, PRESETS
from mlp_lib.chapters.notebook import open_chapter
from mlp_lib.chapters.recipes import WIDENINGS
from mlp_lib.chapters.tuning import TUNING_SEED
from mlp_lib.errors import UserError
from mlp_lib.models import build_for, parameter_counts
from mlp_lib.records.frames import row_of
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.stats import learning_curves
from mlp_lib.sweeps import costs

SMOKE, LAPTOP = controls.resolve("smoke"), controls.resolve("laptop")
LABELS = ["S-MLP", "B-MLP", "CNN", "CNN without norm", "ViT", "Mixer"]


class Fake:
    """An `ensure` that scores each run by its distance from one best setting, and notes what it was asked for."""

    def __init__(self, best=("adamw", 1e-3, "flip+crop+mixup"), diverged=lambda run: False, missing=lambda run: False):
        self.best, self.diverged, self.missing = best, diverged, missing
        self.calls, self.records = [], {}

    def __call__(self, runs, train=True, measures=None):
        self.calls.append((list(runs), train))
        for run in runs:
            if train and not self.missing(run):
                self.records[run.key] = self.record(run)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])

    def record(self, run):
        if self.diverged(run):
            return record_of(run, status="diverged")
        optimizer, lr, augment = self.best
        score = 90 - 20 * (run.optimizer != optimizer) - 10 * abs(math.log(run.lr / lr)) - 5 * (run.augment != augment)
        return record_of(run, metrics={"val_top1": score, "test_top1": score + run.seed % 7, "train_top1": 95.0})

    def asked(self, train=True):
        return {run.key: run for runs, trained in self.calls if trained == train for run in runs}


# --- the search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_family_gets_the_same_number_of_trials_before_a_grid_is_widened(name):
    for best in (("adamw", 1e-3, "flip+pad"), ("lion", 1e-9, "none"), ("sgd", 1e3, "flip+crop+mixup")):
        fake = Fake(best)
        results = controls.collect(controls.resolve(name), fake)
        trials = pd.DataFrame(r.model_dump() for r in fake.asked().values() if r.seed == TUNING_SEED)
        counts = trials.fillna({"norm": "own"}).groupby(["model", "norm"]).size()
        searches = [cell.search for cell in results.cells if cell.search]
        assert {search.asked for search in searches} == {13} and results.complete
        assert len(counts) == 6 and sum(counts) == 6 * 13 + sum(search.beyond for search in searches)
        assert all(search.done == 13 + search.beyond and search.beyond <= WIDENINGS for search in searches)


def test_the_stages_follow_one_another_and_fresh_seeds_run_at_the_choice():
    fake = Fake()
    results = controls.collect(LAPTOP, fake)
    (first, _), (second, _), (third, _), (final, _) = fake.calls  # four calls, each of which fills every core
    assert {(r.augment, r.subset, r.epochs, r.seed) for r in first} == {("flip+pad", 7500, 10, TUNING_SEED)}
    assert {(r.optimizer, r.lr) for r in first} == {(optimizer, lr) for optimizer, lrs in GRIDS for lr in lrs}
    assert {(r.optimizer, r.lr, r.augment) for r in second} == {
        ("adamw", lr, augment) for lr in (1e-3, 3.33e-4) for augment in ("none", "flip+crop+mixup")
    }
    assert {(r.optimizer, r.lr, r.augment) for r in third} == {("adamw", 3e-3, "flip+crop+mixup")}
    assert {(r.optimizer, r.lr, r.augment, r.subset, r.epochs, r.split) for r in final} == {
        ("adamw", 1e-3, "flip+crop+mixup", 10_000, 30, "holdout")
    }
    assert {(r.weight_decay, r.schedule, r.label_smoothing, r.batch_size) for r in (*first, *second, *final)} == {
        (0.0, "constant", 0.3, 256)
    }
    assert results.frame["seed"].tolist() == [0] * 6 + [1] * 6 + [2] * 6  # a whole table early
    assert results.frame["family"].tolist() == LABELS * 3 and results.frame["chosen"].all()
    assert results.frame["trials"].eq(14).all() and results.sufficient


def test_a_third_of_the_lr_can_win_in_the_second_stage():
    class Gentle(Fake):  # strong augmentation wants a smaller lr
        def record(self, run):
            best = 3.33e-4 if run.augment == "flip+crop+mixup" else 1e-3
            return Fake(("adamw", best, "flip+crop+mixup")).record(run)

    search = controls.collect(LAPTOP, Gentle()).cells[0].search
    assert (search.lr, search.augment, search.at_edge) == (3.33e-4, "flip+crop+mixup", False)
    assert search.beyond == 1


@pytest.mark.parametrize(
    "lr, augment, chosen, beyond, at_edge",
    [
        (1e-3, "flip+pad", 1e-3, 0, False),
        (3e-4, "flip+pad", 3e-4, 1, False),  # 1e-4 is worse
        (3e-3, "flip+pad", 3e-3, 1, False),
        (3e-5, "none", 3.33e-5, 2, False),  # after 3e-4 and 1e-4: 3.33e-5 and 1.11e-5
        (1e-9, "none", 1.23e-6, WIDENINGS, True),
        (1e-3, "none", 1e-3, 1, False),  # tried at a third in the second stage, and at three times in the third
    ],
    ids=["inside", "low", "high", "beyond", "far beyond", "another augmentation"],
)
def test_a_grid_is_widened_until_the_best_lies_inside(lr, augment, chosen, beyond, at_edge):
    search = controls.collect(LAPTOP, Fake(("adamw", lr, augment))).cells[0].search
    assert (search.lr, search.beyond, search.at_edge, search.final) == (pytest.approx(chosen), beyond, at_edge, True)
    assert search.done == 13 + beyond and ("at an edge of its grid" in search.flags) == at_edge
    assert "chosen by one seed" in search.flags and "chosen at 33% of the training" in search.flags


def test_a_search_with_two_peaks_is_flagged():
    class Dip(Fake):
        def record(self, run):
            dip = 15 if run.optimizer == "adamw" and run.lr == 1e-3 else 0
            score = Fake(("adamw", 2e-3, "flip+pad")).record(run).metrics["val_top1"] - dip
            return record_of(run, metrics={"val_top1": score, "test_top1": score, "train_top1": 95.0})

    assert "its grid has two peaks" in controls.collect(LAPTOP, Dip()).cells[0].search.flags
    assert "its grid has two peaks" not in controls.collect(LAPTOP, Fake()).cells[0].search.flags


def test_a_diverged_trial_is_not_chosen_and_the_first_of_equals_is():
    search = controls.collect(LAPTOP, Fake(diverged=lambda run: run.lr > 8e-4)).cells[0].search
    assert (search.optimizer, search.lr, search.final) == ("adamw", 3e-4, True)
    nothing = controls.collect(LAPTOP, Fake(diverged=lambda run: True))
    assert nothing.complete and all(cell.search.final for cell in nothing.cells)
    equal = Fake()
    equal.record = lambda run: record_of(run)
    search = controls.collect(LAPTOP, equal).cells[0].search
    assert (search.optimizer, search.lr, search.augment) == ("lion", 1e-4, "flip+pad")


@pytest.mark.parametrize("stage", [1, 2])
def test_nothing_runs_at_settings_that_rest_on_an_unfinished_search(stage):
    def missing(run):
        late = run.augment != "flip+pad"
        return run.model == "ViT-64x4/8" and run.seed == TUNING_SEED and late == (stage == 2)

    fake = Fake(missing=missing)
    results = controls.collect(LAPTOP, fake)
    assert {run.seed for run in fake.asked().values()} == {TUNING_SEED}  # no seed is trained before all have chosen
    assert len(fake.asked(train=False)) == 18 + 24 * (stage == 1)  # but what is to come is in the plan
    vit = next(cell for cell in results.cells if cell.family == "ViT")
    assert not vit.final and vit.search.done == (0 if stage == 1 else 9) and not results.complete
    assert not results.frame["chosen"][results.frame["family"] == "ViT"].any()


def test_a_record_at_a_guess_is_not_shown():
    """Another chapter may have trained just the run that stands in for an unfinished choice."""
    fake = Fake()
    guesses = controls.collect(LAPTOP, Fake(missing=lambda run: True)).frame
    assert guesses["status"].eq("not run").all()
    for cell in controls.collect(LAPTOP, Fake(missing=lambda run: True)).cells:
        for run in cell.runs:
            fake.records[run.key] = fake.record(run)
    fake.missing = lambda run: run.seed == TUNING_SEED
    frame = controls.collect(LAPTOP, fake).frame
    assert frame["status"].eq("not run").all() and "test_top1" not in frame


# --- presets --------------------------------------------------------------------------------------------------------


def test_the_presets_fit_their_budgets(tmp_path):
    def plan(name):
        return planning.plan(controls.STUDY, controls.resolve(name), Store(tmp_path))

    minutes = {name: sum(map(costs.planned_seconds, plan(name).runs)) / 60 for name in ("smoke", "laptop", "overnight")}
    assert minutes["smoke"] < 5 / 60 and 20 < minutes["laptop"] <= 24.5 and 5 * 60 < minutes["overnight"] <= 8 * 60
    assert [len(plan(name).runs) for name in ("smoke", "laptop", "overnight", "gpu")] == [90, 96, 97, 96]
    gpu = plan("gpu")
    assert sum(gpu.flops) == pytest.approx(1.6e17, rel=0.02) and max(gpu.flops) == pytest.approx(8.9e15, rel=0.02)
    alike = {
        family.model: costs.example_cost(make_run(model=family.model, dataset="cifar10", epochs=1)).macs
        for family in PRESETS["gpu"].families
    }
    assert alike["Mixer-224x12/4"] == pytest.approx(alike["ViT-Ti/4"], rel=0.05)


def test_digits_are_not_mirrored_and_shifts_follow_the_resolution():
    runs = controls.collect(SMOKE, Fake(("sgd", 0.1, "crop+mixup"))).cells
    assert runs[0].search.trials["augment"].unique().tolist() == ["pad", "none", "crop+mixup"]
    run = stages.first_stage(SMOKE, controls.base_run(SMOKE, SMOKE.families[0]))[0]
    assert (run.augment, run.pad) == ("pad", 1)
    assert stages.first_stage(LAPTOP, controls.base_run(LAPTOP, LAPTOP.families[0]))[0].pad == 4


def test_the_cnn_without_norm_is_a_family_of_its_own():
    cells = {cell.family: cell for cell in controls.collect(LAPTOP, Fake()).cells}
    assert cells["CNN"].model == cells["CNN without norm"].model == "CNN-16"
    assert {run.norm for run in cells["CNN without norm"].runs} == {"none"}
    assert not {run.key for run in cells["CNN"].runs} & {run.key for run in cells["CNN without norm"].runs}
    assert set(LABELS) | {"ResNet18"} <= set(plots.FAMILY_COLOURS)


def test_a_control_with_its_own_recipe_shows_without_the_rest_of_its_preset(tmp_path):
    store = Store(tmp_path)
    resnet = controls.collect(controls.resolve("overnight"), Fake(missing=lambda run: True)).cells[-1].runs
    assert [
        (
            r.model,
            r.optimizer,
            r.lr,
            r.momentum,
            r.weight_decay,
            r.schedule,
            r.augment,
            r.batch_size,
            r.subset,
            r.epochs,
            r.label_smoothing,
            r.seed,
        )
        for r in resnet
    ] == [("ResNet18", "sgd", 0.1, 0.9, 5e-4, "cosine", "flip+pad", 256, 10_000, 30, 0.0, 0)]
    store.add(record_of(resnet[0], metrics={"val_top1": 80.0, "test_top1": 79.0, "train_top1": 99.0}))
    overnight = controls.collect(controls.resolve("overnight"), planning.from_records(store))
    assert not overnight.complete and overnight.frame["status"].tolist().count("ok") == 1
    chapter = open_chapter("rq1-controls", {"preset": "laptop", "train": False}, store)
    larger = chapter.larger()
    assert larger[["family", "preset", "seed", "searched", "test_top1"]].values.tolist() == [
        ["ResNet18", "overnight", 0, False, 79.0]
    ]
    everything = pd.concat([chapter.results().frame.assign(preset="laptop"), larger], ignore_index=True)
    table = drawn.table_of_families(everything)
    assert table["trials"].tolist() == ["0"] * 6 + ["none"]
    assert table["optimiser, lr"].tolist() == ["open"] * 6 + ["sgd, 0.1"]
    assert drawn.table_of_accuracies(everything)["test top-1 % [95%]"].tolist() == ["not run"] * 6 + ["79.0 n=1"]


def test_auto_needs_every_search_and_three_seeds_but_no_given_control(tmp_path):
    store = Store(tmp_path)

    def fill(name, missing=lambda run: False):
        fake = Fake(missing=missing)
        controls.collect(controls.resolve(name), fake)
        for record in fake.records.values():
            store.add(record)

    fill("laptop", lambda run: run.seed == 2)
    assert planning.pick_preset(controls.STUDY, "auto", store) == "smoke"
    fill("laptop")
    assert planning.pick_preset(controls.STUDY, "auto", store) == "laptop"
    fill("overnight", lambda run: run.model == "ResNet18")
    assert planning.pick_preset(controls.STUDY, "auto", store) == "overnight"
    shown = controls.collect(controls.resolve("overnight"), planning.from_records(store))
    assert shown.sufficient and not shown.complete


def test_a_reader_changes_what_a_preset_says():
    preset = controls.resolve("laptop", model="B-6/Wi-128", epochs=6, dataset="shapes", seeds=None)
    assert [family.model for family in preset.families][:3] == ["S-6/Wi-256", "B-6/Wi-128", "CNN-16"]
    assert (preset.subset, preset.epochs) == (None, 6)
    assert controls.resolve("overnight", seeds=(7,)).given and not controls.resolve("overnight", epochs=5).given


@pytest.mark.parametrize(
    "preset, changes, says",
    [
        ("paper", {}, "unknown preset 'paper'; there are: smoke, laptop, overnight, gpu"),
        ("smoke", {"model": "CNN-8"}, "model='CNN-8' is no MLP"),
        ("smoke", {"model": "B6"}, "unknown model 'B6'"),
        ("smoke", {"lr": 1.0}, "unknown parameter 'lr'"),
        ("smoke", {"subset": 9999}, "subset=9999"),
        ("smoke", {"seeds": ()}, "seeds is empty"),
        ("laptop", {"batch_size": 9000}, "batch_size=9000.*7500"),  # of a trial
    ],
)
def test_a_preset_that_cannot_be_run_is_one_line(preset, changes, says):
    with pytest.raises(UserError, match=says) as caught:
        controls.resolve(preset, **changes)
    assert "\n" not in str(caught.value)


# --- figures and tables ---------------------------------------------------------------------------------------------


def test_the_search_is_drawn_with_its_choice_and_its_losses():
    fake = Fake(diverged=lambda run: run.optimizer == "sgd" and run.lr == 0.1)
    cells = controls.collect(LAPTOP, fake).cells
    figure = drawn.search_figure(cells)
    assert [axis.get_title() for axis in figure.axes] == LABELS
    axis = figure.axes[0]
    by_style = {(line.get_marker(), line.get_ls()): line for line in axis.lines if len(line.get_xdata())}
    assert by_style["s", "--"].get_xdata().tolist() == [3e-4, 1e-3, 3e-3]
    assert by_style["^", ":"].get_xdata().tolist() == [0.01, 0.03]
    assert by_style["x", "None"].get_xdata().tolist() == [0.1]
    ring = by_style["o", "None"]
    assert ring.get_xydata().tolist() == [[1e-3, 90.0]]  # the best that the fake knows
    row = drawn.table_of_search(cells).iloc[0]
    assert (row["adamw"], row["paper's augm."], row["trials"]) == ("85.0 at 0.001", "90.0 at 0.001", "13 + 1")
    assert row["chosen"] == "adamw, flip+crop+mixup"


def test_tables_say_what_was_chosen_what_it_cost_and_what_diverged():
    frame = frame_of({"B-MLP": [20.0] * 3, "CNN": [10.0] * 3}).assign(at_edge=lambda f: f["family"] == "CNN")
    table = drawn.table_of_families(frame)
    assert table["optimiser, lr"].tolist() == ["lion, 0.001", "lion, 0.001 (edge)"]
    assert table[["mult.-adds", "parameters", "TFLOP (paper's)"]].iloc[0].tolist() == ["1 M", "70 k", "1 (0.5)"]
    frame.loc[0, ["status", "test_top1", "val_top1"]] = ["diverged", None, None]
    texts = drawn.table_of_accuracies(frame)["test top-1 % [95%]"].tolist()
    assert texts == ["80.0 [80.0, 80.0] n=2, 1 diverged", "90.0 [90.0, 90.0] n=3"]
    labels = [text.get_text() for text in drawn.accuracies(frame).axes[0].get_yticklabels()]
    assert labels == ["B-MLP, n=2", "CNN, n=3"]
    more = pd.concat([frame, frame_of({"ResNet18": [5.0]}).assign(preset="overnight", searched=False)])
    assert drawn.accuracies(more).axes[0].get_yticklabels()[2].get_text() == (
        "ResNet18, n=1 (overnight: 10,000 images)"
    )


def test_what_one_image_costs_is_listed_for_every_family_without_a_record():
    table = cost_of_one_image.table_of_one_image().set_index("model")
    published = {  # baselines.py's table, counted by hand in tests/test_baselines.py
        "CNN-16": ("1.88 M", "71 k"),
        "ResNet18": ("555 M", "11,174 k"),
        "ViT-64x4/8": ("3.69 M", "214 k"),
        "ViT-192x12/4": ("365 M", "5,363 k"),
        "Mixer-64x4/8": ("2.56 M", "151 k"),
    }
    rows = table[table["family"] != "CNN without norm"]
    assert {m: tuple(rows.loc[m, ["mult.-adds", "parameters"]]) for m in published} == published
    assert set(table["family"]) == {*LABELS, "ResNet18"}
    first, macs = 3072 * 256, 3072 * 256 + 6 * 256**2 + 256 * 10  # S-6/Wi-256; no gradient reaches the image
    expected = f"{2 * (3 * macs - first) / 1e6:.0f} ({3 * macs / 1e6:.0f})"
    assert table.loc["S-6/Wi-256", "training MFLOP (paper's)"] == expected
    assert table.loc["ResNet18", "presets"] == "overnight, gpu"


def test_what_one_image_costs_by_formula_is_what_the_models_count():
    smoke = [controls.base_run(SMOKE, member) for member in SMOKE.families]  # 8 x 8, one channel
    for run in (*smoke, *(run for run, _ in cost_of_one_image.models().values())):
        found, counted = cost_of_one_image.count(run), costs.example_cost(run)
        assert (found.macs, found.papers, found.training) == counted
        with torch.device("meta"):
            assert found.parameters == parameter_counts(build_for(run))["parameters"]


def test_the_plan_tells_the_runs_apart(tmp_path):
    table = drawn.plan_table(planning.plan(controls.STUDY, SMOKE, Store(tmp_path)))
    assert (
        len(table) == 90 and set(table["family"]) == set(LABELS) and set(table["optimiser"]) == {"lion", "adamw", "sgd"}
    )
    assert not table.drop(columns=["run", "seed"])[table["seed"] == TUNING_SEED].duplicated().any()


def test_everything_is_drawn_when_nothing_has_run():
    results = controls.collect(LAPTOP, Fake(missing=lambda run: True))
    frame = results.frame.assign(preset="laptop")
    same = beside_the_mlp.on_the_same_images(frame, pd.DataFrame())
    assert all(axis.texts[0].get_text() == "not run" for axis in drawn.search_figure(results.cells).axes)
    for figure in (drawn.error_against_compute(same), drawn.accuracies(frame)):
        axis = figure.axes[0]
        assert not axis.lines and [text.get_text() for text in axis.texts] == ["not run"]
    assert drawn.table_of_search(results.cells)["chosen"].eq("open").all()
    assert drawn.table_of_families(frame)["optimiser, lr"].eq("open").all()
    assert drawn.table_of_accuracies(frame)["test top-1 % [95%]"].eq("not run").all()
    assert beside_the_mlp.table_beside_mlp(same).iloc[:, 1].eq("not run").all()
    assert beside_the_mlp.table_at_best_length(same).iloc[:, 1].eq("not run").all()
    assert learning_curves.others_beside_best_mlp(same) == [] and beside_the_mlp.epochs_of_points(same) == []
    assert beside_the_mlp.length_text(same, "CNN") == "not run" == beside_the_mlp.ratio_at(same, "CNN")
    assert all(math.isnan(value) for value in drawn.noise_of_choice(results.cells, 5000))
    assert drawn.table_of_recipes(results.cells)["flags"].eq("the search is not finished").all()


def test_the_choices_are_listed_with_what_speaks_against_them():
    table = drawn.table_of_recipes(controls.collect(LAPTOP, Fake(("adamw", 3e-4, "flip+pad"))).cells)
    assert table["family"].tolist() == LABELS
    assert table.iloc[0].tolist() == [
        "S-MLP",
        "adamw",
        "0.0003",
        "flip+pad",
        "13 + 1",
        "chosen by one seed; chosen at 33% of the training",
    ]


def test_reported_seeds_at_another_rate_of_the_search_stand_beside_the_choice(tmp_path):
    cells, store = controls.collect(LAPTOP, Fake(("adamw", 3e-4, "flip+pad"))).cells, Store(tmp_path)
    assert drawn.table_of_other_rates(cells, store.row).empty
    for run in cells[0].runs:
        store.add(record_of(run, metrics={"val_top1": 50.0, "test_top1": 50.0, "train_top1": 95.0}))
        store.add(record_of(run.but(lr=1e-3), metrics={"val_top1": 60.0, "test_top1": 60.0, "train_top1": 95.0}))
    (row,) = drawn.table_of_other_rates(cells, Store(tmp_path).row).to_dict("records")
    assert [*row.values()] == ["S-MLP", "0.0003", "50.0 [50.0, 50.0] n=3", "0.001", "60.0 [60.0, 60.0] n=3"]


def test_no_choice_of_the_page_lies_at_an_edge_or_on_two_peaks():
    """From the committed records: what the first screen says rests on these choices."""
    chapter = open_chapter("rq1-controls", {"train": False})
    for cell in chapter.results().cells:
        assert not cell.search or not [f for f in cell.search.flags if "edge" in f or "peaks" in f], cell.family


def test_the_noise_of_a_choice_is_that_of_a_share_of_its_validation_images():
    class Halved(Fake):  # the CNNs get half of them right, all others nine tenths
        def record(self, run):
            right = 50.0 if run.model == "CNN-16" else 90.0
            return record_of(run, metrics={"val_top1": right, "test_top1": right, "train_top1": 95.0})

    # 100 (0.5 * 0.5 / 5000)^1/2 = 0.707 and 100 (0.9 * 0.1 / 5000)^1/2 = 0.424
    cells = controls.collect(LAPTOP, Halved()).cells
    assert drawn.noise_of_choice(cells, 5000) == pytest.approx((0.424, 0.707), abs=1e-3)
    assert drawn.noise_of_choice([cell for cell in cells if cell.family == "CNN"], 100) == pytest.approx((5, 5))


def test_a_family_level_in_points_can_need_less_compute():
    """Equal at the end, at an eighth of the compute a step."""
    frame = frame_of({"B-MLP": [20.0] * 3, "CNN without norm": [20.0] * 3}, {"B-MLP": 8e12})
    (one,) = learning_curves.others_beside_best_mlp(frame)
    assert (one.family, one.at_the_end.text(), one.at_best.text()) == (
        "CNN without norm",
        "0.0 [0.0, 0.0] n=3",
        "0.0 [0.0, 0.0] n=3",
    )
    assert beside_the_mlp.ratio_at(frame, "CNN without norm") == "8 [8, 8] n=3"
    assert beside_the_mlp.ratio_at(frame, "CNN without norm", 1 / 2) == "8 [8, 8] n=3"
    assert beside_the_mlp.ratio_at(frame, "CNN") == "not run"
