"""The chapter on permuted pixels: its runs, its rule, its figures, and the theorem itself in float64."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import record_of
from torch.nn import functional as F

from mlp_lib.chapters import claims, planning
from mlp_lib.chapters.permutation import figures, study
from mlp_lib.chapters.permutation.rules import PERMUTED_CNN, PERMUTED_MLP, checks, room
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import TUNING_SEED, TUNING_SEEDS, Choice
from mlp_lib.datasets import pixel_permutation
from mlp_lib.errors import UserError
from mlp_lib.measures import permuted_twin
from mlp_lib.models import build, build_for
from mlp_lib.records.frames import curves, row_of
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import paired_equivalence, sign, t_interval
from mlp_lib.sweeps import costs
from mlp_lib.training import optim
from mlp_lib.training.loaders import epoch_batches, load_data

FAMILIES = {"S-MLP": "S-6/Wi-256", "B-MLP": "B-6/Wi-256", "CNN": "CNN-16", "ViT": "ViT-64x4/8", "Mixer": "Mixer-64x4/8"}
MLPS = ("S-6/Wi-256", "B-6/Wi-256")


class Fake:
    """An `ensure` with made-up scores: the best lr is higher on permuted images; only the MLPs keep their accuracy."""

    def __init__(self, missing=lambda run: False):
        self.missing, self.asked, self.records = missing, {}, {}

    def __call__(self, runs, train=True, measures=None):
        for run in runs:
            self.asked.setdefault(run.key, run)
            if train and not self.missing(run):
                best = 3e-4 if run.permute_seed is None else 9e-4
                is_mlp = run.model in MLPS
                top1 = (50 if is_mlp else 70 - 20 * (run.permute_seed is not None)) + run.seed % 5 / 10
                metrics = {"val_top1": 90 - abs(math.log(run.lr / best)), "test_top1": top1, "test_loss": 1.0}
                self.records[run.key] = record_of(run, metrics=metrics)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])


# --- the study ------------------------------------------------------------------------------------------------------


def test_every_model_is_trained_on_both_kinds_of_images():
    fake = Fake()
    results = study.collect(study.STUDY.resolve("laptop"), fake)
    assert [(cell.model, cell.permuted) for cell in results.cells] == [
        (model, permuted) for model in FAMILIES.values() for permuted in (False, True)
    ]
    for cell in results.cells:
        seeds = list(range(8 if cell.model in MLPS else 3))
        assert [run.seed for run in cell.runs] == seeds
        assert [run.permute_seed for run in cell.runs] == (seeds if cell.permuted else [None] * len(seeds))
        assert {(r.augment, r.dataset, r.subset, r.epochs, r.batch_size, r.optimizer) for r in cell.runs} == {
            ("none", "cifar10", 10_000, 20, 256, "lion")
        }
    frame = results.frame
    assert len(frame) == 2 * (8 + 8 + 3 + 3 + 3) and frame["key"].is_unique and results.complete and results.sufficient
    assert (frame["permuted"] == frame["permute_seed"].notna()).all() and not frame["augmented"].any()
    assert frame["seed"].tolist() == [0] * 10 + [1] * 10 + [2] * 10 + [s for s in range(3, 8) for _ in range(4)]


def test_only_the_controls_choose_an_lr_on_permuted_images():
    fake = Fake()
    cells = {(cell.model, cell.permuted): cell for cell in study.collect(study.STUDY.resolve("laptop"), fake).cells}
    tuned = [run for run in fake.asked.values() if run.seed == TUNING_SEED]
    assert len([run for run in tuned if run.permute_seed is None and run.lr <= 1e-3]) == 5 * 3
    permuted = [run for run in tuned if run.permute_seed is not None]
    assert {run.model for run in permuted} == {"CNN-16", "ViT-64x4/8", "Mixer-64x4/8"}
    assert {run.permute_seed for run in permuted} == {TUNING_SEED} and {run.epochs for run in tuned} == {7}
    for model in FAMILIES.values():
        assert cells[model, False].choice.lr == 3e-4
        assert cells[model, True].choice.lr == (3e-4 if model in MLPS else 1e-3)
        assert all(run.lr == cells[model, True].choice.lr for run in cells[model, True].runs)
    table = figures.table_of_choices(list(cells.values()))
    assert table["images"].tolist() == ["as they are"] * 2 + ["as they are", "permuted"] * 3
    assert set(table["chosen"]) == {"0.0003", "0.001"} and "augmentation" not in table


def test_no_seed_is_trained_before_every_lr_is_chosen():
    fake = Fake(missing=lambda run: run.model == "ViT-64x4/8" and run.permute_seed == TUNING_SEED)
    results = study.collect(study.STUDY.resolve("laptop"), fake)
    assert not results.complete and results.frame["status"].eq("not run").all()


@pytest.mark.parametrize("seeds, sufficient", [((0, 1, 2, 3, 4), True), ((0, 1, 2, 3), False)])
def test_four_seeds_of_the_mlps_do_not_suffice(seeds, sufficient):
    results = study.collect(study.STUDY.resolve("laptop", seeds=seeds), Fake())
    assert results.complete and results.sufficient == sufficient
    verdict = claims.judge(15, results.frame)
    assert verdict.verdict == ("supported" if sufficient else "inconclusive at this scale")


def test_a_reader_changes_what_a_preset_says():
    preset = study.STUDY.resolve("laptop", model="B-6/Wi-128", seeds=(5, 6), control_seeds=(9,))
    assert preset.models[1] == "B-6/Wi-128"
    cells = study.collect(preset, Fake()).cells
    assert {tuple(run.seed for run in cell.runs) for cell in cells} == {(5, 6), (9,)}
    with pytest.raises(UserError, match="control_seeds is empty"):
        study.STUDY.resolve("laptop", control_seeds=())
    with pytest.raises(UserError, match="patches of 8 pixels"):
        study.STUDY.resolve("laptop", dataset="fashion-mnist")


def planned(preset: str, folder) -> tuple[float, float, planning.Plan]:
    """Planned minutes, those of one more point of every grid, and the plan."""
    plan = planning.plan(study.STUDY, study.STUDY.resolve(preset), Store(folder))
    widest = {(run.model, run.permute_seed): run for run in plan.runs if run.seed == TUNING_SEED}
    total, more = (sum(map(costs.planned_seconds, runs)) / 60 for runs in (plan.runs, widest.values()))
    return total, more, plan


def test_the_presets_fit_their_budgets(tmp_path):
    assert sum(planned("smoke", tmp_path)[:2]) < 5 / 60
    total, more, plan = planned("laptop", tmp_path)
    assert 15 < total and total + more <= 25 and len(plan.runs) == 24 + 50  # even when every grid is widened
    total, more, _ = planned("overnight", tmp_path)
    assert 3 * 60 < total + more <= 8 * 60
    _, _, plan = planned("gpu", tmp_path)
    assert max(plan.flops) < 600 * 3e13  # ten minutes a run at a tenth of what such a GPU can do in bf16


# --- the rule -------------------------------------------------------------------------------------------------------


def frame_of(s, b, cnn, control="CNN") -> pd.DataFrame:
    """One row a run; `s`, `b`: permuted minus as they are by seed; `cnn`: as they are minus permuted."""
    rows = []
    for family, base, changes in (("S-MLP", 45.0, s), ("B-MLP", 50.0, b), (control, 70.0, [-x for x in cnn])):
        for seed, change in enumerate(changes):
            for permuted in (False, True):
                top1 = base + seed + change * permuted
                rows.append(
                    dict(
                        family=family,
                        model=FAMILIES.get(family, family),
                        seed=seed,
                        status="ok",
                        test_top1=top1,
                        permuted=permuted,
                        augmented=False,
                        dataset="cifar10",
                        train_examples=10_000,
                        epochs=20,
                    )
                )
    return pd.DataFrame(rows)


NONE = [0.3, -0.3, 0.2, -0.2, 0.1]


@pytest.mark.parametrize(
    "s, b, cnn, verdict",
    [
        (NONE, NONE, [20, 21, 19], "supported"),
        (NONE, NONE, [5, 5.5, 4.5], "not supported"),  # a fall, but no ruin
        (NONE, [-2.0, -2.1, -1.9, -2.0, -2.0], [20, 21, 19], "not supported"),
        (NONE, [2.0, 2.1, 1.9, 2.0, 2.0], [20, 21, 19], "not supported"),  # better is not nothing either
        (NONE, [3.0, -3.0, 2.0, -2.0, 0.0], [20, 21, 19], "inconclusive at this scale"),  # zero on average is no proof
        (NONE[:4], NONE, [20, 21, 19], "inconclusive at this scale"),  # four seeds of an MLP
        (NONE, NONE, [20, 21], "inconclusive at this scale"),
        (NONE, NONE, [9, 10, 12], "inconclusive at this scale"),
        (NONE, NONE, [], "not tested"),
        ([], NONE, [20, 21, 19], "not tested"),
    ],
)
def test_claim_15(s, b, cnn, verdict):
    assert claims.judge(15, frame_of(s, b, cnn)).verdict == verdict


def test_the_mlps_parts_have_the_90_percent_interval_of_the_equivalence_test():
    verdict = claims.judge(15, frame_of([0.9, 0.6, 1.0, 0.7, 1.2], NONE, [20, 21, 19]))
    part, expected = verdict.parts[PERMUTED_MLP["S-MLP"]], t_interval([0.9, 0.6, 1.0, 0.7, 1.2], 0.9)
    assert part.mean == pytest.approx(expected.mean) and part.interval == pytest.approx(expected.interval)
    assert part.interval[1] > 1 and part.level == 0.9 and "(90%) n=5" in part.text()
    assert verdict.parts[PERMUTED_CNN] == t_interval([20, 21, 19]) and verdict.parts[PERMUTED_CNN].level == 0.95
    assert verdict.weakest == part
    few = claims.judge(15, frame_of(NONE, NONE[:4], [20, 21, 19]))
    assert few.weakest == few.parts[PERMUTED_MLP["B-MLP"]]  # three seeds are enough for the CNN, four not for an MLP


def test_a_resnet_stands_for_the_cnn_and_other_frames_have_no_permuted_runs():
    assert claims.judge(15, frame_of(NONE, NONE, [20, 21, 19], control="ResNet18")).verdict == "supported"
    plain = frame_of(NONE, NONE, [20, 21, 19]).drop(columns="permuted")
    assert claims.judge(15, plain.drop_duplicates(["family", "seed"])).verdict == "not tested"


def test_a_diverged_control_is_at_chance():
    frame = frame_of(NONE, NONE, [20, 21, 19])
    frame.loc[(frame.family == "CNN") & frame.permuted, ["status", "test_top1"]] = ["diverged", None]
    assert claims.judge(15, frame).parts[PERMUTED_CNN].mean == pytest.approx(71 - 10)


@pytest.mark.parametrize(
    ("change", "inside"),
    [([0.1, -0.1, 0.2, -0.2], True), ([2.0, 2.1, 1.9, 2.0], False), ([3.0, -3.0, 2.0, -2.0], None)],
)
def test_room_is_on_the_side_that_equivalence_is_on(change, inside):
    estimate = paired_equivalence(pd.Series(change), pd.Series([0.0] * 4), 1.0).estimate
    left = room(estimate)
    assert sign(left) == {True: 1, False: -1, None: 0}[inside] and left.mean == pytest.approx(1 - abs(estimate.mean))
    assert left.interval[1] <= 1 and room(t_interval([0.3])).interval is None


def test_checks_are_the_best_lengths_the_overnight_runs_and_the_neighbouring_rates():
    frame = frame_of(NONE, [-2.0, -2.1, -1.9, -2.0, -2.0], [20, 21, 19]).assign(schedule="constant")
    frame["curve"] = [
        [{"epoch": 1.0, "val_top1": 5.0}, {"epoch": 20.0, "val_top1": top1}] for top1 in frame["test_top1"]
    ]
    trials = pd.DataFrame({"lr": [1e-3] * 3, "seed": TUNING_SEEDS, "val_top1": [70.0, 71.0, 72.0]})
    grid = pd.DataFrame({"lr": [1e-3], "val_top1": [71.0], "status": "ok"})
    cells = [
        SimpleNamespace(
            family="CNN",
            permuted=permuted,
            choice=Choice(1e-3, False, True, grid, trials.assign(val_top1=trials["val_top1"] - 15 * permuted)),
        )
        for permuted in (False, True)
    ]
    shown = Shown(SimpleNamespace(frame=frame, cells=cells), lambda size: SimpleNamespace(frame=frame))
    found = checks(shown)
    assert {name: sign(part) for name, part in found.items()} == {
        "S-MLP, each side at its best length": 1,
        "B-MLP, each side at its best length": -1,
        "CNN, each side at its best length": 1,
        "S-MLP, change, overnight": 1,
        "B-MLP, change, overnight": -1,
        "CNN, loss, overnight": 1,
        "CNN, at the neighbouring rates that lose least": 1,
    }
    assert found["CNN, loss, overnight"].mean == pytest.approx(10)
    assert found["CNN, at the neighbouring rates that lose least"].mean == pytest.approx(5)


# --- the theorem ----------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "lion": dict(optimizer="lion", lr=1e-3),
    "adamw": dict(optimizer="adamw", lr=1e-3),
    "sgd": dict(optimizer="sgd", lr=0.05, momentum=0.9),
}


@pytest.mark.parametrize("model", ["S-2/Wi-32", "B-2/Wi-32"])
def test_a_twin_computes_from_permuted_images_what_the_original_computes(model):
    torch.manual_seed(0)
    original = build(model, 10, 32).double()
    images = torch.randn(64, 3, 32, 32, dtype=torch.float64)
    order = pixel_permutation(3, 32, seed=5)
    permuted = torch.empty_like(images)
    for new, old in enumerate(order):  # pixel by pixel, all channels together
        permuted[:, :, new // 32, new % 32] = images[:, :, old // 32, old % 32]
    twin = permuted_twin.permuted_twin(original, torch.from_numpy(order))
    with torch.no_grad():
        assert (twin(permuted) - original(images)).abs().max() < 1e-12
        assert (original(permuted) - original(images)).abs().max() > 0.1
        inverse = permuted_twin.permuted_twin(original, torch.from_numpy(np.argsort(order)))
        assert (inverse(permuted) - original(images)).abs().max() > 0.1


@pytest.mark.parametrize("rule", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("model", ["S-2/Wi-32", "B-2/Wi-32"])
def test_twins_stay_twins_while_they_are_trained(model, rule):
    run = make_run(model=model, dataset="digits", permute_seed=3, epochs=1, **rule)
    differences = permuted_twin.apart(run, steps=15)
    assert len(differences) == 16 and max(differences) < 1e-12


def test_the_loaders_permutation_comes_after_augmentation_and_keeps_the_twins():
    """Through the batches that training sees: one epoch with crops and MixUp, in float64, then the test images."""
    fields = dict(model="B-2/Wi-32", dataset="digits", augment="crop+mixup", epochs=1, batch_size=64, lr=1e-3)
    plain, permuted = make_run(**fields), make_run(**fields, permute_seed=1)
    data, scrambled = load_data(plain), load_data(permuted)
    model = build_for(plain).double()
    start = copy.deepcopy(model.state_dict())
    twin = permuted_twin.permuted_twin(model, scrambled.permutation)
    optimizers = [optim.make_optimizer(plain, network.parameters()) for network in (model, twin)]
    for batches in zip(epoch_batches(plain, data, 0), epoch_batches(permuted, scrambled, 0), strict=True):
        for network, optimizer, batch in zip((model, twin), optimizers, batches, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(network(batch.images.double()), batch.targets.double()).backward()
            optimizer.step()
    test = data.normalise(data.test.images).double()
    with torch.no_grad():
        assert (twin(scrambled.permute(test)) - model(test)).abs().max() < 1e-10
    assert not torch.equal(model.linear_in.weight, start["linear_in.weight"])  # it did learn


@pytest.mark.parametrize("model", ["CNN-4", "ViT-32x1/4", "Mixer-32x1/4"])
def test_networks_that_share_weights_between_places_have_no_twin(model):
    run = make_run(model=model, dataset="digits", permute_seed=3, epochs=1, lr=1e-3)
    assert min(permuted_twin.apart(run, steps=3, examples=64)) > 0.1
    with pytest.raises(UserError, match="only an MLP has a permuted twin"):
        permuted_twin.permuted_twin(build_for(run), torch.arange(64))


def test_a_run_without_a_permutation_has_nothing_to_come_apart_by():
    with pytest.raises(UserError, match="set permute_seed=0"):
        permuted_twin.apart(make_run(model="S-2/Wi-32", dataset="digits", epochs=1))


# --- figures and tables ---------------------------------------------------------------------------------------------


def test_the_table_pairs_seeds_and_tests_equivalence():
    frame = pd.concat([frame_of(NONE, [-2.0, -2.1, -1.9], [20, 21, 19]).assign(preset="laptop")])
    table = figures.table_of_differences(frame).set_index("model")
    s, b, cnn = (table.loc[FAMILIES[family]] for family in ("S-MLP", "B-MLP", "CNN"))
    assert f"{s['difference']} n={s['n']}" == t_interval(NONE).text(2)
    assert s["at 90%"] == "[{:.2f}, {:.2f}]".format(*t_interval(NONE, 0.9).interval)
    assert s["p"] == "< 0.001" and float(b["p"]) > 0.9 and cnn["p"] == "1.000"
    assert cnn["difference"].startswith("-20.00") and (cnn["n"], cnn["preset"]) == (3, "laptop")
    assert f"{s['as they are']} n=5" == t_interval([45, 46, 47, 48, 49]).text()
    one = figures.table_of_differences(frame[frame.seed == 0]).iloc[0]
    assert (one["n"], one["p"], one["at 90%"], one["permuted"]) == (1, "", "", "45.3")


def test_the_figures_show_the_frame():
    frame = frame_of(NONE, NONE, [20, 21, 19])
    points = [line for line in figures.accuracy(frame).axes[0].lines if line.get_marker() == "o"]
    shown = {(round(line.get_xdata()[0], 6), line.get_markerfacecolor() == "white") for line in points}
    assert shown == {(47.0, False), (47.02, True), (52.0, False), (52.02, True), (71.0, False), (51.0, True)}
    dots, bar, *_ = figures.equivalence(frame).axes[0].collections
    assert dots.get_offsets()[:, 0].tolist() == pytest.approx(NONE)
    assert bar.get_segments()[0][:, 0] == pytest.approx(t_interval(NONE, 0.9).interval)


def test_learning_curves_are_means_by_family_and_kind_of_images():
    frame = frame_of(NONE, NONE, [20, 21, 19])
    frame["curve"] = [[{"epoch": 1.0, "val_top1": 30.0}, {"epoch": 20.0, "val_top1": v}] for v in frame["test_top1"]]
    mlps, controls = figures.learning(curves(frame)).axes
    assert {line.get_label() for line in mlps.lines} == {
        f"{family}, {state}" for family in ("S-MLP", "B-MLP") for state in ("as they are", "permuted")
    }
    lines = {line.get_label(): line for line in controls.lines}
    permuted = lines["CNN, permuted"]
    assert permuted.get_ydata().tolist() == [30.0, 51.0] and permuted.get_linestyle() == "--"


def test_what_a_control_loses_is_said_for_the_last_epoch_and_for_each_sides_best_length():
    """As they are it falls from its best, permuted it rises: -16, -18, -20 at the end, and -20, -21, -25."""
    curve_of = {
        (False, 0): (70, 66),
        (False, 1): (72, 69),
        (False, 2): (74, 69),
        (True, 0): (40, 50),
        (True, 1): (41, 51),
        (True, 2): (42, 49),
    }
    frame = frame_of(NONE[:3], NONE[:3], [20, 21, 19]).assign(schedule="constant")
    frame["curve"] = [
        [{"epoch": float(e), "val_top1": float(v)} for e, v in zip((10, 20), curve_of[key], strict=True)]
        for key in zip(frame["permuted"], frame["seed"], strict=True)
    ]
    assert figures.table_by_length(frame).values.tolist() == [
        ["CNN-16", "-18.0 [-23.0, -13.0] n=3", "-22.0 [-28.6, -15.4] n=3"]
    ]
    assert figures.table_by_length(frame[frame["family"] != "CNN"]).empty


def test_pictures_move_pixels_and_keep_colours():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    order = pixel_permutation(3, 4, seed=0)
    figure = figures.before_and_after(images, ["a", "b"], order)
    above, below = figure.axes[1].images[0].get_array(), figure.axes[3].images[0].get_array()
    for new, old in enumerate(order):
        assert (below[new // 4, new % 4] == above[old // 4, old % 4]).all()


def test_drift_draws_a_panel_an_optimiser_and_zero_at_rounding():
    figure = figures.drift({"LION": {"S-MLP": [0.0, 1e-15]}, "SGD": {"S-MLP": [1e-14, 1e-13], "CNN": [1.0, 2.0]}})
    lion, sgd = figure.axes
    assert lion.lines[0].get_ydata().tolist() == [np.finfo(float).eps, 1e-15] and lion.get_yscale() == "log"
    assert [line.get_label() for line in sgd.lines[:2]] == ["S-MLP", "CNN"]


def test_nothing_run_is_empty_figures_and_not_run_in_the_table():
    frame = study.collect(study.STUDY.resolve("laptop"), Fake(missing=lambda run: True)).frame
    table = figures.table_of_differences(frame)
    assert set(table["as they are"]) == set(table["difference"]) == {"not run"}
    assert set(table["p"] + table["at 90%"]) == {""}
    assert figures.table_by_length(frame).values.tolist() == [
        [FAMILIES[family], "not run", "not run"] for family in ("CNN", "ViT", "Mixer")
    ]
    figures.accuracy(frame), figures.equivalence(frame)
    assert not any(axis.lines for axis in figures.learning(curves(frame)).axes)
    assert claims.judge(15, frame).verdict == "not tested"


def test_the_plan_names_each_runs_permutation(tmp_path):
    table = figures.table_of_plan(planning.plan(study.STUDY, study.STUDY.resolve("smoke"), Store(tmp_path)))
    assert {"none", 0, 1, TUNING_SEED} <= set(table["permutation"]) and "augmentation" not in table
