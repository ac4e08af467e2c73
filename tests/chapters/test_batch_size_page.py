"""The checks, the second rule and the flags of chapter rq2-batch-size, and what its first screen rests on."""

import re
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from test_batch_size import Fake

from mlp_lib.chapters.batch_size import choices, figures, presets, study, tables
from mlp_lib.chapters.batch_size.rules import PROTOCOL, checks
from mlp_lib.chapters.claims import judge
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import Choice, not_run
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.run import make_run

PAGE = REPOSITORY / "notebooks" / "rq2-batch-size.ipynb"
GLUED = re.compile(r"\{glue:text\}`([^`:]+)`")


@pytest.fixture(scope="module")
def overnight():
    return study.collect(presets.PRESETS["overnight"], Fake())


@pytest.fixture(scope="module")
def laptop():
    return study.collect(presets.PRESETS["laptop"], Fake())


def cell(batch_size: int, scores: dict[float, list[float]], lr: float, share: float = 1.0) -> study.Cell:
    """A B-MLP's cell whose rates have these validation accuracies, one a tuning seed."""
    trials = pd.DataFrame(
        {"lr": rate, "seed": 1000 + i, "val_top1": value}
        for rate, values in scores.items()
        for i, value in enumerate(values)
    )
    grid = trials.groupby("lr", as_index=False)["val_top1"].mean().assign(status="ok")
    choice = Choice(lr, lr in (min(scores), max(scores)), True, grid, trials, share)
    run = make_run(model="B-1/Wi-16", dataset="digits", subset=384, batch_size=batch_size, epochs=1)
    return study.Cell("B-MLP", "lion", "epochs", batch_size, choice, (run,))


# --- checks and the second rule -------------------------------------------------------------------------------------


def test_the_checks_are_those_that_the_rules_file_declares(overnight, laptop):
    found = checks(Shown(overnight, {"laptop": laptop}.get))
    assert [*found] == [
        "after 1 of 2 epochs",  # of the made-up curves
        "at the best epoch by the other seeds",
        "under a cosine schedule",
        "over the wider range of batch sizes",
        "with SGD",
        "with AdamW",
        "probe at one rate, 10 epochs",
        "probe at one rate, 30 epochs",
        "probe at tuned rates, 30 epochs",
        "after 3 epochs on 10,240 images, smaller preset",
        "probe at one rate, 3 epochs, smaller preset",
        "probe at tuned rates, 3 epochs, smaller preset",
    ]
    assert found["under a cosine schedule"].mean == pytest.approx(-6)  # a point a doubling, 64 to 4,096
    assert found["over the wider range of batch sizes"].mean == pytest.approx(-9)  # 32 to 16,384
    assert found["after 3 epochs on 10,240 images, smaller preset"].mean == pytest.approx(-4)  # 64 to 1,024


def test_a_smaller_preset_is_one_that_sees_fewer_images(laptop):
    for other in (laptop, None):  # shown itself, or not to be had
        assert not any("smaller" in name for name in checks(Shown(laptop, {"laptop": other}.get)))
    smoke = study.collect(presets.PRESETS["smoke"], Fake())
    assert not any("smaller" in name for name in checks(Shown(smoke, {"laptop": laptop}.get)))


def test_without_records_no_check_counts():
    empty = study.collect(presets.PRESETS["laptop"], not_run)
    verdict = judge(4, empty.frame, Shown(empty))
    assert (verdict.verdict, verdict.robustness) == ("not tested", "")
    assert verdict.companion.verdict == "not tested" and verdict.beside.endswith(": not tested")
    assert not figures.forest_of_checks(verdict).axes[0].containers


