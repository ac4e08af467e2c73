"""Rules of verdicts, on made-up frames whose verdict is plain."""

import datetime
import json
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.chapters import claims, registry
from mlp_lib.chapters.ablations.conditions import CONDITIONS
from mlp_lib.chapters.claims import (
    MARKS,
    RULES,
    VERDICTS,
    claim,
    judge,
    judge_all,
    overview,
    paper_claims,
    paper_table,
    summary,
    table_of_checks,
    table_of_verdicts,
)
from mlp_lib.chapters.from_scratch import study as rq1
from mlp_lib.chapters.registry import RULE_CHANGES
from mlp_lib.chapters.rule import Rule, Shown
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.architectures import family_of
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import Estimate, t_interval

DIVERGED = None


def frame_of(cells: dict[tuple[str, bool], list], dataset: str = "cifar10") -> pd.DataFrame:
    """One row a run from {(family, augmented): test top-1 by seed}."""
    rows = [
        dict(
            family=family,
            augmented=augmented,
            seed=seed,
            status="diverged" if top1 is DIVERGED else "ok",
            test_top1=top1,
            dataset=dataset,
            train_examples=10_000,
            epochs=30 + 60 * augmented,
            model=f"{family[0]}-6/Wi-256",
            hardware="x",
        )
        for (family, augmented), values in cells.items()
        for seed, top1 in enumerate(values)
    ]
    return pd.DataFrame(rows)


def gains(s: list, b: list) -> pd.DataFrame:
    """Both MLPs at about 40 without augmentation, and this much more with it, after as many epochs as the paper's."""
    base = [40.0, 41.0, 42.0]
    frame = frame_of(
        {
            ("S-MLP", False): base[: len(s)],
            ("B-MLP", False): base[: len(b)],
            ("S-MLP", True): [x + g for x, g in zip(base, s, strict=False)],
            ("B-MLP", True): [x + g for x, g in zip(base, b, strict=False)],
        }
    )
    return frame.assign(epochs=frame["augmented"].map({False: 100, True: 1000}))


@pytest.mark.parametrize(
    "s, b, verdict",
    [
        ([20, 20.5, 19.5], [15, 15.5, 14.5], "supported"),
        ([20, 20.5, 19.5], [3, 3.5, 2.5], "not supported"),
        ([35, 35.5, 34.5], [20, 20.5, 19.5], "not supported"),  # far more than 20 is not roughly 20
        ([20, 20.5, 19.5], [10.5, 11, 9.5], "inconclusive at this scale"),
        ([2, 20, 38], [20, 20.5, 19.5], "inconclusive at this scale"),
        ([20, 20.5], [20, 20.5], "inconclusive at this scale"),  # two seeds are no verdict
        ([20], [20], "inconclusive at this scale"),
        ([20, 20.5, 19.5], [], "not tested"),
    ],
)
def test_claim_1_gain_of_augmentation_between_10_and_30(s, b, verdict):
    judged = judge(1, gains(s, b))
    assert judged.verdict == verdict and verdict in VERDICTS
    assert judged.parts["S-MLP"].mean == pytest.approx(sum(s) / len(s)) and judged.parts["B-MLP"].n == len(b)


def versus(b: list, s: list) -> pd.DataFrame:
    return frame_of(
        {("B-MLP", a): [x + 20 * a for x in b] for a in (False, True)}
        | {("S-MLP", a): [x + 20 * a for x in s] for a in (False, True)}
    )


@pytest.mark.parametrize(
    "b, verdict",
    [
        ([44, 45.2, 46.1], "supported"),
        ([36, 37.2, 38.1], "not supported"),
        ([40.5, 40.0, 42.3], "inconclusive at this scale"),
        ([44], "inconclusive at this scale"),
        ([], "not tested"),
    ],
)
def test_claim_2_bottleneck_beats_standard_with_and_without_augmentation(b, verdict):
    assert judge(2, versus(b, [40.0, 41.0, 42.0])).verdict == verdict


