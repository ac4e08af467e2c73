"""The settings study: one change at a time, at the from-scratch study's own learning rate. Nothing is trained."""

import pandas as pd
import pytest
from helpers import record_of
from test_study import Fake

from mlp_lib.chapters import planning
from mlp_lib.chapters.from_scratch import study as rq1
from mlp_lib.chapters.notebook import open_chapter
from mlp_lib.chapters.settings import figures
from mlp_lib.chapters.settings import study as settings
from mlp_lib.chapters.settings.study import UNCHANGED
from mlp_lib.chapters.tuning import TUNING_SEED, not_run
from mlp_lib.errors import UserError
from mlp_lib.records.frames import row_of
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs

RECIPE = ("model", "activation", "block_form", "batch_size", "schedule", "lr")


@pytest.fixture(scope="module")
def laptop():
    fake = Fake(best_lr=2.5e-4)
    return settings.collect(settings.STUDY.resolve("laptop"), fake), fake


def test_the_unchanged_cell_and_its_tuning_are_the_from_scratch_studys_own_runs(laptop):
    results, fake = laptop
    other = Fake(best_lr=2.5e-4)
    rq1.collect(rq1.STUDY.resolve("laptop"), other)
    shared = fake.asked().keys() & other.asked().keys()
    assert {run.key for run in fake.asked().values() if run.seed == TUNING_SEED} <= shared
    unchanged = results.frame[(results.frame["change"] == UNCHANGED) & (results.frame["seed"] < 3)]
    assert len(unchanged) == 6 and set(unchanged["key"]) <= shared


def test_every_change_changes_one_thing_and_has_every_seed(laptop):
    frame = laptop[0].frame.fillna("own")
    assert laptop[0].complete and laptop[0].sufficient
    assert (frame.groupby(["model", "change"])["seed"].nunique() == 5).all()
    for model, rows in frame.groupby("model"):
        base = rows[rows["change"] == UNCHANGED].iloc[0]
        for change, cell in rows.groupby("change"):
            differing = [field for field in RECIPE if (cell[field] != base[field]).any()]
            expected = 0 if change == UNCHANGED else 2 if "public code" in change else 1
            assert len(differing) == expected, (model, change, differing)
    lrs = frame[frame["model"] == "S-6/Wi-256"].groupby("change")["lr"].first()
    assert lrs["a third of the chosen lr"] == pytest.approx(1e-4) and lrs["three times the chosen lr"] == 9e-4


def test_a_laptop_can_train_it_in_25_minutes():
    plan = planning.plan(settings.STUDY, settings.STUDY.resolve("laptop"), Store("nowhere"))
    assert sum(costs.planned_seconds(run) for run in plan.runs) / 60 < 25


@pytest.mark.parametrize("preset", settings.PRESETS)
def test_every_preset_is_valid(preset):
    results = settings.collect(settings.STUDY.resolve(preset), Fake())
    assert results.complete and results.frame["key"].is_unique


def test_a_bad_parameter_is_one_line():
    with pytest.raises(UserError, match="unknown parameter 'model'"):
        settings.STUDY.resolve("smoke", model="B-6/Wi-128")


def test_differences_are_paired_by_seed_and_drawn():
    def run(seed, **change):
        return make_run(model="S-2/Wi-32", dataset="digits", epochs=1, batch_size=32, seed=seed, **change)

    rows = []
    for seed, base in enumerate((50.0, 60.0, 70.0)):  # the seeds differ far more than the change does
        for change, fields, top1 in (
            (UNCHANGED, {}, base),
            ("GELU", {"activation": "gelu"}, base + 2 + 0.1 * seed),
            ("cosine", {"schedule": "cosine"}, base + (seed - 1)),
        ):
            record = record_of(run(seed, **fields), metrics={"test_top1": top1})
            rows.append({**row_of(record.run, record), "change": change, "family": "S-MLP"})
    frame = pd.DataFrame(rows)
    by_change = figures.differences(frame).set_index("change")["difference"]
    assert by_change["GELU"].mean == pytest.approx(2.1) and by_change["GELU"].interval[0] > 1.8
    assert by_change["cosine"].mean == pytest.approx(0) and by_change["cosine"].interval[0] < -1
    labels = [text.get_text() for text in figures.forest(frame).axes[0].get_yticklabels()]
    assert labels == ["S-MLP: GELU", "S-MLP: cosine"]
    table = figures.table_of_differences(frame).set_index("change")
    assert table.loc[UNCHANGED, "difference, points [95%]"] == ""
    assert table.loc["GELU", "difference, points [95%]"].startswith("2.10 [1.85, 2.35] n=3")


