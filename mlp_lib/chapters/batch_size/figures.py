"""What changes with the batch size: figures and tables of chapter rq2-batch-size. No torch.

Frames have one row a run, with architecture, budget, batch_size and optimizer (`studies.batch_size.Results`). Colours
stand for families; the CNN without BatchNorm is the CNN's colour, dotted and hollow. A diverged run's test accuracy is
chance, as it is for the rule; what was not measured is left out.
"""

from collections.abc import Iterable, Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.batch_size.study import BEYOND, CNN, COSINE, JUDGE, JUDGED, MLP, PLAIN_CNN, VIT, Cell
from mlp_lib.plots import tables
from mlp_lib.plots.style import DASHES, FAMILY_COLOURS, WIDTH, say_not_run
from mlp_lib.records.frames import by_seed, curves
from mlp_lib.stats.intervals import Estimate, paired_difference, t_interval

LOOKS = {
    MLP: dict(color=FAMILY_COLOURS["B-MLP"], marker="o"),
    CNN: dict(color=FAMILY_COLOURS["CNN"], marker="s"),
    PLAIN_CNN: dict(color=FAMILY_COLOURS["CNN"], marker="s", ls=":", mfc="white"),
    VIT: dict(color=FAMILY_COLOURS["ViT"], marker="^"),
}
BUDGETS = {"epochs": "equal epochs", "steps": "equal steps"}  # a panel each
LINES = BUDGETS | {  # what a row is called
    COSINE.budget: "equal epochs, cosine schedule",
    BEYOND.budget: "equal epochs, beyond",
}
NAMES = {"lion": "LION", "sgd": "SGD", "adamw": "AdamW"}
CHANGE = "largest - smallest, points [95%]"  # a column


def test_error(tuned: pd.DataFrame, optimizers: Sequence[str] = (JUDGE,)) -> Figure:
    """Test error at the tuned learning rate against batch size, a line an architecture, 95% t-intervals between seeds;
    a row of panels an optimiser, equal epochs left and equal steps right; one row for all where there is one budget."""
    drawn = joined(tuned[tuned["optimizer"].isin(optimizers)])
    budgets = [budget for budget in BUDGETS if (drawn["budget"] == budget).any()] or [*BUDGETS]
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
    possible(axes.flat)  # when all is drawn: the panels share their axis, and a limit that is set no longer moves
    legend(axes[0, 0])
    plt.close(figure)
    return figure


def validation_against_lr(cells: Iterable[Cell]) -> Figure:
    """Validation accuracy at every learning rate that was tried, a line a batch size: a vertical line through a panel
    is what one fixed learning rate would have compared. LION at equal epochs; one seed, that of the choice."""
    figure, axes = plt.subplots(1, len(JUDGED), figsize=(WIDTH, 3.2), sharey=True)
    cells = [cell for cell in cells if cell.optimizer == JUDGE and cell.budget in ("epochs", BEYOND.budget)]
    cells.sort(key=lambda cell: cell.batch_size)
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
    legend(axes[0])
    plt.close(figure)
    return figure


def error_by_length(tuned: pd.DataFrame) -> Figure:
    """Validation error against batch size, a line a training length: points of the learning curves of LION's runs at
    equal epochs, whose learning rate was chosen for the last of them. Means over seeds."""
    figure, axes = plt.subplots(1, len(JUDGED), figsize=(WIDTH, 3.2), sharey=True)
    rows = joined(tuned)
    points = curves(rows[(rows["optimizer"] == JUDGE) & (rows["budget"] == "epochs") & (rows["status"] == "ok")])
    if "val_top1" not in points:
        points = pd.DataFrame(columns=["architecture", "epoch", "batch_size", "val_top1"])
    shades = _shades(points["epoch"].unique())
    for axis, architecture in zip(axes, JUDGED, strict=True):
        for epoch, part in points[points["architecture"] == architecture].groupby("epoch"):
            mean = 100 - part.groupby("batch_size")["val_top1"].mean()
            axis.plot(mean.index, mean, color=shades[epoch], marker="o", markersize=4, label=f"epoch {epoch:g}")
        axis.set_title(architecture)
        batch_axis(axis, tuned["batch_size"])
    axes[0].set_ylabel("validation error (%)")
    legend(axes[0])
    plt.close(figure)
    return figure