def test_claim_2_is_refuted_by_either_part():
    frame = versus([44, 45.2, 46.1], [40.0, 41.0, 42.0])
    frame.loc[(frame.family == "B-MLP") & frame.augmented, "test_top1"] -= 10
    judged = judge(2, frame)
    assert judged.verdict == "not supported"
    assert judged.weakest == judged.parts["with augmentation"] and judged.weakest.mean == pytest.approx(-5.9, abs=0.01)


@pytest.mark.parametrize(
    "cnn, verdict",
    [
        ([75, 76.2, 77.1], "supported"),
        ([65, 66.2, 67.1], "inconclusive at this scale"),  # ahead by 5: not far, but a ResNet18 may be further
        ([69.5, 71, 73.5], "inconclusive at this scale"),
        ([75, 76.2], "inconclusive at this scale"),
        ([], "not tested"),
    ],
)
def test_claim_3_far_is_ten_points(cnn, verdict):
    assert judge(3, frame_of(AUGMENTED_MLPS | {("CNN", True): cnn})).verdict == verdict


AUGMENTED_MLPS = {("S-MLP", True): [60.0, 61.0, 62.0], ("B-MLP", True): [60.0, 61.1, 62.0]}
WEAKER = "the control is weaker than the claim's"


@pytest.mark.parametrize(
    "resnet, verdict, judged_by",
    [
        ([75, 76.2, 77.1], "supported", "ResNet18"),
        ([65, 66.2, 67.1], "not supported", "ResNet18"),
        ([69.5, 71, 73.5], "inconclusive at this scale", "ResNet18"),
        ([65, 66.2], "inconclusive at this scale", "CNN"),  # two seeds are no control
        ([], "inconclusive at this scale", "CNN"),
    ],
)
def test_claim_3_is_refuted_by_a_resnet18_and_never_by_the_smaller_cnn(resnet, verdict, judged_by):
    cnn = [64.0, 65.1, 66.2]  # ahead by 4
    judged = judge(3, frame_of(AUGMENTED_MLPS | {("CNN", True): cnn, ("ResNet18", True): resnet}))
    assert judged.verdict == verdict and set(judged.parts) == {f"{judged_by} - S-MLP", f"{judged_by} - B-MLP"}
    caveat = WEAKER if judged_by == "CNN" else ""
    assert RULES[3].caveat(judged.parts) == caveat
    assert overview([judged])["caveat"][0] == (WEAKER if judged_by == "CNN" else "")
    assert table_of_verdicts([judged])["verdict"][0] == verdict + (f" ({caveat})" if caveat else "")


def test_a_lower_bound_within_the_bounds_needs_no_caveat_and_supports():
    judged = judge(3, frame_of(AUGMENTED_MLPS | {("CNN", True): [75, 76.2, 77.1]}))
    assert RULES[3].caveat(judged.parts) == "" and table_of_verdicts([judged])["verdict"][0] == "supported"
    above = Rule("", "", lambda frame: {}, 0.0, 10.0, at_least={"a": "why"})
    assert above.refuted_by("a", Estimate(12.0, (11.0, 13.0), 3))  # too much is too much for a lower bound as well
    assert not above.refuted_by("a", Estimate(-2.0, (-3.0, -1.0), 3))
    assert above.refuted_by("b", Estimate(-2.0, (-3.0, -1.0), 3))


def test_every_change_of_a_rule_has_its_date_its_claim_and_a_reason():
    for date, number, why in RULE_CHANGES:
        assert datetime.date.fromisoformat(date) and number in RULES and why.endswith(".")
    assert [number for _, number, _ in RULE_CHANGES][:1] == [3]


