"""Chapter rq2-batch-size: what its figures and tables say of made-up runs."""

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from test_batch_size import Fake

from mlp_lib.chapters import planning
from mlp_lib.chapters.batch_size import (
    comparisons,
    curvature_and_noise,
    figures,
    presets,
    probes,
    schedules,
    study,
    tables,
    training_loss,
)
from mlp_lib.chapters.tuning import not_run
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import t_interval


@pytest.fixture(scope="module")
def laptop():
    """Everything of the laptop preset, made up."""
    fake = Fake()
    return fake, study.collect(study.resolve("laptop"), fake)


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
        assert {c.get_label() for c in axis.containers} == set(presets.ARCHITECTURES)
    x, means, halves, points = line_of(epochs, "B-MLP")
    low, high = t_interval([60.0, 60.1, 60.2, 60.3, 60.4]).interval
    assert x == [64, 256, 1024] and means == pytest.approx([39.8, 41.8, 43.8])
    assert halves == pytest.approx([(high - low) / 2] * 3)
    plain = line_of(epochs, presets.PLAIN_CNN)[3]
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
    error = probes.probe_error(results.probes).axes[0]
    assert line_of(error, "tuned lr, 3 epochs")[1] == pytest.approx([49.9, 51.9, 53.9])
    assert line_of(error, "one lr, 3 epochs")[1][0] > 49.9
    scale, curvature, loss = curvature_and_noise.at_the_end(results.tuned).axes
    assert line_of(scale, "CNN, equal epochs")[1] == pytest.approx([6400, 25600, 102400])
    assert line_of(curvature, "B-MLP, equal steps")[1] == pytest.approx([50] * 3)
    assert line_of(loss, "B-MLP, equal epochs")[1] == pytest.approx([1] * 3)


def test_sizes_beyond_lengthen_the_lines_and_leave_the_ends_that_are_judged():
    results = study.collect(study.resolve("overnight"), Fake())
    whole, judged = [32, 64, 256, 1024, 4096, 16_384], [64, 4096]
    epochs, steps = figures.test_error(results.tuned).axes
    assert line_of(epochs, "B-MLP")[0] == whole and line_of(steps, "B-MLP")[0] == whole[1:-1]
    assert line_of(curvature_and_noise.at_the_end(results.tuned).axes[0], "CNN, equal epochs")[0] == whole
    assert figures.error_by_length(results.tuned).axes[0].lines[0].get_xdata().tolist() == whole
    table = tables.table_of_differences(results.tuned).set_index(["optimiser", "budget", "architecture"])
    sizes = table["batch sizes"].map(lambda text: [int(part.replace(",", "")) for part in text.split(" and ")])
    assert sizes["LION", "equal epochs", "B-MLP"] == sizes["AdamW", "equal epochs", "CNN"] == judged
    assert sizes["LION", "equal epochs, beyond", "B-MLP"] == [32, 16_384]
    assert comparisons.difference(results.tuned, "B-MLP").mean == pytest.approx(-6)  # a point a doubling, 64 to 4,096
    under = [comparisons.difference(results.tuned, name, budget="cosine").mean for name in presets.JUDGED]
    assert under == pytest.approx([-6] * 2)
    assert set(comparisons.means_by_length(results.tuned)["means"].iloc[0]) == set(whole[1:-1])


def test_optimisers_without_equal_steps_stand_in_one_row():
    results = study.collect(study.resolve("overnight"), not_run)
    panels = [axis.get_title() for axis in figures.test_error(results.tuned, ("sgd", "adamw")).axes]
    assert panels == ["SGD, equal epochs", "AdamW, equal epochs"]


