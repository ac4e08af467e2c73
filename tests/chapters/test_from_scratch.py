"""The paper's Table 1 beside runs of ours, the checks of claims 1 to 3, and on what the page's sentences rest."""

import pandas as pd
import pytest
from test_claims import frame_of as tops
from test_plots import PAPER, frame

from mlp_lib.chapters import claims
from mlp_lib.chapters.from_scratch import figures, rules
from mlp_lib.chapters.from_scratch import study as rq1
from mlp_lib.chapters.notebook import open_chapter
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import not_run
from mlp_lib.records.run import make_run
from mlp_lib.stats.intervals import Estimate

KEYED = frame().assign(key=lambda f: f["model"] + f["seed"].astype(str))  # S-MLP: 54, 55, 56; B-MLP: 58, 59, 60


def test_papers_cells_without_a_finished_run_are_listed_with_their_marks():
    table = figures.table_of_the_rest(PAPER, [frame(), pd.DataFrame()])
    numbers = table.filter(like="top-1").to_numpy().ravel()
    assert (numbers != "").sum() == len(PAPER) - 2  # all but S-MLP and B-MLP on CIFAR-10 without augmentation
    assert table.columns.tolist()[:4] == ["model", "augm.", "epochs", "CIFAR-10, top-1 %"]
    plain, *_, resnet = table.to_dict("records")
    assert (plain["model"], plain["CIFAR-10, top-1 %"], plain["TinyImageNet, top-1 %"]) == ("S-MLP", "", "8.5")
    assert plain["ImageNet, top-1 %"] == "9.2*"
    assert (resnet["epochs"], resnet["CIFAR-10, top-1 %"]) == ("not known to us", "93.2*")
    assert not table.isin(["nan"]).any(axis=None)


def test_runs_that_have_not_finished_leave_the_papers_cell_in_the_list():
    nothing = figures.table_of_the_rest(PAPER, [frame(status="not run")])
    assert (nothing.filter(like="top-1").to_numpy() != "").sum() == len(PAPER)
    assert figures.table_of_the_rest(PAPER.iloc[:1], [frame()]).empty


