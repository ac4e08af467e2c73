"""Chapter rq2-batch-size: its grids, budgets and runs, the rule of claim 4, and what its figures and tables say."""

import math

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from helpers import record_of

from mlp_lib import costs, studies
from mlp_lib.claims import judge
from mlp_lib.errors import UserError
from mlp_lib.measure import MEASURES
from mlp_lib.plots import arrival
from mlp_lib.plots import batch_size as figures
from mlp_lib.records import Store, row_of
from mlp_lib.runs import make_run
from mlp_lib.stats import t_interval
from mlp_lib.studies import batch_size as study
from mlp_lib.studies.tuning import TUNING_SEED, not_run

ALL = list(study.PRESETS)


class Fake:
    """An `ensure` with made-up scores: larger batches are worse by `slope` points a doubling, all the same otherwise.
    The best lr is `peak` times the middle of the cell's grid."""

    def __init__(self, slope: float = 1.0, peak: float = 1.0, missing=lambda run: False):
        self.slope, self.peak, self.missing = slope, peak, missing
        self.calls, self.records = [], {}

    def __call__(self, runs, train=True, measures=None):
        assert runs, "an ensure of nothing"
        self.calls.append((list(runs), train, measures))
        for run in runs:
            if train and not self.missing(run):
                self.records[run.key] = self.record(run, measures or ())
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])

    def record(self, run, measures):
        doublings = math.log2(run.batch_size / 64)
        middle = study.grid_of(run.optimizer, self.architecture(run), run.batch_size)[1]
        off = abs(math.log(run.lr / (self.peak * middle)))
        top1 = 60 - self.slope * doublings - 5 * off + run.seed % 5 / 10
        values = {"gradient_noise": {"noise_scale": 100.0 * run.batch_size}, "sharpness": {"top_eigenvalue": 50.0},
                  **{name: {"test_top1": top1 - 10} for name in measures if name.startswith("probe")}}  # fmt: skip
        return record_of(run, metrics={"val_top1": top1, "test_top1": top1, "train_loss": 1.0},
                         measures={name: values[name] for name in measures})  # fmt: skip

    @staticmethod
    def architecture(run) -> str:
        if run.model.startswith("CNN"):
            return study.PLAIN_CNN if run.norm == "none" else study.CNN
        return study.VIT if run.model.startswith("ViT") else study.MLP

    def asked(self, train=True) -> dict:
        return {run.key: run for runs, trained, _ in self.calls if trained == train for run in runs}


@pytest.fixture(scope="module")
def laptop():
    """Everything of the laptop preset, made up."""
    fake = Fake()
    return fake, study.collect(study.resolve("laptop"), fake)


# --- grids and budgets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ALL)
def test_equal_epochs_are_equally_many_images_and_equal_steps_equally_many_updates(preset):
    grid = study.resolve(preset)
    results = study.collect(grid, Fake())
    by_budget = {b: [r for c in results.cells if c.budget == b for r in c.runs] for b in ("epochs", "steps")}
    assert len({run.batch_size * run.total_steps for run in by_budget["epochs"]}) == 1  # no example is dropped
    assert {run.total_steps for run in by_budget["steps"]} == {grid.steps}
    assert {run.total_steps * run.batch_size for run in by_budget["epochs"]} == {grid.epochs * grid.subset}
    shared = {r.key for r in by_budget["epochs"]} & {r.key for r in by_budget["steps"]}
    assert {run.batch_size for run in by_budget["epochs"] if run.key in shared} == {grid.shared_batch}


def test_one_batch_size_is_nothing_to_compare():
    with pytest.raises(UserError, match="name at least two"):
        study.resolve("smoke", batch_sizes=(32,))


def test_runs_at_equal_steps_are_written_in_epochs_where_they_are_whole():
    run = make_run(model="B-1/Wi-16", dataset="digits", subset=384, batch_size=32, epochs=2)  # 12 steps an epoch
    assert study.at_equal_steps(run, 24).key == run.key
    part = study.at_equal_steps(run, 30)
    assert (part.epochs, part.steps, part.total_steps) == (None, 30, 30)
    assert study.at_equal_steps(part, 36).epochs == 3


