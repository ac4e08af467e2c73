"""The paper's protocol: what a linear probe reads from features trained at each batch size.

Frames are `study.Results.probes`: one row a run, with architecture, budget (fixed, tuned) and batch_size.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.batch_size.comparisons import Line, probe_accuracy, probe_by_seed, probes_of
from mlp_lib.chapters.batch_size.figures import LOOKS, batch_axis, draw_line, limit_to_percent, small_legend
from mlp_lib.chapters.batch_size.presets import JUDGED
from mlp_lib.chapters.batch_size.tables import columns_of_ends, sizes_at_an_edge
from mlp_lib.plots import tables
from mlp_lib.plots.style import WIDTH

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
        small_legend(axis)
    axes[0].set_ylabel("probe's test error (%)")
    limit_to_percent(axes)
    plt.close(figure)
    return figure


def table_of_probes(probes: pd.DataFrame) -> pd.DataFrame:
    """The linear probe's test accuracy at the smallest and the largest upstream batch size, and the difference. Beside
    it what the features come from: upstream validation top-1 at both, and where the upstream rate lies at an edge."""
    sizes, rows = (int(probes["batch_size"].min()), int(probes["batch_size"].max())), []
    for (architecture, budget, epochs), part in probes.groupby(["architecture", "budget", "epochs"], sort=False):
        line = Line({}, part, sizes, tuple(probe_by_seed(part, size) for size in sizes))
        upstream = [tables.percent(part[part["batch_size"] == size], "val_top1") for size in sizes]
        rows.append(
            {
                "architecture": architecture,
                "learning rate": TUNED if budget == "tuned" else f"{part['lr'].iloc[0]:g}",
                "epochs": f"{epochs:g}",
                **columns_of_ends(line, "probe's test top-1 % [95%]"),
                "upstream top-1 %": " and ".join(upstream),
                "lr at an edge": sizes_at_an_edge(part),
            }
        )
    return pd.DataFrame(rows)


def count_probes(probes: pd.DataFrame) -> tuple[int, int, int]:
    """How many probes were measured, how many of them chose a penalty at an edge of the grid, and how many stopped
    before their gradient was as small as asked."""
    found = [probe for row in probes.to_dict("records") for probe in probes_of(row)]
    return len(found), sum(probe["at_edge"] for probe in found), sum(not probe["converged"] for probe in found)
