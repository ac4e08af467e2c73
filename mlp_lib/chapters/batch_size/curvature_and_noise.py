"""Gradient noise scale, curvature and training loss at the end of training, against batch size.

Frames are `study.Results.tuned`. Noise scale and eigenvalue span powers of ten: means are geometric and
intervals are of logarithms.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.batch_size.choices import BUDGETS
from mlp_lib.chapters.batch_size.comparisons import judged_rows
from mlp_lib.chapters.batch_size.figures import LOOKS, PANELS, batch_axis, draw_line, with_sizes_beyond
from mlp_lib.chapters.batch_size.presets import JUDGE, JUDGED
from mlp_lib.plots import tables
from mlp_lib.plots.style import DASHES, WIDTH
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import measures_of
from mlp_lib.stats.intervals import paired_ratio

QUANTITIES = {  # what a panel shows: the measure and its value, or a column of the frame
    "gradient noise scale (examples)": ("gradient_noise", "noise_scale"),
    "top Hessian eigenvalue": ("sharpness", "top_eigenvalue"),
    "training loss (nats)": "train_loss",
}


def at_the_end(tuned: pd.DataFrame) -> Figure:
    """Gradient noise scale, top Hessian eigenvalue and training loss at the end of training against batch size, for
    LION; solid at equal epochs, dashed at equal steps, 95% t-intervals between seeds, on the axis that is drawn."""
    figure, axes = plt.subplots(1, len(QUANTITIES), figsize=(WIDTH, 3.4))
    rows = with_sizes_beyond(tuned)
    rows = rows[(rows["optimizer"] == JUDGE) & rows["architecture"].isin(JUDGED) & rows["budget"].isin(PANELS)]
    rows = rows[rows["status"] == "ok"]
    for axis, (label, where) in zip(axes, QUANTITIES.items(), strict=True):
        for (architecture, budget), part in rows.groupby(["architecture", "budget"], sort=False):
            values = part.assign(value=_measured(part, where)).dropna(subset=["value"])
            look = {**LOOKS[architecture], "ls": "-" if budget == "epochs" else "--"}
            by_batch = {b: c.set_index("seed")["value"] for b, c in values.groupby("batch_size")}
            draw_line(axis, by_batch, f"{architecture}, {BUDGETS[budget]}", look, logarithmic="loss" not in label)
        axis.set_title(label, fontsize=9)
        if axis.containers and "loss" not in label:
            axis.set_yscale("log")
        elif axis.containers:
            axis.set_ylim(bottom=max(axis.get_ylim()[0], 0))
        batch_axis(axis, tuned["batch_size"])
    handles, labels = axes[-1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, handlelength=DASHES)
    plt.close(figure)
    return figure


def count_without_noise_scale(tuned: pd.DataFrame) -> tuple[int, int]:
    """Of how many runs the noise scale was measured, and of how many of these |G|^2 came out not positive, so that
    the figure has no point for them."""
    found = [measures_of(row).get("gradient_noise") for row in tuned.drop_duplicates("key").to_dict("records")]
    found = [noise for noise in found if noise]
    return len(found), sum(noise.get("noise_scale") is None for noise in found)


def table_of_ratios(tuned: pd.DataFrame) -> pd.DataFrame:
    """Noise scale and top eigenvalue at each larger batch size divided by those at the smallest, paired by seed: LION
    at equal epochs, a row an architecture and quantity, with the training accuracy that the runs came to below."""
    rows = judged_rows(tuned)
    smallest, *larger = sorted(rows["batch_size"].unique())
    found = []
    for architecture in JUDGED:
        own = rows[(rows["architecture"] == architecture) & (rows["status"] == "ok")]
        at = {size: own[own["batch_size"] == size].set_index("seed") for size in (smallest, *larger)}
        for label, where in QUANTITIES.items():
            if where != "train_loss":
                values = {size: _measured(cell, where).dropna() for size, cell in at.items()}
                ratios = [paired_ratio(values[size], values[smallest]).text(2) for size in larger]
                found.append([architecture, label, *ratios])
        fits = [tables.percent(at[size], "train_top1") for size in larger]
        found.append([architecture, "training top-1 at the larger one (%)", *fits])
    return pd.DataFrame(found, columns=["architecture", "quantity", *(f"{size:,} / {smallest:,}" for size in larger)])


def _measured(rows: pd.DataFrame, where: str | tuple[str, str]) -> pd.Series:
    if isinstance(where, str):
        return rows[where] if where in rows else pd.Series(np.nan, rows.index)
    name, field = where
    found = [measures_of(row).get(name, {}).get(field) for row in rows.to_dict("records")]
    return with_runs(pd.Series(found, rows.index, dtype=float), rows)
