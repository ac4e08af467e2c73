"""Averaging over random crops at test time: what chapter rq5-test-time draws and tabulates.

Frames have one row a run, with `family`, `augmented`, `dataset` and `measures`. Colours stand for families; solid lines
are with augmentation, dashed without.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlp_lib.chapters.test_time.presets import CENTRED, MOVED, SHAPES
from mlp_lib.chapters.test_time.rules import (
    MEASURE,
    changed_by_distance,
    gain,
    of_runs,
    share_of_errors,
)
from mlp_lib.plots.style import DASHES, FAMILY_COLOURS, WIDTH, label_ends, plain_log_axis, say_not_run, t_bounds
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import measures_of
from mlp_lib.stats.intervals import t_interval

PLACES = {CENTRED: ("in the middle", ":"), MOVED: ("anywhere", "-")}
QUARTERS = 4  # of the shapes by distance from the middle


def by_views(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a measured run and number of views: `views`, `top1` (mean of the logits), `gain` over the plain image,
    with family, augmented, dataset and seed."""
    rows = []
    for row in frame.to_dict("records"):
        found = measures_of(row).get(MEASURE)
        for views, top1 in zip(found["views"], found["top1_logits"], strict=True) if found else ():
            own = {name: row[name] for name in ("family", "augmented", "dataset", "seed")}
            rows.append({**own, "views": views, "top1": top1, "gain": top1 - found["top1_plain"]})
    return pd.DataFrame(rows, columns=["family", "augmented", "dataset", "seed", "views", "top1", "gain"])


def gains(frame: pd.DataFrame, paper: float | None = None) -> Figure:
    """Points that averaging gains over the plain image, against the number of views: every family on photographs, left;
    the B-MLP on shapes in the middle and anywhere, right. All trained with crops. `paper`: its gain, at 100 views."""
    points = by_views(frame[frame["augmented"]])
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
    photographs = points[~points["dataset"].isin(SHAPES)]
    for family, colour in FAMILY_COLOURS.items():
        _band(left, photographs[photographs["family"] == family], "gain", colour, family)
    for dataset, (label, style) in PLACES.items():
        _band(right, points[points["dataset"] == dataset], "gain", FAMILY_COLOURS["B-MLP"], label, style)
    if paper is not None and left.lines:
        left.plot([100], [paper], marker="D", color=FAMILY_COLOURS["B-MLP"], mfc="white", ls="", label="_the paper")
        left.annotate("the paper", (100, paper), (0, -12), textcoords="offset points", ha="center", fontsize=8)
    _finish((left, right), "gain over the plain image (points)", ("Photographs", "B-MLP on drawn shapes"), ends=True)
    for axis in (left, right):
        if axis.lines:
            axis.axhline(0, color="#777777", lw=1, ls=":")
    return figure


def levels(frame: pd.DataFrame) -> Figure:
    """Test accuracy against the number of views on photographs, a panel a family, trained with augmentation and without
    it; the horizontal lines are the plain image's."""
    rows = frame[~frame["dataset"].isin(SHAPES)]
    families = [family for family in FAMILY_COLOURS if (rows["family"] == family).any()]
    figure, axes = plt.subplots(1, max(1, len(families)), figsize=(WIDTH, 3.0), sharey=True, squeeze=False)
    for axis, family in zip(axes.flat, families, strict=False):
        for augmented, style in ((True, "-"), (False, "--")):
            own = rows[(rows["family"] == family) & (rows["augmented"] == augmented)]
            how = "with augmentation" if augmented else "without"
            _band(axis, by_views(own), "top1", FAMILY_COLOURS[family], how, style)
            if len(plain := plain_top1(own)):
                axis.axhline(plain.mean(), color="#777777", lw=1, ls=style)
    _finish(tuple(axes.flat), "test top-1 (%)", families or ("Photographs",))
    return figure


def plain_top1(frame: pd.DataFrame) -> pd.Series:
    """Test top-1 of the plain image of every measured run, on the images that the measure looks at."""
    found = [measures_of(row).get(MEASURE, {}).get("top1_plain") for row in frame.to_dict("records")]
    return with_runs(pd.Series(found, frame.index, dtype=float), frame).dropna()