def test_one_recipe_for_every_tuned_cell(laptop):
    _, results = laptop
    runs = [run for cell in results.cells for run in cell.runs]
    assert {(r.augment, r.label_smoothing, r.weight_decay, r.schedule, r.split, r.subset) for r in runs} == {
        ("none", 0.3, 0.0, "constant", "holdout", 10_240)
    }
    assert {r.optimizer for r in runs} == {"lion", "sgd"} and {r.batch_size for r in runs} == {64, 256, 1024}
    assert {c.architecture for c in results.cells} == set(study.ARCHITECTURES)
    assert max(run.total_steps for run in runs) <= 500


def test_grids_move_with_the_batch_size_by_the_declared_rule():
    assert study.grid_of("sgd", study.MLP, 256) == pytest.approx((0.0033, 0.01, 0.03))
    assert study.grid_of("sgd", study.MLP, 1024) == pytest.approx((0.0067, 0.02, 0.06))
    assert study.grid_of("lion", study.CNN, 4096) == pytest.approx((0.0013, 0.004, 0.012))
    for optimizer in study.EXPONENT:
        for architecture in study.ARCHITECTURES:
            low, middle, high = study.grid_of(optimizer, architecture, 64)
            assert low < middle < high


@pytest.mark.parametrize("preset, most", [("smoke", 5 / 60), ("laptop", 24), ("overnight", 8 * 60)])
def test_planned_minutes(preset, most, tmp_path):
    plan = studies.plan(study, study.resolve(preset), Store(tmp_path))
    minutes = [costs.planned_seconds(run) / 60 for run in plan.runs]
    assert len({run.key for run in plan.runs}) == len(plan.runs) and 0 < sum(minutes) <= most
    tuned = [costs.planned_seconds(run) / 60 for run in plan.runs if run.seed == TUNING_SEED]
    assert sum(minutes) + sum(tuned) / 3 <= 1.2 * most  # every grid widened


def test_no_run_of_the_gpu_preset_takes_ten_minutes_at_20_teraflops(tmp_path):
    plan = studies.plan(study, study.resolve("gpu"), Store(tmp_path))
    assert max(plan.flops) / 20e12 < 600
    assert {32, 16_384} <= {run.batch_size for run in plan.runs} and {"B-6/Wi-1024"} <= {r.model for r in plan.runs}


# --- what is asked for, and in which order --------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ALL)
def test_the_lines_that_are_judged_come_first_and_suffice(preset):
    grid = study.resolve(preset)
    fake = Fake()
    results = study.collect(grid, fake)
    first = {(fake.architecture(run), run.optimizer) for run in fake.calls[0][0]}
    assert first == {(study.MLP, "lion"), (study.CNN, "lion")}
    assert {run.seed for run in fake.calls[0][0]} == {TUNING_SEED}
    assert set(results.frame["architecture"]) == set(study.JUDGED) and set(results.frame["optimizer"]) == {"lion"}
    assert set(results.frame["budget"]) == {"epochs"} and results.complete
    assert results.sufficient == (preset != "smoke")  # which has two seeds
    judged = Fake(missing=lambda run: fake.architecture(run) not in study.JUDGED or run.optimizer != "lion")
    partial = study.collect(grid, judged)
    assert partial.sufficient == results.sufficient and not partial.complete


def test_fresh_seeds_at_the_choice_five_where_it_is_judged(laptop):
    _, results = laptop
    for cell in results.cells:
        judged = cell.architecture in study.JUDGED and cell.optimizer == "lion" and cell.budget == "epochs"
        shared = cell.batch_size == 256 and cell.architecture in study.JUDGED and cell.optimizer == "lion"
        assert [run.seed for run in cell.runs] == ([0, 1, 2, 3, 4] if judged else [0, 1, 2]), (cell, shared)
        assert cell.choice.final and not cell.choice.at_edge
        assert {run.lr for run in cell.runs} == {cell.choice.lr}
    assert TUNING_SEED not in set(results.tuned["seed"])


