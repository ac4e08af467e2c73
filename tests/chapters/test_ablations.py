"""The chapter on ablations: one change a condition, equal FLOPs, the rules of claim 13, and its smoke preset."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.chapters import claims, planning
from mlp_lib.chapters.ablations import figures, near_ties, rules, study
from mlp_lib.chapters.ablations.conditions import (
    BATCH,
    CLIPPING,
    CONDITIONS,
    DEEP,
    DEFAULT,
    DROPPING,
    GELU,
    INGREDIENTS,
    LION,
    SHOWN,
    SLIGHT,
    SMALL_DECAY,
    STRONG,
    plain_model,
)
from mlp_lib.chapters.parameters import TUNING_SEEDS
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import not_run
from mlp_lib.errors import UserError
from mlp_lib.records.frames import curves, row_of
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import sign, t_interval
from mlp_lib.sweeps import costs

# What each condition changes of the default's run, written out anew.
CHANGED = {
    "ReLU": {"activation": "relu"},
    "no skips": {"skip": False},
    "plain block": {"bottleneck": False, "model": "B-6/Wi-281"},
    "no norm": {"norm": "none"},
    "norm after the block": {"norm_position": "post"},
    "BatchNorm": {"norm": "batch"},
    "no smoothing": {"label_smoothing": 0.0},
    "clipping": {"clip": 1.0},
    "weight decay": {"weight_decay": 3.0},
    "weight decay 0.001": {"weight_decay": 0.001},
    "dropout": {"dropout": 0.1},
    "AdamW": {"optimizer": "adamw", "lr": 1e-3},
    "SGD": {"optimizer": "sgd", "lr": 0.02},
    DEEP: {"model": "B-12/Wi-128"},
    "no skips, twice as deep": {"model": "B-12/Wi-128", "skip": False},
}


class Fake:
    """An `ensure` with made-up scores, the best learning rate three times that of the middle for deep models."""

    def __init__(self, missing=lambda run: False):
        self.missing, self.measured, self.records = missing, {}, {}

    def __call__(self, runs, train=True, measures=None):
        for run in runs:
            self.measured.setdefault(run.key, (run, measures))
            if train and not self.missing(run):
                middle = {"lion": 3e-4, "adamw": 1e-3, "sgd": 0.02}[run.optimizer] * (
                    3 if run.model == "B-12/Wi-128" else 1
                )
                metrics = {"val_top1": 90 - abs(math.log(run.lr / middle)), "test_top1": 40.0, "test_loss": 1.0}
                self.records[run.key] = record_of(run, metrics=metrics)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])


# --- the conditions -------------------------------------------------------------------------------------------------


def test_every_condition_differs_from_the_default_in_what_it_names_alone():
    preset = study.PRESETS["laptop"]
    default = CONDITIONS[DEFAULT].run(preset).model_dump()
    found = {}
    for name, condition in CONDITIONS.items():
        fields = condition.run(preset).model_dump()
        found[name] = {field: value for field, value in fields.items() if value != default[field]}
    assert found.pop(DEFAULT) == {} and found == CHANGED
    assert {default[field] for field in ("activation", "skip", "bottleneck", "norm", "norm_position")} == {None}
    assert (default["optimizer"], default["label_smoothing"], default["clip"], default["dropout"]) == (
        "lion",
        0.3,
        None,
        0.0,
    )


def test_an_ingredient_is_a_pair_that_differs_in_one_thing():
    assert {*STRONG, *SLIGHT, *SHOWN} == {*INGREDIENTS} and len(INGREDIENTS) == 14
    preset = study.PRESETS["laptop"]
    for name, pair in INGREDIENTS.items():
        one, other = (CONDITIONS[condition].run(preset).model_dump() for condition in pair)
        differing = {field for field in one if one[field] != other[field]} - {"lr"}
        assert len(differing - {"model"}) == 1, name
        assert ("model" in differing) == (name == "inverted bottleneck")
    assert {condition for pair in INGREDIENTS.values() for condition in pair} == {*CONDITIONS}


@pytest.mark.parametrize("size, tolerance", [("smoke", 0.03), ("laptop", 0.003), ("overnight", 0.003), ("gpu", 0.001)])
def test_both_sides_of_an_ingredient_cost_the_same_flops(size, tolerance):
    preset = study.PRESETS[size]
    flops = {name: costs.training_flops(condition.run(preset)) for name, condition in CONDITIONS.items()}
    for name, (present, absent) in INGREDIENTS.items():
        assert flops[absent] == pytest.approx(flops[present], rel=tolerance), name
    steps = {condition.run(preset).total_steps for condition in CONDITIONS.values()}
    assert len(steps) == 1


def test_the_plain_block_gets_the_width_of_a_worked_case():
    """B-6/Wi-128 on CIFAR-10: 4 * 3072 * 128 + 6 * 6 * 8 * 128^2 + 6 * 128 * 10 = 6,299,136 FLOPs an example."""

    def plain(width):
        return 4 * 3072 * width + 6 * 6 * width**2 + 6 * 10 * width

    assert plain_model("B-6/Wi-128", "cifar10") == "B-6/Wi-281"
    assert abs(plain(281) - 6_299_136) < min(abs(plain(280) - 6_299_136), abs(plain(282) - 6_299_136))
    assert plain_model("B-6/Wi-128-E_2", "cifar10") == "B-6/Wi-201"  # which has no bottleneck, so no expansion


# --- the study ------------------------------------------------------------------------------------------------------


def test_every_condition_is_tuned_by_three_seeds_and_then_run_with_fresh_ones():
    fake = Fake()
    results = study.collect(study.STUDY.resolve("laptop"), fake)
    assert results.complete and results.sufficient and not any(choice.flags for choice in results.choices())
    for cell in results.cells:
        assert [run.seed for run in cell.runs] == [0, 1, 2, 3, 4] and cell.choice.seeds == 3
        lion = 1e-3 if cell.condition in (DEEP, "no skips, twice as deep") else 3e-4
        assert cell.choice.lr == {"AdamW": 1e-3, "SGD": 0.02}.get(cell.condition, lion)
        assert {run.lr for run in cell.runs} == {cell.choice.lr}
    frame = results.frame
    assert len(frame) == 16 * 5 and frame["key"].is_unique and frame["seed"].is_monotonic_increasing
    assert set(frame["condition"]) == {*CONDITIONS} and set(frame["family"]) == {"B-MLP"}
    assert results.choices(DEFAULT, "ReLU") == [cell.choice for cell in results.cells[:2]]


def test_only_the_reported_runs_are_measured():
    fake = Fake()
    study.collect(study.STUDY.resolve("overnight"), fake)
    measures = {run.seed in TUNING_SEEDS: names for run, names in fake.measured.values()}
    assert measures == {True: None, False: ("probe_cifar100",)} and study.STUDY.measures == ()


def test_no_seed_is_trained_before_every_lr_is_chosen():
    fake = Fake(missing=lambda run: run.optimizer == "sgd" and run.seed == TUNING_SEEDS[2])
    results = study.collect(study.STUDY.resolve("laptop"), fake)
    assert not results.complete and results.frame["status"].eq("not run").all()


def test_a_reader_changes_what_a_preset_says():
    preset = study.STUDY.resolve("laptop", model="B-3/Wi-64", seeds=(7, 8), lrs=(1e-4,))
    results = study.collect(preset, Fake())
    assert not results.sufficient and {run.seed for cell in results.cells for run in cell.runs} == {7, 8}
    assert set(results.frame["model"]) == {"B-3/Wi-64", "B-6/Wi-64", plain_model("B-3/Wi-64", "cifar10")}
    assert results.cells[0].choice.given
    with pytest.raises(UserError, match="no B-MLP"):
        study.STUDY.resolve("laptop", model="S-6/Wi-64")
    with pytest.raises(UserError, match="another condition"):
        study.STUDY.resolve("laptop", decay=1e-3)


def test_the_presets_fit_their_budgets(tmp_path):
    def planned(size):
        plan = planning.plan(study.STUDY, study.STUDY.resolve(size), Store(tmp_path))
        return sum(plan.flops), sum(map(costs.planned_seconds, plan.runs)) / 60, plan

    assert planned("smoke")[1] < 5 / 60
    flops, minutes, plan = planned("laptop")
    assert flops < 1e14 and minutes <= 25 and len(plan.runs) == 16 * (9 + 5)
    flops, minutes, _ = planned("overnight")
    assert 4e14 < flops < 6e14 and minutes <= 8 * 60
    _, _, plan = planned("gpu")
    assert max(plan.flops) < 600 * 3e13  # ten minutes a run at a tenth of what such a GPU can do in bf16


# --- the rules ------------------------------------------------------------------------------------------------------

WAVER = [0.3, -0.3, 0.2, -0.2, 0.0]


def frame_of(gains: dict, seeds: int = 5) -> pd.DataFrame:
    """One row a run; `gains`: the mean gain of an ingredient, 2 for those left out, 0.6 for the slight ones."""
    by_condition = {DEFAULT: 50.0, DEEP: 51.0}
    for name, (present, absent) in INGREDIENTS.items():
        amount = gains.get(name, 0.6 if name in SLIGHT else 2.0)
        if absent == DEFAULT:
            by_condition[present] = 50.0 + amount
        else:
            by_condition[absent] = by_condition[present] - amount
    rows = [
        dict(condition=condition, seed=seed, test_top1=top1 + 5 * seed + (condition in (DEFAULT, DEEP)) * WAVER[seed])
        for condition, top1 in by_condition.items()
        for seed in range(seeds)
    ]
    fixed = dict(family="B-MLP", model="B-6/Wi-128", status="ok", dataset="cifar10", train_examples=4000, epochs=12)
    frame = pd.DataFrame(rows).assign(**fixed, augmented=False, schedule="constant")
    frame["key"] = frame["condition"] + frame["seed"].astype(str)
    frame["curve"] = [[{"epoch": 1.0, "val_top1": 9.0}, {"epoch": 12.0, "val_top1": x}] for x in frame["test_top1"]]
    return frame


def both(gains: dict, seeds: int = 5) -> tuple[str, str]:
    """The verdict of the rule and of its companion."""
    shown = Shown(study.Results((), frame_of(gains, seeds)))
    strong = rules.RULES[13]
    parts = strong.parts(shown.results.frame)
    assert set(parts) == {*STRONG} and set(strong.companion.parts(shown.results.frame)) == {*SLIGHT}
    return tuple(claims._word(rule, rule.parts(shown.results.frame)) for rule in (strong, strong.companion))


SUPPORTED, REFUTED, OPEN = "supported", "not supported", "inconclusive at this scale"


@pytest.mark.parametrize(
    "gains, words",
    [
        ({}, (SUPPORTED, SUPPORTED)),
        ({GELU: -1.0}, (REFUTED, SUPPORTED)),  # one part refutes a conjunction
        ({LION: 0.1}, (OPEN, SUPPORTED)),  # an interval that holds 0
        ({LION: 0.1, GELU: -1.0}, (REFUTED, SUPPORTED)),
        ({CLIPPING: 0.0}, (SUPPORTED, OPEN)),
        ({DROPPING: -1.0}, (SUPPORTED, REFUTED)),
        ({BATCH: -0.5}, (SUPPORTED, SUPPORTED)),  # worse by less than a point counts as alike
        ({BATCH: -0.8}, (SUPPORTED, OPEN)),
        ({BATCH: -2.0}, (SUPPORTED, REFUTED)),
        ({SMALL_DECAY: -3.0}, (SUPPORTED, SUPPORTED)),  # which no part reads
    ],
)
def test_claim_13(gains, words):
    assert both(gains) == words


def test_four_seeds_are_too_few_and_no_frame_of_another_chapter_is_judged():
    assert both({}, seeds=4) == (OPEN, OPEN)
    frame = frame_of({}).drop(columns="condition")
    assert claims.judge(13, frame).verdict == "not tested"


def test_a_gain_is_the_paired_interval_with_the_ingredient_minus_without_it():
    found = rules.gain_by_ingredient(frame_of({GELU: 1.5, CLIPPING: 0.5, BATCH: -0.5}))
    for name, middle, waver in ((GELU, 1.5, 1), (CLIPPING, 0.5, -1), (BATCH, -0.5, 1)):
        expected = t_interval([middle + waver * x for x in WAVER])
        assert found[name].mean == pytest.approx(expected.mean)
        assert found[name].interval == pytest.approx(expected.interval)
    assert [rules.word(found[name]) for name in (GELU, CLIPPING, BATCH)] == ["helps", "helps", "hurts"]
    assert rules.word(t_interval([1.0])) == "not run" and rules.word(t_interval([1.0, -1.0])) == "not shown"


def test_a_diverged_condition_is_at_chance():
    frame = frame_of({})
    frame.loc[frame["condition"] == "no norm", ["status", "test_top1"]] = ["diverged", None]
    assert rules.gain(frame, "LayerNorm, not none").mean == pytest.approx(50 + 10 - 10)


def with_probe(frame: pd.DataFrame, offset: dict) -> pd.DataFrame:
    """Every run with a probe at 20 %, more by `offset` for a condition."""
    waver = (frame["condition"] == DEFAULT) * frame["seed"].map(dict(enumerate(WAVER)))
    tops = 20.0 + frame["condition"].map(offset).fillna(0.0) + frame["seed"] / 10 + waver
    return frame.assign(measures=[{"probe_cifar100": {"test_top1": top1}} for top1 in tops])


def test_the_checks_are_best_lengths_neighbouring_rates_the_probe_and_other_presets():
    collected = study.collect(study.STUDY.resolve("laptop"), Fake())
    shown = study.Results(collected.cells, frame_of({GELU: 2.0, BATCH: -0.5}))
    larger = frame_of({GELU: -2.0, BATCH: -2.0}).assign(status="ok")
    larger["key"] = "o" + larger["key"]
    larger = with_probe(larger, {"ReLU": -3.0})
    at = {"laptop": shown, "overnight": study.Results(collected.cells, larger)}.get
    strong = rules.RULES[13]
    found = strong.checks(Shown(shown, at))
    assert len(found) == 6 * 4  # at the page's own preset there is no probe
    signs = {name.removeprefix(f"{GELU}, "): sign(part) for name, part in found.items() if name.startswith(GELU)}
    assert signs == {
        "each side at its best length": 1,
        "at the neighbouring rates that favour it least": -1,  # equal at the chosen rates, so worse beside the best
        "overnight": -1,
        "overnight, by the linear probe": 1,
    }
    assert found[f"{GELU}, overnight, by the linear probe"].mean == pytest.approx(3.0)
    slight = strong.companion.checks(Shown(shown, at))
    assert slight[f"{BATCH}, each side at its best length"].mean == pytest.approx(0.5)  # less its bound, -1
    assert sign(slight[f"{BATCH}, overnight"]) == -1 and f"{SMALL_DECAY}, in its place" in slight


# --- figures and tables ---------------------------------------------------------------------------------------------


def test_the_forest_has_a_row_and_a_word_for_every_ingredient():
    figure = figures.forest(frame_of({LION: 0.1, CLIPPING: -0.8}))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [*STRONG, *SLIGHT, *SHOWN]
    told = [text.get_text() for text in axis.texts]
    assert len(told) == 14 + 3 and "0.1 [-0.2, 0.4] n=5: not shown" in told and "-0.8 [-1.1, -0.5] n=5: hurts" in told
    assert axis.get_title() == "Of 14 comparisons 12 help and 1 hurt" and axis.get_xscale() == "linear"
    wide = figures.forest(frame_of({GELU: 25.0})).axes[0]
    assert wide.get_xscale() == "symlog" and "logarithmic beyond 2" in wide.get_xlabel()


def test_figures_and_tables_of_what_is_not_run():
    results = study.collect(study.STUDY.resolve("laptop"), not_run)
    assert figures.forest(results.frame).axes[0].get_title() == "What each ingredient is worth"
    assert all(axis.texts[0].get_text() == "not run" for axis in figures.learning(curves(results.frame)).axes)
    assert set(figures.table_of_gains(results.frame)["verdict"]) == {"not run"}
    assert set(figures.table_of_flops(results.frame)["network"]) == {"not run"}
    assert set(figures.table_of_choices(results.cells)["chosen"]) == {"open"}
    assert figures.table_of_probes({"laptop": results.frame})["probe, points [95%]"].tolist() == ["not run"]


def test_tables_say_what_was_found():
    frame = frame_of({GELU: 1.5, CLIPPING: -0.2, "skips": 0.5, "skips, twice as deep": 2.0})
    table = figures.table_of_gains(frame).set_index("ingredient")
    assert table.loc[GELU].tolist() == ["58.5", "60.0", "1.5 [1.2, 1.8] n=5", "helps", "helps"]
    assert table.loc[CLIPPING, ["verdict", "strict"]].tolist() == ["not shown", "not shown"]
    assert figures.depth_and_skips(frame).mean == pytest.approx(1.5)
    found = rules.gain_by_ingredient(frame)
    assert figures.named(found, "not shown") == [CLIPPING] and figures.named(found, "helps")[-1] == "skips"
    probes = figures.table_of_probes({"overnight": with_probe(frame, {"ReLU": -3.0})}).set_index("ingredient")
    assert probes.loc[GELU, "probe says"] == "helps" and probes.loc[GELU, "probe, points [95%]"].startswith("3.0 [")


def test_the_strict_level_leaves_a_twentieth_for_all_comparisons_together():
    level = figures.strict_level()
    assert 14 * (1 - level) == pytest.approx(0.05)
    frame = frame_of({GELU: 0.4})  # off zero alone, but not beside thirteen others
    assert rules.word(rules.gain(frame, GELU)) == "helps" and rules.word(rules.gain(frame, GELU, level)) == "not shown"


def test_choices_are_written_out_and_flagged():
    cells = study.collect(study.STUDY.resolve("laptop"), Fake()).cells
    table = figures.table_of_choices(cells).set_index("condition")
    assert table.loc["SGD"].tolist() == ["0.007: 89.0, 0.02: 90.0, 0.06: 88.9", "0.02", "none"]


def test_gains_at_equal_rates_leave_the_choice_of_the_rate_out():
    cells = study.collect(study.STUDY.resolve("laptop"), Fake()).cells
    trials = cells[0].choice.trials
    better = trials.assign(val_top1=trials["val_top1"] + trials["lr"].map({3e-4: 2.0}).fillna(0.0))
    cells = (replace(cells[0], choice=replace(cells[0].choice, trials=better)), *cells[1:])
    table = figures.table_at_equal_rates(cells).set_index("ingredient")
    assert {*INGREDIENTS} - {*table.index} == {LION, "LION, not SGD"}
    assert table.loc[GELU, ["0.0001", "0.0003", "0.001"]].tolist() == [
        "0.0 [0.0, 0.0]",
        "2.0 [2.0, 2.0]",
        "0.0 [0.0, 0.0]",
    ]
    assert table.loc[CLIPPING, "0.0003"] == "-2.0 [-2.0, -2.0]" and table.loc[GELU].iloc[0] == "0.0003, 0.0003"
    nothing = figures.table_at_equal_rates(study.collect(study.STUDY.resolve("laptop"), not_run).cells)
    assert set(nothing["chosen with, without"]) == {"open"}


def test_a_stand_in_for_the_default_shifts_every_comparison_with_it():
    frame = frame_of({SMALL_DECAY: 1.3, LION: -1.0, GELU: 2.0, CLIPPING: 0.6})
    beside = near_ties.beside_stand_in
    assert beside(frame, LION).mean == pytest.approx(-1.0 + 1.3) and beside(frame, GELU).mean == pytest.approx(3.3)
    assert beside(frame, CLIPPING).mean == pytest.approx(0.6 - 1.3)  # the stand-in is its absent side
    kept = near_ties.same_word(frame)
    assert kept[GELU] == "helps" and kept["skips, twice as deep"] == "helps"  # which has no default on a side
    assert not {LION, CLIPPING, SMALL_DECAY} & {*kept}
    table = near_ties.table_of_stand_in(frame).set_index("ingredient")
    assert len(table) == 12 and table.loc[LION, ["verdict", "there"]].tolist() == ["hurts", "helps"]


# --- from nothing ---------------------------------------------------------------------------------------------------


def test_smoke_from_nothing(tmp_path):
    store = Store(tmp_path / "runs")
    ensure = planning.training(store, study.STUDY.measures, workers=1)
    results = study.collect(study.PRESETS["smoke"], ensure)
    assert results.complete and not results.sufficient  # three seeds rehearse, and judge nothing
    frame = results.frame.set_index(["condition", "seed"])
    assert len(frame) == 48 and frame["status"].eq("ok").all()
    default = frame.loc[(DEFAULT, 0)]
    for name in ("no skips", "no norm", "dropout", "AdamW", "no smoothing"):
        other = frame.loc[(name, 0)]
        assert other["train_flops"] == default["train_flops"] and other["train_loss"] != default["train_loss"], name
    assert rules.probed(results.frame, DEFAULT).empty
    verdict = claims.judge(13, results.frame, Shown(results))
    assert verdict.verdict == verdict.companion.verdict == OPEN
