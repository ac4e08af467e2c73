"""Tables of chapter rq2-batch-size: differences between batch sizes, choices of the learning rate, the plan."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import linregress, t

from mlp_lib.chapters.batch_size.choices import BUDGETS, NAMES, at_either_neighbour, ends, flags
from mlp_lib.chapters.batch_size.comparisons import DIFFERENCE, Line, lines
from mlp_lib.chapters.batch_size.presets import BEYOND, Cell
from mlp_lib.plots import tables
from mlp_lib.stats.intervals import Estimate, t_interval


def _line_names(name: dict[str, str]) -> dict[str, str]:
    return {
        "optimiser": NAMES[name["optimizer"]],
        "budget": BUDGETS[name["budget"]],
        "architecture": name["architecture"],
    }


def table_of_differences(tuned: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy at the smallest and the largest batch size and the difference, paired by seed, for every line that
    has a run at either (the others: `table_of_lines_left_out`), with the training accuracy that both came to. Of
    finished runs of several presets, with a column `preset`: every line, between the ends that each preset has."""
    rows = []
    for line in lines(tuned):
        if "preset" not in line.name and not any(map(len, line.scores)):
            continue
        fits = [tables.percent(line.rows[line.rows["batch_size"] == size], "train_top1") for size in line.sizes]
        rows.append(
            {
                **_line_names(line.name),
                **columns_of_ends(line, "test top-1 % [95%]"),
                "training top-1 %, both": " and ".join(fits),
                "lr at an edge": sizes_at_an_edge(line.rows),
                **({"preset": line.name["preset"]} if "preset" in line.name else {}),
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({DIFFERENCE: ["not run"]})


def table_of_lines_left_out(tuned: pd.DataFrame) -> pd.DataFrame:
    """The lines without a run at either end, so that `table_of_differences` has no row for them; empty where all have
    one. Such a line may still have runs between its ends, which equal steps share with equal epochs."""
    found = [_line_names(line.name) for line in lines(tuned) if not any(map(len, line.scores))]
    return pd.DataFrame(found, columns=["optimiser", "budget", "architecture"])


def columns_of_ends(line: Line, what: str) -> dict[str, str]:
    """Columns for the scores at the smallest and at the largest batch size; one size is no comparison."""
    first, last = line.sizes
    smallest, largest = line.scores[0], line.scores[1] if first < last else line.scores[1].iloc[:0]
    return {
        "batch sizes": f"{first:,} and {last:,}" if first < last else f"{first:,}",
        f"smallest, {what}": t_interval(smallest).text(),
        "largest": t_interval(largest).text(),
        DIFFERENCE: line.difference.text(),
    }


def sizes_at_an_edge(rows: pd.DataFrame) -> str:
    """The batch sizes whose learning rate lies at an edge of its grid."""
    sizes = sorted(rows[rows["at_edge"] & (rows["status"] != "not run")]["batch_size"].unique())
    return ", ".join(f"{size:,}" for size in sizes) or "none"


def table_of_choices(cells: Iterable[Cell]) -> pd.DataFrame:
    """How each cell's learning rate was chosen: validation top-1 at every lr tried, in rising order, by how much the
    best beat the next, and what speaks against the choice. Cells without a trial, or with a given rate, have no row."""
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
                "budget": BUDGETS[cell.budget],
                "architecture": cell.architecture,
                "batch": f"{cell.batch_size:,}",
                "lr: validation top-1 %": ", ".join(tried),
                "chosen": f"{cell.choice.lr:.2g}" if cell.choice.final else "open",
                "best - next, points": _lead(grid) if cell.choice.final else "",
                "flags": "; ".join(cell.choice.flags) or "none",
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"chosen": ["not run"]})


def _lead(grid: pd.DataFrame) -> str:
    """By how much the best rate beat the next best on validation; where it is small, another seed might have chosen the
    other."""
    best = grid.loc[grid["status"] == "ok", "val_top1"].astype(float).nlargest(2)
    return f"{best.iloc[0] - best.iloc[1]:.1f}" if len(best) == 2 else ""


