"""Test images that are moved: does a model learn from augmentation that place does not matter? Figure and table of
rq2-augmentation, which also stand where nothing has run yet.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.augmentation.figures import band, if_run
from mlp_lib.chapters.augmentation.presets import ALL, NONE
from mlp_lib.plots.style import DASHES, FAMILY_COLOURS, WIDTH, say_not_run
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import measures_of
from mlp_lib.stats.intervals import paired_difference, t_interval


def accuracy_when_moved(results) -> Figure:
    """Test top-1 over the number of pixels by which the test images are moved, 95% bands between seeds."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2))
    found = _moved(results)
    for (_, family, name), cell in found.items():
        points = pd.DataFrame(
            {"shift": shift, "top1": top1}
            for m in cell["translated"]
            for shift, top1 in zip(m["shifts"], m["top1"], strict=True)
        )
        band(
            axis,
            points,
            "shift",
            "top1",
            FAMILY_COLOURS[family],
            "-" if name == ALL else "--",
            f"{family}{', augmented' if name == ALL else ''}",
        )
    axis.set(xlabel="test images moved by (pixels; mean of four directions)", ylabel="test top-1 (%)")
    axis.set_title("Accuracy on test images that are moved")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if found:
        axis.legend(fontsize=8, handlelength=DASHES)
    else:
        say_not_run(axis)
    plt.close(figure)
    return figure


def table_of_moves(results, pixels: tuple[int, ...] = (1, 2, 4, 8)) -> pd.DataFrame:
    """What moving the test images by so many pixels costs, in points of test top-1, paired by seed, and the share of
    the accuracy that is kept at the farthest of all shifts, with how much more of it is kept with augmentation."""
    rows, found = [], _moved(results)
    for (model, family, name), cell in found.items():
        shifts = cell["translated"].iloc[0]["shifts"]
        tops = {shift: [m["top1"][i] for m in cell["translated"]] for i, shift in enumerate(shifts)}
        at = {shift: with_runs(pd.Series(values, cell["seed"], dtype=float), cell) for shift, values in tops.items()}
        other = found.get((model, family, NONE)) if name == ALL else None
        more = paired_difference(kept(cell), kept(cell if other is None else other))
        rows.append(
            {"model": model, "augmentation": name, "as they are, %": t_interval(at[0]).text()}
            | {f"{p} px": t_interval(at[p] - at[0]).text() for p in pixels if p in at}
            | {f"kept at {shifts[-1]} px, % of the accuracy [95%]": t_interval(kept(cell)).text()}
            | {"more than without [95%]": if_run(more.n if other is not None else 0, more.text())}
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"moved test images": ["not run"]})


def kept(cell: pd.DataFrame) -> pd.Series:
    """Test top-1 at the farthest shift in percent of that on images as they are, by seed. Points that are lost do not
    compare models that have different numbers of them to lose."""
    shares = [100 * measure["top1"][-1] / measure["top1"][0] for measure in cell["translated"]]
    return with_runs(pd.Series(shares, cell["seed"], dtype=float), cell)


def _moved(results) -> dict[tuple[str, str, str], pd.DataFrame]:
    """The runs whose test images were moved, by model, family and augmentation, with the measure in `translated`."""
    rows = [row | {"translated": measures_of(row).get("translated")} for row in results.compared.to_dict("records")]
    rows = [row for row in rows if row["translated"]]
    if not rows:
        return {}
    return dict(iter(pd.DataFrame(rows).groupby(["model", "family", "augmentation"], sort=False)))
