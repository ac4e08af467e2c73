"""Tables of cells, choices, plans and verdicts, from frames of records."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mlp_lib.records.behind import with_runs
from mlp_lib.records.record import FINISHED
from mlp_lib.stats.intervals import NOTHING, Equivalence, Estimate, paired_difference, paired_equivalence, t_interval


def table_of_cells(frame: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """The chapter's table in the paper's form: a row a cell with n, interval, scale and cost, the paper's beside it.

    frame: one row a run, with family, augmented, preset; paper: `claims.paper_table("table1")`. The paper's number is
    that of the same family, data set and augmentation; its training length stands with it, and a star where the number
    is reported but not verified.
    """
    rows = []
    network, data = ["preset", "model", "family", "augmented"], ["dataset", "train_examples"]
    keys = [name for name in (*network, *data, "epochs", "steps", "batch_size", "lr") if name in frame]
    for values, runs in frame.groupby(keys, sort=False, dropna=False):  # a length is given by epochs or by steps
        cell = dict(zip(keys, values, strict=True))
        done = runs[runs["status"] == "ok"]
        diverged = int((runs["status"] == "diverged").sum())
        test = t_interval(with_runs(done["test_top1"], done)) if len(done) else Estimate(float("nan"), None, 0)
        train = t_interval(with_runs(done["train_top1"], done)) if len(done) else test
        rows.append(
            {
                "model": cell["model"],
                "augm.": "yes" if cell["augmented"] else "no",
                "images": "" if pd.isna(cell["train_examples"]) else f"{int(cell['train_examples']):,}",
                "epochs": _length(cell),
                "test top-1 % [95%]": test.text() + (f", {diverged} diverged" if diverged else ""),
                "paper (epochs)": _papers_number(paper, cell),
                "train %": train.text() if train.n == 0 else f"{train.mean:.1f}",
                "PFLOP": f"{done['train_flops'].mean() / 1e15:.2g}" if len(done) else "",
                "preset": cell["preset"],
            }
        )
    return pd.DataFrame(rows)


def _length(cell: dict) -> int | str:
    """The epochs of a cell; of one that is given by steps also those: "2.5 (100 steps)"."""
    if pd.notna(cell["epochs"]):
        return int(cell["epochs"])
    steps, examples = int(cell["steps"]), cell["train_examples"]
    if pd.isna(examples):
        return f"{steps:,} steps"
    return f"{steps / (int(examples) // int(cell['batch_size'])):g} ({steps:,} steps)"


def _papers_number(paper: pd.DataFrame, cell: dict) -> str:
    augment = "flip+crop+mixup" if cell["augmented"] else "none"
    same = paper[(paper["family"] == cell["family"]) & (paper["dataset"] == cell["dataset"])]
    same = same[same["augment"] == augment]
    texts = [papers_top1(row) + (f" ({row.epochs:.0f})" if pd.notna(row.epochs) else "") for row in same.itertuples()]
    return "<br>".join(texts) or "none"


def papers_top1(row) -> str:
    """A number of the paper's table, with a star where it is reported but not verified."""
    return f"{row.top1:.1f}{'*' if row.mark == 'M' else ''}"


def percent(runs: pd.DataFrame, column: str) -> str:
    """The mean of a column over the finished runs, to one decimal; "not run" where there is none."""
    values = runs.loc[runs["status"] == "ok", column].dropna() if column in runs else ()
    return f"{values.astype(float).mean():.1f}" if len(values) else "not run"


def table_of_precision(replicates: pd.DataFrame) -> pd.DataFrame:
    """fp32 minus bf16 in points of test top-1, paired by seed, for every cell whose runs were trained in both, and p of
    the test that the two are equal within a point.

    replicates: one row a record (`Store.replicate_frame`), of one cell a model and augmentation. Beside the difference
    stands what changing the seed does.
    """
    rows = []
    for (model, augment), both in _in_both_precisions(replicates).items():
        test = _equal_within_a_point(both)
        rows.append(
            {
                "model": model,
                "augmentation": "no" if augment == "none" else "yes",
                "fp32 - bf16, points [95%]": paired_difference(both["fp32"], both["bf16"]).text(2),
                "at 90%": "[{:.2f}, {:.2f}]".format(*test.estimate.interval) if test.estimate.interval else "",
                f"p, within {NOTHING:g} point": p_text(test.p),
                "standard deviation between seeds": f"{both['bf16'].std():.2f}" if len(both) > 1 else "",
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"fp32 - bf16": ["not run"]})


