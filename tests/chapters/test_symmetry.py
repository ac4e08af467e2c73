"""The chapter on moving shapes: its runs, and what its figures read from curves with known answers."""

import numpy as np
import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.chapters.symmetry import figures, one_pass, study
from mlp_lib.chapters.symmetry.study import PRESETS, reach_of
from mlp_lib.datasets import shapes
from mlp_lib.errors import UserError
from mlp_lib.records.frames import row_of

FACTOR = {"shapes-centred": 2.0, "shapes-near": 4.0, "shapes-moved": 16.0}  # the MLP's images over the CNN's
POINTS = (1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100)


class Fake:
    """An `ensure` whose networks have error 80 (n / 1000)^-1/2: n new images for the CNN, n times a factor for the MLP.
    Of images that come again, as many as there are count, and no more."""

    def __init__(self, missing=lambda run: False):
        self.missing, self.asked, self.records = missing, {}, {}

    def __call__(self, runs, train=True, measures=None):
        for run in runs:
            self.asked.setdefault(run.key, run)
            if train and not self.missing(run):
                curve = []
                for step in (p * run.total_steps // 100 for p in POINTS):
                    seen = step * run.batch_size
                    worth = min(seen, run.train_examples * (1 if not run.fresh else 10**6))
                    needed = FACTOR[run.dataset] if run.model.startswith("B") else 1.0
                    middle = 3e-4 if run.model.startswith("B") else 3e-3
                    wrong = 80 * (worth / needed / 1000) ** -0.5 * (1 + 0.01 * (run.seed % 3 - 1))
                    top1 = 100 - min(wrong, 90.0) - abs(np.log(run.lr / middle))
                    curve.append({"epoch": step / run.steps_per_epoch, "step": step, "val_top1": top1})
                metrics = {"val_top1": curve[-1]["val_top1"], "test_top1": curve[-1]["val_top1"]}
                self.records[run.key] = record_of(run, metrics=metrics, curve=curve)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])


@pytest.fixture(scope="module")
def fake():
    return Fake()


@pytest.fixture(scope="module")
def results(fake):
    return study.collect(PRESETS["laptop"], fake)


@pytest.fixture(scope="module")
def points(results):
    return figures.points_of(results)


def test_runs_differ_in_where_objects_lie_and_in_whether_images_come_again(results, fake):
    preset = PRESETS["laptop"]
    assert results.complete and results.sufficient
    frame = results.frame
    new = frame[frame["repeated"] == 0]
    assert new.groupby(["dataset", "model"])["seed"].apply(tuple).map(len).tolist() == [3] * 6
    assert (new["data_seed"] == new["seed"]).all() and (new["train_examples"] == preset.images).all()
    again = frame[frame["repeated"] > 0]
    assert set(again["dataset"]) == {"shapes-moved"} and not again["fresh"].any()
    assert set(again["repeated"]) == set(preset.repeated) and frame["total_steps"].nunique() == 1
    tuned = [run for run in fake.asked.values() if run.seed >= 1000]
    assert {run.data_seed for run in tuned} == {1000} and all(run.fresh for run in tuned)
    assert frame["augment"].unique().tolist() == ["none"]


def test_nothing_is_trained_at_a_rate_that_is_not_chosen():
    fake = Fake(missing=lambda run: run.seed == 1002)
    results = study.collect(PRESETS["laptop"], fake)
    assert all(record.run.seed >= 1000 for record in fake.records.values())
    assert (results.frame["status"] == "not run").all() and not results.sufficient


def test_how_far_objects_reach_is_what_is_drawn():
    for name in PRESETS["laptop"].datasets:
        drawn = shapes.sample(4000, 2, shapes.SETS[name].factors)
        farthest = max(np.abs(drawn["dx"]).max(), np.abs(drawn["dy"]).max())
        assert farthest == pytest.approx(reach_of(name), abs=0.002)
    assert [reach_of(name) for name in PRESETS["laptop"].datasets] == [0.0, 0.22, 0.45]


@pytest.mark.parametrize("name", FACTOR)
def test_the_price_is_the_factor_between_the_curves(points, name):
    found = figures.price(points, reach_of(name))
    assert np.nanmedian(found.ratio) == pytest.approx(FACTOR[name], rel=0.05)
    assert (found.low <= found.ratio)[np.isfinite(found.low)].all()


def test_what_no_curve_reaches_is_said_and_not_guessed(points):
    table = figures.table_of_prices(points, levels=(50, 5)).set_index("positions")
    assert table.loc["all in the middle", "at 50% error"].startswith("2 [")
    assert table.loc["all in the middle", "at 5% error"] == "B-MLP never that low; CNN never that low"
    level, prices = figures.at_common_error(points)
    worst = 80 * (100_000 / FACTOR["shapes-moved"] / 1000) ** -0.5  # what the MLP reaches on the hardest set
    assert worst <= level < 1.15 * worst  # the lowest that nearly all resamples of the seeds reach
    assert [text.split(" ")[0] for text in prices.values()] == ["2", "4", "16"]
    assert figures.error_after_all(points, "CNN", 0.0) == "8.0 [7.8, 8.2] n=3"


