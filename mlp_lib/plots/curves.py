"""Figures of learning curves, cost and gaps, from frames with `family` and `augmented` columns.

Every figure function returns the matplotlib figure and shows nothing: a notebook shows it by naming it last.
Colours stand for families everywhere; solid lines are with augmentation, dashed without. Only at a constant learning
rate is a point of a curve what a shorter training would have given: of a run on another schedule the end alone is
shown, as a star.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mlp_lib.plots.style import DASHES, END, FAMILY_COLOURS, WIDTH, plain_log_axis, t_bounds
from mlp_lib.records.frames import compute_so_far
from mlp_lib.stats.intervals import t_interval


def training_length(curves: pd.DataFrame, column: str, label: str, reference: float | None = None) -> Figure:
    """`column` against training length, a line a cell, 95% t-intervals between seeds as bands; a star is the end of a
    run whose learning rate is not constant.

    curves: one row a run and point (`records.curves`), with epoch, step, total_steps, schedule, family, augmented and
    `column`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharey=True)
    if column not in curves:
        curves = pd.DataFrame(columns=["augmented", "family", "epoch", column])  # nothing finished yet: empty panels
    lines, ends = _comparable(curves.dropna(subset=[column]))
    for axis, augmented in zip(axes, (False, True), strict=True):
        for family, colour in FAMILY_COLOURS.items():
            end = ends[(ends["augmented"] == augmented) & (ends["family"] == family)]
            if len(end):
                axis.plot(end["epoch"], end[column], color=colour, label=_end_label(family, end), **END)
            rows = lines[(lines["augmented"] == augmented) & (lines["family"] == family)]
            if rows.empty:
                continue
            grouped = rows.groupby("epoch")[column]
            mean, bounds = grouped.mean(), grouped.apply(t_bounds)
            axis.plot(mean.index, mean, color=colour, label=family, marker="o", markersize=3)
            axis.fill_between(
                mean.index, [b[0] for b in bounds], [b[1] for b in bounds], color=colour, alpha=0.18, lw=0
            )
        if reference is not None:
            axis.axhline(reference, color="#777777", lw=1, ls=":")
        plain_log_axis(axis)
        axis.set(
            xlabel="epochs (lines: constant learning rate)",
            title="with augmentation" if augmented else "no augmentation",
        )
    axes[0].set_ylabel(label)
    handles = {text: h for axis in axes for h, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    plt.close(figure)  # shown once, by the cell that names it
    return figure


def error_against_compute(curves: pd.DataFrame) -> Figure:
    """Validation error against training compute so far, both logarithmic; a line a cell, mean over seeds; a star is the
    end of a run whose learning rate is not constant.

    curves: one row a run and point: step, total_steps, train_flops (of the whole run), val_top1, schedule, family,
    augmented.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4))
    rows = curves.dropna(subset=["val_top1"]) if "val_top1" in curves else pd.DataFrame(columns=["family", "augmented"])
    rows = rows.assign(
        compute=compute_so_far(rows) if len(rows) else [],
        error=100 - rows["val_top1"] if len(rows) else [],
    )
    lines, ends = _comparable(rows)
    for (family, augmented), part in lines.groupby(["family", "augmented"], sort=False):
        mean = part.groupby("compute")["error"].mean()
        axis.plot(
            mean.index,
            mean,
            color=FAMILY_COLOURS[family],
            ls="-" if augmented else "--",
            marker="o",
            markersize=3,
            label=f"{family}{', augmented' if augmented else ''}",
        )
    for (family, augmented), part in ends.groupby(["family", "augmented"], sort=False):
        name = f"{family}{', augmented' if augmented else ''}"
        axis.plot(part["compute"], part["error"], color=FAMILY_COLOURS[family], label=_end_label(name, part), **END)
    axis.set(
        xscale="log", yscale="log", xlabel="training FLOPs (multiplications + additions)", ylabel="validation error (%)"
    )
    axis.set_title("Validation error against training compute", fontsize=10)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if axis.lines:
        axis.legend(fontsize=8, ncols=2, handlelength=DASHES)
    plt.close(figure)
    return figure


def _comparable(curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points of runs at a constant learning rate, and the last points of all others."""
    if curves.empty:
        return curves, curves
    constant = curves["schedule"] == "constant"
    return curves[constant], curves[~constant & (curves["step"] == curves["total_steps"])]


def _end_label(name: str, ends: pd.DataFrame) -> str:
    return f"{name}, {' or '.join(ends['schedule'].unique())} schedule"


def train_test_gap(frame: pd.DataFrame) -> Figure:
    """Train and test accuracy of every cell after its last epoch, joined by a line: its length is the gap."""
    done = frame[frame["status"] == "ok"]
    figure, axis = plt.subplots(figsize=(WIDTH, 2.9))
    cells = list(done.groupby(["augmented", "family"], sort=False))
    cells.sort(key=lambda item: (item[0][0], list(FAMILY_COLOURS).index(item[0][1])))
    for y, ((augmented, family), rows) in enumerate(cells):
        train, test = t_interval(rows["train_top1"]), t_interval(rows["test_top1"])
        colour = FAMILY_COLOURS[family]
        axis.plot([train.mean, test.mean], [y, y], color=colour, lw=2, ls="-" if augmented else "--", zorder=1)
        for estimate, face in ((train, "white"), (test, colour)):
            low, high = estimate.interval or (estimate.mean, estimate.mean)
            axis.errorbar(
                estimate.mean,
                y,
                xerr=[[estimate.mean - low], [high - estimate.mean]],
                color=colour,
                marker="o",
                mfc=face,
                capsize=3,
                lw=1,
            )
    axis.set_yticks(range(len(cells)), [f"{family}{', augmented' if a else ''}" for (a, family), _ in cells])
    axis.invert_yaxis()
    axis.set_xlabel("top-1 accuracy (%): hollow on training images, filled on test images")
    axis.set_title("Accuracy on training and on test images", fontsize=10)
    plt.close(figure)
    return figure


def first_layers(pictures: dict[str, np.ndarray], columns: int = 8, rows: int = 3) -> Figure:
    """First-layer weights as images, one panel a name; each (units, H, W) uint8 (`pictures.decode_pictures`)."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(WIDTH, WIDTH / len(pictures) * rows / columns + 0.4))
    for axis, (name, units) in zip(np.atleast_1d(axes), pictures.items(), strict=True):
        shown = units[: columns * rows]
        shown = np.pad(shown, ((0, columns * rows - len(shown)), (1, 1), (1, 1)), constant_values=255)
        height, width = shown.shape[1:]
        sheet = shown.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
        axis.imshow(sheet, cmap="magma", interpolation="nearest")
        axis.set_title(name, fontsize=10)
        axis.axis("off")
    plt.close(figure)
    return figure