def equal_precision(replicates: pd.DataFrame) -> tuple[int, int]:
    """Of how many cells of `table_of_precision` it is shown, at 5%, that fp32 and bf16 are equal within a point, and
    how many cells there are."""
    tests = [_equal_within_a_point(both) for both in _in_both_precisions(replicates).values()]
    return sum(test.p < 0.05 for test in tests), len(tests)


def p_text(p: float) -> str:
    """A p-value for a table; empty where there is none."""
    return "" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _in_both_precisions(replicates: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Test top-1 of every run trained in both, with columns fp32 and bf16, by model and augmentation. Of several
    records of a run in one precision, the first counts."""
    done = replicates[replicates["status"] == "ok"]
    found = {}
    for cell, records in done.groupby(["model", "augment"], sort=False) if len(done) else ():
        by_run = records.groupby(["seed", "key", "precision"])["test_top1"].first().unstack()
        if {"fp32", "bf16"} <= {*by_run}:
            both = by_run[["fp32", "bf16"]].dropna()
            found[cell] = with_runs(both, both.reset_index())
    return {cell: both for cell, both in found.items() if len(both)}


def _equal_within_a_point(both: pd.DataFrame) -> Equivalence:
    return paired_equivalence(both["fp32"], both["bf16"], NOTHING)


def table_of_choices(cells: Sequence) -> pd.DataFrame:
    """How each cell's learning rate was chosen: validation top-1 at every lr of its grid (mean of seeds), and why no
    conclusion may rest on it (`Choice.flags`)."""
    rows = []
    for cell in cells:
        grid = cell.choice.grid
        scores = {
            f"{lr:g}": "given" if status == "given" else status if status != "ok" else f"{value:.1f}"
            for lr, value, status in zip(grid["lr"], grid["val_top1"], grid["status"], strict=True)
        }
        rows.append(
            {
                "model": cell.model,
                "augmentation": "no" if cell.augment == "none" else "yes",
                **scores,
                "chosen": f"{cell.choice.lr:g}" if cell.choice.final else "open",
                "flags": "; ".join(cell.choice.flags) or "none",
            }
        )
    table = pd.DataFrame(rows)
    lrs = sorted((c for c in table if c not in ("model", "augmentation", "chosen", "flags")), key=float)
    return table[["model", "augmentation", *lrs, "chosen", "flags"]].fillna("")


def table_of_rates(choices: Mapping[tuple[str, ...], Any], columns: Sequence[str]) -> pd.DataFrame:
    """How learning rates were chosen, a row each `chapters.tuning.Choice`: `columns` name the parts of the keys, then
    validation top-1 at every rate that was tried (mean of seeds), the choice, and what speaks against it
    (`Choice.flags`)."""
    rows = []
    for key, choice in choices.items():
        tried = (
            f"{lr:.3g}: {value:.1f}" if status in FINISHED else f"{lr:.3g}: {status}"
            for lr, value, status in zip(*(choice.grid[c] for c in ("lr", "val_top1", "status")), strict=True)
        )
        rows.append(
            {
                **dict(zip(columns, key, strict=True)),
                "rate: validation top-1 %": ", ".join(tried),
                "chosen": f"{choice.lr:.3g}" if choice.final else "open",
                "flags": "; ".join(choice.flags) or "none",
            }
        )
    return pd.DataFrame(rows)


def table_of_plan(plan) -> pd.DataFrame:
    """Every run that a chapter rests on, with its cost and its state (`planning.Plan`)."""
    return pd.DataFrame(
        {
            "run": run.key,
            "model": run.model,
            "data": f"{run.dataset}, {run.train_examples:,} images",
            "augmentation": run.augment,
            "epochs": run.epochs or f"{run.total_steps / run.steps_per_epoch:g} ({run.steps:,} steps)",
            "batch": run.batch_size,
            "lr": f"{run.lr:g}",
            "seed": run.seed,
            "TFLOP": f"{flops / 1e12:.3g}",
            "state": state,
        }
        for run, state, flops in zip(*plan, strict=True)
    )
