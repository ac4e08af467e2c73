"""Figures and tables: what is drawn and written is what the frame says."""

import pandas as pd
import pytest
from scipy import stats

from mlp_lib import plots
from mlp_lib.chapters import claims
from mlp_lib.chapters.tuning import Choice
from mlp_lib.stats.intervals import t_interval

PAPER = claims.paper_table("table1")


def frame(**changes) -> pd.DataFrame:
    """Six finished runs: S-MLP and B-MLP without augmentation, three seeds each."""
    rows = []
    for model, base in (("S-6/Wi-1024", 54.0), ("B-6/Wi-1024", 58.0)):
        for seed in range(3):
            rows.append(
                dict(
                    model=model,
                    family=f"{model[0]}-MLP",
                    augment="none",
                    augmented=False,
                    dataset="cifar10",
                    train_examples=50_000,
                    epochs=100,
                    batch_size=4096,
                    lr=5e-5,
                    seed=seed,
                    status="ok",
                    preset="gpu",
                    test_top1=base + seed,
                    train_top1=99.0,
                    train_flops=2e15,
                    total_steps=40,
                    schedule="constant",
                    curve=[
                        {"epoch": 10.0, "step": 4, "val_top1": 30.0 + seed},
                        {"epoch": 100.0, "step": 40, "val_top1": base + seed},
                    ],
                )
            )
    return pd.DataFrame(rows).assign(**changes)


def curves(runs: pd.DataFrame) -> pd.DataFrame:
    from mlp_lib.records.frames import curves as tidy

    return tidy(runs)


def test_table_of_cells_has_our_interval_and_the_papers_number_for_the_same_cell():
    table = plots.table_of_cells(frame(), PAPER)
    assert table["test top-1 % [95%]"].tolist() == [t_interval([54, 55, 56]).text(), t_interval([58, 59, 60]).text()]
    assert table["paper (epochs)"].tolist() == ["54.2 (100)", "58.1* (100)"]  # the star: unverified
    assert table["PFLOP"].tolist() == ["2", "2"]


def test_a_number_of_the_paper_without_a_training_length_has_no_bracket():
    resnet = frame(family="ResNet18", augmented=True, model="ResNet18").iloc[:3]
    assert plots.table_of_cells(resnet, PAPER)["paper (epochs)"].tolist() == ["93.2*"]


def test_table_of_cells_says_what_is_not_run_and_what_diverged():
    runs = frame()
    runs.loc[runs["model"] == "S-6/Wi-1024", "status"] = ["ok", "diverged", "ok"]
    runs.loc[runs["model"] == "B-6/Wi-1024", "status"] = "not run"
    table = plots.table_of_cells(runs, PAPER)
    assert table["test top-1 % [95%]"][0].endswith("n=2, 1 diverged")
    assert table["test top-1 % [95%]"][1] == "not run"


def test_table_of_cells_has_runs_that_are_given_by_steps():
    by_steps = frame(epochs=None, steps=30, preset="laptop")
    runs = pd.concat([frame(steps=None), by_steps, frame(epochs=None, steps=1200, train_examples=None)])
    table = plots.table_of_cells(runs, PAPER)
    assert len(table) == 6 and table["test top-1 % [95%]"].str.contains("n=3").all()
    assert table["epochs"].tolist() == [100, 100, *["2.5 (30 steps)"] * 2, *["1,200 steps"] * 2]  # 12 steps an epoch
    assert table["images"].tolist() == ["50,000"] * 4 + [""] * 2


def test_training_length_draws_means_and_t_bands():
    figure = plots.training_length(curves(frame()), "val_top1", "validation top-1 (%)")
    plain, augmented = figure.axes
    lines = {line.get_label(): line for line in plain.lines}
    assert set(lines) == {"S-MLP", "B-MLP"} and not augmented.lines
    assert lines["S-MLP"].get_xdata().tolist() == [10, 100] and lines["S-MLP"].get_ydata().tolist() == [31, 55]
    low, high = t_interval([54, 55, 56]).interval
    band = plain.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((t_interval([30, 31, 32]).interval[0], high))
    assert low < 55 < high


