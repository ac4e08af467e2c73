"""What the book's front page shows: which of the five questions are answered today, and its one picture."""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mlp_lib.chapters import planning
from mlp_lib.chapters.claims import NOT_TESTED, VERDICTS, Verdict
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, say_not_run, t_bounds
from mlp_lib.records.architectures import MLPS
from mlp_lib.records.frames import compute_so_far, curves
from mlp_lib.records.store import Store
from mlp_lib.stats.equivalent_examples import Equivalent, equivalent_examples

# The paper's five questions, the names with which their studies begin, and the claims that answer them.
QUESTIONS = (
    ("Can an MLP without a vision prior compete when it is scaled?", "rq1", (1, 2, 3, 14, 15)),
    ("What do augmentation, batch size and the optimiser do to it?", "rq2", (4, 12, 13)),
    ("Does its error follow power laws?", "rq3", (5, 6)),
    ("How should compute be divided between parameters and examples?", "rq4", (7,)),
    ("How well do its features transfer?", "rq5", (8, 9, 10, 11)),
)
SHOWN = (*MLPS, "CNN")


def questions(verdicts: Sequence[Verdict], folder: str = "") -> pd.DataFrame:
    """A row a question: its claims by verdict, and its chapters as links, those with tested claims first. `folder`:
    where the notebooks' pages are, seen from the page that shows it."""
    words = {verdict.claim: verdict.verdict for verdict in verdicts}
    rows = []
    for text, name, numbers in QUESTIONS:
        tested = [number for number in numbers if words[number] != NOT_TESTED]
        chapters = [study for study in STUDIES.values() if study.name.split("-")[0] == name]
        links = [f'<a href="{folder}{study.page}.html">{study.title}</a>' for study in chapters]
        by_word = {word: [str(number) for number in numbers if words[number] == word] for word in VERDICTS}
        answers = [f"{word}: {', '.join(those)}" for word, those in by_word.items() if those]
        rows.append(
            {
                "question": text,
                "answered today": "<br>".join(answers) if tested else "not yet",
                "chapters": "<br>".join(links) or "none yet",
                "tested": len(tested),
            }
        )
    rows.sort(key=lambda row: row["tested"] == 0)
    return pd.DataFrame(rows).drop(columns="tested")


def shown_results(name: str, store: Store) -> Any:
    """The results of a study, from records, at the preset that its chapter shows."""
    study = STUDIES[name]
    return study.collect(study.presets[planning.pick_preset(study, "auto", store)], planning.from_records(store))


def picture(by_images: pd.DataFrame, by_compute: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Accuracy of the MLPs and the CNN against training images (left, without augmentation, after equally many steps)
    and against training compute (right, along learning curves: dashed without augmentation, solid with it).

    by_images: one row a run, with family, augmented, train_examples, test_top1. by_compute: the same, with curves.
    paper: `claims.paper_table("table1")`; its numbers on CIFAR-10 without augmentation are diamonds on the left.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharey=True)
    _against_images(left, by_images, paper)
    _against_compute(right, by_compute)
    left.set_ylabel("top-1 accuracy (%)")
    plt.close(figure)
    return figure


def inline(figure: Figure, told: str) -> str:
    """A figure as HTML with inline SVG, for another page to show; `told` is its alternative text."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    svg = re.sub(r"^.*?<svg", f'<svg role="img" aria-label="{escape(told)}"', written.getvalue(), count=1, flags=re.S)
    return f'<div class="wide-drawing on-white" tabindex="0">{svg}</div>'


def accuracy_by_images(frame: pd.DataFrame, family: str) -> pd.DataFrame:
    """Test top-1 of a family without augmentation: a row a seed, a column a number of training images."""
    rows = frame[(frame["family"] == family) & ~frame["augmented"].astype(bool) & (frame["status"] == "ok")]
    if rows.empty:
        return pd.DataFrame()
    return rows.pivot_table(index="seed", columns="train_examples", values="test_top1")


def images_for_the_mlp(frame: pd.DataFrame) -> tuple[int, Equivalent] | None:
    """The most training images of the B-MLP, and how many images bring the CNN to the B-MLP's accuracy with them; None
    where either has not been run at two numbers of images."""
    cnn, mlp = accuracy_by_images(frame, "CNN").dropna(), accuracy_by_images(frame, "B-MLP").dropna()
    if len(cnn.columns) < 2 or not len(mlp.columns):
        return None
    return int(max(mlp)), equivalent_examples(cnn, mlp[max(mlp)])


def _against_images(axis: Axes, frame: pd.DataFrame, paper: pd.DataFrame) -> None:
    axis.set_title("against training images (test)", fontsize=10)
    tables = {family: accuracy_by_images(frame, family) for family in SHOWN}
    for family, table in tables.items():
        if table.empty:
            continue
        mean, bounds = table.mean(), table.apply(t_bounds)
        colour = FAMILY_COLOURS[family]
        axis.plot(mean.index, mean, color=colour, marker="o", ms=4, label=family)
        axis.fill_between(mean.index, bounds.iloc[0], bounds.iloc[1], color=colour, alpha=0.15, lw=0)
        said = paper[(paper["family"] == family) & (paper["dataset"] == "cifar10") & (paper["augment"] == "none")]
        axis.plot([50_000] * len(said), said["top1"], color=colour, marker="D", mfc="white", ls="", ms=6)
    if not axis.lines:
        return say_not_run(axis)
    axis.plot([], [], color="#555555", marker="D", mfc="white", ls="", ms=6, label="the paper's")
    axis.set(xscale="log", xlabel="training images")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.legend(fontsize=8)


def _against_compute(axis: Axes, frame: pd.DataFrame) -> None:
    axis.set_title("against training compute (validation)", fontsize=10)
    points = curves(frame[frame["status"] == "ok"])
    if "val_top1" not in points:
        return say_not_run(axis)
    points = points[(points["schedule"] == "constant") & points["family"].isin(SHOWN)].dropna(subset=["val_top1"])
    points = points.assign(compute=compute_so_far(points))
    for (family, augmented), part in points.groupby(["family", "augmented"], sort=False):
        mean = part.groupby("compute")["val_top1"].mean()
        axis.plot(mean.index, mean, color=FAMILY_COLOURS[family], ls="-" if augmented else "--", marker="o", ms=3)
    for style, text in (("-", "with augmentation"), ("--", "without")):
        axis.plot([], [], color="#555555", ls=style, label=text)
    axis.set(xscale="log", xlabel="training FLOPs")
    axis.legend(fontsize=8, handlelength=3)