def test_images_that_come_again_are_worth_their_number(points):
    """In the made-up curves a repeat brings nothing: so many images are worth as many new ones."""
    found, seen = figures.effective_examples(points, "CNN", 5000)
    assert found.examples == pytest.approx(5000, rel=0.06) and seen >= 5000
    assert len(figures.table_of_repetition(points)) == 8
    assert figures.effective_examples(points, "CNN", 77)[0].n == 0


def test_figures_are_drawn_with_records_and_say_so_without(points):
    for draw in (figures.price_of_a_prior, figures.repetition):
        assert all(axis.lines for axis in draw(points).axes)
    nothing = figures.points_of(study.collect(PRESETS["laptop"], Fake(missing=lambda run: True)))
    for draw in (figures.price_of_a_prior, figures.repetition):
        assert {text.get_text() for axis in draw(nothing).axes for text in axis.texts} == {"not run"}
    assert np.isnan(figures.at_common_error(nothing)[0])
    assert "not run" in figures.table_of_repetition(nothing).to_string()
    assert "not run" in figures.table_of_prices(nothing).to_string()


def test_a_set_that_is_not_drawn_is_refused():
    with pytest.raises(UserError, match="fresh: cifar10 has no more images than it has"):
        study.STUDY.resolve("laptop", datasets=("shapes-centred", "cifar10"))


# --- the law of one pass


class OnePass(Fake):
    """An `ensure` whose networks have error 0.1 + 0.25 (P / 2e5)^-0.6 + 0.4 (D / 1e4)^-0.4 after D new images; of
    images that come again, as many as there are count."""

    def __call__(self, runs, train=True, measures=None):
        for run in runs:
            self.asked.setdefault(run.key, run)
            if self.missing(run):
                continue
            width = int(run.model.split("-")[-1])
            size = 3072 * width + 6 * 8 * width**2
            curve = []
            for step in (p * run.total_steps // 100 for p in POINTS):
                seen = min(step * run.batch_size, run.train_examples * (1 if not run.fresh else 10**6))
                error = 0.1 + 0.25 * (size / 2e5) ** -0.6 + 0.4 * (seen / 1e4) ** -0.4
                error *= 1 + 0.004 * (run.seed % 3 - 1)
                top1 = 100 * (1 - error) - abs(np.log(run.lr / 3e-4))
                curve.append({"epoch": step / run.steps_per_epoch, "step": step, "val_top1": top1})
            metrics = {"val_top1": curve[-1]["val_top1"], "test_top1": curve[-1]["val_top1"]}
            self.records[run.key] = record_of(run, metrics=metrics, curve=curve, parameters=size)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])


def test_the_law_of_one_pass_is_found_and_groups_keep_runs_together():
    grid = study.STUDY.resolve("laptop", **one_pass.CHANGES)
    own = one_pass.points(study.collect(grid, OnePass()))
    used = one_pass.fitted(own)
    assert set(used["repeated"]) == {0} and used["seen"].min() == one_pass.FROM
    found = one_pass.law(own)
    assert found.constants["alpha"] == pytest.approx(0.6, abs=0.1)
    assert found.constants["beta"] == pytest.approx(0.4, abs=0.1)
    assert one_pass.exponent(own, "beta").n == 3
    share = one_pass.table_of_law(own).set_index("constant").loc["exponent of the best number of parameters"]
    assert float(share["value [95%]"].split()[0]) == pytest.approx(0.4, abs=0.05)
    assert len(one_pass.figure(own).axes[0].lines) == 8  # dots and a law for each of four widths
    widths = one_pass.table_of_widths(own)
    assert widths["model"].tolist() == list(one_pass.CHANGES["models"])
    new, again = (widths[column].str.split().str[0].astype(float) for column in list(widths)[2:])
    assert (again > new).all()  # 5,000 images are worth 5,000, however often they come


def test_without_runs_the_law_of_one_pass_says_so():
    grid = study.STUDY.resolve("laptop", **one_pass.CHANGES)
    own = one_pass.points(study.collect(grid, OnePass(missing=lambda run: True)))
    assert one_pass.law(own) is None and one_pass.exponent(own, "alpha").n == 0
    assert one_pass.table_of_law(own)["constant"].tolist() == ["not run"]
    assert one_pass.table_of_widths(own)["model"].tolist() == ["not run"]
    assert [text.get_text() for text in one_pass.figure(own).axes[0].texts] == ["not run"]
