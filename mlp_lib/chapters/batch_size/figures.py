"""Figures of chapter rq2-batch-size: error against batch size, at tuned rates and by training length, and the checks.

Frames have one row a run, with architecture, budget, batch_size and optimizer (`study.Results`). Colours stand for
families; the CNN without BatchNorm is the CNN's colour, dotted and hollow. A diverged run's test accuracy is chance, as
it is for the rule; what was not measured is left out.
"""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.batch_size.choices import BUDGETS, NAMES
from mlp_lib.chapters.batch_size.comparisons import judged_rows
from mlp_lib.chapters.batch_size.presets import BEYOND, CNN, JUDGE, JUDGED, MLP, PLAIN_CNN, VIT, Cell
from mlp_lib.chapters.claims import Verdict
from mlp_lib.plots.style import DASHES, FAMILY_COLOURS, WIDTH, label_ends, say_not_run
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import sign, t_interval
from mlp_lib.stats.learning_curves import seeds_by_length

LOOKS = {
    MLP: dict(color=FAMILY_COLOURS["B-MLP"], marker="o"),
    CNN: dict(color=FAMILY_COLOURS["CNN"], marker="s"),
    PLAIN_CNN: dict(color=FAMILY_COLOURS["CNN"], marker="s", ls=":", mfc="white"),
    VIT: dict(color=FAMILY_COLOURS["ViT"], marker="^"),
}
PANELS = ("epochs", "steps")  # a panel each
SIDES = {1: "#000000", 0: "#777777", -1: "#D55E00"}  # of a check: for the claim, for neither, against it; no family's


def forest_of_checks(verdict: Verdict) -> Figure:
    """A forest plot: the B-MLP's half of what a rule judges, and below it every check, each an estimate with its 95%
    interval; filled where the interval lies off zero, hollow where it holds it. What a rule judges, the companion's
    among the checks, has a bold name. Checks that have not run are left out."""
    first = next(iter(verdict.parts.values()))
    by_companion = verdict.companion.parts.values() if verdict.companion else ()
    rows = [("the rule that was committed first", first, True)]
    rows += [(name, estimate, estimate in by_companion) for name, estimate in verdict.checks.items()]
    rows = [row for row in rows if row[1].n]
    figure, axis = plt.subplots(figsize=(WIDTH, 0.6 + 0.27 * max(len(rows), 2)))
    for y, (_, estimate, _) in enumerate(rows):
        low, high = estimate.interval or (estimate.mean, estimate.mean)
        side = sign(estimate)
        axis.errorbar(
            estimate.mean,
            y,
            xerr=[[estimate.mean - low], [high - estimate.mean]],
            color=SIDES[side],
            marker={1: ">", 0: "o", -1: "<"}[side],
            mfc=SIDES[side] if side else "white",
            capsize=3,
            lw=1.4,
        )
    if rows:
        axis.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=8)
        for label, (_, _, is_judged) in zip(axis.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if is_judged else "normal")
        axis.axvline(0, color="#333333", lw=1)
        axis.invert_yaxis()
    else:
        say_not_run(axis)
    title = "B-MLP: what the two rules judge (bold), and the checks"
    axis.set(xlabel="largest minus smallest batch (points of top-1)", title=title)
    plt.close(figure)
    return figure


def test_error(tuned: pd.DataFrame, optimizers: Sequence[str] = (JUDGE,)) -> Figure:
    """Test error at the tuned learning rate against batch size, a line an architecture, 95% t-intervals between seeds;
    a row of panels an optimiser, equal epochs left and equal steps right; one row for all where there is one budget."""
    drawn = with_sizes_beyond(tuned[tuned["optimizer"].isin(optimizers)])
    budgets = [budget for budget in PANELS if (drawn["budget"] == budget).any()] or [*PANELS]
    panels = [(optimizer, budget) for optimizer in optimizers for budget in budgets]
    rows, columns = (len(optimizers), len(budgets)) if len(budgets) > 1 else (1, len(optimizers))
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 3.2 * rows), sharey=True, squeeze=False)
    for axis, (optimizer, budget) in zip(axes.flat, panels, strict=True):
        panel = drawn[(drawn["optimizer"] == optimizer) & (drawn["budget"] == budget)]
        for architecture, look in LOOKS.items():
            cell = panel[panel["architecture"] == architecture]
            draw_line(axis, {b: 100 - _accuracies(c) for b, c in cell.groupby("batch_size")}, architecture, look)
        axis.set_title(f"{NAMES[optimizer]}, {BUDGETS[budget]}")
        batch_axis(axis, drawn["batch_size"])
    for axis in axes[:, 0]:
        axis.set_ylabel("test error (%)")
    limit_to_percent(
        axes.flat
    )  # when all is drawn: the panels share their axis, and a limit that is set no longer moves
    small_legend(axes[0, 0])
    plt.close(figure)
    return figure


