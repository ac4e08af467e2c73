"""The book's colours stay apart for every reader, its tables have captions and scopes, its figures are sharp."""

import subprocess
import sys
from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mlp_lib import plots
from mlp_lib.plots import style

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
NORMAL = np.eye(3)
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
COMPARED = ("S-MLP", "B-MLP", "CNN")  # in nearly every figure


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour: str, seen=NORMAL) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour, as somebody with the given matrix of vision sees it."""
    xyz = XYZ @ np.clip(np.asarray(seen) @ linear(colour), 0, 1) / (XYZ @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(a: str, b: str, seen=NORMAL) -> float:
    """The CIE 1976 difference of two colours; 2.3 is just noticeable."""
    return float(np.linalg.norm(lab(a, seen) - lab(b, seen)))


def test_the_measure_of_colours_is_that_of_the_standard():
    assert lab("#ffffff") == pytest.approx([100, 0, 0], abs=0.02)
    assert lab("#ff0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert distance("#ff0000", "#00ff00") > 100 > 25 > distance("#cc0000", "#806d00", DEUTERANOPIA)


@pytest.mark.parametrize("seen", [NORMAL, DEUTERANOPIA, PROTANOPIA], ids=["all", "deuteranopia", "protanopia"])
def test_every_family_has_a_colour_that_is_told_from_the_others(seen):
    for (first, a), (second, b) in combinations(plots.FAMILY_COLOURS.items(), 2):
        assert distance(a, b, seen) > (30 if {first, second} <= set(COMPARED) else 12), (first, second)


def test_the_three_that_are_compared_everywhere_are_apart_in_grey():
    for first, second in combinations(COMPARED, 2):
        grey = [lab(plots.FAMILY_COLOURS[name])[0] for name in (first, second)]
        assert abs(grey[0] - grey[1]) > 12, (first, second)


def test_lines_stand_out_from_the_page():
    for name, colour in plots.FAMILY_COLOURS.items():
        assert 1.05 / ((XYZ @ linear(colour))[1] + 0.05) >= 3, name  # WCAG 1.4.11


def test_a_table_has_a_caption_and_its_heads_a_scope_and_no_id_twice():
    table = pd.DataFrame({"model": ["B-6/Wi-256"], "n": [3]})
    html = plots.shown(table, "wide", caption="What was run").to_html()
    assert html.count("<caption>What was run</caption>") == 1 and html.count('<th scope="col"') == 2
    assert " id=" not in html and "<style" not in html and 'class="study-table wide"' in html
    assert html == plots.shown(table, "wide", caption="What was run")._repr_html_()
    assert "<caption" not in plots.shown(table).to_html()


def test_figures_on_a_page_are_vector_graphics_and_the_same_each_time():
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "import matplotlib.pyplot as plt\n"
        "from mlp_lib import plots\n"
        "plots.use_style()\n"
        "figure, axis = plt.subplots()\n"
        "axis.plot([1, 2])\n"
        "(data, _), (again, _) = (shell.display_formatter.format(figure) for _ in range(2))\n"
        "assert 'image/png' not in data and data['image/svg+xml'] == again['image/svg+xml']\n"
        "assert '<dc:date>' not in data['image/svg+xml']\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert style.FORMAT == "svg"


def test_names_at_the_ends_of_lines_keep_the_order_and_the_colour_of_the_lines_and_do_not_touch():
    figure, axis = plt.subplots(figsize=(7, 3))
    for height, name in ((1.0, "low"), (1.001, "middle"), (1.002, "high"), (5.0, "far above")):
        axis.plot([1, 2, 3], [0.0, 2.0, height], label=name, color="#123456")
    axis.plot([1, 3], [2, 2], label="_nothing")
    style.label_ends(axis)
    figure.canvas.draw()
    boxes = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert [*boxes] == ["low", "middle", "high", "far above"] and axis.texts[0].get_color() == "#123456"
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes.values()))
    assert all(box.x0 >= axis.get_window_extent().x1 for box in boxes.values())
    plt.close(figure)
