"""Figures and tables of the controls chapter: the search, cost, accuracy, error against compute.

Every figure function returns the matplotlib figure and shows nothing. Colours stand for families.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from mlp_lib.chapters.controls.presets import label_of
from mlp_lib.plots.style import END, FAMILY_COLOURS, WIDTH, say_not_run, t_bounds
from mlp_lib.plots.tables import table_of_plan
from mlp_lib.records.behind import with_runs
from mlp_lib.records.record import FINISHED
from mlp_lib.stats.intervals import Estimate, t_interval
from mlp_lib.stats.learning_curves import error_levels, with_compute

OPTIMISER_STYLE = {"lion": ("o", "-"), "adamw": ("s", "--"), "sgd": ("^", ":")}  # marker and line


def plan_table(plan) -> pd.DataFrame:
    """`tables.table_of_plan` with the columns in which this chapter's runs differ besides: family and optimiser."""
    table = table_of_plan(plan)
    table.insert(2, "family", [label_of(run.model, run.norm) for run in plan.runs])
    table.insert(table.columns.get_loc("lr"), "optimiser", [run.optimizer for run in plan.runs])
    return table


# --- the search -----------------------------------------------------------------------------------------------------


def search_figure(cells) -> Figure:
    """Validation top-1 of every trial, a panel a family: lines are optimisers over lr, hollow markers other
    augmentations, the ring is the choice, a cross at the bottom a trial that diverged."""
    searched = [cell for cell in cells if cell.search]
    rows = -(-len(searched) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(WIDTH, 2.1 * rows + 0.5), sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(searched) :]:
        axis.axis("off")
    for axis, cell in zip(axes.flat, searched, strict=False):
        _one_search(axis, cell.search, FAMILY_COLOURS[cell.family])
        axis.set_title(cell.family, fontsize=10)
        axis.set_xscale("log")
    for axis in axes[-1]:
        axis.set_xlabel("learning rate")
    for axis in axes[:, 0]:
        axis.set_ylabel("validation top-1 (%)")
    handles = [
        Line2D([], [], color="#444444", marker=marker, ls=line, label=name)
        for name, (marker, line) in OPTIMISER_STYLE.items()
    ]
    for marker, size, text in (("D", 5, "no augmentation"), ("*", 9, "the paper's augmentation"), ("o", 12, "choice")):
        handles.append(Line2D([], [], color="#444444", marker=marker, ms=size, mfc="none", ls="", label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8, columnspacing=1.2)
    plt.close(figure)
    return figure


def _one_search(axis, search, colour: str) -> None:
    trials = search.trials
    lost = trials[trials["status"] == "diverged"]
    axis.plot(lost["lr"], [0.03] * len(lost), "x", color=colour, ms=6, transform=axis.get_xaxis_transform())
    done = trials[trials["status"] == "ok"]
    axis.margins(0.1, 0.15)  # the ring stays inside
    if trials["status"].isin(FINISHED).sum() == 0:
        say_not_run(axis, ticks=True)
    for name, part in done[done["stage"] == 1].groupby("optimizer", sort=False):
        marker, line = OPTIMISER_STYLE[name]
        axis.plot(part["lr"], part["val_top1"], color=colour, marker=marker, ls=line, ms=4, lw=1.2)
    later = done[done["stage"] == 2]
    for marker, size, part in (
        ("D", 5, later[later["augment"] == "none"]),
        ("*", 9, later[later["augment"] != "none"]),
    ):
        axis.plot(part["lr"], part["val_top1"], color=colour, marker=marker, ms=size, mfc="none", ls="")
    if search.final:
        same = (done["optimizer"] == search.optimizer) & (done["lr"] == search.lr) & (done["augment"] == search.augment)
        axis.plot(done["lr"][same], done["val_top1"][same], "o", ms=12, mfc="none", color="#444444", mew=1)


def table_of_search(cells) -> pd.DataFrame:
    """The best validation top-1 of each optimiser and of each augmentation, with the lr it was found at."""
    rows = []
    for cell in (cell for cell in cells if cell.search):
        first = cell.search.trials[cell.search.trials["stage"] == 1]
        later = cell.search.trials[cell.search.trials["stage"] == 2]
        rows.append(
            {
                "family": cell.family,
                **{name: _found(first[first["optimizer"] == name]) for name in first["optimizer"].unique()},
                "no augm.": _found(later[later["augment"] == "none"]),
                "paper's augm.": _found(later[later["augment"] != "none"]),
                "trials": _trials(cell.search),
                "chosen": f"{cell.search.optimizer}, {cell.search.augment}" if cell.search.final else "open",
            }
        )
    return pd.DataFrame(rows)


def _trials(search) -> str:
    """How many trials have ended; where a grid was widened, "13 + 1"."""
    return f"{search.done - search.beyond} + {search.beyond}" if search.beyond else f"{search.done} of {search.asked}"


def _found(trials: pd.DataFrame) -> str:
    if not len(trials) or not trials["status"].isin(FINISHED).all():
        return "not run"
    if trials["val_top1"].isna().all():
        return "diverged"
    best = trials.loc[trials["val_top1"].idxmax()]
    return f"{best['val_top1']:.1f} at {best['lr']:g}"


# --- what was compared, and what came of it -------------------------------------------------------------------------


def table_of_families(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a family and preset: multiply-adds of an image, parameters, FLOPs of one training (the paper's count in
    brackets), the chosen settings, and the trials behind them: none where the recipe is given.

    frame: the results' rows with a column `preset`.
    """
    rows = []
    for (preset, label), runs in frame.groupby(["preset", "family"], sort=False):
        one, done = runs.iloc[0], runs[runs["status"].isin(FINISHED)]
        cost = done.iloc[0] if len(done) else None
        settings = f"{one['optimizer']}, {one['lr']:g}{' (edge)' if one['at_edge'] else ''}"
        rows.append(
            {
                "family": label,
                "model": one["model"],
                "mult.-adds": "" if cost is None else f"{cost['macs'] / 1e6:.3g} M",
                "parameters": "" if cost is None else f"{cost['parameters'] / 1e3:,.0f} k",
                "TFLOP (paper's)": ""
                if cost is None
                else f"{cost['train_flops'] / 1e12:.3g} ({cost['paper_flops'] / 1e12:.3g})",
                "optimiser, lr": settings if one["chosen"] else "open",
                "augmentation": one["augment"] if one["chosen"] else "open",
                "trials": f"{one['trials']}" if one["searched"] else "none",
                "preset": preset,
            }
        )
    return pd.DataFrame(rows)


def table_of_accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """Test top-1 after the last epoch with 95% t-intervals, and training and validation top-1 beside it."""
    rows = []
    for (preset, label), runs in frame.groupby(["preset", "family"], sort=False):
        done = runs[runs["status"] == "ok"]
        lost = int((runs["status"] == "diverged").sum())
        rows.append(
            {
                "family": label,
                "images": f"{runs['train_examples'].iloc[0]:,}",
                "epochs": int(runs["epochs"].iloc[0]),
                "test top-1 % [95%]": _interval(done, "test_top1").text() + (f", {lost} diverged" if lost else ""),
                "validation %": _mean(done, "val_top1"),
                "train %": _mean(done, "train_top1"),
                "preset": preset,
            }
        )
    return pd.DataFrame(rows)


def table_of_recipes(cells) -> pd.DataFrame:
    """What the search chose for each family, and why no conclusion may rest on that choice alone."""
    return pd.DataFrame(
        {
            "family": cell.family,
            "optimiser": cell.search.optimizer if cell.search.final else "open",
            "learning rate": f"{cell.search.lr:g}" if cell.search.final else "open",
            "augmentation": cell.search.augment if cell.search.final else "open",
            "trials": _trials(cell.search),
            "flags": "; ".join(cell.search.flags),
        }
        for cell in cells
        if cell.search
    )


def table_of_other_rates(cells, row_of) -> pd.DataFrame:
    """Test top-1 of the reported seeds at other rates than the chosen one, of those that the search tried, where that
    is recorded, beside the chosen rate's; empty where none is. row_of: `Store.row`."""
    rows = []
    for cell in (cell for cell in cells if cell.search and cell.search.final):
        for lr in sorted({*cell.search.rates["lr"]} - {cell.search.lr}):
            there = pd.DataFrame([row_of(run.but(lr=lr)) for run in cell.runs])
            if not (there["status"] == "ok").all():
                continue
            chosen = pd.DataFrame([row_of(run) for run in cell.runs])
            rows.append(
                {
                    "family": cell.family,
                    "chosen rate": f"{cell.search.lr:g}",
                    "test top-1 there, % [95%]": _interval(chosen, "test_top1").text(),
                    "another rate": f"{lr:g}",
                    "test top-1 at that rate, % [95%]": _interval(there, "test_top1").text(),
                }
            )
    return pd.DataFrame(rows)


def noise_of_choice(cells, images: int) -> tuple[float, float]:
    """The least and the greatest binomial standard deviation, in points, of the accuracies by which the families'
    settings were chosen, each of so many validation images: 100 sqrt(p (1 - p) / images). nan where nothing was."""
    best = [cell.search.trials["val_top1"].max() / 100 for cell in cells if cell.search and cell.search.final]
    found = [100 * float(np.sqrt(p * (1 - p) / images)) for p in best if not np.isnan(p)]
    return (min(found), max(found)) if found else (float("nan"), float("nan"))


def _interval(runs: pd.DataFrame, column: str) -> Estimate:
    return t_interval(with_runs(runs[column], runs).dropna() if column in runs else [])


def _mean(runs: pd.DataFrame, column: str) -> str:
    estimate = _interval(runs, column)
    return f"{estimate.mean:.1f}" if estimate.n else "not run"


def accuracies(frame: pd.DataFrame) -> Figure:
    """Test top-1 of every family with its 95% t-interval; hollow where the settings were given, not searched.

    frame: the results' rows with a column `preset`; what is not of the first row's preset and images is labelled so.
    """
    groups = list(frame[frame["status"] == "ok"].groupby(["preset", "family"], sort=False))
    usual = tuple(frame[["preset", "train_examples"]].iloc[0]) if len(frame) else ()
    figure, axis = plt.subplots(figsize=(WIDTH, 0.9 + 0.32 * max(len(groups), 3)))
    labels = []
    for y, ((preset, label), runs) in enumerate(groups):
        estimate = t_interval(runs["test_top1"])
        low, high = estimate.interval or (estimate.mean, estimate.mean)
        colour = FAMILY_COLOURS[label]
        axis.errorbar(
            estimate.mean,
            y,
            xerr=[[estimate.mean - low], [high - estimate.mean]],
            color=colour,
            marker="o",
            mfc=colour if runs["searched"].all() else "white",
            capsize=3,
            lw=1.5,
        )
        images = runs["train_examples"].iloc[0]
        where = "" if (preset, images) == usual else f" ({preset}: {images:,} images)"
        labels.append(f"{label}, n={estimate.n}{where}")
    axis.set_yticks(range(len(groups)), labels)
    axis.invert_yaxis()
    axis.set_xlabel("test top-1 after the last epoch (%)")
    axis.set_title("Test accuracy of every family", fontsize=10)
    if not groups:
        say_not_run(axis, ticks=True)
    plt.close(figure)
    return figure


def error_against_compute(frame: pd.DataFrame) -> Figure:
    """Validation error against training compute so far, both logarithmic: mean over seeds, 95% t-intervals as bands.

    Only runs at a constant lr have a line, whose points are what shorter trainings would have given; any other run is
    one hollow marker at its end. Dotted lines are the levels at which compute is compared.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6))
    points = with_compute(frame)
    for label, colour in FAMILY_COLOURS.items():
        of_family = points[points["family"] == label]
        part = of_family[of_family["schedule"] == "constant"]
        if len(part):
            grouped = part.groupby("compute")["error"]
            bounds = grouped.apply(t_bounds)
            axis.plot(grouped.mean().index, grouped.mean(), color=colour, marker="o", ms=3, label=label)
            low, high = np.clip([b[0] for b in bounds], 0.01, None), [b[1] for b in bounds]  # a logarithmic axis
            axis.fill_between(bounds.index, low, high, color=colour, alpha=0.18, lw=0)
        ends = of_family[(of_family["schedule"] != "constant") & (of_family["step"] == of_family["total_steps"])]
        if len(ends):
            axis.plot(ends["compute"], ends["error"], color=colour, label=f"{label}, its usual recipe", **END)
    axis.set_title("Validation error against training compute", fontsize=10)
    for level in error_levels(frame).values():
        axis.axhline(level, color="#777777", lw=1, ls=":")
    axis.set(
        xscale="log", yscale="log", xlabel="training FLOPs (multiplications + additions)", ylabel="validation error (%)"
    )
    if len(points):  # by the points: a band of few seeds may reach far beyond them
        axis.set_ylim(max(points["error"].min(), 0.1) / 1.15, min(points["error"].max() * 1.1, 105))
    axis.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 100]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if len(points):
        axis.legend(fontsize=8, ncols=2)
    else:
        say_not_run(axis, ticks=True)
    plt.close(figure)
    return figure