def test_a_repeated_cell_stands_beside_the_papers_number():
    found = figures.repeated([KEYED, KEYED, pd.DataFrame()], PAPER)  # a run in two presets is one run
    assert [*found] == [("S-MLP", "cifar10"), ("B-MLP", "cifar10")]
    ours, theirs = found["S-MLP", "cifar10"]
    assert (ours.mean, ours.n, theirs["top1"]) == (55.0, 3, 54.2)
    table = figures.table_of_repeated(found)
    assert table["the paper's"].tolist() == ["54.2 (read in the paper)", "58.1* (reported, unverified)"]
    assert table["ours minus the paper's, points"].tolist() == ["0.8 [-1.7, 3.3] n=3", "0.9 [-1.6, 3.4] n=3"]
    one = figures.repeated([KEYED[KEYED["seed"] == 0]], PAPER)["B-MLP", "cifar10"][0]
    assert one[:3] == Estimate(58.0, None, 1)[:3]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "S-6/Wi-256"},
        {"train_examples": 45_000},
        {"epochs": 75},
        {"augmented": True},
        {"status": "not run"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_repeated_cell_is_that_of_the_same_model_images_and_length(other):
    assert figures.repeated([KEYED.assign(**other)], PAPER) == {}
    assert figures.repeated([], PAPER) == {} and figures.table_of_repeated({}).empty


def test_the_gap_is_shown_paired_and_unpaired_with_what_pairing_rests_on():
    alike = {("CNN", True): [70, 71, 72], ("S-MLP", True): [50, 51, 52], ("B-MLP", True): [60, 59, 58]}
    first, second = figures.table_of_pairing(tops(alike)).to_dict("records")
    assert first["paired by seed, points [95%]"] == "20.0 [20.0, 20.0] n=3"
    assert first["unpaired, points [95%]"] == "20.0 [17.7, 22.3] n=3"  # Welch, 4 degrees of freedom: 2.776 (2/3)^1/2
    assert (first["correlation between seeds"], second["correlation between seeds"]) == ("1.00", "-1.00")


def test_the_accuracy_figure_has_a_row_a_model_and_is_drawn_without_runs():
    runs = pd.concat([KEYED, KEYED.assign(augmented=True, test_top1=KEYED["test_top1"] + 10)])
    axis = figures.accuracy(runs, PAPER).axes[0]
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == ["S-6/Wi-1024, 50k images", "B-6/Wi-1024, 50k images"]
    crosses = sorted(float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() == "x")
    assert crosses == [54.2, 58.1, 68.9, 70.1]  # with augmentation, the paper's shortest training
    empty = figures.accuracy(KEYED.assign(status="not run"), PAPER).axes[0]
    assert [text.get_text() for text in empty.texts] == ["not run"]


# --- claim 1 is read as a lower bound where the training is short ----------------------------------------------------


def gained(points: float, epochs: int) -> pd.DataFrame:
    base = [40.0, 41.0, 42.0]
    cells = {(f, a): [x + points * a for x in base] for f in ("S-MLP", "B-MLP") for a in (False, True)}
    return tops(cells).assign(epochs=lambda f: f["augmented"].map({False: 100, True: epochs}))


@pytest.mark.parametrize(
    "points, epochs, verdict",
    [
        (5.0, 90, "inconclusive at this scale"),
        (5.0, 999, "inconclusive at this scale"),
        (5.0, 1000, "not supported"),
        (20.0, 90, "supported"),
        (35.0, 90, "not supported"),  # a lower bound above 30 refutes "roughly 20"
    ],
)
def test_a_gain_after_a_short_training_refutes_nothing_by_being_small(points, epochs, verdict):
    judged = claims.judge(1, gained(points, epochs))
    assert judged.verdict == verdict
    assert all(("short" in name) == (epochs < 1000) for name in judged.parts)
    caveat = judged.rule.caveat(judged.parts)
    assert caveat == ("augmented for fewer than the claim's 1,000 epochs" if verdict.startswith("incon") else "")


# --- checks ----------------------------------------------------------------------------------------------------------


class Recorded:
    """Results of a study, as far as checks read them."""

    def __init__(self, runs: pd.DataFrame):
        self.frame, self.cells = runs, ()


def curved(runs: pd.DataFrame, rise: float = 0.0) -> pd.DataFrame:
    """The runs with learning curves that end, on validation, where the test did, and rose by `rise` since epoch 30."""
    points = [
        [{"epoch": e, "step": e, "val_top1": top1 - rise * (e < last)} for e in sorted({30, last})]
        for top1, last in zip(runs["test_top1"], runs["epochs"], strict=True)
    ]
    flops = runs["family"].map({"S-MLP": 1e12, "B-MLP": 4e12, "CNN": 2e12}) * runs["epochs"] / 30
    return runs.assign(curve=points, schedule="constant", train_flops=flops, total_steps=runs["epochs"])


CELLS = {
    (family, augmented): [base + 8 * augmented + x for x in (0.0, 1.0, 2.0)]
    for family, base in (("S-MLP", 40.0), ("B-MLP", 45.0), ("CNN", 58.0))
    for augmented in (False, True)
}


def shown(runs: pd.DataFrame, **others: pd.DataFrame) -> Shown:
    def at(size, **changes):
        found = others.get("second" if changes else size)
        return None if found is None else Recorded(found)

    return Shown(Recorded(curved(runs, rise=3.0)), at)


def test_checks_are_signed_so_that_above_zero_speaks_for_the_claim():
    runs = tops(CELLS)
    first = claims.judge(1, runs, shown(runs, second=tops(CELLS, "cifar100"))).checks
    assert first["S-MLP, after equal epochs"].mean == pytest.approx(8 - 3 - 10)  # at 30 epochs the other is at its end
    assert first["S-MLP, over the best epoch without"].mean == pytest.approx(8 - 10)
    assert first["B-MLP, short training, on CIFAR-100"].mean == pytest.approx(8 - 10)
    second = claims.judge(2, runs, shown(runs, overnight=tops(CELLS))).checks
    assert second["at the best epoch, with augmentation"].mean == pytest.approx(5)
    assert second["at the overnight size, without augmentation"].mean == pytest.approx(5)
    third = claims.judge(3, runs, shown(runs)).checks
    assert third["CNN - S-MLP, unpaired"].mean == pytest.approx(18 - 10)
    assert third["CNN - B-MLP, at the best epoch"].mean == pytest.approx(13 - 10)


def test_without_curves_or_other_records_there_are_fewer_checks():
    runs = tops(CELLS).assign(schedule="constant", curve=None, train_flops=1e12, total_steps=30)
    assert claims.judge(1, runs, Shown(Recorded(runs))).checks == {}
    unpaired = {"unpaired, without augmentation", "unpaired, with augmentation"}
    assert {*claims.judge(2, runs, Shown(Recorded(runs))).checks} == unpaired
    assert {*claims.judge(3, runs, Shown(Recorded(runs))).checks} == {"CNN - S-MLP, unpaired", "CNN - B-MLP, unpaired"}


def test_the_one_check_that_does_not_hold_is_named_beside_the_word():
    checks = {"at equal compute": Estimate(-1.0, (-3.0, 0.5), 3), "at the best epoch": Estimate(4.0, (2.0, 6.0), 3)}
    verdict = claims.Verdict(2, "supported", checks=checks, rule=rules.RULES[2])
    assert verdict.beside == "held in 1 of 2 checks, not at equal compute"
    both = claims.Verdict(2, "supported", checks={"a": checks["at equal compute"]}, rule=rules.RULES[2])
    assert both.beside == "held in 0 of 1 checks"


# --- the study -------------------------------------------------------------------------------------------------------


def test_the_command_on_the_page_trains_the_papers_cell_of_the_gpu_preset():
    cell = dict(model="S-6/Wi-1024", dataset="cifar10", split="all", augment="flip+crop+mixup")
    run = make_run(**cell, epochs=1000, batch_size=4096, lr=5e-5)
    cells = rq1.collect(rq1.PRESETS["gpu"], not_run).cells
    assert run.key in {run.key for cell in cells for run in cell.runs}


@pytest.mark.parametrize("changes", [{}, {"dataset": "cifar100", "subset": 10_000}], ids=["first", "second"])
def test_no_choice_of_the_page_lies_at_an_edge_or_on_two_peaks(changes):
    """From the committed records: what the first screen says rests on these choices."""
    chapter = open_chapter("rq1", {"train": False})
    results = chapter.recorded(**changes)
    assert results.complete and len(results.cells) >= 6
    for cell in results.cells:
        assert not [f for f in cell.choice.flags if "edge" in f or "peaks" in f], (cell.model, cell.augment)
