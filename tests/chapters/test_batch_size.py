"""Chapter rq2-batch-size: its grids, budgets and runs, and the rule of claim 4. Nothing is trained."""

import math

import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.chapters import planning
from mlp_lib.chapters.batch_size import presets, study
from mlp_lib.chapters.claims import judge
from mlp_lib.chapters.tuning import TUNING_SEED, not_run
from mlp_lib.errors import UserError
from mlp_lib.measures.take import MEASURES
from mlp_lib.records.frames import row_of
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs

ALL = list(presets.PRESETS)


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
        middle = presets.grid_of(run.optimizer, self.architecture(run), run.batch_size)[1]
        off = abs(math.log(run.lr / (self.peak * middle)))
        top1 = 60 - self.slope * doublings - 5 * off + run.seed % 5 / 10
        values = {
            "gradient_noise": {"noise_scale": 100.0 * run.batch_size},
            "sharpness": {"top_eigenvalue": 50.0},
            **{name: {"test_top1": top1 - 10} for name in measures if name.startswith("probe")},
        }
        return record_of(
            run,
            metrics={"val_top1": top1, "test_top1": top1, "train_loss": 1.0},
            measures={name: values[name] for name in measures},
        )

    @staticmethod
    def architecture(run) -> str:
        if run.model.startswith("CNN"):
            return presets.PLAIN_CNN if run.norm == "none" else presets.CNN
        return presets.VIT if run.model.startswith("ViT") else presets.MLP

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
    assert presets.at_equal_steps(run, 24).key == run.key
    part = presets.at_equal_steps(run, 30)
    assert (part.epochs, part.steps, part.total_steps) == (None, 30, 30)
    assert presets.at_equal_steps(part, 36).epochs == 3


def test_one_recipe_for_every_tuned_cell(laptop):
    _, results = laptop
    runs = [run for cell in results.cells for run in cell.runs]
    assert {(r.augment, r.label_smoothing, r.weight_decay, r.schedule, r.split, r.subset) for r in runs} == {
        ("none", 0.3, 0.0, "constant", "holdout", 10_240)
    }
    assert {r.optimizer for r in runs} == {"lion", "sgd"} and {r.batch_size for r in runs} == {64, 256, 1024}
    assert {c.architecture for c in results.cells} == set(presets.ARCHITECTURES)
    assert max(run.total_steps for run in runs) <= 500


def test_grids_move_with_the_batch_size_by_the_declared_rule():
    assert presets.grid_of("sgd", presets.MLP, 256) == pytest.approx((0.0033, 0.01, 0.03))
    assert presets.grid_of("sgd", presets.MLP, 1024) == pytest.approx((0.0067, 0.02, 0.06))
    assert presets.grid_of("lion", presets.CNN, 4096) == pytest.approx((0.0013, 0.004, 0.012))
    for optimizer in presets.EXPONENT:
        for architecture in presets.ARCHITECTURES:
            low, middle, high = presets.grid_of(optimizer, architecture, 64)
            assert low < middle < high


@pytest.mark.parametrize("preset, most", [("smoke", 5 / 60), ("laptop", 24), ("overnight", 8 * 60)])
def test_planned_minutes(preset, most, tmp_path):
    plan = planning.plan(study.STUDY, study.resolve(preset), Store(tmp_path))
    minutes = [costs.planned_seconds(run) / 60 for run in plan.runs]
    assert len({run.key for run in plan.runs}) == len(plan.runs) and 0 < sum(minutes) <= most
    tuned = [costs.planned_seconds(run) / 60 for run in plan.runs if run.seed == TUNING_SEED]
    assert sum(minutes) + sum(tuned) / 3 <= 1.2 * most  # every grid widened


def test_no_run_of_the_gpu_preset_takes_ten_minutes_at_20_teraflops(tmp_path):
    plan = planning.plan(study.STUDY, study.resolve("gpu"), Store(tmp_path))
    assert max(plan.flops) / 20e12 < 600
    assert {32, 16_384} <= {run.batch_size for run in plan.runs} and {"B-6/Wi-1024"} <= {r.model for r in plan.runs}


# --- what is asked for, and in which order --------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ALL)
def test_the_lines_that_are_judged_come_first_and_suffice(preset):
    grid = study.resolve(preset)
    fake = Fake()
    results = study.collect(grid, fake)
    first = {(fake.architecture(run), run.optimizer) for run in fake.calls[0][0]}
    assert first == {(presets.MLP, "lion"), (presets.CNN, "lion")}
    assert {run.seed for run in fake.calls[0][0]} == {TUNING_SEED}
    assert set(results.frame["architecture"]) == set(presets.JUDGED) and set(results.frame["optimizer"]) == {"lion"}
    assert set(results.frame["budget"]) == {"epochs"} and results.complete
    assert results.sufficient == (preset != "smoke")  # which has two seeds
    judged = Fake(missing=lambda run: fake.architecture(run) not in presets.JUDGED or run.optimizer != "lion")
    partial = study.collect(grid, judged)
    assert partial.sufficient == results.sufficient and not partial.complete


