"""The paper's protocol in chapter rq2-batch-size: what a linear probe reads from features trained at each batch size.

Frames are `studies.batch_size.Results.probes`: one row a run, with architecture, budget (fixed, tuned), batch_size. No
torch.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.batch_size.figures import LOOKS, batch_axis, draw_line, edges, ends_of, legend, possible
from mlp_lib.chapters.batch_size.study import JUDGED
from mlp_lib.plots import tables
from mlp_lib.plots.style import WIDTH
from mlp_lib.records.frames import measures_of
from mlp_lib.stats.intervals import Estimate, paired_difference, sign

TUNED = "tuned for each batch size"


def probe_error(probes: pd.DataFrame) -> Figure:
    """Test error of the linear probe against the batch size of the training that made the features: at one learning
    rate for all (dashed, a line a training length) and at that tuned for each batch size (solid)."""
    figure, axes = plt.subplots(1, len(JUDGED), figsize=(WIDTH, 3.2), sharey=True)
    for axis, architecture in zip(axes, JUDGED, strict=True):
        rows = probes[probes["architecture"] == architecture]
        rows = rows.assign(error=100 - probe_accuracy(rows))
        lengths = sorted(rows["epochs"].unique())
        for (budget, epochs), part in rows.groupby(["budget", "epochs"], sort=False):
            strong = 0.35 + 0.65 * (lengths.index(epochs) + 1) / len(lengths)
            look = {
                **LOOKS[architecture],
                "ls": "-" if budget == "tuned" else "--",
                "alpha": strong,
                "mfc": None if budget == "tuned" else "white",
            }
            name = f"{'tuned lr' if budget == 'tuned' else 'one lr'}, {epochs:g} epochs"
            draw_line(axis, {b: c.set_index("seed")["error"] for b, c in part.groupby("batch_size")}, name, look)
        axis.set_title(architecture)
        batch_axis(axis, probes["batch_size"])
        legend(axis)
    axes[0].set_ylabel("probe's test error (%)")
    possible(axes)
    plt.close(figure)
    return figure


def table_of_probes(probes: pd.DataFrame) -> pd.DataFrame:
    """The linear probe's test accuracy at the smallest and the largest upstream batch size, and the difference. Beside
    it what the features come from: upstream validation top-1 at both, and where the upstream rate lies at an edge."""
    ends, rows = probes["batch_size"].agg(["min", "max"]), []
    for (architecture, budget, epochs), part in probes.groupby(["architecture", "budget", "epochs"], sort=False):
        scores = [_by_seed(part, size) for size in ends]
        upstream = [tables.percent(part[part["batch_size"] == size], "val_top1") for size in ends]
        rows.append(
            {
                "architecture": architecture,
                "learning rate": TUNED if budget == "tuned" else f"{part['lr'].iloc[0]:g}",
                "epochs": f"{epochs:g}",
                **ends_of(ends, scores, "probe's test top-1 % [95%]"),
                "upstream top-1 %": " and ".join(upstream),
                "lr at an edge": edges(part),
            }
        )
    return pd.DataFrame(rows)


def probe_accuracy(probes: pd.DataFrame) -> pd.Series:
    """The probe's test top-1 in percent for each row; nan where it was not measured."""
    found = [next((probe["test_top1"] for probe in _probes(row)), np.nan) for row in probes.to_dict("records")]
    return pd.Series(found, probes.index, dtype=float)


def probes_flagged(probes: pd.DataFrame) -> tuple[int, int, int]:
    """How many probes were measured, how many of them chose a penalty at an edge of the grid, and how many stopped
    before their gradient was as small as asked."""
    found = [probe for row in probes.to_dict("records") for probe in _probes(row)]
    return len(found), sum(probe["at_edge"] for probe in found), sum(not probe["converged"] for probe in found)


def _probes(row: dict) -> list[dict]:
    return [measure for name, measure in measures_of(row).items() if name.startswith("probe_")]


def changes(probes: pd.DataFrame) -> dict[tuple[str, str], Estimate]:
    """The probe's test top-1 at the largest upstream batch size minus that at the smallest, paired by seed, after the
    longest training, by architecture and budget (fixed, tuned)."""
    found = {}
    longest = probes[probes["epochs"] == probes["epochs"].max()]
    for (architecture, budget), part in longest.groupby(["architecture", "budget"], sort=False):
        smallest, largest = _by_seed(part, part["batch_size"].min()), _by_seed(part, part["batch_size"].max())
        found[architecture, budget] = paired_difference(largest, smallest)
    return found


def _by_seed(rows: pd.DataFrame, batch_size: int) -> pd.Series:
    """The probe's accuracy by seed, of one batch size."""
    kept = rows[rows["batch_size"] == batch_size]
    return probe_accuracy(kept).set_axis(kept["seed"]).dropna()


def reading(change: Estimate) -> str:
    """What an interval shows of a larger batch."""
    if change.interval is None:
        return "not run"
    return {1: "better", -1: "worse", 0: "neither better nor worse for certain"}[sign(change)]
