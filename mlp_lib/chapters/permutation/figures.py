"""Images, models and networks before and after a fixed permutation of the pixels: what chapter rq1-permutation draws.

Frames have one row a run, with `family`, `model` and `permuted`. Filled and solid stand for images as they are, hollow
and dashed for permuted ones.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.permutation.rules import PERMUTED_MLP
from mlp_lib.datasets import facts
from mlp_lib.plots import tables
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, say_not_run, t_bounds
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import NOTHING, Estimate, paired_difference, paired_equivalence, t_interval
from mlp_lib.stats.learning_curves import at_best_length, at_last_length

STATES = {False: "as they are", True: "permuted"}


def before_and_after(images: np.ndarray, labels: Sequence[str], order: np.ndarray) -> Figure:
    """Images (N, C, H, W) uint8 above, and below each the same with its pixels in another order, (H * W,) int64."""
    permuted = images.reshape(*images.shape[:2], -1)[:, :, order].reshape(images.shape)
    width = WIDTH / len(images)
    figure, axes = plt.subplots(2, len(images), figsize=(WIDTH, 2 * width + 0.5), squeeze=False)
    for row, sheet in zip(axes, (images, permuted), strict=True):
        for axis, image in zip(row, sheet, strict=True):
            axis.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", interpolation="nearest")
            axis.axis("off")
    for axis, label in zip(axes[0], labels, strict=True):
        axis.set_title(label, fontsize=8)
    plt.close(figure)
    return figure


def drift(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """How far a network and its counterpart come apart (`measures.permuted_twin.apart`) over steps, logarithmic.

    panels: optimiser -> family -> one value a step, from before the first. Zero is drawn at the rounding of float64.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.2), sharey=True, squeeze=False)
    rounding = np.finfo(np.float64).eps
    for axis, (optimizer, lines) in zip(axes.flat, panels.items(), strict=True):
        for family, values in lines.items():
            axis.plot(np.maximum(values, rounding), color=FAMILY_COLOURS[family], label=family)
        axis.axhline(rounding, color="#777777", lw=1, ls=":")
        axis.set(yscale="log", xlabel="steps", title=optimizer)
    axes[0, 0].set_ylabel("relative difference of features")
    axes[0, -1].legend(fontsize=8)
    plt.close(figure)
    return figure


def accuracy(frame: pd.DataFrame) -> Figure:
    """Test accuracy of every family on images as they are and permuted, joined by a line, with 95% t-intervals."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.0))
    models = frame[["family", "model"]].drop_duplicates()
    for y, row in enumerate(models.itertuples()):
        colour = FAMILY_COLOURS[row.family]
        estimates = {permuted: t_interval(by_seed(frame, model=row.model, permuted=permuted)) for permuted in STATES}
        places = {False: y - 0.13, True: y + 0.13}  # one below the other, so that equal ones do not hide each other
        axis.plot([e.mean for e in estimates.values()], list(places.values()), color=colour, lw=1, ls=":", zorder=1)
        for permuted, estimate in estimates.items():
            mean, (low, high) = estimate.mean, estimate.interval or (estimate.mean, estimate.mean)
            axis.errorbar(
                mean,
                places[permuted],
                xerr=[[mean - low], [high - mean]],
                color=colour,
                marker="o",
                mfc="white" if permuted else colour,
                capsize=3,
                lw=1,
            )
    for dataset in frame["dataset"].unique():
        axis.axvline(100 / facts(dataset).num_classes, color="#777777", lw=1, ls=":")
    axis.set_yticks(range(len(models)), models["family"])
    axis.set_ylim(len(models) - 0.5, -0.5)
    axis.set_xlabel("test top-1 (%): filled as they are, hollow permuted; dotted: chance")
    axis.set_title("Test accuracy on images as they are and permuted", fontsize=10)
    plt.close(figure)
    return figure


def equivalence(frame: pd.DataFrame) -> Figure:
    """Permuted minus as they are for each MLP: a dot a seed, the 90% interval of their mean, the margin as a band."""
    figure, axis = plt.subplots(figsize=(WIDTH, 2.2))
    axis.axvspan(-NOTHING, NOTHING, color="#dddddd", zorder=0)
    axis.axvline(0, color="#777777", lw=1, ls=":")
    reach = 2 * NOTHING
    for y, family in enumerate(PERMUTED_MLP):
        permuted, plain = (by_seed(frame, family=family, permuted=state) for state in (True, False))
        seeds = (permuted - plain).dropna()
        estimate = paired_equivalence(permuted, plain, NOTHING).estimate
        colour = FAMILY_COLOURS[family]
        axis.scatter(seeds, np.full(len(seeds), y - 0.18), color=colour, s=14, alpha=0.6)
        if estimate.interval:
            low, high = estimate.interval
            axis.errorbar(
                estimate.mean,
                y + 0.12,
                xerr=[[estimate.mean - low], [high - estimate.mean]],
                color=colour,
                marker="o",
                capsize=4,
                lw=2,
            )
            reach = max(reach, 1.1 * seeds.abs().max(), 1.1 * abs(low), 1.1 * abs(high))
    axis.set_title("What the permutation changes for each MLP, a dot a seed", fontsize=10)
    axis.set_yticks(range(len(PERMUTED_MLP)), list(PERMUTED_MLP))
    axis.set(
        xlim=(-reach, reach),
        ylim=(len(PERMUTED_MLP) - 0.5, -0.5),
        xlabel="permuted minus as they are (points of test top-1); band: counts as nothing",
    )
    plt.close(figure)
    return figure


def learning(curves: pd.DataFrame) -> Figure:
    """Validation accuracy over epochs, MLPs left and controls right; bands are 95% t-intervals between seeds.

    curves: one row a run and point (`records.curves`), with epoch, val_top1, family and permuted.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), sharey=True)
    if "val_top1" not in curves:
        curves = pd.DataFrame(columns=["family", "permuted", "epoch", "val_top1"])  # nothing finished yet: empty panels
    for family, colour in FAMILY_COLOURS.items():
        axis = axes[0 if family in PERMUTED_MLP else 1]
        for permuted, state in STATES.items():
            rows = curves[(curves["family"] == family) & (curves["permuted"] == permuted)].dropna(subset=["val_top1"])
            if rows.empty:
                continue
            grouped = rows.groupby("epoch")["val_top1"]
            mean, bounds = grouped.mean(), grouped.apply(t_bounds)
            axis.plot(mean.index, mean, color=colour, ls="--" if permuted else "-", label=f"{family}, {state}")
            axis.fill_between(
                mean.index, [b[0] for b in bounds], [b[1] for b in bounds], color=colour, alpha=0.15, lw=0
            )
    for axis, title in zip(axes, ("MLPs", "networks that share weights"), strict=True):
        axis.set(xscale="log", xlabel="epochs", title=title)
        if not axis.lines:
            say_not_run(axis)
            continue
        epochs = sorted(curves["epoch"].unique())
        axis.set_xticks(epochs, [f"{epoch:g}" for epoch in epochs])
        axis.set_xticks([], minor=True)
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, 0), min(high, 100))  # of few seeds, an interval may reach beyond what can be
        axis.legend(fontsize=7)
    axes[0].set_ylabel("validation top-1 (%)")
    plt.close(figure)
    return figure


