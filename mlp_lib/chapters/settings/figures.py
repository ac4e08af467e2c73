"""What one changed setting does to an MLP: a figure and a table of differences paired by seed."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.settings.study import UNCHANGED
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, paired_difference, sign, t_interval

SCALE = ["train_examples", "epochs"]  # what an unchanged cell and its changes share, in whatever preset


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a model, scale and change: `estimate` of test top-1 and `difference` from the unchanged cell, in points
    (n = 0 where that has no run), and how many seeds `diverged`: these count as chance, so that a change that breaks
    training is not shown by what survives it. `preset`: those that hold the row's runs, of a frame that names them."""
    rows = []
    if "test_top1" not in frame:
        return pd.DataFrame(columns=["model", "family", "change", "estimate", "difference", "diverged"])
    for (model, family, images, epochs), runs in frame.groupby(["model", "family", *SCALE], sort=False, dropna=False):
        unchanged = by_seed(runs, change=UNCHANGED)
        for change, cell in runs.groupby("change", sort=False):
            values, same = by_seed(cell), change == UNCHANGED
            difference = Estimate(0.0, None, 0) if same else paired_difference(values, unchanged)
            rows.append(
                {
                    "model": model,
                    "family": family,
                    "images": images,
                    "epochs": epochs,
                    "change": change,
                    "estimate": t_interval(values),
                    "difference": difference,
                    "diverged": int((cell["status"] == "diverged").sum()),
                    "preset": ", ".join(cell["preset"].unique()) if "preset" in cell else "",
                }
            )
    return pd.DataFrame(rows)


def largest_gain(frame: pd.DataFrame, family: str) -> tuple[str, Estimate] | None:
    """Of a family, the change with the largest gain among those whose interval lies above 0, and that gain in points;
    None where no such change is shown."""
    rows = differences(frame)
    shown = [row for row in rows.itertuples() if row.family == family and sign(row.difference) > 0]
    best = max(shown, key=lambda row: row.difference.mean, default=None)
    return (best.change, best.difference) if best else None


def difference_of(frame: pd.DataFrame, family: str, change: str) -> Estimate:
    """What a change makes of a family's test top-1, in points; n = 0 where it has not been run."""
    rows = differences(frame)
    found = [row.difference for row in rows.itertuples() if (row.family, row.change) == (family, change)]
    return found[0] if found else Estimate(float("nan"), None, 0)


def forest(frame: pd.DataFrame) -> Figure:
    """Every change's difference with its 95% t-interval, a row a change; filled where the interval leaves 0 out."""
    rows = differences(frame)
    rows = rows[[d.n > 0 for d in rows["difference"]]].reset_index(drop=True)
    figure, axis = plt.subplots(figsize=(WIDTH, 0.8 + 0.32 * max(len(rows), 3)))
    for y, row in enumerate(rows.itertuples()):
        low, high = row.difference.interval or (row.difference.mean, row.difference.mean)
        mean, colour = row.difference.mean, FAMILY_COLOURS[row.family]
        axis.errorbar(
            mean,
            y,
            xerr=[[mean - low], [high - mean]],
            color=colour,
            marker="o",
            capsize=3,
            lw=1.5,
            mfc=colour if sign(row.difference) else "white",
        )
    axis.axvline(0, color="#777777", lw=1, ls=":")
    axis.set_yticks(range(len(rows)), [f"{row.family}: {row.change}" for row in rows.itertuples()])
    axis.invert_yaxis()
    axis.set_xlabel("difference in test top-1 (points)")
    axis.set_title("What one changed setting does to test accuracy", fontsize=10)
    plt.close(figure)
    return figure


def table_of_differences(frame: pd.DataFrame) -> pd.DataFrame:
    """The figure's numbers, with each cell's own accuracy; with a column `preset`, the scale and the preset too."""
    rows = differences(frame)
    if rows.empty:
        return pd.DataFrame({"change": frame["change"].unique(), "test top-1 % [95%]": "not run"})
    scale = {"images": rows["images"].map("{:,.0f}".format), "epochs": rows["epochs"].map("{:g}".format)}
    several = "preset" in frame
    return pd.DataFrame(
        {
            "model": rows["model"],
            **(scale if several else {}),
            "change": rows["change"],
            "test top-1 % [95%]": [
                estimate.text() + (f", {diverged} diverged" if diverged else "")
                for estimate, diverged in zip(rows["estimate"], rows["diverged"], strict=True)
            ],
            "difference, points [95%]": [
                "" if change == UNCHANGED else difference.text(2)
                for change, difference in zip(rows["change"], rows["difference"], strict=True)
            ],
            **({"preset": rows["preset"]} if several else {}),
        }
    )