def table_of_differences(tuned: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy at the smallest and the largest batch size and the difference, paired by seed, for every line that
    has a run at either (the others: `lines_left_out`). Of finished runs of several presets, with a column `preset`: for
    every line, between the ends that each preset has."""
    rows = []
    for line, part, ends, scores in _lines(tuned):
        if "preset" not in line and not any(map(len, scores)):
            continue
        rows.append(
            {
                "optimiser": NAMES[line["optimizer"]],
                "budget": LINES[line["budget"]],
                "architecture": line["architecture"],
                **ends_of(ends, scores, "test top-1 % [95%]"),
                "lr at an edge": edges(part),
                **({"preset": line["preset"]} if "preset" in line else {}),
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({CHANGE: ["not run"]})


def change_of(tuned: pd.DataFrame, architecture: str, optimizer: str = JUDGE, budget: str = "epochs") -> Estimate:
    """Test top-1 at the largest batch size minus that at the smallest, paired by seed, of one line."""
    for line, _, (first, last), (smallest, largest) in _lines(tuned):
        if (line["optimizer"], line["budget"], line["architecture"]) == (optimizer, budget, architecture):
            return paired_difference(largest if first < last else largest.iloc[:0], smallest)
    return t_interval([])


def other_optimizers(tuned: pd.DataFrame, architecture: str) -> str:
    """For a sentence: `change_of` an architecture with each optimiser but the judge's, at equal epochs. "SGD -5.1 [...]
    n=3, AdamW not run"; "no other optimiser" where there is no line of one."""
    found = [name for name in NAMES if name != JUDGE and (tuned["optimizer"] == name).any()]
    texts = [f"{NAMES[name]} {change_of(tuned, architecture, name).text()}" for name in found]
    return ", ".join(texts) or "no other optimiser"


def lines_left_out(tuned: pd.DataFrame) -> str:
    """For a sentence: the lines without a run at either end, so that `table_of_differences` has no row for them. "LION
    at equal epochs (ViT); SGD and AdamW at equal steps": in brackets where others of the same kind have rows; "none"
    where all have. A line may still have runs between its ends, which equal steps share with equal epochs."""
    lines = pd.DataFrame([{**line, "there": any(map(len, scores))} for line, _, _, scores in _lines(tuned)])
    found: dict[tuple[str, str], list[str]] = {}
    for (optimizer, budget), alike in lines.groupby(["optimizer", "budget"], sort=False):
        missing = alike["architecture"][~alike["there"]]
        if len(missing):
            which = f" ({', '.join(missing)})" if len(missing) < len(alike) else ""
            found.setdefault((LINES[budget], which), []).append(NAMES[optimizer])
    return "; ".join(f"{' and '.join(names)} at {budget}{which}" for (budget, which), names in found.items()) or "none"


def _lines(tuned: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame, list[int], list[pd.Series]]]:
    """Every line: what it is called, its rows, the smallest and the largest batch size of its preset, and the test
    accuracies at these, by seed. The batch sizes beyond the judged ones have lines, and ends, of their own."""
    keys = [key for key in ("preset", "optimizer", "budget", "architecture") if key in tuned]
    for values, part in tuned.groupby(keys, sort=False):
        line = dict(zip(keys, values, strict=True))
        alike = tuned[(tuned["budget"] == BEYOND.budget) == (line["budget"] == BEYOND.budget)]
        alike = alike[alike["preset"] == line["preset"]] if "preset" in line else alike
        ends = [alike["batch_size"].min(), alike["batch_size"].max()]
        yield line, part, ends, [by_seed(part, batch_size=size) for size in ends]


def edges(rows: pd.DataFrame) -> str:
    """The batch sizes whose learning rate lies at an edge of its grid."""
    sizes = sorted(rows[rows["at_edge"] & (rows["status"] != "not run")]["batch_size"].unique())
    return ", ".join(f"{size:,}" for size in sizes) or "none"


def ends_of(sizes: Iterable[int], scores: Sequence[pd.Series], what: str) -> dict[str, str]:
    """Columns for the scores, by seed, at the smallest and at the largest batch size; one size is no comparison."""
    first, last = sizes
    smallest, largest = scores[0], scores[1] if first < last else scores[1].iloc[:0]
    return {
        "batch sizes": f"{first:,} and {last:,}" if first < last else f"{first:,}",
        f"smallest, {what}": t_interval(smallest).text(),
        "largest": t_interval(largest).text(),
        CHANGE: paired_difference(largest, smallest).text(),
    }