def by_distance(frame: pd.DataFrame) -> Figure:
    """The gain on shapes anywhere by how far they lie from the middle, in quarters of the test images, with 95%
    t-intervals."""
    figure, axis = plt.subplots(figsize=(WIDTH, 2.8))
    rows = [changed_by_distance(row, QUARTERS) for row in frame[frame["dataset"] == MOVED].to_dict("records")]
    rows = [row for row in rows if row is not None]
    if not rows:
        say_not_run(axis)
    else:
        distances, changed = np.array([d for d, _ in rows]).mean(0), np.array([c for _, c in rows])
        estimates = [t_interval(column) for column in changed.T]
        ends = np.array([e.interval or (e.mean, e.mean) for e in estimates])
        means = np.array([e.mean for e in estimates])
        colour = FAMILY_COLOURS["B-MLP"]
        axis.errorbar(
            distances, means, yerr=[means - ends[:, 0], ends[:, 1] - means], color=colour, marker="o", capsize=3
        )
        axis.axhline(0, color="#777777", lw=1, ls=":")
        axis.set(xlabel="distance of the shape from the middle (half sides of the picture)", ylabel="gain (points)")
        axis.set_title("Gain by where the shape lies", fontsize=10)
    plt.close(figure)
    return figure


def views_of(images: np.ndarray, views: np.ndarray, labels: Sequence[str]) -> Figure:
    """Images (N, C, H, W) uint8, a row each, and beside each of them V views of it, (N, V, C, H, W) uint8."""
    rows, columns = len(images), views.shape[1] + 1
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, WIDTH / columns * rows * 1.1), squeeze=False)
    for line, image, seen, label in zip(axes, images, views, labels, strict=True):
        for axis, picture in zip(line, [image, *seen], strict=True):
            axis.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.axis("off")
        line[0].set_title(label, fontsize=8)
    plt.close(figure)
    return figure


def table_of_gains(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a cell, and preset where there are several: test top-1 of the plain image, and what the mean over all views
    gains, of the logits, of the probabilities, and in percent of the plain image's errors; 95% intervals between
    seeds."""
    rows = []
    frame = frame if "preset" in frame else frame.assign(preset="")
    for (preset, dataset, model, augmented), runs in frame.groupby(
        ["preset", "dataset", "model", "augmented"], sort=False
    ):
        columns = {
            "gain, points [95%]": gain,
            "of the probabilities": lambda row: gain(row, "probabilities"),
            "in % of the errors": share_of_errors,
        }
        plain = t_interval(plain_top1(runs))
        rows.append(
            {
                "images": dataset,
                "model": model,
                "augm.": "yes" if augmented else "no",
                "n": plain.n,
                "plain top-1, %": _text(plain),
                **{name: _text(t_interval(of_runs(runs, value, dataset))) for name, value in columns.items()},
                **({"preset": preset} if frame["preset"].nunique() > 1 else {}),
            }
        )
    return pd.DataFrame(rows)


def table_of_paper(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 2 (`claims.paper_table`) for the network that it tests with crops too: plain, averaged and
    their difference by data set, with the source."""
    own = table[table["model"] == table.loc[table["tta"] == "yes", "model"].iloc[0]]
    by_tta = own.pivot(index="dataset", columns="tta", values="top1").loc[own["dataset"].unique()]
    return pd.DataFrame(
        {
            "images": by_tta.index,
            "plain top-1, %": [f"{value:.1f}" for value in by_tta["no"]],
            "averaged over 100 crops": [f"{value:.1f}" for value in by_tta["yes"]],
            "gain, points": [f"{value:+.1f}" for value in by_tta["yes"] - by_tta["no"]],
            "source": own["source"].iloc[0],
        }
    )


def _text(estimate) -> str:
    """An estimate without its n, which has a column of its own here."""
    return estimate.text().partition(" n=")[0]


def _band(axis: Axes, rows: pd.DataFrame, column: str, colour: str, label: str, style: str = "-") -> None:
    """The mean over seeds against the number of views, with its 95% t-interval; nothing where there are no rows."""
    if rows.empty:
        return
    grouped = rows.groupby("views")[column]
    mean, bounds = grouped.mean(), grouped.apply(t_bounds)
    axis.plot(mean.index, mean, style, color=colour, label=label, marker="o", markersize=3)
    axis.fill_between(mean.index, [b[0] for b in bounds], [b[1] for b in bounds], color=colour, alpha=0.15, lw=0)


def _finish(axes: Sequence[Axes], ylabel: str, titles: Sequence[str], ends: bool = False) -> None:
    """Titles, ticks at the numbers of views, and a legend or, with `ends`, a name at the end of each line."""
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        if not axis.lines:
            say_not_run(axis)
            continue
        plain_log_axis(axis)
        numbers = sorted({float(x) for line in axis.lines if line.get_marker() != "None" for x in line.get_xdata()})
        axis.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axis.set_xticks([], minor=True)
        axis.set_xlabel("random views averaged")
        if ends:
            label_ends(axis)
        else:
            axis.legend(fontsize=8, handlelength=DASHES)
    axes[0].set_ylabel(ylabel)
    plt.close(axes[0].figure)  # shown once, by the cell that names it
