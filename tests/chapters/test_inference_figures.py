"""Figures and tables of the chapter on inference: what they draw is what was measured."""

import numpy as np
import pytest
from test_inference import made_up

from mlp_lib.chapters.inference import figures, measurements
from mlp_lib.stats.intervals import Estimate


@pytest.fixture(scope="module")
def one() -> measurements.Measurement:
    return made_up()


@pytest.fixture(scope="module")
def frame(one):
    return measurements.frame(one)


def test_the_first_figure_has_a_point_a_network_and_price(frame):
    (axis,) = figures.times_cheaper(frame).axes
    drawn = [line for line in axis.lines if line.get_marker() in figures.MARKERS.values() and len(line.get_xdata())]
    points = {(line.get_marker(), round(float(line.get_xdata()[0]), 6)) for line in drawn}
    flops = {("s", 20.0), ("s", 40.0), ("s", 30.0)}
    rates, alone = {("o", 50.0), ("o", 100.0), ("o", 40.0)}, {("D", 2.5), ("D", 5.0), ("D", 2.0)}
    assert points == flops | rates | alone
    assert [text.get_text() for text in axis.get_yticklabels()] == ["ResNet152", "ViT-B/4", "Mixer-B/4"]
    assert "B-12/Wi-1024" in axis.get_title() and axis.get_xscale() == "log"
    assert figures.reach(frame, "images/s") == ("40", "100") and figures.reach(frame, "one image alone") == (
        "2.0",
        "5.0",
    )


def test_throughput_has_a_line_a_network_and_the_bound_of_the_largest_mlp(one, frame):
    (axis,) = figures.throughput(one, frame).axes
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines["ViT-B/4"].get_xdata()) == [1, 4, 16] and list(lines["B-6/Wi-512"].get_xdata()) == [1, 4, 16, 64]
    # rounds are 1, 2 and 3 times as slow: the mean of 10, 5 and 3.33
    assert lines["ViT-B/4"].get_ydata()[-1] == pytest.approx(10 * (1 + 1 / 2 + 1 / 3) / 3)
    bound = lines["bound of B-12/Wi-1024"]
    # 456 bytes at 1e10 a second for one image; 10 FLOPs an image at 1e11 never bind here
    assert bound.get_ydata()[0] == pytest.approx(1e10 / 456)
    assert bound.get_ydata()[-1] == pytest.approx(64 * 1e10 / 456)
    assert figures.crossing(one) == pytest.approx(20)  # 2 x 1e11 / 1e10


def test_the_table_of_costs_is_the_measurement(one, frame):
    table = figures.table_of_costs(one, frame).set_index("network")
    vit = table.loc["ViT-B/4"]
    assert vit["a parameter"] == f"{200 / 86:.0f}" and vit["activations, MB"] == "0.0016"
    calls = figures.latencies(one, "ViT-B/4")
    assert len(calls) == 9 and np.median(calls) == pytest.approx(0.2)
    assert vit["one image, ms"] == "200 [100, 300]"
    assert vit["images/s [95%]"].startswith("6.11 [")


def test_the_table_of_bounds_says_which_binds(one, frame):
    slow_memory = one.model_copy(
        update={"rounds": [turn.model_copy(update={"read_bytes_per_second": 1e3}) for turn in one.rounds]}
    )
    for measured, word in ((one, "reading"), (slow_memory, "reading")):
        rows = figures.table_of_bounds(measured, frame).set_index(["network", "images"])
        assert rows.loc[("B-12/Wi-1024", 1), "bound by"] == word
        assert set(rows.index.get_level_values(1)) == {1, 16}
    # 456 bytes at 1,000 a second, and one image alone takes 20/1000 s times 2, the middle round
    row = figures.table_of_bounds(slow_memory, frame).set_index(["network", "images"]).loc[("B-12/Wi-1024", 1)]
    assert row["reading the weights, ms"] == "456" and row["measured, ms"] == "40"


def test_the_table_of_ratios_has_the_largest_and_the_nearest_mlp(frame):
    table = figures.table_of_ratios(frame)
    pairs = set(zip(table["network"], table["MLP"], strict=True))
    assert ("ResNet152", "B-12/Wi-1024") in pairs and ("ResNet152", "B-6/Wi-512") in pairs
    assert ("ViT-B/4", "B-6/Wi-512") not in pairs and len(table) == 5
    row = table[(table["network"] == "ResNet152") & (table["MLP"] == "B-6/Wi-512")].iloc[0]
    assert row["times fewer FLOPs"] == "50" and row["times more images/s at 16 [95%]"].startswith("150.0 [150.0")


def test_without_a_measurement_everything_says_so():
    nothing = measurements.frame(None)
    for figure in (figures.times_cheaper(nothing), figures.throughput(None, nothing)):
        assert [text.get_text() for text in figure.axes[0].texts] == ["not run"]
    assert figures.at_own_largest(nothing) == {}
    assert figures.reach(nothing, "FLOPs") == ("not measured", "not measured")
    tables = (figures.table_of_costs(None, nothing), figures.table_of_bounds(None, nothing))
    assert all(table.empty for table in (*tables, figures.table_of_ratios(nothing)))


def test_each_network_may_be_taken_at_its_own_largest_batch(frame):
    faster = frame.copy()
    faster.loc[(faster["model"] == "B-12/Wi-1024") & (faster["batch_size"] == 64), "images_per_second"] *= 3
    found = figures.at_own_largest(faster)
    assert {family: part.mean for family, part in found.items()} == pytest.approx(
        {"ResNet152": 150, "ViT": 300, "Mixer": 120}
    )
    assert figures.ends(found.values()) == ("120", "300")


def test_a_ratio_has_as_many_digits_as_it_needs():
    assert [figures.three(value) for value in (0.01234, 47.26, 999.4, 5071.3)] == ["0.0123", "47.3", "999", "5,071"]
    assert figures.times(Estimate(131.4, None, 1)) == "131" and figures.times(Estimate(2.46, None, 1)) == "2.5"
