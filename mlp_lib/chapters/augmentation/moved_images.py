"""Test images that are moved: does a model learn from augmentation that place does not matter? Figure, table and words
of rq2-augmentation, from its results (`studies.augmentation.Results`). No torch.

They also stand where nothing has run yet, as in plots/augmentation.py.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.augmentation.figures import ALL, NONE, band, side
from mlp_lib.plots.style import DASHES, FAMILY_COLOURS, WIDTH, say_not_run
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
    axis.xaxis.get_major_locator().set_params(integer=True)
    if found:
        axis.legend(fontsize=8, handlelength=DASHES)
    else:
        say_not_run(axis)
    plt.close(figure)
    return figure


def table_of_moves(results, pixels: tuple[int, ...] = (1, 2, 4, 8)) -> pd.DataFrame:
    """What moving the test images by so many pixels costs, in points of test top-1, paired by seed, and the share of
    the accuracy that is kept at the farthest of all shifts."""
    rows = []
    for (model, _, name), cell in _moved(results).items():
        shifts = cell["translated"].iloc[0]["shifts"]
        at = {shift: [m["top1"][i] for m in cell["translated"]] for i, shift in enumerate(shifts)}
        rows.append(
            {"model": model, "augmentation": name, "as they are, %": t_interval(at[0]).text()}
            | {f"{p} px": t_interval(np.subtract(at[p], at[0])).text() for p in pixels if p in at}
            | {f"kept at {shifts[-1]} px, % of the accuracy [95%]": t_interval(kept(cell)).text()}
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"moved test images": ["not run"]})


def kept(cell: pd.DataFrame) -> pd.Series:
    """Test top-1 at the farthest shift in percent of that on images as they are, by seed. Points that are lost do not
    compare models that have different numbers of them to lose."""
    return pd.Series(
        {
            row["seed"]: 100 * row["translated"]["top1"][-1] / row["translated"]["top1"][0]
            for row in cell.to_dict("records")
        },
        dtype=float,
    )


def kept_in_words(results) -> dict[str, str]:
    """For a sentence: the farthest shift in `pixels`, and by family, in `families`, the share of the accuracy, in
    percent, that is kept there without augmentation and with it, the difference paired by seed, and what its interval
    shows."""
    found, texts = _moved(results), []
    shifts = {cell["translated"].iloc[0]["shifts"][-1] for cell in found.values()}
    for family in dict.fromkeys(family for _, family, _ in found):
        without, full = (
            next(
                (kept(cell) for (_, other, name), cell in found.items() if (other, name) == (family, a)),
                pd.Series(dtype=float),
            )
            for a in (NONE, ALL)
        )
        more = paired_difference(full, without)
        shown = side(more, "more is kept with it", "less is kept with it", "no difference is shown")
        texts.append(
            f"the {family} keeps {t_interval(without).text()} without augmentation and "
            f"{t_interval(full).text()} with it ({shown}: {more.text()})"
        )
    return {"pixels": f"{max(shifts)}" if shifts else "no", "families": "; ".join(texts) or "not run"}


def _moved(results) -> dict[tuple[str, str, str], pd.DataFrame]:
    """The runs whose test images were moved, by model, family and augmentation, with the measure in `translated`."""
    rows = [row | {"translated": measures_of(row).get("translated")} for row in results.compared.to_dict("records")]
    rows = [row for row in rows if row["translated"]]
    if not rows:
        return {}
    return dict(iter(pd.DataFrame(rows).groupby(["model", "family", "augmentation"], sort=False)))