def test_all_widened_points_of_a_line_are_trained_in_one_call():
    fake = Fake(peak=3.0)
    results = study.collect(study.resolve("laptop"), fake)
    widened = [runs for runs, train, _ in fake.calls if train][1]
    assert len(widened) == 6 and {run.seed for run in widened} == {TUNING_SEED}  # two architectures, three batch sizes
    for cell in results.cells:
        assert len(cell.choice.grid) == 4 and not cell.choice.at_edge and cell.choice.final
    assert study.collect(study.resolve("laptop"), Fake(peak=9.0)).frame["at_edge"].all()


def test_seeds_wait_for_every_choice_of_their_lines_and_guesses_count_as_not_run():
    fake = Fake(missing=lambda run: run.model == "CNN-16" and run.seed == TUNING_SEED)
    results = study.collect(study.resolve("laptop"), fake)
    trained = [run for run in fake.asked().values() if run.seed != TUNING_SEED]
    assert {run.model for run in trained if run.optimizer == "lion" and run.dataset == "cifar10"} == set()
    assert {(run.dataset, run.lr) for run in trained} == {("cifar100", 5e-5)}  # which nobody has to choose
    assert results.frame["status"].eq("not run").all() and not results.sufficient
    assert judge(4, results.frame).verdict == "not tested"


def test_each_call_asks_for_its_own_measures(laptop):
    fake, _ = laptop
    asked: dict = {}
    for runs, train, measures in fake.calls:
        for run in runs:
            if train and run.seed != TUNING_SEED:
                asked.setdefault((run.dataset, fake.architecture(run), run.optimizer), set()).add(measures)
    assert asked[("cifar10", study.MLP, "lion")] == asked[("cifar10", study.CNN, "lion")] == {study.THEORY}
    assert asked[("cifar10", study.VIT, "lion")] == asked[("cifar10", study.MLP, "sgd")] == {()}
    assert asked[("cifar100", study.MLP, "lion")] == {("probe_cifar10",)}
    for grid in study.PRESETS.values():
        assert {*study.THEORY, f"probe_{grid.target}"} <= set(MEASURES)


def test_the_papers_protocol_is_one_lr_then_tuned(laptop):
    _, results = laptop
    fixed = [cell for cell in results.upstream_cells if cell.budget == "fixed"]
    tuned = [cell for cell in results.upstream_cells if cell.budget == "tuned"]
    assert len(fixed) == len(tuned) == 2 * 3
    runs = [run for cell in fixed for run in cell.runs]
    assert {(r.optimizer, r.lr, r.augment, r.dataset, r.schedule, r.label_smoothing) for r in runs} == {
        ("lion", 5e-5, "flip+crop+mixup", "cifar100", "constant", 0.3)
    }
    assert {r.epochs for c in tuned for r in c.runs} == {3} and all(len(c.choice.grid) == 3 for c in tuned)
    lengths = study.collect(study.resolve("overnight"), not_run).upstream_cells
    assert {(c.budget, r.epochs) for c in lengths for r in c.runs} == {("fixed", 10), ("fixed", 30), ("tuned", 30)}


# --- what a reader may change ---------------------------------------------------------------------------------------


def test_a_reader_changes_what_a_preset_says():
    grid = study.resolve("laptop", model="B-6/Wi-128", batch_sizes=(32, 256), seeds=(7, 8), optimizers=("lion",))
    runs = [run for cell in study.collect(grid, Fake()).cells for run in cell.runs]
    assert {r.seed for r in runs} == {7, 8} and {r.batch_size for r in runs} == {32, 256}
    assert "B-6/Wi-128" in {r.model for r in runs} and {r.optimizer for r in runs} == {"lion"}


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(batch_sizes=(64, 20_000)), "batch_size=20000"),
        (dict(model="B9"), "unknown model 'B9'"),
        (dict(optimizers=("adam",)), "optimizer='adam'"),
        (dict(seeds=()), "seeds is empty"),
        (dict(epoch=3), "unknown parameter 'epoch'"),
    ],
)
def test_a_preset_that_cannot_be_run_is_one_line(changes, says):
    with pytest.raises(UserError, match=says) as caught:
        study.resolve("laptop", **changes)
    assert "\n" not in str(caught.value)


# --- the rule -------------------------------------------------------------------------------------------------------