def test_error_against_compute_counts_the_flops_spent_so_far():
    figure = plots.error_against_compute(curves(frame()))
    line = next(line for line in figure.axes[0].lines if line.get_label() == "B-MLP")
    assert line.get_xdata().tolist() == pytest.approx([2e14, 2e15])
    assert line.get_ydata().tolist() == pytest.approx([69, 41])


def test_the_legend_of_compute_is_long_enough_to_tell_dashed_from_solid():
    both = pd.concat([frame(), frame(augmented=True)], ignore_index=True)
    axis = plots.error_against_compute(curves(both)).axes[0]
    handles = dict(
        zip([text.get_text() for text in axis.get_legend().get_texts()], axis.get_legend().get_lines(), strict=True)
    )
    assert handles["S-MLP"].get_linestyle() == "--" and handles["S-MLP, augmented"].get_linestyle() == "-"
    assert axis.get_legend().handlelength >= 2.8


def with_a_cosine_run() -> pd.DataFrame:
    """The six runs, and a ResNet18 with augmentation whose learning rate falls to zero."""
    resnet = frame(family="ResNet18", augmented=True, schedule="cosine", model="ResNet18").iloc[[0]]
    return pd.concat([frame(), resnet], ignore_index=True)


def test_of_a_run_whose_learning_rate_falls_the_end_alone_is_drawn():
    """After 10 of 100 epochs on a cosine, the rate is still high: 10 epochs alone would have ended elsewhere."""
    points = curves(with_a_cosine_run())
    plain, augmented = plots.training_length(points, "val_top1", "").axes
    (star,) = augmented.lines
    assert star.get_xydata().tolist() == [[100, 54]] and not augmented.collections  # no band
    assert (star.get_label(), star.get_marker(), star.get_linestyle()) == ("ResNet18, cosine schedule", "*", "None")
    assert {line.get_label() for line in plain.lines} == {"S-MLP", "B-MLP"}
    axis = plots.error_against_compute(points).axes[0]
    assert [line.get_label() for line in axis.lines] == ["S-MLP", "B-MLP", "ResNet18, augmented, cosine schedule"]
    assert axis.lines[-1].get_xydata().tolist() == [[2e15, 46]] and axis.lines[-1].get_linestyle() == "None"
    stopped = points[points["step"] < points["total_steps"]]  # without its last point, it has none
    assert len(plots.error_against_compute(stopped).axes[0].lines) == 2