def validation_against_lr(cells: Iterable[Cell]) -> Figure:
    """Validation accuracy at every learning rate that was tried, a line a batch size: a vertical line through a panel
    is what one fixed learning rate would have compared. LION at equal epochs; one seed, that of the choice."""
    figure, axes = plt.subplots(1, len(JUDGED), figsize=(WIDTH, 3.2), sharey=True)
    wanted = ("epochs", BEYOND.budget)
    cells = sorted(
        (cell for cell in cells if cell.optimizer == JUDGE and cell.budget in wanted), key=lambda cell: cell.batch_size
    )
    shades = _shades({cell.batch_size for cell in cells})
    for axis, architecture in zip(axes, JUDGED, strict=True):
        for cell in cells:
            grid = cell.choice.grid[cell.choice.grid["status"] == "ok"]
            if cell.architecture == architecture and len(grid):
                axis.plot(
                    grid["lr"].astype(float),
                    grid["val_top1"].astype(float),
                    color=shades[cell.batch_size],
                    marker="o",
                    markersize=4,
                    label=f"batch {cell.batch_size:,}",
                )
        axis.set(xscale="log", xlabel="learning rate", title=architecture)
    axes[0].set_ylabel("validation top-1 (%)")
    small_legend(axes[0])
    plt.close(figure)
    return figure


def error_by_length(tuned: pd.DataFrame) -> Figure:
    """Validation error against batch size, a line a training length: points of the learning curves of LION's runs at
    equal epochs, whose learning rate was chosen for the last of them. Means over seeds."""
    figure, axes = plt.subplots(1, len(JUDGED), figsize=(WIDTH, 3.2), sharey=True)
    rows = judged_rows(with_sizes_beyond(tuned))
    means = {
        (architecture, size): 100 - table.mean()
        for (architecture, size), cell in rows.groupby(["architecture", "batch_size"])
        if len((table := seeds_by_length(cell)).columns)
    }
    shades = _shades({epoch for mean in means.values() for epoch in mean.index})
    for axis, architecture in zip(axes, JUDGED, strict=True):
        by_size = pd.DataFrame({size: mean for (name, size), mean in means.items() if name == architecture})
        for epoch, errors in by_size.iterrows():
            line = errors.dropna()
            axis.plot(line.index, line, color=shades[epoch], marker="o", markersize=4, label=f"epoch {epoch:g}")
        axis.set_title(architecture)
        batch_axis(axis, tuned["batch_size"])
    axes[0].set_ylabel("validation error (%)")
    label_ends(axes[-1])
    plt.close(figure)
    return figure


def with_sizes_beyond(tuned: pd.DataFrame) -> pd.DataFrame:
    """The batch sizes beyond the judged ones at the ends of the line that they are the ends of: equal epochs."""
    return tuned.assign(budget=tuned["budget"].replace(BEYOND.budget, "epochs"))


def _accuracies(cell: pd.DataFrame) -> pd.Series:
    return by_seed(cell) if len(cell) else pd.Series(dtype=float)


def draw_line(axis, by_batch: dict[int, pd.Series], label: str, look: dict, logarithmic: bool = False) -> None:
    """Means over seeds with 95% t-intervals against batch size; batch sizes without a value are left out. `logarithmic`
    takes both of the values' logarithms, for what is positive and spans powers of ten: means are geometric then."""
    there, back = (np.log, np.exp) if logarithmic else (np.asarray, np.asarray)
    estimates = {
        size: t_interval(there(values.dropna().astype(float)))
        for size, values in sorted(by_batch.items())
        if values.notna().any()
    }
    if not estimates:
        return
    means = back([e.mean for e in estimates.values()])
    ends = [e.interval or (e.mean, e.mean) for e in estimates.values()]
    below, above = (back(side) for side in zip(*ends, strict=True))
    spread = [np.subtract(means, below), np.subtract(above, means)]
    axis.errorbar(
        list(estimates),
        means,
        yerr=spread,
        label=label,
        capsize=3,
        markersize=5,
        lw=1.6,
        elinewidth=1,
        **{k: v for k, v in look.items() if v is not None},
    )


def batch_axis(axis, sizes: Iterable[int]) -> None:
    """A logarithmic axis of batch sizes with a tick at each; an empty panel says that nothing was run."""
    ticks = sorted({int(size) for size in sizes})
    if not axis.has_data():
        say_not_run(axis, ticks=True)
    axis.set_xscale("log", base=2)
    axis.set_xlim(ticks[0] / 1.25, ticks[-1] * 1.25)
    axis.set_xticks(ticks, [f"{size:,}" for size in ticks], fontsize=8, rotation=45 if len(ticks) > 5 else 0)
    axis.set_xticks([], minor=True)
    axis.set_xlabel("batch size")


def _shades(values: Iterable[float]) -> dict[float, tuple]:
    """A colour a value, dark to light in their order."""
    ordered = sorted(values)
    return dict(zip(ordered, plt.get_cmap("viridis")(np.linspace(0, 0.85, len(ordered))), strict=True))


def small_legend(axis) -> None:
    """A small legend, where there is anything to name."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7.5, handlelength=DASHES)


def limit_to_percent(axes) -> None:
    """Keep panels of errors in percent within 0 and 100, beyond which an interval of few seeds may reach. Without any
    data the panels, which share their axis, get no scale."""
    if not any(axis.containers for axis in axes):
        axes[0].set_yticks([])
    for axis in axes:
        if axis.containers:
            low, high = axis.get_ylim()
            axis.set_ylim(max(low, 0), min(high, 100))