def judged_frame(mlp: list[float], cnn: list[float], middle: float = 0.0) -> pd.DataFrame:
    """Three batch sizes; each list says, by seed, what the largest gains over the smallest."""
    rows = [
        dict(architecture=name, family=name, batch_size=batch, seed=seed, status="ok", dataset="cifar10",
             test_top1=50.0 + seed + (gain if batch == 1024 else middle if batch == 256 else 0.0),
             train_examples=10_240, epochs=3, model="B-6/Wi-256", hardware="x")
        for name, gains in (("B-MLP", mlp), ("CNN", cnn)) for seed, gain in enumerate(gains)
        for batch in (64, 256, 1024)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "mlp, cnn, verdict",
    [
        ([2, 2.1, 1.9], [-3, -3.1, -2.9], "supported"),
        ([2, 2.1, 1.9], [3, 3.1, 2.9], "not supported"),  # the same for both is not opposite
        ([-2, -2.1, -1.9], [-3, -3.1, -2.9], "not supported"),
        ([-2, -2.1, -1.9], [0, 3, -3], "not supported"),
        ([0, 3, -3], [-3, -3.1, -2.9], "inconclusive at this scale"),
        ([2, 2.1], [-3, -3.1], "inconclusive at this scale"),
        ([2, 2.1, 1.9], [], "not tested"),
    ],
)
def test_claim_4_larger_is_better_for_the_mlp_and_worse_for_the_cnn(mlp, cnn, verdict):
    for middle in (0.0, 40.0):  # only the ends are compared
        assert judge(4, judged_frame(mlp, cnn, middle)).verdict == verdict


def test_a_diverged_end_is_at_chance_and_a_missing_one_is_no_end():
    frame = judged_frame([2, 2.1, 1.9], [-3, -3.1, -2.9])
    largest = (frame.batch_size == 1024) & (frame.architecture == "B-MLP")
    diverged = frame.copy()
    diverged.loc[largest, ["status", "test_top1"]] = ["diverged", None]
    judged = judge(4, diverged)
    assert judged.verdict == "not supported" and judged.weakest.mean == pytest.approx(10 - 51)
    waiting = frame.assign(status=frame["status"].mask(frame.batch_size == 1024, "not run"))
    assert judge(4, waiting).verdict == "not tested"  # not a comparison of 64 with 256
    assert judge(4, frame[frame.batch_size == 64]).verdict == "not tested"


def test_the_verdict_comes_from_records(tmp_path):
    store, fake = Store(tmp_path), Fake(slope=1.0)
    study.collect(study.resolve("laptop"), fake)
    for record in fake.records.values():
        store.add(record)
    assert studies.pick_preset(study, "auto", store) == "laptop"
    verdict = judge(4, study.collect(study.resolve("laptop"), studies.from_records(store)).frame)
    assert verdict.verdict == "not supported"  # the made-up MLP loses a point a doubling: 64 to 1024 is four
    assert [round(part.mean, 6) for part in verdict.parts.values()] == [-4.0, -4.0]
    assert {part.n for part in verdict.parts.values()} == {5}
    assert "10,240 training images" in verdict.scale and "3 epochs" in verdict.scale


# --- figures and tables ---------------------------------------------------------------------------------------------


def line_of(axis, label: str):
    """x, means and half-widths of the error bars that carry a label."""
    (container,) = [c for c in axis.containers if c.get_label() == label]
    points, _, (bars,) = container.lines
    halves = [(segment[1, 1] - segment[0, 1]) / 2 for segment in bars.get_segments()]
    return points.get_xdata().tolist(), points.get_ydata().tolist(), halves, points