def test_fresh_seeds_at_the_choice_five_where_it_is_judged(laptop):
    _, results = laptop
    for cell in results.cells:
        judged = cell.architecture in presets.JUDGED and cell.optimizer == "lion" and cell.budget == "epochs"
        shared = cell.batch_size == 256 and cell.architecture in presets.JUDGED and cell.optimizer == "lion"
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
    assert asked[("cifar10", presets.MLP, "lion")] == asked[("cifar10", presets.CNN, "lion")] == {presets.AT_THE_END}
    assert asked[("cifar10", presets.VIT, "lion")] == asked[("cifar10", presets.MLP, "sgd")] == {()}
    assert asked[("cifar100", presets.MLP, "lion")] == {("probe_cifar10",)}
    for grid in presets.PRESETS.values():
        assert {*presets.AT_THE_END, f"probe_{grid.target}"} <= set(MEASURES)


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
        (dict(batch_sizes=(64, 20_000)), "divide multiples of 40,000 only.*10,240 images"),
        (dict(subset=5000), "subset=5000 is no multiple of 1,024.*give 4096"),
        (dict(optimizers=("adamw",)), "the preset laptop has no lines of adamw; it has lion, sgd"),
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
        dict(
            architecture=name,
            family=name,
            batch_size=batch,
            seed=seed,
            status="ok",
            dataset="cifar10",
            test_top1=50.0 + seed + (gain if batch == 1024 else middle if batch == 256 else 0.0),
            train_examples=10_240,
            epochs=3,
            model="B-6/Wi-256",
            hardware="x",
        )
        for name, gains in (("B-MLP", mlp), ("CNN", cnn))
        for seed, gain in enumerate(gains)
        for batch in (64, 256, 1024)
    ]
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
    assert planning.pick_preset(study.STUDY, "auto", store) == "laptop"
    verdict = judge(4, study.collect(study.resolve("laptop"), planning.from_records(store)).frame)
    assert verdict.verdict == "not supported"  # the made-up MLP loses a point a doubling: 64 to 1024 is four
    assert [round(part.mean, 6) for part in verdict.parts.values()] == [-4.0, -4.0]
    assert {part.n for part in verdict.parts.values()} == {5}
    assert "10,240 training images" in verdict.scale and "3 epochs" in verdict.scale


def test_the_cosine_control_differs_from_what_is_judged_in_its_schedule_only_and_judges_nothing():
    preset = study.resolve("overnight")
    plain, cosine = (
        {(c.architecture, c.run.batch_size): c for c in study._candidates(preset, lines)}
        for lines in (presets.Lines(presets.JUDGE, "epochs", presets.JUDGED), presets.COSINE)
    )
    assert plain.keys() == cosine.keys()
    for key, candidate in cosine.items():
        assert candidate.run == plain[key].run.but(schedule="cosine") and candidate.lrs == plain[key].lrs
    results = study.collect(preset, not_run)
    assert set(results.frame["schedule"]) == {"constant"}
    assert set(results.tuned.loc[results.tuned["budget"] == "cosine", "schedule"]) == {"cosine"}


def test_sizes_beyond_the_judged_ones_judge_nothing_and_go_with_the_presets_own_numbers():
    preset = study.resolve("overnight")
    results = study.collect(preset, not_run)
    beyond = results.tuned[results.tuned["budget"] == "beyond"]
    assert set(beyond["batch_size"]) == {32, 16_384} and set(beyond["architecture"]) == set(presets.JUDGED)
    assert set(results.frame["batch_size"]) == set(preset.batch_sizes)
    seen = {run.total_steps * run.batch_size for cell in results.cells if cell.budget == "beyond" for run in cell.runs}
    assert seen == {preset.epochs * preset.subset}  # as many images as the judged runs see
    for changes in (dict(batch_sizes=(64, 256)), dict(subset=8192), dict(dataset="cifar100")):
        changed = study.collect(study.resolve("overnight", **changes), not_run)
        assert not (changed.tuned["budget"] == "beyond").any()


def test_equal_epochs_are_equally_many_images_whatever_the_reader_changes():
    for changes in (dict(dataset="cifar100"), dict(batch_sizes=(64, 100), shared_batch=100), dict(subset=5120)):
        tuned = study.collect(study.resolve("laptop", **changes), not_run).tuned
        epochs = tuned[tuned["budget"] == "epochs"]
        assert (epochs["total_steps"] * epochs["batch_size"]).nunique() == 1
        assert (epochs["train_examples"] % epochs["batch_size"] == 0).all()
    assert study.resolve("laptop", dataset="cifar100").subset == 45_000 // 1024 * 1024
    changed = study.resolve("laptop", batch_sizes=(64, 100), shared_batch=100)
    assert changed.subset == changed.upstream_subset == 10_240 // 1600 * 1600
