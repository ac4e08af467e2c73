"""The transfer chapter: its chains, its rules on worked frames, and what its figures read."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.chapters import claims
from mlp_lib.chapters.parameters import TUNING_SEEDS
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.transfer import figures, other_networks, pairs, study
from mlp_lib.chapters.transfer.presets import AUGMENTED, LONG, PAIRS, PLAIN, PRE_TRAINED, PRESETS, SCRATCH, STARTS
from mlp_lib.chapters.transfer.rules import checks_of_augmentation, checks_of_gain
from mlp_lib.chapters.transfer.study import STUDY
from mlp_lib.errors import UserError
from mlp_lib.records.frames import row_of
from mlp_lib.records.run import Run

GAINS = {AUGMENTED: 9.0, PLAIN: 4.0, LONG: 3.0, SCRATCH: 0.0}


def start_of(run: Run, preset) -> str:
    """How a target run came there, told from the run alone."""
    if run.init:
        return PLAIN if run.init.run.augment == "none" else AUGMENTED
    return LONG if run.total_steps > preset.target_steps else SCRATCH


class Fake:
    """An `ensure` with made-up scores: the middle rate is best; accuracy rises by 10 points a tenfold of images."""

    def __init__(self, preset, missing=lambda run: False):
        self.preset, self.missing, self.asked, self.measured = preset, missing, {}, {}
        self.records = {}

    def __call__(self, runs, train=True, measures=None):
        for run in runs:
            self.asked.setdefault(run.key, run)
            if measures:
                self.measured[run.key] = measures
            if train and not self.missing(run):
                middle = 0.03 if run.init else 1e-4 if run.model.startswith(("B", "S")) else 1e-3
                top1 = 20 + 10 * np.log10(run.train_examples) + GAINS[start_of(run, self.preset)] + run.seed % 7 / 10
                metrics = {"val_top1": 90 - abs(np.log(run.lr / middle)), "test_top1": float(top1), "train_top1": 60.0}
                probes = {name: self.probe(name, run) for name in measures or ()}
                self.records[run.key] = record_of(run, metrics=metrics, measures=probes)
        return pd.DataFrame([row_of(run, self.records.get(run.key)) for run in runs])

    @staticmethod
    def probe(name: str, run: Run) -> dict:
        top1 = 40.0 + 5 * (run.augment != "none") + run.seed % 7 / 10
        return {"shots": [1, 5], "top1": [top1 - 20, top1 - 10]} if "low_shot" in name else {"test_top1": top1}


@pytest.fixture(scope="module")
def fake():
    return Fake(PRESETS["overnight"])


@pytest.fixture(scope="module")
def results(fake):
    return study.collect(PRESETS["overnight"], fake)


def test_a_chain_is_the_papers_fine_tuning_of_its_own_pre_training(results, fake):
    preset = PRESETS["overnight"]
    for row in results.frame[results.frame["start"].isin(PRE_TRAINED)].itertuples():
        run = fake.asked[row.key]
        parent = run.init.run
        assert (run.optimizer, run.momentum, run.body_share, run.clip, run.weight_decay) == ("sgd", 0.9, 0.1, 1.0, 1e-4)
        assert (run.label_smoothing, run.crop_scale, run.crop_ratio, run.augment) == (0.3, 0.4, 1.0, "flip+crop")
        assert run.init.transform == "new_head" and parent.model == run.model and parent.dataset == "cifar100"
        assert parent.augment == ("none" if row.start == PLAIN else "flip+crop+mixup")
        assert parent.seed == TUNING_SEEDS[run.seed] and parent.total_steps == preset.upstream_steps
        assert row.upstream_images == parent.train_examples
    seeds = results.frame.groupby(["model", "start", "train_examples", "upstream_images"])["seed"].apply(tuple)
    assert set(seeds) == {(0, 1, 2)} and results.complete and results.sufficient


def test_training_from_scratch_takes_the_steps_of_both(results):
    steps = results.frame.groupby("start")["total_steps"].unique()
    assert {start: list(found) for start, found in steps.items()} == {
        start: [4500] if start == LONG else [1000] for start in STARTS
    }


def test_no_image_of_the_target_chooses_the_upstream_rate(results, fake):
    for (model, start), choice in results.upstream_choices.items():
        runs = [run for run in fake.asked.values() if run.model == model and run.dataset == "cifar100"]
        tried = [run for run in runs if (run.augment == "none") == (start == PLAIN) and run.subset is None]
        assert {run.split for run in tried} == {"holdout"} and {run.lr for run in tried} == set(choice.grid["lr"])
    assert all(not choice.flags for choice in (*results.upstream_choices.values(), *results.choices.values()))


def test_probes_are_taken_of_pre_trainings_alone(results, fake):
    assert set(fake.measured) == set(results.upstream["key"])
    assert set(fake.measured.values()) == {("probe_cifar10", "trained_probe_cifar10", "low_shot_cifar10")}
    assert study.measures_on("shapes") == ()


def test_nothing_starts_from_a_rate_that_is_not_chosen():
    preset = PRESETS["laptop"]
    fake = Fake(preset, missing=lambda run: run.dataset == "cifar100" and run.seed == TUNING_SEEDS[2])
    results = study.collect(preset, fake)
    assert {run.dataset for run in (record.run for record in fake.records.values())} == {"cifar100"}
    assert (results.frame["status"] == "not run").all() and not results.complete and not results.sufficient
    assert claims.judge(8, results.frame).verdict == "not tested"


def test_the_controls_may_be_missing_where_the_rules_judge():
    preset = PRESETS["laptop"]
    results = study.collect(preset, Fake(preset, missing=lambda run: run.model.startswith("CNN")))
    assert results.sufficient and not results.complete


@pytest.mark.parametrize(
    "gains, eight, nine",
    [
        ({AUGMENTED: 9.0, LONG: 1.0, PLAIN: 0.0}, "supported", "supported"),
        ({AUGMENTED: 3.0, LONG: 1.0, PLAIN: 4.0}, "inconclusive at this scale", "not supported"),
        ({AUGMENTED: 0.0, LONG: 9.0, PLAIN: 8.9}, "not supported", "inconclusive at this scale"),
    ],
)
def test_the_rules_on_worked_frames(gains, eight, nine):
    noise = {AUGMENTED: (0.1, 0.0, 0.2), LONG: (0.0, 0.1, 0.1), PLAIN: (0.3, -0.2, 0.1)}
    rows = [
        dict(start=start, seed=seed, test_top1=50 + gain + noise[start][seed])
        for start, gain in gains.items()
        for seed in range(3)
    ]
    fixed = dict(status="ok", judged=True, dataset="cifar10", family="B-MLP", model="B-6/Wi-128", augmented=True)
    frame = pd.DataFrame(rows).assign(train_examples=5000, epochs=None, **fixed)
    assert claims.judge(8, frame).verdict == eight and claims.judge(9, frame).verdict == nine
    assert claims.judge(8, frame[frame["seed"] < 2]).verdict == "inconclusive at this scale"


def test_the_scale_of_a_verdict_is_that_of_what_its_rule_compares(results):
    for number in (8, 9):
        verdict = claims.judge(number, results.frame)
        assert "5,000 training images" in verdict.scale and "B-6/Wi-128" in verdict.scale
        assert "CNN" not in verdict.scale and "20,000" not in verdict.scale
        rows = results.frame[results.frame["judged"]]
        assert claims.judge(number, rows).parts == verdict.parts


def test_checks_repeat_the_comparison_elsewhere(results):
    found = checks_of_gain(Shown(results))
    assert found["against as many steps on the target alone"].mean == pytest.approx(9.0)
    assert [found[name].mean for name in ("at 1,000 target images", "ViT-64x2/8")] == pytest.approx([6.0, 6.0])
    found = checks_of_augmentation(Shown(results))
    assert found["pre-trained with - without augmentation"].mean == pytest.approx(5.0)
    assert found["at 20,000 target images"].mean == pytest.approx(-1.0) and "CNN-8" not in found


def test_what_pre_training_is_worth_in_images(results):
    """Six points more at 10 points a tenfold of images: 10^0.6 times the images."""
    found = figures.worth(results)
    assert found.examples == pytest.approx(5000 * 10**0.6, rel=0.01) and found.n == 3
    assert figures.worth(results, 20_000).text().startswith("> 20,000")
    assert figures.worth(study.collect(PRESETS["laptop"], Fake(PRESETS["laptop"]))).n == 0
    assert figures.table_of_sizes(results)["target images"].tolist() == ["1,000", "5,000", "20,000"]


def test_tables_say_what_the_records_say(results):
    table = figures.table_of_features(results).set_index(["model", "pre-training", "upstream images"])
    judged = table.loc["B-6/Wi-128", "with augmentation", "45,000"]
    assert judged["convex probe"].startswith("45.")  # 45 and the seeds' tenths
    assert figures.probe_difference(results).mean == pytest.approx(5.0)
    assert figures.more_upstream(results).mean == pytest.approx(0.0) and figures.more_upstream(results).n == 3
    starts = figures.table_of_starts(results).set_index(["model", "start"])["minus from scratch, for as long"]
    assert starts["B-6/Wi-128", AUGMENTED].startswith("6.0 ") and starts["CNN-8", LONG] == ""
    gaps = other_networks.table_of_gaps(results).set_index("model")
    assert gaps.loc["CNN-8", "closed by pre-training"].startswith("0.0 ")  # all models gain alike in these records
    assert other_networks.gap(results, LONG).mean == pytest.approx(0.0) and "B-6/Wi-64" not in gaps.index
    assert len(figures.table_of_choices(results)) == len(results.choices) + len(results.upstream_choices)


def test_the_papers_numbers_stand_beside_ours_with_their_source(results):
    table = figures.beside_the_paper(results, claims.paper_table("table1"), claims.paper_table("table2"))
    papers = table[table["whose"] == "the paper"].set_index(["model", "how"])["test top-1 %"]
    best = papers["B-12/Wi-1024", "pre-trained with augmentation on 11.8 million images"]
    assert best.startswith("94.2 (") and any(how.startswith("pre-trained without") for _, how in papers.index)
    assert any(text.startswith("75.4 (") for text in papers)
    ours = table[table["whose"] == "ours"]
    assert len(ours) == 3 and all("n=3" in text for text in ours["test top-1 %"])


def test_every_model_has_its_gain_and_the_counts_read_the_intervals(results):
    """Fine-tuning brings 9 points and training from scratch for as long 3, for every model and seed alike."""
    found = other_networks.gains(results)
    assert list(found) == list(PRESETS["overnight"].models)
    assert all(gain.mean == pytest.approx(6.0) and gain.n == 3 for gain in found.values())
    assert (other_networks.count(found, 1), other_networks.count(found, -1)) == (len(found), 0)
    left, right = other_networks.by_model(results).axes
    assert [text.get_text() for text in left.get_yticklabels()][:2] == ["B-6/Wi-128 (B-MLP)", "CNN-8 (CNN)"]
    assert len(left.containers) == 2 * len(found) and len(right.containers) == len(found)
    nothing = study.collect(PRESETS["laptop"], Fake(PRESETS["laptop"], missing=lambda run: True))
    assert not other_networks.gains(nothing)
    assert "not run" in [text.get_text() for text in other_networks.by_model(nothing).axes[0].texts]


@pytest.mark.parametrize("name", ["accuracy", "by_target_images", "by_upstream_images", "low_shot", "learning"])
def test_figures_are_drawn_with_records_and_say_so_without(results, name):
    assert any(axis.lines or axis.containers for axis in getattr(figures, name)(results).axes)
    nothing = study.collect(PRESETS["laptop"], Fake(PRESETS["laptop"], missing=lambda run: True))
    texts = [text.get_text() for axis in getattr(figures, name)(nothing).axes for text in axis.texts]
    assert "not run" in texts


def test_a_reader_may_change_the_task_and_a_slip_trains_nothing():
    changed = study.STUDY.resolve("laptop", upstream="cifar10", target="cifar100", model="B-6/Wi-64")
    assert changed.judged == "B-6/Wi-64" and changed.models[1] == "CNN-8"
    with pytest.raises(UserError, match="is no B-MLP"):
        study.STUDY.resolve("laptop", model="CNN-8")
    with pytest.raises(UserError, match="a network of cifar100 sees 3 channels, and digits has 1"):
        study.STUDY.resolve("laptop", target="digits", target_sizes=(500,), judged_size=500)


def test_shapes_to_digits_is_a_pair_that_runs():
    far = next(pair for pair in PAIRS if pair.target == "digits-32")
    chain = STUDY.resolve("laptop", **far.changes)
    parent = chain.upstream_run(chain.judged, True, None)
    child = chain.target_run(chain.judged, AUGMENTED, chain.judged_size, parent)
    assert (parent.dataset, child.dataset, child.subset) == ("shapes", "digits-32", 200)
    assert "flip" in parent.augment and "flip" not in child.augment  # a mirrored digit is another sign
    assert study.measures_on("digits-32") == ("probe_digits-32", "trained_probe_digits-32", "low_shot_digits-32")


def test_other_pairs_of_sets_stand_beside_each_other():
    own, other = PAIRS[0], PAIRS[2]
    grid = STUDY.resolve("laptop", **other.changes)
    assert STUDY.resolve("laptop", **own.changes) == PRESETS["laptop"]
    found = {
        own: study.collect(PRESETS["laptop"], Fake(PRESETS["laptop"])),
        other: study.collect(grid, Fake(grid, missing=lambda run: run.model.startswith("CNN"))),
        PAIRS[1]: study.collect(replace(grid, upstream="cifar10"), Fake(grid, missing=lambda run: True)),
    }
    table = pairs.table(found).set_index(["upstream, target", "model"])
    assert list(table.index) == [
        ("CIFAR-100 to CIFAR-10", "B-6/Wi-128"),
        ("CIFAR-100 to CIFAR-10", "CNN-8"),
        ("TinyImageNet at 32 px to CIFAR-10", "B-6/Wi-128"),
    ]
    row = table.loc[("TinyImageNet at 32 px to CIFAR-10", "B-6/Wi-128")]
    assert row["difference"].startswith("6.0 [") and row["without augmentation upstream"].startswith("1.0 [")
    assert row["augmentation, by probe"].startswith("5.0 [")
    axis = pairs.gains(found).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["B-MLP", "CNN"]
    assert "not run" in [text.get_text() for text in axis.texts]
    marks = [line.get_xdata()[0] for container in axis.containers for line in container.lines[:1]]
    assert marks == pytest.approx([6.0, 6.0, 6.0])