def test_diverged_runs_are_at_chance():
    frame = gains([20, 20.5, 19.5], [20, 20.5, 19.5])
    hot = (frame.family == "B-MLP") & frame.augmented
    frame.loc[hot, ["status", "test_top1"]] = ["diverged", DIVERGED]
    judged = judge(1, frame)
    assert judged.verdict == "not supported"
    assert judged.parts["B-MLP"].mean == pytest.approx(10 - 41)  # ten classes
    hundred = judge(1, frame.assign(dataset="cifar100"))
    assert hundred.parts["B-MLP"].mean == pytest.approx(1 - 41)
    nothing = frame.assign(status="diverged").drop(columns="test_top1")
    assert judge(1, nothing).parts["S-MLP"] == Estimate(0.0, (0.0, 0.0), 3)


def test_runs_that_did_not_finish_do_not_count():
    frame = gains([20, 20.5, 19.5], [20, 20.5, 19.5])
    for status in ("not run", "failed"):
        judged = judge(1, frame.assign(status=frame["status"].where(frame["seed"] != 2, status)))
        assert judged.verdict == "inconclusive at this scale" and judged.parts["S-MLP"].n == 2
        assert judge(1, frame.assign(status=status)).verdict == "not tested"
        assert judge(1, frame.assign(status=status)).scale == "no finished runs"


def test_only_common_seeds_are_paired():
    frame = gains([20, 20.5, 19.5], [20, 20.5, 19.5])
    frame.loc[(frame.family == "S-MLP") & frame.augmented, "seed"] += 1
    assert judge(1, frame).parts["S-MLP"].n == 2


def test_two_models_of_one_family_are_not_taken_for_more_seeds():
    frame = gains([20, 20.5, 19.5], [20, 20.5, 19.5])
    more = frame[frame.family == "S-MLP"].assign(model="S-2/Wi-64")
    assert judge(1, pd.concat([frame, more])).parts["S-MLP"].n == 0


def test_the_scale_stands_beside_the_verdict():
    scale = judge(1, gains([20, 20.5, 19.5], [20, 20.5, 19.5])).scale
    for part in ("cifar10", "10,000 training images", "S-6/Wi-256", "B-6/Wi-256", "100, 1,000 epochs"):
        assert part in scale


def test_the_scale_is_that_of_the_rows_which_the_rule_compares():
    """What is left out of it changes no comparison; whatever is left in does."""
    batches = [
        dict(
            family=family,
            architecture=family,
            model=family,
            batch_size=batch,
            total_steps=30_720 // batch,
            epochs=3,
            augmented=False,
            seed=seed,
            status="ok",
            test_top1=50.0 + seed,
            dataset="cifar10",
            train_examples=10_240,
        )
        for family in ("B-MLP", "CNN")
        for batch in (64, 256, 1024)
        for seed in range(3)
    ]
    weights = [
        dict(
            family=family,
            model=family,
            augmentation=augmentation,
            label_smoothing=smoothing,
            radius=0.9,
            train_examples=examples,
            seed=seed,
            status="ok",
            dataset="cifar10",
            epochs=None,
            steps=1000,
        )
        for family in ("B-MLP", "ViT")
        for augmentation in ("none", "flip", "all")
        for examples in (500, 2000, 8000)
        for smoothing in (0.3, 0.0)
        for seed in range(3)
    ]
    cells = {(f, a): [50.0, 51.0, 52.0] for f in ("S-MLP", "B-MLP", "CNN", "ViT") for a in (False, True)}
    scratch = frame_of(cells)
    permuted = pd.concat([scratch[~scratch.augmented].assign(permuted=value) for value in (False, True)])
    b_mlp = scratch[(scratch.family == "B-MLP") & ~scratch.augmented]
    ablated = pd.concat([b_mlp.assign(condition=name) for name in CONDITIONS])
    frames = {1: scratch, 2: scratch, 3: scratch, 4: pd.DataFrame(batches), 12: pd.DataFrame(weights)}
    frames |= {13: ablated, 15: permuted}
    elsewhere = {5, 6, 7, 8, 9, 10, 14}  # in test_scaling.py, test_transfer.py, test_test_time.py, test_inference.py
    assert frames.keys() == RULES.keys() - elsewhere
    for number, frame in frames.items():
        rule, frame = RULES[number], frame.reset_index(drop=True)
        rows = rule.rows(frame)
        assert 0 < len(rows) < len(frame) and rule.parts(rows) == rule.parts(frame)
        for row in rows.index:
            assert rule.parts(frame.drop(row)) != rule.parts(frame), (number, frame.loc[row])
    assert "CNN" not in judge(1, scratch).scale and "90 epochs" in judge(3, scratch).scale
    assert "30, 90" not in judge(3, scratch).scale
    assert judge(4, frames[4]).scale.endswith("3 epochs (480 steps at batch 64, 30 at 1,024)")
    assert judge(12, frames[12]).scale == "cifar10, 500, 8,000 training images, B-MLP, 1,000 steps"


