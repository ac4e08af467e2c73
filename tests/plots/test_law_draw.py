"""Every figure is drawn, shows what it is given, and labels its axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from law_sweeps import MLP, columns, grid

from mlp_lib.plots import laws as draw
from mlp_lib.stats.laws.bias import isoflop_bias
from mlp_lib.stats.laws.curves import fit_power, fit_saturating
from mlp_lib.stats.laws.grids import frontier, isoflop
from mlp_lib.stats.laws.joint import fit_joint
from mlp_lib.stats.laws.report import report
from mlp_lib.stats.laws.worth import what_is_a_bias_worth


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labelled(figure):
    figure.canvas.draw()
    for axis in figure.axes:
        if axis.axison:
            assert axis.get_xlabel() and axis.get_title()


def test_curves_joint_frontier_isoflop_and_worth():
    runs = grid(MLP, noise=0.01, sizes=10, lengths=12)
    x = np.geomspace(1e3, 1e6, 20)
    fits = [fit(x, x**-0.2 + 0.1, draws=20) for fit in (fit_power, fit_saturating)]
    labelled(draw.curve_figure(fits, x, x**-0.2 + 0.1, held_out_from=1e5))
    labelled(draw.curve_figure(fit_power(x, x**-0.2, draws=0), x, x**-0.2))
    labelled(draw.joint_figure(fit_joint(*columns(runs), draws=0), runs))
    labelled(draw.frontier_figure(runs, frontier(runs, draws=0)))
    labelled(draw.isoflop_figure(isoflop(runs, draws=0)))
    labelled(draw.isoflop_figure(isoflop(grid(MLP, params=(1e9, 1e10)), draws=0)))
    family = pd.DataFrame({"x": x, "error": x**-0.3})
    labelled(draw.worth_figure(what_is_a_bias_worth(family.assign(x=x * 2), family), "MLPs", "CNNs"))


def test_the_bias_figure_has_a_line_a_shift_and_a_drift():
    table = isoflop_bias(widths=(2.0, 8.0), shifts=(0.5, 1.0), drifts=(0.0, 0.1))
    figure = draw.isoflop_bias_figure(table)
    labelled(figure)
    assert [len(axis.lines) for axis in figure.axes] == [3, 3]


@pytest.mark.parametrize("sizes", [2, 8])
def test_a_report_is_drawn_whatever_its_grid_gives(sizes):
    runs = grid(MLP, noise=0.01, sizes=sizes, lengths=12)
    labelled(draw.report_figure(runs, report(runs, draws=20)))