def test_changes_between_batch_sizes_are_paired_by_seed_and_read_by_their_intervals():
    rows = []
    top1 = {"B-MLP": {64: 50.0, 256: 52.0, 1024: 49.0}, "CNN": {64: 60.0, 256: 60.0, 1024: 53.0}}
    loss = {"B-MLP": {64: 0.5, 256: 0.5, 1024: 0.9}, "CNN": {64: 0.3, 256: 0.6, 1024: 0.2}}
    for architecture, by_batch in top1.items():
        for batch_size, value in by_batch.items():
            for seed in range(5):
                noise = 0.01 * (seed * batch_size % 7 - 3)
                rows.append(
                    dict(
                        architecture=architecture,
                        optimizer="lion",
                        budget="epochs",
                        batch_size=batch_size,
                        seed=seed,
                        status="ok",
                        dataset="cifar10",
                        total_steps=10_240 // batch_size,
                        test_top1=value + 3 * seed + noise,  # seeds differ by more than batch sizes do
                        train_loss=loss[architecture][batch_size] + 0.1 * seed + noise,
                    )
                )
    found = comparisons.between_sizes(pd.DataFrame(rows))
    assert found["architecture"].tolist() == ["B-MLP", "CNN", "B-MLP - CNN"] * 3
    assert list(zip(found["smaller"], found["larger"], strict=True))[::3] == [(64, 256), (256, 1024), (64, 1024)]
    assert found["steps"].iloc[-1] == (160, 10)
    assert [round(e.mean) for e in found["test"]] == [2, 0, 2, -3, -7, 4, -1, -7, 6]
    assert all(e.n == 5 and e.interval[1] - e.interval[0] < 0.2 for e in found["test"])  # paired: seeds cancel
    table = training_loss.table_between_sizes(pd.DataFrame(rows))
    assert table["the larger batch"].tolist() == [
        "fit: no difference shown; generalises better",
        "fits less; test: no difference shown",
        "",
        "fits less; generalises worse",
        "fits more; generalises worse",
        "",
        "fits less; generalises worse",
        "fits more; generalises worse",
        "",
    ]
    assert training_loss.what_is_shown(t_interval([1.0]), t_interval([1.0])) == ""  # one seed shows nothing


def test_a_noise_scale_that_could_not_be_had_is_counted(laptop):
    _, results = laptop
    measured = results.tuned[results.tuned["optimizer"] == "lion"].drop_duplicates("key").copy()
    measured["measures"] = [{"gradient_noise": {"noise_scale": None if i < 2 else 5.0}} for i in range(len(measured))]
    assert curvature_and_noise.count_without_noise_scale(measured) == (len(measured), 2)


def test_the_intervals_of_noise_scales_are_of_their_logarithms(laptop):
    _, results = laptop
    cell = results.tuned[(results.tuned["optimizer"] == "lion") & (results.tuned["architecture"] == "CNN")].copy()
    scales = [10.0 ** (run % 3) for run in range(len(cell))]
    cell["measures"] = [{"gradient_noise": {"noise_scale": scale}} for scale in scales]
    axis = curvature_and_noise.at_the_end(cell).axes[0]
    sizes, means, _, _ = line_of(axis, "CNN, equal epochs")
    for size, mean in zip(sizes, means, strict=True):
        own = cell[(cell["budget"] == "epochs") & (cell["batch_size"] == size)]["measures"]
        assert mean == pytest.approx(np.exp(np.mean([np.log(m["gradient_noise"]["noise_scale"]) for m in own])))
    bars = np.concatenate(axis.containers[0].lines[2][0].get_segments())[:, 1]
    assert (bars > 0).all()  # a t-interval of the numbers themselves would reach below zero


def test_tables_give_paired_differences_and_choices(laptop):
    _, results = laptop
    table = tables.table_of_differences(results.tuned)
    assert len(table) == 4 + 4 + 4 + 2
    first = table[(table["architecture"] == "B-MLP") & (table["budget"] == "equal epochs")].iloc[0]
    assert first["largest - smallest, points [95%]"].startswith("-4.0 [-4.0, -4.0] n=5")
    assert comparisons.difference(results.tuned, "B-MLP").text() == first["largest - smallest, points [95%]"]
    assert comparisons.difference(results.tuned, "CNN", "sgd").text() == "-4.0 [-4.0, -4.0] n=3"
    assert comparisons.difference(results.tuned, "ViT", budget="steps").n == 3
    assert comparisons.difference(results.frame, "CNN", "sgd").n == 0
    assert (first["optimiser"], first["lr at an edge"], first["batch sizes"]) == ("LION", "none", "64 and 1,024")
    other = results.frame[results.frame["batch_size"] < 1024].assign(preset="overnight")
    both = tables.table_of_differences(pd.concat([results.frame.assign(preset="laptop"), other]))
    assert both["batch sizes"].tolist() == ["64 and 1,024"] * 2 + ["64 and 256"] * 2  # each preset has its own ends
    probed = probes.table_of_probes(results.probes)
    assert probed["learning rate"].tolist() == ["5e-05"] * 2 + ["tuned for each batch size"] * 2
    assert probed["largest - smallest, points [95%]"].iloc[-1].startswith("-4.0 [-4.0, -4.0] n=3")
    tried = tables.table_of_choices((*results.cells, *results.upstream_cells))
    assert len(tried) == 14 * 3 + 6 and set(tried["flags"]) == {"chosen by one seed"}
    assert tried["lr: validation top-1 %"][0].count(":") == 3 and tried["best - next, points"][0] == "5.5"  # 5 ln 3