def test_a_resnet_that_stands_for_convolution_is_in_the_scale():
    scratch = {(f, True): [50.0, 51.0, 52.0] for f in ("S-MLP", "B-MLP", "CNN", "ResNet18")}
    scale = judge(3, frame_of(scratch)).scale
    assert "R-6/Wi-256" in scale and "C-6/Wi-256" not in scale  # the made-up names begin as the families do


def test_the_verdict_hangs_on_the_comparison_that_decides():
    few = gains([20, 20.5, 19.5], [20, 20.5])
    assert judge(1, few).weakest.n == 2 and judge(1, few).comparison == "B-MLP"
    refuted = judge(1, gains([35, 35.5, 34.5], [12, 12.5, 11.5]))
    assert refuted.weakest.mean == pytest.approx(35) and refuted.comparison == "S-MLP"  # although 12 is smaller
    close = judge(1, gains([20, 20.5, 19.5], [27, 27.5, 26.5]))
    assert close.verdict == "supported" and close.weakest.mean == pytest.approx(27)  # nearest to a bound


def test_every_claim_is_listed_and_those_with_a_rule_have_it_in_words():
    assert [c.number for c in paper_claims()] == list(range(1, 16))
    for c in paper_claims():
        assert claim(c.number) is c and c.text.endswith(".") and c.mark in {"", *MARKS}
        assert (c.number in RULES) == bool(c.rule and c.chapter) == ("95%" in c.rule)
    assert {n for study in registry.STUDIES.values() for n in study.claims} == set(RULES)
    assert judge(15, gains([20], [20])).verdict == "not tested"
    with pytest.raises(UserError, match="no claim 16; there are: 1 to 15"):
        claim(16)


def test_all_claims_are_judged_from_records_alone(tmp_path):
    store = Store(tmp_path)
    nothing = judge_all(store)
    assert [v.claim for v in nothing] == list(range(1, 16)) and {v.verdict for v in nothing} == {"not tested"}
    top1 = {"S-MLP": 50.0, "B-MLP": 55.0, "CNN": 80.0}

    def found(runs, train=True):
        """Made-up results: everything but the CNN gains 20 points by augmentation."""
        for run in runs:
            family = family_of(run.model)
            score = top1[family] + 20 * (run.augment != "none" and family != "CNN") + run.seed % 3 / 10
            lr = -abs(run.lr - 3e-4)
            store.add(record_of(run, metrics={"val_top1": lr, "test_top1": score, "test_loss": 1.0}))
        return store.frame(runs)

    rq1.collect(rq1.STUDY.resolve("laptop"), found)
    verdicts = judge_all(store)
    assert [v.verdict for v in verdicts[:3]] == ["supported", "supported", "inconclusive at this scale"]
    assert [judge_all(store, "smoke")[i].verdict for i in range(3)] == ["not tested"] * 3
    table = overview(verdicts)
    assert len(table) == 15 and table["ours"][0].startswith("20.0 [20.0, 20.0] n=3") and table["ours"][3] == ""
    plain = json.loads(json.dumps(summary(verdicts[2])))
    assert (
        plain["estimate"] == pytest.approx(5.0)
        and plain["n"] == 3
        and set(plain["parts"]) == {"CNN - S-MLP", "CNN - B-MLP"}
    )
    assert plain["comparison"] == "CNN - B-MLP" == table["comparison"][2]
    assert json.loads(json.dumps(summary(nothing[0])))["estimate"] is None
    assert summary(nothing[10])["comparison"] is None and table["comparison"][10] == ""  # claim 11 has no rule