def test_finished_runs_of_larger_presets_are_compared_at_their_own_scale(tmp_path):
    """Runs that two presets share are one run; an unchanged cell of another scale is not what a change is from."""
    store = Store(tmp_path)
    unchanged = settings.candidates(settings.STUDY.resolve("gpu"))
    for seed in range(5):  # three of them belong to overnight as well
        run = unchanged["S-6/Wi-1024"].but(seed=seed)
        store.add(record_of(run, metrics={"test_top1": 50.0 + 3 * seed}))
        if seed < 4:
            cosine = settings.COSINE.of(run)
            store.add(record_of(cosine, metrics={"test_top1": 51.0 + 3 * seed + 0.1 * (seed % 2)}))
    relu = settings.RELU.of(unchanged["B-6/Wi-1024"])  # a change without its unchanged cell
    store.add(record_of(relu, metrics={"test_top1": 40.0}))
    chapter = open_chapter("rq1-settings", {"preset": "laptop", "train": False}, store)
    table = figures.table_of_differences(chapter.larger())
    assert table.drop(columns="test top-1 % [95%]").values.tolist() == [
        ["S-6/Wi-1024", "50,000", "100", UNCHANGED, "", "overnight, gpu"],
        ["S-6/Wi-1024", "50,000", "100", settings.COSINE.name, "1.05 [0.96, 1.14] n=4", "overnight, gpu"],
        ["B-6/Wi-1024", "50,000", "100", settings.RELU.name, "not run", "gpu"],
    ]
    assert table["test top-1 % [95%]"].tolist()[2] == "40.0 n=1" and table["test top-1 % [95%]"][0].endswith("n=5")
    both = pd.concat([chapter.results().frame.assign(preset="laptop"), chapter.larger()], ignore_index=True)
    own = figures.table_of_differences(both)
    assert own[own["preset"] == "laptop"]["images"].unique().tolist() == ["10,000"]
    empty = open_chapter("rq1-settings", {"preset": "laptop", "train": False}, Store(tmp_path / "nothing"))
    assert len(empty.larger()) == 0  # the page says so


def test_without_records_everything_says_so():
    frame = settings.collect(settings.STUDY.resolve("smoke"), not_run).frame
    assert set(figures.table_of_differences(frame)["test top-1 % [95%]"]) == {"not run"}
    assert not figures.forest(frame).axes[0].get_yticklabels()


def test_a_given_learning_rate_is_not_rounded_where_it_is_not_changed():
    run = make_run(model="B-1/Wi-8", dataset="digits", epochs=1, lr=1.23456e-3)
    assert settings.Change("nothing").of(run).key == run.key
    assert settings.Change("more", lr_factor=3.0).of(run).lr == 0.0037


def test_a_change_under_which_seeds_diverge_is_not_shown_by_the_survivors(laptop):
    frame = laptop[0].frame.copy()
    change = next(c for c in frame["change"].unique() if c != UNCHANGED)
    broken = (frame["change"] == change) & frame["seed"].isin(sorted(frame["seed"].unique())[:2])
    frame.loc[broken, ["status", "test_top1"]] = ["diverged", float("nan")]
    row = figures.differences(frame).query("change == @change").iloc[0]
    seeds = frame["seed"].nunique()
    assert (row["diverged"], row["estimate"].n, row["difference"].n) == (2, seeds, seeds)
    assert row["estimate"].mean < 60  # two of them count as chance
    assert "2 diverged" in figures.table_of_differences(frame).query("change == @change").iloc[0]["test top-1 % [95%]"]


def test_the_largest_gain_is_one_whose_interval_lies_above_zero(laptop):
    frame = laptop[0].frame
    first = frame["model"].iloc[0]
    unchanged = frame["change"] == UNCHANGED
    changes = [name for name in frame["change"].unique() if name != UNCHANGED]
    moved = frame.assign(test_top1=50.0 + frame["seed"])
    moved.loc[(moved["model"] == first) & (moved["change"] == changes[0]), "test_top1"] += 2
    noisy = (moved["model"] == first) & (moved["change"] == changes[1])
    moved.loc[noisy, "test_top1"] += 10 + 20 * (-1) ** moved.loc[noisy, "seed"]  # larger in the mean, and not shown
    family = moved.loc[moved["model"] == first, "family"].iloc[0]
    other = next(name for name in moved["family"].unique() if name != family)
    change, gain = figures.largest_gain(moved, family)
    assert (change, gain.text(2)) == (changes[0], "2.00 [2.00, 2.00] n=5")
    assert figures.largest_gain(moved, other) is None
    assert figures.difference_of(moved, family, changes[0]) == gain
    assert figures.difference_of(moved, other, "no such change").n == 0
    assert figures.largest_gain(frame[unchanged], family) is None
    assert figures.largest_gain(frame.drop(columns="test_top1"), family) is None