def unrun(tuned: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    return tuned.assign(status=tuned["status"].mask(where, "not run"), test_top1=tuned["test_top1"].mask(where))


def test_lines_of_which_nothing_is_run_are_one_sentence_and_half_run_ones_say_n(laptop):
    tuned = laptop[1].tuned
    assert tables.table_of_lines_left_out(tuned).empty
    steps = tuned["budget"] == "steps"
    ends = tuned["batch_size"] != 256  # where equal steps are equal epochs: those runs are there before their line is
    half = tuned["architecture"].eq("ViT") & tuned["optimizer"].eq("lion") & ~steps & tuned["seed"].ne(0)
    partly = unrun(tuned, (steps & ends) | (tuned["optimizer"] == "sgd") & (tuned["architecture"] != "CNN") | half)
    table = tables.table_of_differences(partly)
    assert table[["optimiser", "budget", "architecture"]].values.tolist() == [
        *(["LION", "equal epochs", name] for name in presets.ARCHITECTURES),
        ["SGD", "equal epochs", "CNN"],
    ]
    assert table.set_index("architecture").loc["ViT", "largest"] == "56.0 n=1"  # one seed: no interval
    left_out = tables.table_of_lines_left_out(partly)
    assert left_out.groupby(["optimiser", "budget"])["architecture"].agg(list).to_dict() == {
        ("LION", "equal steps"): [*presets.ARCHITECTURES],
        ("SGD", "equal epochs"): ["B-MLP", "CNN without BatchNorm", "ViT"],
        ("SGD", "equal steps"): [*presets.JUDGED],
    }
    one_end = unrun(tuned, tuned["batch_size"] == 1024)
    assert tables.table_of_lines_left_out(one_end).empty  # rows, which say so
    assert set(tables.table_of_differences(one_end)[comparisons.DIFFERENCE]) == {"not run"}


def test_a_larger_preset_with_one_batch_size_has_nothing_to_compare(laptop):
    frame = laptop[1].frame
    (row,) = tables.table_of_differences(
        frame[(frame["batch_size"] == 64) & (frame["architecture"] == "B-MLP")].assign(preset="overnight")
    ).to_dict("records")
    assert (row["batch sizes"], row["largest"], row[comparisons.DIFFERENCE]) == ("64", "not run", "not run")
    assert row["smallest, test top-1 % [95%]"].endswith("n=5")


def test_with_nothing_run_everything_is_still_drawn():
    grid = study.resolve("laptop")
    results = study.collect(grid, not_run)
    drawn = [
        figures.test_error(results.tuned, ("lion", "sgd", "adamw")),
        figures.validation_against_lr(results.cells),
        figures.error_by_length(results.tuned),
        probes.probe_error(results.probes),
        curvature_and_noise.at_the_end(results.tuned),
    ]
    assert not any(axis.lines or axis.containers for figure in drawn for axis in figure.axes)
    assert {(text.get_text(), text.get_color()) for text in drawn[0].axes[0].texts} == {("not run", "#777777")}
    assert set(tables.table_of_differences(results.tuned)["largest - smallest, points [95%]"]) == {"not run"}
    assert len(tables.table_of_lines_left_out(results.tuned)) == 4 + 4 + 4 + 2
    assert (
        comparisons.difference(results.tuned, "ViT").n == 0
        and comparisons.difference(results.tuned.iloc[:0], "ViT").n == 0
    )
    assert set(probes.table_of_probes(results.probes)["largest - smallest, points [95%]"]) == {"not run"}
    for table in (tables.table_of_choices(results.cells), tables.table_of_rates(results.cells)):
        assert table.iloc[0].tolist() == ["not run"]
    assert tables.table_of_neighbours(results.cells).iloc[0].tolist() == ["not run"]
    assert set(curvature_and_noise.table_of_ratios(results.tuned).iloc[:, 2:].values.flat) == {"not run"}
    assert comparisons.probe_difference(results.probes, "B-MLP", "fixed").n == 0
    assert schedules.table_of_interactions(results.tuned)["interaction: cosine - constant"].unique() == ["not run"]
    assert schedules.at_equal_fit(results.tuned, "B-MLP") is None


def test_the_rates_move_by_the_rule_of_their_grids_where_the_middle_is_best(laptop):
    _, results = laptop
    table = tables.table_of_rates(results.cells).set_index(["optimiser", "architecture"])
    exponents = table["exponent [95%]"]
    assert exponents["LION", "B-MLP"].startswith("0.25 [") and exponents["SGD", "B-MLP"].startswith("0.50 [")
    assert table.loc[("LION", "CNN"), "batch: chosen lr"] == "64: 0.0014, 256: 0.002, 1,024: 0.0028"
    assert table.loc[("LION", "CNN"), "lr × steps, smallest and largest"] == "0.67 and 0.084"  # of 480 and 30 steps


def test_an_exponent_through_rates_that_rise_and_fall_has_an_interval_that_says_so():
    steady = tables.exponent((64, 256, 1024, 4096), (1e-4, 2e-4, 4e-4, 8e-4))
    assert steady.mean == pytest.approx(0.5) and steady.interval == pytest.approx((0.5, 0.5)) and steady.n == 4
    low, high = tables.exponent((64, 256, 1024, 4096), (1e-4, 9e-4, 3e-5, 3e-4)).interval
    assert low < 0 < high


def test_ratios_to_the_smallest_batch_are_paired_and_geometric():
    rows = [
        dict(
            architecture="B-MLP",
            optimizer="lion",
            budget=budget,
            batch_size=size,
            seed=seed,
            status="ok",
            train_top1=90.0 + seed,
            measures={"sharpness": {"top_eigenvalue": (size / 64) ** -0.5 * 10.0**seed}},
        )
        for budget, size in (("epochs", 64), ("epochs", 256), ("beyond", 16))
        for seed in (0, 1)
    ]
    table = curvature_and_noise.table_of_ratios(pd.DataFrame(rows))
    assert table.columns[2:].tolist() == ["256 / 64"]  # what the verdict compares
    own = table[table["architecture"] == "B-MLP"].set_index("quantity")["256 / 64"]
    assert own["top Hessian eigenvalue"] == "0.50 [0.50, 0.50] n=2"  # seeds differ tenfold
    assert own["training top-1 at the larger one (%)"] == "90.5"


def test_the_probes_table_says_what_the_features_come_from(laptop):
    _, results = laptop
    assert comparisons.probe_difference(results.probes, "B-MLP", "tuned").mean == pytest.approx(-4)
    assert comparisons.probe_difference(results.probes, "B-MLP", "fixed", 7).n == 0  # no such length
    marked = results.probes.assign(at_edge=results.probes["batch_size"] == 64)
    table = probes.table_of_probes(marked)
    assert set(table["lr at an edge"]) == {"64"} and table["upstream top-1 %"].iloc[-1] == "60.1 and 56.1"
    fitted = tables.table_of_differences(results.tuned.assign(train_top1=98.0))
    assert fitted["training top-1 %, both"][0] == "98.0 and 98.0"


def test_the_plan_names_what_tells_runs_apart(tmp_path):
    table = tables.table_of_plan(planning.plan(study.STUDY, study.resolve("smoke"), Store(tmp_path)))
    assert {"CNN-4", "CNN-4, no BatchNorm"} <= set(table["model"]) and set(table["optimiser"]) == {"LION", "SGD"}
    assert set(table["steps"]) == {"24", "6", "12", "3", "2"}
