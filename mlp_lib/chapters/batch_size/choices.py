"""What speaks against a chosen learning rate, and whether a comparison outlives a move to the neighbouring rates."""

from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from mlp_lib.chapters.batch_size.presets import BEYOND, COSINE, JUDGE, JUDGED, MLP, Cell
from mlp_lib.chapters.batch_size.rules import smaller_preset
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import Choice, at_neighbours
from mlp_lib.stats.intervals import Estimate, t_interval

BUDGETS = {  # what the budget of a cell is called
    "epochs": "equal epochs",
    "steps": "equal steps",
    COSINE.budget: "equal epochs, cosine schedule",
    BEYOND.budget: "equal epochs, beyond",
    "fixed": "upstream, one rate",
    "tuned": "upstream, tuned",
}
NAMES = {"lion": "LION", "sgd": "SGD", "adamw": "AdamW"}


def line_of(cells: Iterable[Cell], architecture: str, optimizer: str = JUDGE, budget: str = "epochs") -> list[Cell]:
    """The cells of one line, by rising batch size."""
    wanted = (architecture, optimizer, budget)
    found = [cell for cell in cells if (cell.architecture, cell.optimizer, cell.budget) == wanted]
    return sorted(found, key=lambda cell: cell.batch_size)


def ends(cells: Iterable[Cell]) -> list[Cell]:
    """The cells at the smallest and the largest batch size of a line."""
    ordered = sorted(cells, key=lambda cell: cell.batch_size)
    return [ordered[0], ordered[-1]] if ordered else []


def flags(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """What speaks against resting a conclusion on these cells (`Choice.flags`), and of which cells each is said."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        for flag in cell.choice.flags:
            found.setdefault(flag, []).append(cell)
    return found


def names(cells: Iterable[Cell]) -> str:
    """Cells for a table, those of a line together: "B-MLP, LION, equal epochs: 64, 4,096; ..."."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        line = f"{cell.architecture}, {NAMES[cell.optimizer]}, {BUDGETS[cell.budget]}"
        found.setdefault(line, {})[f"{cell.batch_size:,}"] = None
    return "; ".join(f"{line}: {', '.join(sizes)}" for line, sizes in found.items())


def _judged(shown: Shown) -> list[Cell]:
    return [cell for architecture in JUDGED for cell in ends(line_of(shown.results.cells, architecture))]


def _of_checks(shown: Shown) -> list[Cell]:
    """The cells of the B-MLP that the checks of the rule compare (`rules.checks`), as far as their rates are chosen."""
    found, smaller = [], smaller_preset(shown)
    for results in (shown.results, smaller) if smaller else (shown.results,):
        lines = dict.fromkeys((c.optimizer, c.budget) for c in results.cells if c.budget != "steps")
        found += [cell for line in lines for cell in ends(line_of(results.cells, MLP, *line))]
        found += ends(line_of(results.upstream_cells, MLP, budget="tuned"))
    return [cell for cell in found if cell.choice.final]


def _of_the_papers_protocol(shown: Shown) -> list[Cell]:
    """At its one rate, which is given: nothing was chosen."""
    return line_of(shown.results.upstream_cells, MLP, budget="fixed")


# Every value on the first screen of the page, and the cells on whose learning rates it rests.
CELLS_BEHIND: Mapping[str, Callable[[Shown], list[Cell]]] = {
    "batch-protocol": _of_the_papers_protocol,
    "batch-protocol-epochs": _of_the_papers_protocol,
    "batch-protocol-mlp": _of_the_papers_protocol,
    "batch-claim-4": _judged,
    "batch-claim-4-mlp": _judged,
    "batch-robustness": _of_checks,
    "batch-flags": lambda shown: [],  # what stands there says what speaks against the others
}


def _choices_of(cells: Callable[[Shown], list[Cell]]) -> Callable[[Shown], list[Choice]]:
    return lambda shown: [cell.choice for cell in cells(shown)]


FIRST_SCREEN = {value: _choices_of(cells) for value, cells in CELLS_BEHIND.items()}  # as `Study.first_screen` has it


def table_of_flags(shown: Shown) -> pd.DataFrame:
    """What speaks against the learning rates on which the first screen rests (`CELLS_BEHIND`), a row a flag: of which
    cells, and in which values of the page. Empty where nothing does."""
    rows: dict[str, dict[str, list]] = {}
    for value, cells_of in CELLS_BEHIND.items():
        for flag, cells in flags(cells_of(shown)).items():
            row = rows.setdefault(flag, {"cells": [], "values": []})
            row["cells"] += cells
            row["values"].append(value)
    found = [
        {"flag": flag, "cells": names(row["cells"]), "values": ", ".join(row["values"])} for flag, row in rows.items()
    ]
    return pd.DataFrame(found, columns=["flag", "cells", "values"])


def at_either_neighbour(smallest: Cell, largest: Cell) -> dict[str, Estimate]:
    """Validation top-1 of the largest batch size minus that of the smallest: `chosen`, at the chosen rates, and
    `lowest` and `highest` of the same with one of the two rates moved to a neighbour in its grid. Without an interval
    where one seed was tried; n = 0 where a rate was given, or is not chosen yet."""
    if not (smallest.choice.final and largest.choice.final) or smallest.choice.given or largest.choice.given:
        return dict.fromkeys(("chosen", "lowest", "highest"), t_interval([]))
    chosen, *moved = at_neighbours(largest.choice, smallest.choice).values()
    around = sorted((estimate for estimate in moved if estimate.n), key=lambda estimate: estimate.mean)
    return {"chosen": chosen, "lowest": around[0], "highest": around[-1]} if around else {}
