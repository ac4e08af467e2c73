"""The book's figure style: colours, width, and how tables and images are put on a page."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from pandas.io.formats.style import Styler

from mlp_lib.plots.runs_behind import marked
from mlp_lib.stats.intervals import t_interval

# One colour a family across the book. All are apart in deuteranopia and protanopia, and from white at 3:1. The first
# three, which every chapter compares, are apart in grey as well.
FAMILY_COLOURS = {
    "S-MLP": "#1B3A8A",
    "B-MLP": "#C4302B",
    "CNN": "#2AA198",
    "ResNet18": "#0B6E4F",
    "ResNet152": "#1155DD",
    "ViT": "#B8860B",
    "Mixer": "#9A72CC",
    "CNN without norm": "#222222",
}
FORMAT = "svg"  # of the figures on a page: sharp at any size
DASHES = 3.0  # length of a line in a legend, in letters: enough to tell dashed from solid
END = dict(marker="*", ms=11, mfc="white", ls="")  # of a training from which no shorter one can be read
WIDTH = 7.0  # inches, the text's width
UNBROKEN = re.compile(r"\[[^\]]*\]|\S*-\S*")  # an interval, a name with a hyphen


def use_style() -> None:
    """Set the book's figure style, whatever a reader's matplotlibrc says, and in a notebook the format of its figures;
    call it once, after the parameters."""
    plt.rcdefaults()  # matplotlib's own settings, and not the reader's: text.usetex, say, needs a LaTeX
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats(FORMAT, metadata={"Date": None})  # a page is the same when nothing in it has changed
    sns.set_theme(
        context="notebook",
        style="ticks",
        font_scale=0.9,
        rc={
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "svg.hashsalt": "mlp_lib",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e5e5e5",
            "grid.linewidth": 0.7,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "figure.constrained_layout.use": True,
        },
    )


def plain_log_axis(axis) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def say_not_run(axis, ticks: bool = False) -> None:
    """What an empty panel shows, in the place of axes from 0 to 1 that mean nothing; `ticks` stay where they say
    something all the same, or are other panels' too."""
    axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", va="center", color="#777777")
    if not ticks:
        axis.tick_params(which="both", bottom=False, left=False, labelbottom=False, labelleft=False)


def t_bounds(values: pd.Series) -> tuple[float, float]:
    estimate = t_interval(values.dropna())
    return estimate.interval or (estimate.mean, estimate.mean)


def label_ends(axis, size: float = 8) -> None:
    """Write each line's label at its right end, in its colour, in the place of a legend; labels are kept apart.

    Call it when the axis has its limits, scales and size. Lines whose label begins with an underscore get none.
    """
    to_axes = axis.transAxes.inverted()
    ends = []
    for line in axis.get_lines():
        seen = to_axes.transform(axis.transData.transform(line.get_xydata()))
        seen = seen[np.isfinite(seen).all(1)]
        if len(seen) and not line.get_label().startswith("_"):
            ends.append((seen[seen[:, 0].argmax(), 1], line))
    ends.sort(key=lambda end: end[0])
    figure = axis.get_figure()
    line_height = 1.3 * size / (72 * 0.8 * figure.get_figheight() * axis.get_position().height)
    heights: list[float] = []
    for height, _ in ends:
        heights.append(max(height, heights[-1] + line_height) if heights else height)
    if heights:  # what was pushed up to make room is taken down again, about half of it
        heights = list(np.array(heights) - np.mean([new - old for new, (old, _) in zip(heights, ends, strict=True)]))
    for height, (_, line) in zip(heights, ends, strict=True):
        axis.text(
            1.02,
            height,
            line.get_label(),
            transform=axis.transAxes,
            color=line.get_color(),
            fontsize=size,
            va="center",
        )


def image_grid(images: np.ndarray, labels: Sequence[str], columns: int = 8) -> Figure:
    """A sheet of (N, C, H, W) uint8 images with their labels."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, WIDTH / columns * rows * 1.25), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, label in zip(axes.flat, images, labels, strict=False):
        axis.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", interpolation="nearest")
        axis.set_title(label, fontsize=8)
    plt.close(figure)
    return figure


@dataclass(frozen=True)
class PageTable:
    """A table as HTML, shown by a notebook that names it last."""

    html: str

    def to_html(self) -> str:
        return self.html

    def _repr_html_(self) -> str:
        return self.html


def shown(table: pd.DataFrame, kind: str = "", caption: str = "") -> PageTable:
    """A table for a page, without index, with a caption above it; `kind` is a further class for the style sheet.

    Cells break between words where the page is narrow, but never within an interval or at the hyphen of a name.
    """
    words = table.select_dtypes(["object", "string"]).columns
    style = Styler(table, cell_ids=False).hide(axis="index")
    style = style.set_table_attributes(f'class="{f"study-table {kind}".strip()}"').format(_unbroken, subset=list(words))
    if caption:
        style = style.set_caption(caption)
    html = re.sub(r"<style.*?</style>\s*", "", style.to_html(), count=1, flags=re.S)  # it styles nothing
    html = re.sub(r'<table id="[^"]*"', "<table", html, count=1)  # pandas makes up another id at every call
    head, rest = html.split("</thead>", 1)
    return PageTable(re.sub(r"<th\b\s*", '<th scope="col" ', head) + "</thead>" + rest)


def _unbroken(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    pieces = re.split(r"(<[^>]+>)", marked(cell))  # text, tag, text, ...
    pieces[::2] = [UNBROKEN.sub(r'<span class="unbroken">\g<0></span>', text) for text in pieces[::2]]
    return "".join(pieces)