def test_the_road_from_records_to_verdicts_does_not_import_torch():
    code = (
        "import sys\nfrom mlp_lib import plots\nfrom mlp_lib.chapters import claims, notebook, registry\n"
        "from mlp_lib.records.store import Store\n"
        "claims.judge_all(Store(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    root = str(REPOSITORY)
    done = subprocess.run([sys.executable, "-c", code, root + "/nowhere"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_papers_table_says_how_sure_each_number_is():
    table = paper_table("table1")
    assert set(table["mark"]) <= set(MARKS) and table["source"].notna().all()
    confirmed = table[(table.family == "S-MLP") & (table.augment == "none")].set_index("dataset")
    assert confirmed.loc[["cifar10", "cifar100", "tinyimagenet"], "top1"].tolist() == [54.2, 28.8, 8.5]
    assert set(confirmed.loc[["cifar10", "cifar100", "tinyimagenet"], "source"]) == {"read in the paper"}
    assert set(table[table.mark == "M"]["source"]) == {"reported, unverified"}


def test_a_preset_that_a_study_does_not_have_leaves_its_claims_untested(tmp_path):
    verdicts = claims.judge_all(Store(tmp_path), "paper")  # which RQ1 alone has
    assert len(verdicts) == 15 and {v.verdict for v in verdicts} == {claims.NOT_TESTED}


def test_a_mistyped_preset_is_not_a_book_of_untested_claims(tmp_path):
    with pytest.raises(UserError, match="unknown preset 'lapto'; there are: auto, smoke, laptop"):
        judge_all(Store(tmp_path), "lapto")


def test_checks_and_a_companion_stand_beside_the_word_wherever_it_stands(monkeypatch):
    """One check holds, one refutes, one has no seeds: the companion judges rows of its own by the same machinery."""

    def parts(frame):
        return {"gain": t_interval(frame["gain"])}

    checks = {"a": t_interval([1.0, 1.1]), "b": t_interval([-1.0, -1.1]), "c": t_interval([])}
    second = Rule("Other rows.", "page", parts, 0.0, reads=lambda results: results.other, name="by other rows")
    rule = Rule("These rows.", "page", parts, 0.0, checks=lambda shown: checks, companion=second)
    monkeypatch.setitem(RULES, 4, rule)
    paper_claims.cache_clear()
    rows = frame_of({("B-MLP", False): [50.0, 51.0, 52.0]})
    results = SimpleNamespace(frame=rows.assign(gain=[1.0, 1.1, 0.9]), other=rows.assign(gain=[-1.0, -1.1, -0.9]))
    try:
        alone, both = judge(4, results.frame), judge(4, results.frame, Shown(results))
        assert (alone.verdict, alone.beside, alone.companion) == ("supported", "", None)
        assert (both.verdict, both.companion.verdict) == ("supported", "not supported")
        assert both.beside == "held in 1 of 2 checks, not b; by other rows: not supported"
        assert overview([both])["beside"][0] == both.beside
        table = table_of_verdicts([both])
        assert table["verdict"].tolist() == ["supported, held in 1 of 2 checks", "not supported"]
        assert table["rule"].tolist() == ["These rows.", "by other rows: Other rows."]
        assert table_of_checks(both)["speaks"].tolist() == ["for the claim", "against it", ""]
        plain = json.loads(json.dumps(summary(both)))
        assert (plain["checks"]["held"], plain["checks"]["of"], plain["checks"]["each"]["c"]["n"]) == (1, 2, 0)
        assert plain["companion"]["verdict"] == "not supported" and plain["companion"]["parts"]["gain"]["n"] == 3
    finally:
        monkeypatch.undo()
        paper_claims.cache_clear()
