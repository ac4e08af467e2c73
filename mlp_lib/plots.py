"""Figures and tables in one style, from frames of records. No torch, no training.

Every figure function returns the matplotlib figure and shows nothing: a notebook shows it by naming it last.
Colours stand for families everywhere; solid lines are with augmentation, dashed without.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mlp_lib.claims import Verdict, claim
from mlp_lib.stats import Estimate, paired_difference, t_interval

FAMILY_COLOURS = {  # apart for colour-blind readers too
    "S-MLP": "#4477AA", "B-MLP": "#CC6677", "CNN": "#228833", "ResNet18": "#332288", "ViT": "#CCBB44",
    "Mixer": "#66CCEE",
}  # fmt: skip
WIDTH = 7.0  # inches, the text's width


def use_style() -> None:
    """Set the book's figure style; call once a notebook, after its parameters."""
    sns.set_theme(
        context="notebook", style="ticks", font_scale=0.9,
        rc={
            "figure.dpi": 110, "savefig.bbox": "tight", "axes.spines.top": False, "axes.spines.right": False,
            "axes.grid": True, "grid.color": "#e5e5e5", "grid.linewidth": 0.7, "legend.frameon": False,
            "lines.linewidth": 1.8, "figure.constrained_layout.use": True,
        },
    )  # fmt: skip


def _plain_epochs(axis) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _t_bounds(values: pd.Series) -> tuple[float, float]:
    estimate = t_interval(values.dropna())
    return estimate.interval or (estimate.mean, estimate.mean)


def training_length(curves: pd.DataFrame, column: str, label: str, reference: float | None = None) -> Figure:
    """`column` against training length, a line a cell, 95% t-intervals between seeds as bands.

    curves: one row a run and point (`records.curves`), with epoch, family, augmented and `column`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharey=True)
    if column not in curves:
        curves = pd.DataFrame(columns=["augmented", "family", "epoch", column])  # nothing finished yet: empty panels
    for axis, augmented in zip(axes, (False, True), strict=True):
        part = curves[curves["augmented"] == augmented]
        for family, colour in FAMILY_COLOURS.items():
            rows = part[part["family"] == family].dropna(subset=[column])
            if rows.empty:
                continue
            grouped = rows.groupby("epoch")[column]
            mean, bounds = grouped.mean(), grouped.apply(_t_bounds)
            axis.plot(mean.index, mean, color=colour, label=family, marker="o", markersize=3)
            axis.fill_between(
                mean.index, [b[0] for b in bounds], [b[1] for b in bounds], color=colour, alpha=0.18, lw=0
            )
        if reference is not None:
            axis.axhline(reference, color="#777777", lw=1, ls=":")
        _plain_epochs(axis)
        axis.set(
            xlabel="epochs (constant learning rate)", title="with augmentation" if augmented else "no augmentation"
        )
    axes[0].set_ylabel(label)
    handles = {text: h for axis in axes for h, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        axes[0].legend(handles.values(), handles.keys(), loc="best")
    plt.close(figure)  # shown once, by the cell that names it
    return figure


def error_against_compute(curves: pd.DataFrame) -> Figure:
    """Validation error against training compute so far, both logarithmic; a line a cell, mean over seeds.

    curves: one row a run and point: step, total_steps, train_flops (of the whole run), val_top1, family, augmented.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4))
    rows = curves.dropna(subset=["val_top1"]) if "val_top1" in curves else pd.DataFrame(columns=["family", "augmented"])
    rows = rows.assign(
        compute=rows["train_flops"] * rows["step"] / rows["total_steps"] if len(rows) else [],
        error=100 - rows["val_top1"] if len(rows) else [],
    )
    for (family, augmented), part in rows.groupby(["family", "augmented"], sort=False):
        mean = part.groupby("compute")["error"].mean()
        axis.plot(mean.index, mean, color=FAMILY_COLOURS[family], ls="-" if augmented else "--", marker="o",
                  markersize=3, label=f"{family}{', augmented' if augmented else ''}")  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="training FLOPs (multiplications + additions)",
             ylabel="validation error (%)")  # fmt: skip
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if len(rows):
        axis.legend(fontsize=8, ncols=2)
    plt.close(figure)
    return figure


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
            axis.errorbar(estimate.mean, y, xerr=[[estimate.mean - low], [high - estimate.mean]], color=colour,
                          marker="o", mfc=face, capsize=3, lw=1)  # fmt: skip
    axis.set_yticks(range(len(cells)), [f"{family}{', augmented' if a else ''}" for (a, family), _ in cells])
    axis.invert_yaxis()
    axis.set_xlabel("top-1 accuracy (%): hollow on training images, filled on test images")
    plt.close(figure)
    return figure


def first_layers(pictures: dict[str, np.ndarray], columns: int = 8, rows: int = 3) -> Figure:
    """First-layer weights as images, one panel a name; each (units, H, W) uint8 (`measure.decode_pictures`)."""
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