def test_gap_joins_train_and_test():
    figure = plots.train_test_gap(frame())
    spans = [line.get_xdata().tolist() for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert [99.0, 55.0] in spans and [99.0, 59.0] in spans


def test_figures_of_nothing_are_empty_not_errors():
    nothing = frame().iloc[:0]
    assert not plots.training_length(curves(nothing), "val_top1", "").axes[0].lines
    assert not plots.error_against_compute(curves(nothing)).axes[0].lines
    assert not plots.train_test_gap(nothing).axes[0].lines


def test_table_of_precision_compares_replicates_of_one_run_only_where_both_are_there():
    half, full = frame(precision="bf16"), frame(precision="fp32").iloc[:3].copy()
    full["test_top1"] += 0.5
    table = plots.table_of_precision(with_keys(half, full))
    assert table["model"].tolist() == ["S-6/Wi-1024"]
    assert table["fp32 - bf16, points [95%]"].tolist() == ["0.50 [0.50, 0.50] n=3"]
    assert plots.table_of_precision(with_keys(half)).iloc[0, 0] == "not run"
    assert plots.table_of_precision(pd.DataFrame(columns=["key", "status", "precision"])).iloc[0, 0] == "not run"


def with_keys(*frames: pd.DataFrame) -> pd.DataFrame:
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(key=rows["model"] + " " + rows["seed"].astype(str))


def test_equal_precision_is_shown_where_two_one_sided_tests_reject_and_not_where_a_difference_is_not_significant():
    half, full = frame(precision="bf16"), frame(precision="fp32")
    full["test_top1"] += [0.1, -0.1, 0.0, 1.0, -1.0, 0.1]  # three of the S-MLP, three of the B-MLP
    replicates = with_keys(half, full, full.assign(test_top1=0.0))  # of two records of a run, the first counts
    table = plots.table_of_precision(replicates)
    [column] = [name for name in table if name.startswith("p,")]
    for text, differences in zip(table[column], ([0.1, -0.1, 0.0], [1.0, -1.0, 0.1]), strict=True):
        below = stats.ttest_1samp(differences, -1, alternative="greater").pvalue
        above = stats.ttest_1samp(differences, 1, alternative="less").pvalue
        assert float(text) == pytest.approx(max(below, above), abs=6e-4)
    assert plots.equal_precision(replicates) == (1, 2)
    assert plots.equal_precision(replicates[replicates["seed"] == 0]) == (0, 2)
    assert plots.equal_precision(with_keys(half)) == (0, 0)


def test_another_cell_of_the_same_model_and_seed_is_not_taken_for_the_other_precision():
    half, full = frame(precision="bf16"), frame(precision="fp32")
    other = with_keys(full).assign(key=lambda f: f["key"] + " changed")
    assert plots.equal_precision(pd.concat([with_keys(half), other])) == (0, 0)


def test_table_of_choices_prints_the_whole_grid_in_order_and_flags_edges():
    class Cell:
        model, augment = "S-6/Wi-256", "none"
        grid = pd.DataFrame({"lr": [1e-4, 1e-3, 3e-4], "val_top1": [40.0, None, 41.0]})
        choice = Choice(3e-4, True, True, grid.assign(status=["ok", "diverged", "ok"]))

    row = plots.table_of_choices([Cell]).iloc[0].to_dict()
    assert list(row) == ["model", "augmentation", "0.0001", "0.0003", "0.001", "chosen", "flags"]
    assert (row["0.0001"], row["0.001"], row["chosen"]) == ("40.0", "diverged", "0.0003")
    assert row["flags"] == "at an edge of its grid; chosen by 0 seeds"


def test_every_family_has_a_colour_of_its_own():
    assert len(set(plots.FAMILY_COLOURS.values())) == len(plots.FAMILY_COLOURS)


def test_a_tables_intervals_and_names_stay_on_one_line_and_its_links_are_left_alone():
    table = pd.DataFrame(
        {"model": ["B-6/Wi-256"], "top-1": ["42.6 [41.8, 43.5] n=5"], "page": ['<a href="a-b.html">x</a>']}
    )
    html = plots.shown(table, "wide").to_html()
    assert '<span class="unbroken">B-6/Wi-256</span>' in html
    assert '42.6 <span class="unbroken">[41.8, 43.5]</span> n=5' in html
    assert '<a href="a-b.html">x</a>' in html and 'class="study-table wide"' in html


def test_a_readers_matplotlibrc_changes_no_figure(tmp_path, monkeypatch):
    import matplotlib
    import matplotlib.pyplot as plt
    import numpy as np

    from mlp_lib.plots import image_grid, use_style

    def drawn() -> bytes:
        use_style()
        figure = image_grid(np.arange(2 * 3 * 16, dtype=np.uint8).reshape(2, 3, 4, 4), ["a_1", "50%"])
        figure.savefig(tmp_path / "x.png", metadata={"Software": None})
        return (tmp_path / "x.png").read_bytes()

    with matplotlib.rc_context():
        expected = drawn()
        for settings in (
            {"text.usetex": True},
            {"font.size": 40, "font.family": "serif", "axes.facecolor": "black"},
            {"savefig.format": "pdf", "savefig.dpi": 9, "figure.figsize": (1, 1), "axes.titlesize": 3},
        ):
            plt.rcParams.update(settings)
            assert drawn() == expected
