"""Studies: the choice of the learning rate, fresh seeds, presets. With a made-up `ensure`: nothing is trained."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers import NO_TENSORS, record_of

from mlp_lib.chapters import planning
from mlp_lib.chapters.from_scratch import study as rq1
from mlp_lib.chapters.parameters import validated
from mlp_lib.chapters.registry import STUDIES, study
from mlp_lib.chapters.tuning import TUNING_SEED, choose_lr
from mlp_lib.errors import UserError
from mlp_lib.records.frames import row_of
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps import ensure as ensuring

CANDIDATE = make_run(model="B-2/Wi-32", dataset="digits", epochs=4, seed=3, split="all")
LRS = (1e-3, 1e-4, 3e-4)


class Fake:
    """An `ensure` that gives each run a validation score by its lr, and notes what it was asked for."""

    def __init__(self, best_lr=3e-4, diverged=(), missing=lambda run: False):
        self.best_lr, self.diverged, self.missing = best_lr, diverged, missing
        self.calls, self.records = [], {}

    def __call__(self, runs, train=True):
        self.calls.append((list(runs), train))
        for run in runs:
            if train and not self.missing(run):
                self.records[run.key] = self.record(run)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])

    def record(self, run):
        if run.lr in self.diverged:
            return record_of(run, status="diverged")
        score = 90 - 10 * abs(math.log(run.lr / self.best_lr))
        return record_of(run, metrics={"val_top1": score, "test_top1": score})

    def asked(self, train=True):
        return {run.key: run for runs, trained in self.calls if trained == train for run in runs}


# --- the learning rate ----------------------------------------------------------------------------------------------


def test_the_best_on_validation_is_chosen_with_a_seed_of_its_own():
    fake = Fake(best_lr=2.5e-4)
    choice = choose_lr(CANDIDATE, LRS, fake)
    assert (choice.lr, choice.at_edge, choice.final) == (3e-4, False, True)
    assert {(run.lr, run.seed, run.split) for run in fake.asked().values()} == {
        (lr, TUNING_SEED, "holdout") for lr in LRS
    }
    assert choice.grid["lr"].tolist() == sorted(LRS) and choice.grid["status"].eq("ok").all()


@pytest.mark.parametrize(
    "best, lr, at_edge, extra",
    [
        (3e-3, 3e-3, True, 3e-3),  # the added point is best: said so, and not widened again
        (1.0, 3e-3, True, 3e-3),
        (1e-3, 1e-3, False, 3e-3),  # widening showed that the edge was the best
        (1e-5, 3.33e-5, True, 3.33e-5),
        (1e-4, 1e-4, False, 3.33e-5),
    ],
)
def test_an_edge_is_widened_once_and_flagged(best, lr, at_edge, extra):
    fake = Fake(best_lr=best)
    choice = choose_lr(CANDIDATE, LRS, fake)
    assert (choice.lr, choice.at_edge, choice.final) == (lr, at_edge, True)
    assert sorted(choice.grid["lr"]) == sorted({run.lr for run in fake.asked().values()}) == sorted([*LRS, extra])


def test_a_diverged_lr_is_not_chosen():
    choice = choose_lr(CANDIDATE, LRS, Fake(best_lr=1e-3, diverged=(1e-3, 3e-4)))
    assert choice.lr == 1e-4 and choice.final
    everything = choose_lr(CANDIDATE, LRS, Fake(diverged=(*LRS, 3.33e-5)))
    assert everything.final and everything.at_edge and everything.grid["status"].eq("diverged").all()


def test_an_unfinished_grid_chooses_nothing_final():
    choice = choose_lr(CANDIDATE, LRS, Fake(missing=lambda run: run.lr == 1e-4))
    assert (choice.lr, choice.final) == (3e-4, False)  # the middle, to plan with
    widened = choose_lr(CANDIDATE, LRS, Fake(best_lr=1.0, missing=lambda run: run.lr == 3e-3))
    assert (widened.lr, widened.at_edge, widened.final) == (1e-3, True, False)
    nothing = choose_lr(CANDIDATE, LRS, Fake(missing=lambda run: True))
    assert not nothing.final and nothing.grid["status"].eq("not run").all()


def test_a_single_lr_is_the_recipes():
    fake = Fake()
    choice = choose_lr(CANDIDATE, (5e-5,), fake)
    assert (choice.lr, choice.at_edge, choice.final) == (5e-5, False, True) and fake.calls == []


# --- rq1 ------------------------------------------------------------------------------------------------------------


def test_collect_runs_fresh_seeds_at_the_choice():
    preset, fake = rq1.STUDY.resolve("laptop"), Fake(best_lr=2.5e-4)
    results = rq1.collect(preset, fake)
    tuned = [run for run in fake.asked().values() if run.seed == TUNING_SEED]
    assert len(tuned) == 18 and {(run.augment, run.epochs) for run in tuned} == {("none", 10), ("flip+crop+mixup", 30)}
    assert len(results.cells) == 6 and results.complete and results.sufficient
    for cell in results.cells:
        assert cell.choice.lr == 3e-4 and [run.seed for run in cell.runs] == [0, 1, 2]
        assert {(run.lr, run.epochs, run.split) for run in cell.runs} == {
            (3e-4, 90 if cell.augment != "none" else 30, "holdout")
        }
    assert results.frame["seed"].tolist() == [0] * 6 + [1] * 6 + [2] * 6  # a whole table early
    assert results.frame["family"].tolist()[:3] == ["S-MLP", "B-MLP", "CNN"]
    assert (results.frame["augmented"] == results.frame["augment"].ne("none")).all()
    assert TUNING_SEED not in set(results.frame["seed"])


def test_all_grids_are_asked_for_in_one_call_before_any_choice():
    fake = Fake(best_lr=2.5e-4)
    rq1.collect(rq1.STUDY.resolve("laptop"), fake)
    first, train = fake.calls[0]
    assert train and len(first) == 18 and {run.seed for run in first} == {TUNING_SEED}


@pytest.mark.parametrize("best", [2.5e-4, 1.0], ids=["in the grid", "when it is widened"])
def test_final_runs_wait_for_every_choice(best):
    def missing(run):
        return run.model == "CNN-16" and run.seed == TUNING_SEED and run.lr in (1e-3, 3e-3)

    fake = Fake(best_lr=best, missing=missing)
    results = rq1.collect(rq1.STUDY.resolve("laptop"), fake)
    assert {run.seed for run in fake.asked(train=True).values()} == {TUNING_SEED}
    assert not results.complete and results.frame["status"].eq("not run").all()


def test_finished_runs_at_a_guessed_lr_are_not_a_complete_chapter():
    fake = Fake(best_lr=2.5e-4)
    rq1.collect(rq1.STUDY.resolve("laptop"), fake)
    fake.records = {key: r for key, r in fake.records.items() if r.run.seed != TUNING_SEED}
    fake.missing = lambda run: True
    results = rq1.collect(rq1.STUDY.resolve("laptop"), fake)
    assert results.frame["status"].eq("ok").all() and not results.complete and not results.sufficient


def test_presets_with_the_papers_cells_choose_nothing():
    for name in ("overnight", "gpu", "paper"):
        fake = Fake()
        results = rq1.collect(rq1.STUDY.resolve(name), fake)
        runs = [run for cell in results.cells for run in cell.runs if run.model != "ResNet18"]
        assert len(fake.calls) == 1 and all(cell.choice.final for cell in results.cells)
        assert {(r.lr, r.optimizer, r.label_smoothing, r.schedule, r.split, r.batch_size, r.subset) for r in runs} == {
            (5e-5, "lion", 0.3, "constant", "all", 4096, None)
        }
        lengths = {"overnight": 75, "gpu": 1000, "paper": 5000}
        assert {r.epochs for r in runs} == {100, lengths[name]}
    seeds = {cell.model: len(cell.runs) for cell in rq1.collect(rq1.STUDY.resolve("overnight"), Fake()).cells}
    assert seeds == {"S-6/Wi-1024": 3, "B-6/Wi-1024": 1}


def test_a_resnet_comes_with_a_recipe_of_its_own():
    results = rq1.collect(rq1.STUDY.resolve("gpu", dataset="cifar100"), Fake())
    (cell,) = [cell for cell in results.cells if cell.family == "ResNet18"]
    assert cell.choice.final and [run.seed for run in cell.runs] == [0, 1, 2]
    assert {(r.optimizer, r.lr, r.weight_decay, r.schedule, r.dataset, r.subset) for r in cell.runs} == {
        ("sgd", 0.1, 5e-4, "cosine", "cifar100", None)
    }


def test_digits_are_not_mirrored():
    runs = rq1.candidates(rq1.STUDY.resolve("smoke"))
    assert {run.augment for run in runs} == {"none", "crop+mixup"}


def test_a_reader_changes_what_a_preset_says():
    preset = rq1.STUDY.resolve("laptop", model="B-6/Wi-128", epochs=20, seeds=(5,), lrs=None)
    assert preset.models == ("S-6/Wi-256", "B-6/Wi-128", "CNN-16") and preset.lrs == rq1.PRESETS["laptop"].lrs
    assert {run.seed for run in rq1.candidates(preset)} == {5}
    other = rq1.STUDY.resolve("laptop", dataset="shapes")
    assert other.subset is None and rq1.STUDY.resolve("laptop", dataset="cifar10").subset == 10_000


@pytest.mark.parametrize(
    "preset, changes, says",
    [
        ("large", {}, "unknown preset 'large'; there are: smoke, laptop, overnight, gpu, paper"),
        ("smoke", {"epoch": 3}, "unknown parameter 'epoch'.*epochs"),
        ("smoke", {"model": "B6"}, "unknown model 'B6'"),
        ("smoke", {"dataset": "mnist"}, "'mnist'"),
        ("smoke", {"subset": 9999}, "subset=9999"),
        ("smoke", {"lrs": ()}, "lrs is empty"),
        ("smoke", {"seeds": ()}, "seeds is empty"),
        ("smoke", {"seeds": (0, -1)}, "seed=-1"),
        ("smoke", {"lrs": (1e-3, -1.0)}, "lr=-1.0"),
        ("laptop", {"subset": 200}, "batch_size=256"),
        ("laptop", {"split": "all", "subset": 48_000}, "subset=48000.*split=holdout"),  # of tuning
    ],
)
def test_a_preset_that_cannot_be_run_is_one_line_before_anything_is_trained(preset, changes, says):
    with pytest.raises(UserError, match=says) as caught:
        rq1.STUDY.resolve(preset, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values, says",
    [
        ({"epoch": 3}, "unknown parameter 'epoch'; this chapter takes: preset, train, budget_minutes.*epochs"),
        ({"preset": "big"}, "parameter preset='big': input should be 'auto'"),
        ({"budget_minutes": -1}, "parameter budget_minutes=-1"),
        ({"epochs": "many"}, "parameter epochs='many'"),
    ],
)
def test_a_chapters_parameters_are_checked(values, says):
    with pytest.raises(UserError, match=says):
        validated(rq1.STUDY.parameters, values)
    assert validated(rq1.STUDY.parameters, {"lrs": ["1e-3"]}).changes["lrs"] == (1e-3,)


# --- what works on any study ----------------------------------------------------------------------------------------


def stored(store: Store, preset: str, best_lr=2.5e-4) -> None:
    """Fill a store with everything a preset asks for."""
    fake = Fake(best_lr)
    rq1.collect(rq1.STUDY.resolve(preset), fake)
    for record in fake.records.values():
        store.add(record)


def test_auto_is_the_largest_preset_that_suffices_for_the_verdicts(tmp_path):
    store = Store(tmp_path)

    def auto(**changes):
        return planning.pick_preset(rq1.STUDY, "auto", store, **changes)

    assert (auto(), auto(dataset="digits"), auto(dataset="cifar10")) == ("smoke", "smoke", "laptop")
    assert planning.pick_preset(rq1.STUDY, "gpu", store) == "gpu"
    stored(store, "smoke")
    assert auto() == "smoke"  # complete, but of two seeds
    stored(store, "laptop")
    assert auto() == "laptop"
    stored(store, "overnight")
    assert auto() == "laptop"  # overnight has one seed of its B-MLP
    stored(store, "gpu")
    assert auto() == "gpu"
    assert auto(epochs=7) == "smoke"  # nothing is complete with this change
    assert auto(model="no model") == "smoke"  # and there its name is refused


def test_a_plan_lists_what_is_asked_for_and_what_is_done(tmp_path):
    store, grid = Store(tmp_path), rq1.STUDY.resolve("smoke")
    plan = planning.plan(rq1.STUDY, grid, store)
    assert len(plan.runs) == len({r.key for r in plan.runs}) == 12 + 12 and not any(plan.done)
    assert min(plan.flops) > 0 and not list(tmp_path.iterdir())
    for run in plan.runs:
        if run.seed == TUNING_SEED:
            store.add(record_of(run, metrics={"val_top1": 1e4 * run.lr}))
    store.add(record_of(plan.runs[-1], status="failed", error="x"))
    widened = planning.plan(rq1.STUDY, grid, Store(tmp_path))
    assert sum(widened.done) == 12 and len(widened.runs) == 12 + 6 + 12
    assert {run.lr for run, done in zip(widened.runs, widened.done, strict=True) if not done} == {9e-3, 3e-3}
    complete = Store(tmp_path / "complete")
    stored(complete, "smoke")
    assert all(planning.plan(rq1.STUDY, grid, complete).done)


MEASURED = make_run(model="B-1/Wi-16", dataset="digits", epochs=1)
CHILD = MEASURED.but(init={"run": MEASURED.but(seed=9)})


def asking(runs, measures=("first_layer",)):
    """A study of these runs, in one call."""
    return SimpleNamespace(
        name="asking",
        measures=measures,
        measured=None,
        collect=lambda preset, ensure: SimpleNamespace(frame=ensure(runs)),
    )


def test_a_plan_shows_what_recorded_runs_lack_and_its_cost(tmp_path):
    store, cnn, lost, kept = Store(tmp_path), MEASURED.but(model="CNN-4"), MEASURED.but(seed=1), MEASURED.but(seed=2)
    measured, replicated, new = MEASURED.but(seed=3), MEASURED.but(seed=4), MEASURED.but(seed=5)
    store.add(record_of(measured, measures={"first_layer": {}}))
    for run in (cnn, lost, kept, replicated, CHILD):
        store.add(record_of(run))
    store.add(record_of(replicated, measures={"first_layer": {}}, time="2025-02-01T00:00:00+00:00"))
    store.weights.mkdir()
    (store.weights / f"{kept.key}.safetensors").write_bytes(NO_TENSORS)
    runs = [new, cnn, lost, kept, measured, replicated]
    plan = planning.plan(asking(runs), None, store)
    assert plan.runs == runs and plan.done == [False, True, False, False, True, True]
    assert plan.states == ["not run", "done", "to be trained again", "to be measured", "done", "done"]
    assert plan.to_train == [(new, plan.flops[0]), (lost, plan.flops[2])] and len(plan.flops) == len(runs)
    assert all(planning.plan(asking(runs[1:], ()), None, store).done)  # nothing is asked of them
    again = planning.plan(asking([CHILD]), None, store)  # its parent, of which there is nothing, comes first
    assert again.runs == [CHILD.init.run, CHILD] and again.states == ["not run", "to be trained again"]
    assert planning.plan(asking([CHILD], ()), None, store).runs == [CHILD]  # and is not needed otherwise


def test_training_stops_for_good_when_a_measure_is_left_to_train_for(monkeypatch, tmp_path):
    calls, store = [], Store(tmp_path)
    store.add(record_of(MEASURED))

    def full(runs, measures, *, store, train, budget_minutes, **options):
        calls.append(train)
        return store.frame(runs)

    monkeypatch.setattr(ensuring, "ensure", full)
    ensure = planning.training(store, ())
    for measures in ((), ("first_layer",), ()):
        ensure([MEASURED], measures=measures)
    assert calls == [True, True, False]


def test_training_stops_for_good_when_a_call_comes_back_unfinished(monkeypatch, tmp_path):
    calls = []

    def full(runs, measures, *, store, train, budget_minutes, **options):
        calls.append(train)
        status = "not run" if len(calls) == 2 else "ok"
        return pd.DataFrame({"status": [status] * len(runs)})

    monkeypatch.setattr(ensuring, "ensure", full)
    ensure = planning.training(Store(tmp_path), (), budget_minutes=5.0)
    for train in (True, True, True, False):
        ensure([CANDIDATE], train=train)
    assert calls == [True, True, False, False]
    calls.clear()
    planning.training(Store(tmp_path), (), budget_minutes=0.0)([CANDIDATE])
    assert calls == [False]


@pytest.mark.parametrize("module", STUDIES.values(), ids=list(STUDIES))
def test_a_preset_without_changes_is_the_preset(module):
    for name, preset in module.presets.items():  # `auto` relies on it, and asks the records without checking each run
        assert module.resolve(name) == preset


def test_an_unknown_study_is_one_line():
    with pytest.raises(UserError, match="unknown study 'rq9'; there are: rq1"):
        study("rq9")


TRAINING = [study for study in STUDIES.values() if study.measured is None]


@pytest.mark.parametrize("module", TRAINING, ids=lambda study: study.name)
@pytest.mark.parametrize(("seeds", "says"), [((0, 0, 1), "names a value twice"), ((TUNING_SEED, 1), "fresh")])
def test_a_seed_is_counted_once_and_is_not_the_one_that_chose(module, seeds, says):
    with pytest.raises(UserError, match=says):
        module.resolve("smoke", seeds=seeds)