def table_of_neighbours(cells: Iterable[Cell]) -> pd.DataFrame:
    """Whether a difference between batch sizes outlives a move of either learning rate to its neighbours, a row a line
    of cells: the difference on validation by the trials of the choices, at the chosen rates and the lowest and highest
    at either neighbour, and what speaks against the two choices."""
    rows = []
    for (optimizer, budget, architecture), alike in _by_line(cells).items():
        if len(alike) < 2:
            continue
        smallest, largest = ends(alike)
        found = at_either_neighbour(smallest, largest)
        if not found or not found["chosen"].n:
            continue
        against = flags((smallest, largest))
        rows.append(
            {
                "optimiser": NAMES[optimizer],
                "budget": BUDGETS[budget],
                "architecture": architecture,
                "batch sizes": f"{smallest.batch_size:,} and {largest.batch_size:,}",
                "largest - smallest, validation, points": found["chosen"].text(),
                "at either neighbour": f"{found['lowest'].mean:.1f} to {found['highest'].mean:.1f}",
                "sign kept": "yes" if found["lowest"].mean * found["highest"].mean > 0 else "no",
                "flags": "; ".join(_flagged(flag, cells) for flag, cells in against.items()) or "none",
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"at either neighbour": ["not run"]})


def _flagged(flag: str, cells: list[Cell]) -> str:
    """A flag of both ends of a line, or of the one that is named."""
    return flag if len(cells) > 1 else f"{flag} ({cells[0].batch_size:,})"


def _by_line(cells: Iterable[Cell]) -> dict[tuple[str, str, str], list[Cell]]:
    found: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.optimizer, cell.budget, cell.architecture), []).append(cell)
    return {key: sorted(alike, key=lambda cell: cell.batch_size) for key, alike in found.items()}


def table_of_rates(cells: Iterable[Cell]) -> pd.DataFrame:
    """How the chosen learning rate moves with the batch size, a row a line of cells: the rates, the exponent a of the
    least squares fit lr ~ batch^a through them with its 95% interval, and learning rate x steps at the smallest and the
    largest batch size: with LION, whose steps have length lr in every weight, how far a weight can have travelled."""
    chosen = [cell for cell in cells if cell.choice.final and cell.budget in ("epochs", BEYOND.budget)]
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in chosen:
        found.setdefault((cell.optimizer, cell.architecture), []).append(cell)
    rows = []
    for (optimizer, architecture), alike in found.items():
        alike = sorted(alike, key=lambda cell: cell.batch_size)
        sizes, lrs = zip(*((cell.batch_size, cell.choice.lr) for cell in alike), strict=True)
        reach = [cell.choice.lr * cell.runs[0].total_steps for cell in (alike[0], alike[-1])]
        rows.append(
            {
                "optimiser": NAMES[optimizer],
                "architecture": architecture,
                "batch: chosen lr": ", ".join(f"{size:,}: {lr:.2g}" for size, lr in zip(sizes, lrs, strict=True)),
                "exponent [95%]": exponent(sizes, lrs).text(2) if len(sizes) > 2 else "",
                "lr × steps, smallest and largest": " and ".join(f"{float(f'{value:.2g}'):,g}" for value in reach),
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"exponent [95%]": ["not run"]})


def exponent(sizes: Sequence[int], lrs: Sequence[float]) -> Estimate:
    """The exponent of lr ~ batch^a by least squares through at least three logarithms, with the 95% interval of the
    slope, which is wide where the rates do not rise or fall steadily. n counts batch sizes."""
    fit, n = linregress(np.log(sizes), np.log(lrs)), len(sizes)
    half = float(t.ppf(0.975, n - 2) * fit.stderr)
    return Estimate(float(fit.slope), (float(fit.slope) - half, float(fit.slope) + half), n)


def table_of_plan(plan) -> pd.DataFrame:
    """`plots.tables.table_of_plan` with the optimiser, the CNN's normalisation and the steps of each run."""
    table = tables.table_of_plan(plan).drop(columns="epochs")
    table["model"] = [run.model + (", no BatchNorm" if run.norm == "none" else "") for run in plan.runs]
    table.insert(table.columns.get_loc("batch") + 1, "steps", [f"{run.total_steps:,}" for run in plan.runs])
    table.insert(table.columns.get_loc("lr"), "optimiser", [NAMES[run.optimizer] for run in plan.runs])
    return table
