"""The chapter on averaging over crops: its runs, its rule and checks, its figures."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.chapters import claims, planning
from mlp_lib.chapters.augmentation import study as augmentation
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.test_time import figures, study
from mlp_lib.chapters.test_time.presets import CENTRED, MOVED
from mlp_lib.chapters.test_time.rules import (
    HELPS,
    MOST_MOVED,
    changed_by_distance,
    checks,
    far_minus_near,
    gain,
    share_of_errors,
)
from mlp_lib.chapters.tuning import TUNING_SEEDS, not_run
from mlp_lib.datasets.shapes import SETS, sample
from mlp_lib.errors import UserError
from mlp_lib.measures.right_or_wrong import pack
from mlp_lib.records.frames import row_of
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import t_interval
from mlp_lib.sweeps import costs

VIEWS = [1, 2, 5, 10, 20, 50]


def crops(gain: float, plain: float = 40.0, probabilities: float | None = None, right=None) -> dict:
    """What the measure returns, with a gain that grows in equal steps to its last."""
    grown = [plain + gain * (i + 1) / len(VIEWS) for i in range(len(VIEWS))]
    other = [plain + (gain if probabilities is None else probabilities)] * len(VIEWS)
    found = dict(views=VIEWS, top1_logits=grown, top1_probabilities=other, top1_plain=plain, images=5000)
    before, after = right or (np.zeros(5000, bool), np.zeros(5000, bool))
    return found | dict(scale=0.08, ratio=4 / 3, flip=True, right_plain=pack(before), right_logits=pack(after))


class Fake:
    """An `ensure` with made-up results: averaging gains 2 points where a run was augmented, 5 on moved shapes, and
    loses 3 where it was not; a tenth of a point more a seed. The best rate is 1e-4. Notes what is measured."""

    def __init__(self, missing=lambda run: False, gains=lambda run: 0.0):
        self.missing, self.gains, self.asked, self.measured, self.records = missing, gains, {}, {}, {}

    def __call__(self, runs, train=True, measures=None):
        for run in runs:
            self.asked[run.key] = run
            if train and not self.missing(run):
                gained = 5 if run.dataset == MOVED else 2 if run.augment != "none" else -3
                found = {"test_crops": crops(gained + self.gains(run) + run.seed / 10)} if measures else {}
                if measures:
                    self.measured[run.key] = run
                metrics = {"val_top1": 90 - abs(math.log(run.lr / 1e-4)), "test_top1": 40.0, "test_loss": 1.0}
                self.records[run.key] = record_of(run, metrics=metrics, measures=found)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])


# --- the study ------------------------------------------------------------------------------------------------------


def test_three_models_on_photographs_and_the_b_mlp_on_shapes():
    fake = Fake()
    results = study.collect(study.STUDY.resolve("laptop"), fake)
    models = ("S-6/Wi-256", "B-6/Wi-256", "CNN-16")
    paper = "flip+crop+mixup"
    assert [(cell.model, cell.dataset, cell.augment) for cell in results.cells] == [
        *((model, "cifar10", augment) for augment in (paper, "none") for model in models),
        ("B-6/Wi-256", CENTRED, "flip+crop"),
        ("B-6/Wi-256", MOVED, "flip+crop"),
    ]
    frame = results.frame
    seeds = frame.groupby(["model", "dataset", "augment"])["seed"].apply(list).to_dict()
    for cell in results.cells:
        judged = cell.family == "B-MLP" and cell.augment != "none"
        assert seeds[cell.model, cell.dataset, cell.augment] == list(range(5 if judged else 3))
    assert frame["seed"].tolist()[:8] == [0] * 8 and frame["key"].is_unique
    assert results.complete and results.sufficient
    shapes = frame[frame["dataset"] != "cifar10"]
    assert {(r.crop_scale, r.crop_ratio, r.train_examples, r.steps) for r in shapes.itertuples()} == {
        (0.4, 1.0, 13_500, 1000)
    }


def test_reported_runs_are_measured_and_tuning_runs_are_not():
    fake = Fake()
    results = study.collect(study.STUDY.resolve("laptop"), fake)
    assert {*fake.measured} == {*results.frame["key"]}
    tuned = [run for run in fake.asked.values() if run.seed in TUNING_SEEDS]
    assert len(tuned) >= 8 * 9 and not {*TUNING_SEEDS} & {*results.frame["seed"]}
    for cell in results.cells:
        assert 5e-5 < cell.choice.lr < 2e-4 and not cell.choice.flags and cell.choice.seeds == 3


def test_photographs_share_their_runs_with_the_chapter_on_augmentation():
    """The grids, and the seeds that are reported at them, so that a store that has one has most of the other."""

    def runs_of(module, preset):
        asked = {}

        def ensure(runs, train=True, measures=None):
            asked.update((run.key, run) for run in runs)
            return not_run(runs)

        module.collect(module.PRESETS[preset], ensure)
        return asked

    ours, theirs = runs_of(study, "laptop"), runs_of(augmentation, "laptop")
    assert {key for key, run in ours.items() if run.dataset == "cifar10" and run.seed in TUNING_SEEDS} <= {*theirs}


def test_no_seed_is_trained_before_every_lr_is_chosen():
    fake = Fake(missing=lambda run: run.dataset == MOVED and run.seed in TUNING_SEEDS)
    results = study.collect(study.STUDY.resolve("laptop"), fake)
    assert not results.complete and results.frame["status"].eq("not run").all() and not fake.measured


def test_a_reader_changes_what_a_preset_says():
    preset = study.STUDY.resolve("laptop", model="B-6/Wi-128", seeds=(5, 6, 7), control_seeds=(9,), lrs=(1e-4,))
    results = study.collect(preset, Fake())
    assert {cell.choice.lr for cell in results.cells} == {1e-4} and all(cell.choice.given for cell in results.cells)
    assert set(results.frame["model"]) == {"S-6/Wi-256", "B-6/Wi-128", "CNN-16"}
    assert set(results.frame["seed"]) == {5, 6, 7, 9}
    with pytest.raises(UserError, match="trains on it anyway"):
        study.STUDY.resolve("laptop", dataset=MOVED)
    with pytest.raises(UserError, match="seeds is empty"):
        study.STUDY.resolve("laptop", seeds=())


def planned(preset: str, folder) -> tuple[float, planning.Plan]:
    """Planned minutes, training and views, and the plan."""
    chosen = study.STUDY.resolve(preset)
    plan = planning.plan(study.STUDY, chosen, Store(folder))
    seconds = sum(map(costs.planned_seconds, plan.runs))
    for run in plan.runs:
        if run.seed not in TUNING_SEEDS:  # a view costs a forward pass
            seconds += costs.planned_seconds(run, 2 * costs.example_cost(run).macs * 50 * 5000)
    return seconds / 60, plan


def test_the_presets_fit_their_budgets(tmp_path):
    minutes, plan = planned("laptop", tmp_path)
    assert 15 < minutes <= 25 and len(plan.runs) == 8 * 9 + 3 * 5 + 5 * 3
    minutes, _ = planned("overnight", tmp_path)
    assert 60 < minutes <= 8 * 60
    _, plan = planned("smoke", tmp_path)
    assert sum(plan.flops) < 1e10
    _, plan = planned("gpu", tmp_path)
    assert max(plan.flops) < 600 * 3e13  # ten minutes a run at a tenth of what such a GPU can do in bf16


# --- the rule -------------------------------------------------------------------------------------------------------


def test_gains_by_hand():
    row = dict(status="ok", dataset="cifar10", measures={"test_crops": crops(6.0, probabilities=4.0)})
    assert gain(row) == pytest.approx(6) and gain(row, "probabilities") == pytest.approx(4)
    assert gain(row, views=10) == pytest.approx(4)  # four of six steps
    assert share_of_errors(row) == pytest.approx(10)  # 6 of 60
    assert np.isnan(gain(dict(row, status="diverged"))) and np.isnan(gain(dict(row, measures={})))
    assert np.isnan(gain(dict(row, measures={"test_crops": {"not_measured": "why"}})))
    assert changed_by_distance(row, 2) is None and np.isnan(far_minus_near(row))


def test_far_and_near_by_the_places_that_the_shapes_were_drawn_at():
    places = sample(5000, 1, SETS[MOVED].factors)
    distance = np.sqrt(places["dx"] ** 2 + places["dy"] ** 2)
    far = distance > np.quantile(distance, 0.5)
    before, after = np.zeros(5000, bool), far.copy()
    after[np.flatnonzero(~far)[:250]] = True
    row = dict(status="ok", dataset=MOVED, measures={"test_crops": crops(0, right=(before, after))})
    places, gained = changed_by_distance(row, 2)
    assert gained == pytest.approx([10, 100]) and far_minus_near(row) == pytest.approx(90)
    assert places == pytest.approx([distance[~far].mean(), distance[far].mean()])


@pytest.mark.parametrize(
    "changes, verdict",
    [
        (lambda run: 0.0, "supported"),
        (lambda run: -4.0, "not supported"),  # it hurts, on photographs
        (lambda run: -6.0 if run.dataset == MOVED else 0.0, "not supported"),  # it helps where all is in the middle
        (lambda run: -3.0 + 2 * (run.seed % 2) if run.dataset == MOVED else 0.0, "inconclusive at this scale"),
    ],
)
def test_claim_10(changes, verdict):
    results = study.collect(study.STUDY.resolve("laptop"), Fake(gains=changes))
    assert claims.judge(10, results.frame).verdict == verdict


def test_the_parts_are_the_gain_and_the_difference_of_gains():
    results = study.collect(study.STUDY.resolve("laptop"), Fake(gains=lambda run: (run.seed == 1) * 1.0))
    judged = claims.judge(10, results.frame)
    expected = t_interval([2.0, 3.1, 2.2, 2.3, 2.4])
    assert judged.parts[HELPS].mean == pytest.approx(expected.mean) and judged.parts[HELPS].n == 5
    assert judged.parts[HELPS].interval == pytest.approx(expected.interval)
    assert judged.parts[MOST_MOVED].mean == pytest.approx(3.0) and judged.parts[MOST_MOVED].n == 5
    assert judged.scale.startswith("cifar10, shapes-centred, shapes-moved, 2,000, 13,500 training images, B-6/Wi-256")
    few = study.collect(study.STUDY.resolve("laptop", seeds=(0, 1)), Fake())
    assert claims.judge(10, few.frame).verdict == "inconclusive at this scale" and not few.sufficient
    nothing = study.collect(study.STUDY.resolve("laptop"), not_run)
    assert claims.judge(10, nothing.frame).verdict == "not tested"


def test_what_the_rule_leaves_out_changes_no_comparison_and_whatever_is_left_in_does():
    frame = study.collect(study.STUDY.resolve("laptop"), Fake(gains=lambda run: run.seed**2 / 7)).frame
    rule = study.STUDY.rules[10]
    rows = rule.rows(frame)
    assert 0 < len(rows) < len(frame) and rule.parts(rows) == rule.parts(frame)
    for row in rows.index:
        assert rule.parts(frame.drop(row)) != rule.parts(frame)


def test_the_papers_number_stands_beside_the_first_part():
    c = claims.claim(10)
    assert c.value == 1.3 and HELPS.endswith(c.value_of) and not MOST_MOVED.endswith(c.value_of)


def test_checks_are_other_means_fewer_views_other_models_and_the_overnight_preset():
    results = study.collect(study.STUDY.resolve("laptop"), Fake())
    found = checks(Shown(results, lambda size: results))
    assert found[f"mean of the probabilities, {HELPS}"].mean == pytest.approx(2.2)
    assert found[f"ten views, {MOST_MOVED}"].mean == pytest.approx(2)  # four of six steps, 3 points apart
    assert found["moved - centred shapes, in % of the errors"].mean == pytest.approx(5)
    assert found["moved shapes: far from the middle - near it"].mean == 0
    assert found["B-MLP trained without augmentation, photographs"].mean == pytest.approx(-2.9)
    cnn, expected = found["CNN trained with augmentation, photographs"], t_interval([2.0, 2.1, 2.2])
    assert cnn.mean == pytest.approx(expected.mean) and cnn.interval == pytest.approx(expected.interval)
    assert found[f"{HELPS}, overnight"].mean == pytest.approx(2.2)
    alone = checks(Shown(results))
    assert len(alone) == len(found) - 2 and all(np.isfinite(part.mean) for part in alone.values())


# --- figures and tables ---------------------------------------------------------------------------------------------


def test_gains_are_drawn_by_family_and_by_place_with_the_papers_number():
    frame = study.collect(study.STUDY.resolve("laptop"), Fake()).frame
    left, right = figures.gains(frame, 1.3).axes
    lines = {line.get_label(): line for line in left.lines}
    assert {"S-MLP", "B-MLP", "CNN", "_the paper"} <= {*lines}
    expected = [2.2 * k / 6 for k in range(1, 7)]  # five seeds, 2.0 to 2.4 at all views, in equal steps
    assert lines["B-MLP"].get_xdata().tolist() == VIEWS
    assert lines["B-MLP"].get_ydata().tolist() == pytest.approx(expected)
    assert [*lines["_the paper"].get_xdata(), *lines["_the paper"].get_ydata()] == [100, 1.3]
    places = {line.get_label(): line.get_ydata()[-1] for line in right.lines}
    assert places["in the middle"] == pytest.approx(2.2) and places["anywhere"] == pytest.approx(5.2)


def test_levels_have_a_panel_a_family_and_the_plain_images_line():
    frame = study.collect(study.STUDY.resolve("laptop"), Fake()).frame
    axes = figures.levels(frame).axes
    assert [axis.get_title() for axis in axes] == ["S-MLP", "B-MLP", "CNN"]
    for axis in axes:
        drawn = {line.get_label(): line.get_ydata()[-1] for line in axis.lines}
        assert drawn["without"] == pytest.approx(37.1) and drawn["with augmentation"] > 42
        assert sum(line.get_ydata()[0] == 40 for line in axis.lines) == 2


def test_the_gain_by_distance_is_drawn_at_the_mean_distance_of_each_quarter():
    frame = study.collect(study.STUDY.resolve("laptop"), Fake()).frame
    (axis,) = figures.by_distance(frame).axes
    places = sample(5000, 1, SETS[MOVED].factors)
    distance = np.sort(np.hypot(places["dx"], places["dy"]))
    means = distance.reshape(4, 1250).mean(1)
    assert axis.lines[0].get_xdata().tolist() == pytest.approx(means.tolist())
    assert axis.lines[0].get_ydata().tolist() == [0, 0, 0, 0]


def test_the_table_has_a_row_a_cell():
    frame = study.collect(study.STUDY.resolve("laptop"), Fake()).frame
    table = figures.table_of_gains(frame.assign(preset="laptop"))
    assert len(table) == 8 and "preset" not in table and table.equals(figures.table_of_gains(frame))
    both = figures.table_of_gains(pd.concat([frame.assign(preset=name) for name in ("laptop", "overnight")]))
    assert both["preset"].tolist() == ["laptop"] * 8 + ["overnight"] * 8
    row = table[(table["images"] == MOVED)].iloc[0]
    assert (row["n"], row["plain top-1, %"]) == (5, "40.0 [40.0, 40.0]")
    assert f"{row['gain, points [95%]']} n=5" == t_interval([5.0, 5.1, 5.2, 5.3, 5.4]).text()


def test_the_papers_table_has_the_gain_by_data_set():
    table = figures.table_of_paper(claims.paper_table("table2")).set_index("images")
    assert table.loc["imagenet", "gain, points"] == "+8.2" and table.loc["cifar10", "gain, points"] == "+1.3"
    assert list(table.index) == ["cifar10", "cifar100", "stl10", "tinyimagenet", "imagenet", "imagenet-real"]


def test_pictures_are_a_row_an_image_with_its_views():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    views = np.stack([images[:, :, ::-1], images], 1)
    axes = figures.views_of(images, views, ["a", "b"]).axes
    assert len(axes) == 6 and (axes[0].images[0].get_array() == images[0].transpose(1, 2, 0)).all()
    assert (axes[4].images[0].get_array() == images[1, :, ::-1].transpose(1, 2, 0)).all()


def test_nothing_run_is_empty_figures():
    frame = study.collect(study.STUDY.resolve("laptop"), not_run).frame
    for figure in (figures.gains(frame), figures.levels(frame), figures.by_distance(frame)):
        assert not any(axis.lines for axis in figure.axes)
    assert set(figures.table_of_gains(frame)["plain top-1, %"]) == {"not run"}