@pytest.mark.parametrize(
    "slope, verdict, companion, held",
    [(1.0, "not supported", "not supported", 0), (-1.0, "not supported", "supported", 10)],  # the CNN gains as well
)
def test_a_check_holds_where_the_larger_batch_is_better_with_an_interval_off_zero(slope, verdict, companion, held):
    results = study.collect(presets.PRESETS["overnight"], Fake(slope))
    judged = judge(4, results.frame, Shown(results))
    judged.checks.pop("after 1 of 2 epochs")  # made-up curves do not depend on the batch
    judged.checks.pop("at the best epoch by the other seeds")
    assert (judged.verdict, judged.companion.verdict) == (verdict, companion)
    assert judged.held == (len(judged.checks) if held else 0)
    drawn = figures.forest_of_checks(judged).axes[0]
    assert len(drawn.containers) == 1 + len(judged.checks)
    bold = [text.get_text() for text in drawn.get_yticklabels() if text.get_fontweight() == "bold"]
    assert bold[0] == "the rule that was committed first" and "probe at one rate, 30 epochs" in bold


def test_the_papers_protocol_needs_every_length(overnight):
    frame = PROTOCOL.reads(overnight)
    assert set(frame["architecture"]) == {"B-MLP"} and set(frame["budget"]) == {"fixed"}
    assert PROTOCOL.parts(PROTOCOL.rows(frame)) == PROTOCOL.parts(frame)  # the scale is that of what is compared
    short = frame["epochs"] == 10
    waiting = SimpleNamespace(
        frame=overnight.frame,
        tuned=overnight.tuned,
        probes=overnight.probes.assign(
            status=overnight.probes["status"].mask(overnight.probes["epochs"] == 10, "not run")
        ),
    )
    judged = judge(4, waiting.frame, Shown(waiting))
    assert short.any() and judged.companion.verdict == "not tested"


# --- flags ----------------------------------------------------------------------------------------------------------


def test_the_first_screen_rests_on_no_flagged_choice_that_it_does_not_name(overnight, laptop):
    """Every value there says on which cells it rests; where any of these is flagged, the flags stand there too."""
    first, *_ = nbformat.read(PAGE, 4).cells
    values = GLUED.findall(first.source)
    shown = Shown(overnight, {"laptop": laptop}.get)
    flagged = [value for value in values if choices.flags(choices.CELLS_BEHIND[value](shown))]
    assert set(flagged) == {"batch-claim-4", "batch-claim-4-mlp", "batch-robustness"}  # a rate that is given has none
    assert "batch-flags" in values
    table = choices.table_of_flags(shown)
    for value in flagged:
        for flag, cells in choices.flags(choices.CELLS_BEHIND[value](shown)).items():
            row = table.set_index("flag").loc[flag]
            assert value in row["values"] and all(f"{one.batch_size:,}" in row["cells"] for one in cells)
    source = "\n".join(one.source for one in nbformat.read(PAGE, 4).cells if one.cell_type == "code")
    assert 'glue("batch-flags", "; ".join(flags["flag"])' in source


def test_flags_are_those_of_each_choice_and_name_its_cells():
    three = {1e-4: [50.0] * 3, 3e-4: [52.0] * 3, 1e-3: [51.0] * 3}
    sound, edge = cell(64, three, 3e-4), cell(128, three, 1e-3)
    one = cell(32, {rate: values[:1] for rate, values in three.items()}, 3e-4)
    assert choices.flags([sound]) == {}
    assert choices.flags([sound, edge, one]) == {"at an edge of its grid": [edge], "chosen by one seed": [one]}
    assert choices.names([edge, one]) == "B-MLP, LION, equal epochs: 128, 32"


def test_a_difference_at_either_neighbour_spans_the_rates_around_the_two_that_were_chosen():
    small = cell(64, {1e-4: [50.0], 3e-4: [52.0], 1e-3: [51.5]}, 3e-4)
    large = cell(128, {3e-4: [51.0], 1e-3: [53.0], 3e-3: [40.0]}, 1e-3)
    found = choices.at_either_neighbour(small, large)
    assert [round(found[name].mean, 6) for name in ("chosen", "lowest", "highest")] == [1.0, -12.0, 3.0]
    row = tables.table_of_neighbours([large, small]).iloc[0]
    assert (row["at either neighbour"], row["sign kept"], row["batch sizes"]) == ("-12.0 to 3.0", "no", "64 and 128")
    given = study.Cell(
        "B-MLP", "lion", "epochs", 128, Choice(1e-4, False, True, pd.DataFrame({"status": ["given"]})), ()
    )
    assert choices.at_either_neighbour(small, given)["chosen"].n == 0