def test_the_figure_shows_test_error_with_t_intervals_at_both_budgets(laptop):
    _, results = laptop
    figure = figures.test_error(results.tuned)
    epochs, steps = figure.axes
    assert [a.get_title() for a in figure.axes] == ["LION, equal epochs", "LION, equal steps"]
    for axis in (epochs, steps):
        assert {c.get_label() for c in axis.containers} == set(study.ARCHITECTURES)
    x, means, halves, points = line_of(epochs, "B-MLP")
    low, high = t_interval([60.0, 60.1, 60.2, 60.3, 60.4]).interval
    assert x == [64, 256, 1024] and means == pytest.approx([39.8, 41.8, 43.8])
    assert halves == pytest.approx([(high - low) / 2] * 3)
    plain = line_of(epochs, study.PLAIN_CNN)[3]
    assert points.get_linestyle() == "-" and plain.get_linestyle() == ":"
    assert matplotlib.colors.to_hex(plain.get_color()) == figures.FAMILY_COLOURS["CNN"].lower()
    worse = results.tuned["optimizer"].eq("sgd") & results.tuned["batch_size"].eq(1024)
    both = figures.test_error(
        results.tuned.assign(test_top1=results.tuned["test_top1"].mask(worse, 5.0)), ("lion", "sgd")
    )
    assert len(both.axes) == 4
    for axis in both.axes:  # a row whose errors are larger is not cut off by the one above it
        assert axis.get_ylim()[0] <= axis.dataLim.y0 and axis.get_ylim()[1] >= min(axis.dataLim.y1, 100)


def test_other_figures_show_what_the_records_say(laptop):
    _, results = laptop
    left, right = figures.validation_against_lr(results.cells).axes
    assert (left.get_title(), right.get_title()) == ("B-MLP", "CNN")
    assert [line.get_label() for line in left.lines] == ["batch 64", "batch 256", "batch 1,024"]
    assert left.lines[0].get_ydata().max() == pytest.approx(60.0)
    lengths = figures.error_by_length(results.tuned).axes[0]
    assert {line.get_label() for line in lengths.lines} == {"epoch 1", "epoch 2"}  # the made-up curves
    assert lengths.lines[0].get_ydata().tolist() == pytest.approx([70.0] * 3)
    probes = figures.probe_error(results.probes).axes[0]
    assert line_of(probes, "tuned lr, 3 epochs")[1] == pytest.approx([49.9, 51.9, 53.9])
    assert line_of(probes, "one lr, 3 epochs")[1][0] > 49.9
    scale, curvature, loss = figures.theory(results.tuned).axes
    assert line_of(scale, "CNN, equal epochs")[1] == pytest.approx([6400, 25600, 102400])
    assert line_of(curvature, "B-MLP, equal steps")[1] == pytest.approx([50] * 3)
    assert line_of(loss, "B-MLP, equal epochs")[1] == pytest.approx([1] * 3)


def test_changes_between_batch_sizes_are_paired_by_seed_and_read_by_their_intervals():
    rows = []
    top1 = {"B-MLP": {64: 50.0, 256: 52.0, 1024: 49.0}, "CNN": {64: 60.0, 256: 60.0, 1024: 53.0}}
    loss = {"B-MLP": {64: 0.5, 256: 0.5, 1024: 0.9}, "CNN": {64: 0.3, 256: 0.6, 1024: 0.2}}
    for architecture, by_batch in top1.items():
        for batch_size, value in by_batch.items():
            for seed in range(5):
                noise = 0.01 * (seed * batch_size % 7 - 3)
                rows.append(dict(architecture=architecture, optimizer="lion", budget="epochs", batch_size=batch_size,
                                 seed=seed, status="ok", dataset="cifar10", total_steps=10_240 // batch_size,
                                 test_top1=value + 3 * seed + noise,  # seeds differ by more than batch sizes do
                                 train_loss=loss[architecture][batch_size] + 0.1 * seed + noise))  # fmt: skip
    found = arrival.changes(pd.DataFrame(rows))
    assert found["architecture"].tolist() == ["B-MLP", "CNN", "B-MLP - CNN"] * 3
    assert list(zip(found["smaller"], found["larger"], strict=True))[::3] == [(64, 256), (256, 1024), (64, 1024)]
    assert found["steps"].iloc[-1] == (160, 10)
    assert [round(e.mean) for e in found["test"]] == [2, 0, 2, -3, -7, 4, -1, -7, 6]
    assert all(e.n == 5 and e.interval[1] - e.interval[0] < 0.2 for e in found["test"])  # paired: seeds cancel
    table = arrival.table_of_changes(pd.DataFrame(rows))
    assert table["the larger batch"].tolist() == [
        "fit: no difference shown; generalises better", "fits less; test: no difference shown", "",
        "fits less; generalises worse", "fits more; generalises worse", "",
        "fits less; generalises worse", "fits more; generalises worse", "",
    ]  # fmt: skip
    assert arrival.reading(t_interval([1.0]), t_interval([1.0])) == ""  # one seed shows nothing