def table_of_cells(frame: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """The chapter's table in the paper's form: a row a cell with n, interval, scale and cost, the paper's beside it.

    frame: one row a run, with family, augmented, preset; paper: `claims.paper_table("table1")`. The paper's number is
    that of the same family, data set and augmentation; its training length stands with it, and a star where the number
    is reported but not verified.
    """
    rows = []
    keys = ["preset", "model", "family", "augmented", "dataset", "train_examples", "epochs", "batch_size", "lr"]
    for values, runs in frame.groupby(keys, sort=False):
        cell = dict(zip(keys, values, strict=True))
        done = runs[runs["status"] == "ok"]
        diverged = int((runs["status"] == "diverged").sum())
        test = t_interval(done["test_top1"]) if len(done) else Estimate(float("nan"), None, 0)
        train = t_interval(done["train_top1"]) if len(done) else test
        rows.append(
            {
                "model": cell["model"],
                "augm.": "yes" if cell["augmented"] else "no",
                "images": f"{cell['train_examples']:,}",
                "epochs": int(cell["epochs"]),
                "test top-1 % [95%]": test.text() + (f", {diverged} diverged" if diverged else ""),
                "paper (epochs)": _papers_number(paper, cell),
                "train %": train.text() if train.n == 0 else f"{train.mean:.1f}",
                "PFLOP": f"{done['train_flops'].mean() / 1e15:.2g}" if len(done) else "",
                "preset": cell["preset"],
            }
        )
    return pd.DataFrame(rows)


def _papers_number(paper: pd.DataFrame, cell: dict) -> str:
    augment = "flip+crop+mixup" if cell["augmented"] else "none"
    same = paper[(paper["family"] == cell["family"]) & (paper["dataset"] == cell["dataset"])]
    same = same[same["augment"] == augment]
    texts = [f"{r.top1:.1f}{'*' if r.mark == 'M' else ''} ({r.epochs:.0f})" for r in same.itertuples()]
    return "<br>".join(texts) or "none"


def table_of_variants(frame: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """What one changed setting does to the first cell without augmentation: paired by seed, in points of test top-1."""
    rows = []
    if "test_top1" not in variants or "test_top1" not in frame:
        return pd.DataFrame({"change": variants["variant"].unique(), "test top-1 % [95%]": "not run"})
    base = frame[(frame["model"] == variants["model"].iloc[0]) & ~frame["augmented"]].set_index("seed")["test_top1"]
    for variant, runs in variants.groupby("variant", sort=False):
        changed = runs.set_index("seed")["test_top1"]
        rows.append(
            {
                "change": variant,
                "test top-1 % [95%]": t_interval(changed.dropna()).text(),
                "difference, points [95%]": paired_difference(changed, base).text(2),
            }
        )
    return pd.DataFrame(rows)


def table_of_precision(replicates: pd.DataFrame) -> pd.DataFrame:
    """fp32 minus bf16 in points of test top-1, paired by seed, for every cell whose runs were trained in both.

    replicates: one row a record (`Store.replicate_frame`); beside the difference stands what changing the seed does.
    """
    rows = []
    done = replicates[replicates["status"] == "ok"]
    for (model, augment), records in done.groupby(["model", "augment"], sort=False) if len(done) else ():
        by_precision = {p: rows.groupby("seed")["test_top1"].first() for p, rows in records.groupby("precision")}
        if {"fp32", "bf16"} <= by_precision.keys():
            both = by_precision["fp32"].index.intersection(by_precision["bf16"].index)
            rows.append(
                {
                    "model": model,
                    "augmentation": "no" if augment == "none" else "yes",
                    "fp32 - bf16, points [95%]": paired_difference(by_precision["fp32"], by_precision["bf16"]).text(2),
                    "standard deviation between seeds": f"{by_precision['bf16'][both].std():.2f}",
                }
            )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"fp32 - bf16": ["not run"]})


def table_of_choices(cells: Sequence) -> pd.DataFrame:
    """How each cell's learning rate was chosen: validation top-1 at every lr of its grid, and edges that remain."""
    rows = []
    for cell in cells:
        grid = cell.choice.grid
        scores = {
            f"{lr:g}": "given" if status == "given" else status if status != "ok" else f"{value:.1f}"
            for lr, value, status in zip(grid["lr"], grid["val_top1"], grid["status"], strict=True)
        }
        rows.append(
            {"model": cell.model, "augmentation": "no" if cell.augment == "none" else "yes", **scores,
             "chosen": f"{cell.choice.lr:g}" if cell.choice.final else "open",
             "at edge": "yes" if cell.choice.at_edge else "no"}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    lrs = sorted((c for c in table if c not in ("model", "augmentation", "chosen", "at edge")), key=float)
    return table[["model", "augmentation", *lrs, "chosen", "at edge"]].fillna("")


def table_of_verdicts(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Claims, rules, estimates and verdicts, one row a claim."""
    return pd.DataFrame(
        {
            "claim": f"{v.claim}. {claim(v.claim).text}",
            "rule": claim(v.claim).rule,
            "points of test top-1 [95%]": "<br>".join(f"{name}: {e.text()}" for name, e in v.parts.items()),
            "verdict": v.verdict,
        }
        for v in verdicts
    )


def table_of_plan(plan) -> pd.DataFrame:
    """Every run that a chapter rests on, with its cost and whether it is done (`studies.Plan`)."""
    return pd.DataFrame(
        {
            "run": run.key,
            "model": run.model,
            "data": f"{run.dataset}, {run.train_examples:,} images",
            "augmentation": run.augment,
            "epochs": run.epochs,
            "batch": run.batch_size,
            "lr": f"{run.lr:g}",
            "seed": run.seed,
            "TFLOP": f"{flops / 1e12:.3g}",
            "state": "done" if done else "not run",
        }
        for run, done, flops in zip(plan.runs, plan.done, plan.flops, strict=True)
    )


def shown(table: pd.DataFrame, wrapped: bool = False):
    """A table for a page, without index. `wrapped` lets cells of prose run over several lines."""
    kind = "study-table wrapped" if wrapped else "study-table"
    return table.style.hide(axis="index").set_table_attributes(f'class="{kind}"')
