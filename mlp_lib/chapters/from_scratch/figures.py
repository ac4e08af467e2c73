"""Figures and tables of rq1-from-scratch: accuracy beside the paper's, pairing, cells of the paper repeated."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlp_lib.chapters.from_scratch.rules import convolution_gap
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, say_not_run
from mlp_lib.plots.tables import papers_top1
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed
from mlp_lib.records.record import FINISHED
from mlp_lib.stats.intervals import Estimate, minus, t_interval, unpaired_difference

PAPERS_MODELS = {"S-MLP": "S-6/Wi-1024", "B-MLP": "B-6/Wi-1024"}  # of Table 1, most likely
ALL_IMAGES = 50_000  # of CIFAR-10 and of CIFAR-100, none held out
NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tinyimagenet": "TinyImageNet", "imagenet": "ImageNet"}
CELL = ("family", "dataset", "augmented")  # where all are those of a run of ours, the paper's number stands by it


def accuracy(frame: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Test top-1 after the last epoch of every model, without augmentation (hollow) and with it (filled), with 95%
    t-intervals, beside the paper's numbers for the same family and data set (crosses).

    frame: one row a run, with family, model, augmented, train_examples, dataset; paper: `claims.paper_table("table1")`,
    of which the shortest training with augmentation is drawn.
    """
    done = frame[frame["status"] == "ok"]
    rows = list(done.groupby(["train_examples", "family", "model"], sort=False))
    rows.sort(key=lambda row: (row[0][0], list(FAMILY_COLOURS).index(row[0][1])))
    figure, axis = plt.subplots(figsize=(WIDTH, 1.3 + 0.38 * max(len(rows), 3)))
    for y, ((_, family, _), runs) in enumerate(rows):
        colour, means = FAMILY_COLOURS[family], []
        for augmented, part in runs.groupby("augmented"):
            estimate = t_interval(part["test_top1"])
            low, high = estimate.interval or (estimate.mean, estimate.mean)
            axis.errorbar(
                estimate.mean,
                y,
                xerr=[[estimate.mean - low], [high - estimate.mean]],
                color=colour,
                marker="o",
                mfc=colour if augmented else "white",
                capsize=3,
                lw=1.5,
            )
            means.append(estimate.mean)
        axis.plot(means, [y] * len(means), color=colour, lw=1, alpha=0.5, zorder=1)
        for augmented, same in _papers(paper, family, runs["dataset"].iloc[0]):
            axis.plot(same, y + 0.25, "x", color="#555555", ms=6, mew=2 if augmented else 1, zorder=3)
    labels = [f"{model}, {images // 1000}k images" for (images, _, model), _ in rows]
    axis.set_yticks(range(len(rows)), labels)
    axis.invert_yaxis()
    axis.set_xlabel("test top-1 after the last epoch (%)")
    axis.set_title("Test accuracy without and with augmentation", fontsize=10)
    kinds = (("o", "white", 1, "no augmentation"), ("o", "#444444", 1, "with augmentation"))
    handles = [Line2D([], [], color="#444444", marker=m, mfc=face, mew=w, ls="", label=t) for m, face, w, t in kinds]
    for width, text in ((1, "the paper's, none"), (2, "the paper's, augmented")):
        handles.append(Line2D([], [], color="#555555", marker="x", mew=width, ls="", label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, columnspacing=1.2)
    if not rows:
        say_not_run(axis)
    plt.close(figure)
    return figure


def _papers(paper: pd.DataFrame, family: str, dataset: str) -> list[tuple[bool, float]]:
    """The paper's number without augmentation, and that with it after its shortest training."""
    same = paper[(paper["family"] == family) & (paper["dataset"] == dataset)].sort_values("epochs")
    same = same.assign(augmented=same["augment"] != "none").drop_duplicates("augmented")
    return [(bool(augmented), top1) for augmented, top1 in same[["augmented", "top1"]].itertuples(index=False)]


def table_of_pairing(frame: pd.DataFrame) -> pd.DataFrame:
    """The gap of claim 3 with its paired and its unpaired interval, and the correlation between the seeds of the two
    networks, which is what pairing rests on."""
    rows = []
    paired, unpaired = convolution_gap(frame), convolution_gap(frame, unpaired_difference)
    for name, estimate in paired.items():
        both = pd.concat([by_seed(frame, family=one, augmented=True) for one in name.split(" - ")], axis=1).dropna()
        rows.append(
            {
                "comparison": name,
                "paired by seed, points [95%]": estimate.text(),
                "unpaired, points [95%]": unpaired[name].text(),
                "correlation between seeds": f"{both.corr().iloc[0, 1]:.2f}" if len(both) > 2 else "",
            }
        )
    return pd.DataFrame(rows)


def repeated(frames: Sequence[pd.DataFrame], paper: pd.DataFrame) -> dict[tuple[str, str], tuple[Estimate, pd.Series]]:
    """Ours and the paper's row, by family and data set, for the paper's cells without augmentation that runs in
    `frames` repeat: the same model, as far as it is known, all images, as many epochs."""
    found = {}
    runs = [frame[frame["status"] == "ok"] for frame in frames if len(frame)]
    done = pd.concat(runs).drop_duplicates("key") if runs else pd.DataFrame(columns=["family"])
    for _, theirs in paper[paper["augment"] == "none"].iterrows():
        own = done[done["family"] == theirs["family"]]
        if len(own):
            own = own[(own["dataset"] == theirs["dataset"]) & ~own["augmented"].astype(bool)]
            own = own[(own["train_examples"] == ALL_IMAGES) & (own["epochs"] == theirs["epochs"])]
            own = own[own["model"] == PAPERS_MODELS.get(theirs["family"])]
        if len(own):
            found[theirs["family"], theirs["dataset"]] = t_interval(with_runs(own["test_top1"], own)), theirs
    return found


def table_of_repeated(found: dict[tuple[str, str], tuple[Estimate, pd.Series]]) -> pd.DataFrame:
    """`repeated` as a table: ours, the paper's with how sure its number is, and ours minus it."""
    return pd.DataFrame(
        {
            "model": PAPERS_MODELS[family],
            "data": NAMES[dataset],
            "epochs": f"{theirs['epochs']:.0f}",
            "ours, top-1 % [95%]": ours.text(),
            "the paper's": f"{papers_top1(theirs)} ({theirs['source']})",
            "ours minus the paper's, points": minus(ours, theirs["top1"]).text(),
        }
        for (family, dataset), (ours, theirs) in found.items()
    )


def table_of_the_rest(paper: pd.DataFrame, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The paper's rows of whose family, data set and augmentation no run in `frames` has finished: a column a data set,
    a star where the number is reported but not verified. Empty where every row has one.

    paper: `claims.paper_table("table1")`.
    """
    ours: set[tuple] = set()
    for frame in frames:
        if len(frame):
            ours |= {*frame.loc[frame["status"].isin(FINISHED), list(CELL)].itertuples(index=False, name=None)}
    rest = paper.assign(augmented=paper["augment"] != "none", top1=[papers_top1(row) for row in paper.itertuples()])
    rest = rest[[key not in ours for key in rest[list(CELL)].itertuples(index=False, name=None)]]
    if rest.empty:
        return pd.DataFrame()
    rest = rest.assign(
        epochs=[f"{epochs:,.0f}" if epochs == epochs else "not known to us" for epochs in rest["epochs"]],
        augmented=rest["augmented"].map({True: "yes", False: "no"}),
    )
    wide = rest.pivot(index=["family", "augmented", "epochs"], columns="dataset", values="top1").fillna("")
    order = rest[["family", "augmented", "epochs"]].drop_duplicates()
    wide = wide.loc[[*order.itertuples(index=False, name=None)], [name for name in NAMES if name in wide]]
    names = {"family": "model", "augmented": "augm.", **{name: f"{text}, top-1 %" for name, text in NAMES.items()}}
    return wide.reset_index().rename(columns=names).rename_axis(columns=None)


def table_of_gains(gains: dict[str, dict[str, Estimate]]) -> pd.DataFrame:
    """A row a family, a column a way of reading the gain of augmentation."""
    return pd.DataFrame(
        {"model": family, **{name: e.text() for name, e in row.items()}} for family, row in gains.items()
    )