def test_a_noise_scale_that_could_not_be_had_is_counted(laptop):
    _, results = laptop
    measured = results.tuned[results.tuned["optimizer"] == "lion"].drop_duplicates("key").copy()
    measured["measures"] = [{"gradient_noise": {"noise_scale": None if i < 2 else 5.0}} for i in range(len(measured))]
    assert figures.noise_left_out(measured) == (len(measured), 2)


def test_the_intervals_of_noise_scales_are_of_their_logarithms(laptop):
    _, results = laptop
    cell = results.tuned[(results.tuned["optimizer"] == "lion") & (results.tuned["architecture"] == "CNN")].copy()
    scales = [10.0 ** (run % 3) for run in range(len(cell))]
    cell["measures"] = [{"gradient_noise": {"noise_scale": scale}} for scale in scales]
    axis = figures.theory(cell).axes[0]
    sizes, means, _, _ = line_of(axis, "CNN, equal epochs")
    for size, mean in zip(sizes, means, strict=True):
        own = cell[(cell["budget"] == "epochs") & (cell["batch_size"] == size)]["measures"]
        assert mean == pytest.approx(np.exp(np.mean([np.log(m["gradient_noise"]["noise_scale"]) for m in own])))
    bars = np.concatenate(axis.containers[0].lines[2][0].get_segments())[:, 1]
    assert (bars > 0).all()  # a t-interval of the numbers themselves would reach below zero


def test_tables_give_paired_differences_and_choices(laptop):
    _, results = laptop
    table = figures.table_of_differences(results.tuned)
    assert len(table) == 4 + 4 + 4 + 2
    first = table[(table["architecture"] == "B-MLP") & (table["budget"] == "equal epochs")].iloc[0]
    assert first["largest - smallest, points [95%]"].startswith("-4.0 [-4.0, -4.0] n=5")
    assert (first["optimiser"], first["lr at an edge"], first["batch sizes"]) == ("LION", "none", "64 and 1,024")
    other = results.frame[results.frame["batch_size"] < 1024].assign(preset="overnight")
    both = figures.table_of_differences(pd.concat([results.frame.assign(preset="laptop"), other]))
    assert both["batch sizes"].tolist() == ["64 and 1,024"] * 2 + ["64 and 256"] * 2  # each preset has its own ends
    probes = figures.table_of_probes(results.probes)
    assert probes["learning rate"].tolist() == ["5e-05"] * 2 + ["tuned for each batch size"] * 2
    assert probes["largest - smallest, points [95%]"].iloc[-1].startswith("-4.0 [-4.0, -4.0] n=3")
    choices = figures.table_of_choices((*results.cells, *results.upstream_cells))
    assert len(choices) == 14 * 3 + 6 and set(choices["at edge"]) == {"no"}
    assert choices["lr: validation top-1 %"][0].count(":") == 3


def test_with_nothing_run_everything_is_still_drawn():
    grid = study.resolve("laptop")
    results = study.collect(grid, not_run)
    drawn = [
        figures.test_error(results.tuned, ("lion", "sgd", "adamw")), figures.validation_against_lr(results.cells),
        figures.error_by_length(results.tuned), figures.probe_error(results.probes), figures.theory(results.tuned),
    ]  # fmt: skip
    assert not any(axis.lines or axis.containers for figure in drawn for axis in figure.axes)
    assert set(figures.table_of_differences(results.tuned)["largest - smallest, points [95%]"]) == {"not run"}
    assert set(figures.table_of_probes(results.probes)["largest - smallest, points [95%]"]) == {"not run"}
    assert set(figures.table_of_choices(results.cells)["chosen"]) == {"open"}


def test_the_plan_names_what_tells_runs_apart(tmp_path):
    table = figures.table_of_plan(studies.plan(study, study.resolve("smoke"), Store(tmp_path)))
    assert {"CNN-4", "CNN-4, no BatchNorm"} <= set(table["model"]) and set(table["optimiser"]) == {"LION", "SGD"}
    assert set(table["steps"]) == {"24", "6", "12", "3"}