def table_of_differences(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a model (and preset, where there are several): accuracy in % on both kinds of images and the difference in
    points, paired by seed, with 95% intervals; the difference's interval at 90%, and p of the test for equivalence
    within +-1 point that goes with it. Diverged runs count as chance."""
    rows = []
    keys = [key for key in ("preset", "dataset", "train_examples", "model") if key in frame]
    for values, runs in frame.groupby(keys, sort=False):
        plain, permuted = (by_seed(runs, permuted=state) for state in (False, True))
        test = paired_equivalence(permuted, plain, NOTHING)
        rows.append(
            {
                "model": runs["model"].iloc[0],
                "n": test.estimate.n,
                "as they are": _text(t_interval(plain), 1),
                "permuted": _text(t_interval(permuted), 1),
                "difference": _text(paired_difference(permuted, plain), 2),
                "at 90%": "[{:.2f}, {:.2f}]".format(*test.estimate.interval) if test.estimate.interval else "",
                "p": tables.p_text(test.p),
                "images": f"{runs['train_examples'].iloc[0]:,}",
                **({"preset": values[0]} if "preset" in keys else {}),
            }
        )
    return pd.DataFrame(rows)


def table_by_length(frame: pd.DataFrame) -> pd.DataFrame:
    """What the permutation changes for each control, in points of validation top-1 paired by seed: after the last
    epoch, and with either side at its own best length, which the other seeds choose."""
    rows = []
    for model in frame.loc[~frame["family"].isin(PERMUTED_MLP), "model"].unique():
        last, best = (
            paired_difference(read(frame, model=model, permuted=True), read(frame, model=model, permuted=False))
            for read in (at_last_length, at_best_length)
        )
        rows.append(
            {
                "model": model,
                "after the last epoch, points [95%]": last.text(),
                "each side at its best length, points [95%]": best.text(),
            }
        )
    return pd.DataFrame(rows)


def _text(estimate: Estimate, digits: int) -> str:
    """An estimate without its n, which has a column of its own here."""
    return estimate.text(digits).partition(" n=")[0]


def table_of_choices(cells: Sequence) -> pd.DataFrame:
    """`tables.table_of_choices` with the kind of images in the place of the augmentation. An MLP has one row: the lr
    chosen on images as they are is used for both kinds."""
    rows = [cell for cell in cells if not (cell.permuted and cell.family in PERMUTED_MLP)]
    table = tables.table_of_choices(rows).rename(columns={"augmentation": "images"})
    table["images"] = [STATES[cell.permuted] for cell in rows]
    return table


def table_of_plan(plan) -> pd.DataFrame:
    """`tables.table_of_plan` with the number of each run's permutation in the place of the augmentation."""
    table = tables.table_of_plan(plan).rename(columns={"augmentation": "permutation"})
    table["permutation"] = ["none" if run.permute_seed is None else run.permute_seed for run in plan.runs]
    return table