def table_of_choices(cells: Iterable[Cell]) -> pd.DataFrame:
    """How each cell's learning rate was chosen: validation top-1 at every lr tried, in rising order. Cells without a
    trial, or with a rate that was given, have no row."""
    rows = []
    for cell in cells:
        grid = cell.choice.grid
        if grid["status"].isin(("given", "not run")).all():
            continue
        tried = [
            f"{lr:.2g}: {f'{value:.1f}' if status == 'ok' else status}"
            for lr, value, status in zip(grid["lr"], grid["val_top1"], grid["status"], strict=True)
        ]
        rows.append(
            {
                "optimiser": NAMES[cell.optimizer],
                "budget": LINES.get(cell.budget, "upstream"),
                "architecture": cell.architecture,
                "batch": f"{cell.batch_size:,}",
                "lr: validation top-1 %": ", ".join(tried),
                "chosen": f"{cell.choice.lr:.2g}" if cell.choice.final else "open",
                "at edge": "yes" if cell.choice.at_edge and cell.choice.final else "no",
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"chosen": ["not run"]})


def table_of_rates(cells: Iterable[Cell]) -> pd.DataFrame:
    """How the chosen learning rate moves with the batch size, a row a line of cells: the rates, the exponent a of the
    least squares fit lr ~ batch^a through them, and learning rate x steps at the smallest and the largest batch size:
    with LION, whose steps have length lr in every weight, how far a weight can have travelled."""
    lines: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.choice.final and cell.budget in ("epochs", BEYOND.budget):
            lines.setdefault((cell.optimizer, cell.architecture), []).append(cell)
    rows = []
    for (optimizer, architecture), alike in lines.items():
        alike = sorted(alike, key=lambda cell: cell.batch_size)
        sizes, lrs = zip(*((cell.batch_size, cell.choice.lr) for cell in alike), strict=True)
        reach = [cell.choice.lr * cell.runs[0].total_steps for cell in (alike[0], alike[-1])]
        rows.append(
            {
                "optimiser": NAMES[optimizer],
                "architecture": architecture,
                "batch: chosen lr": ", ".join(f"{size:,}: {lr:.2g}" for size, lr in zip(sizes, lrs, strict=True)),
                "exponent": f"{np.polyfit(np.log(sizes), np.log(lrs), 1)[0]:.2f}" if len(sizes) > 1 else "",
                "lr × steps, smallest and largest": " and ".join(f"{value:.2g}" for value in reach),
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"exponent": ["not run"]})


def margins(cells: Iterable[Cell], architecture: str) -> str:
    """For a sentence: by how much the chosen learning rate beat the next best of its grid on validation, in points, at
    each judged batch size. One seed each: where it is small, the choice might have been the other."""
    texts = []
    for cell in cells:
        if (cell.optimizer, cell.budget, cell.architecture) == (JUDGE, "epochs", architecture):
            scores = cell.choice.grid.loc[cell.choice.grid["status"] == "ok", "val_top1"].astype(float).nlargest(2)
            if cell.choice.final and len(scores) == 2:
                texts.append(f"{scores.iloc[0] - scores.iloc[1]:.1f} at {cell.batch_size:,}")
    return ", ".join(texts) or "not run"


def table_of_plan(plan) -> pd.DataFrame:
    """`tables.table_of_plan` with the optimiser, the CNN's normalisation and the steps of each run."""
    table = tables.table_of_plan(plan).drop(columns="epochs")
    table["model"] = [run.model + (", no BatchNorm" if run.norm == "none" else "") for run in plan.runs]
    table.insert(table.columns.get_loc("batch") + 1, "steps", [f"{run.total_steps:,}" for run in plan.runs])
    table.insert(table.columns.get_loc("lr"), "optimiser", [NAMES[run.optimizer] for run in plan.runs])
    return table


def joined(tuned: pd.DataFrame) -> pd.DataFrame:
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


def legend(axis) -> None:
    """A small legend, where there is anything to name."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7.5, handlelength=DASHES)


def possible(axes) -> None:
    """An interval of few seeds may reach beyond what an error in percent can be; the panel does not. Without any data
    the panels, which share their axis, have no scale to show."""
    if not any(axis.containers for axis in axes):
        axes[0].set_yticks([])
    for axis in axes:
        if axis.containers:
            low, high = axis.get_ylim()
            axis.set_ylim(max(low, 0), min(high, 100))
