"""Figures and tables of the chapter on augmentation, from its results (`studies.augmentation.Results`). No torch.

Colours stand for families; solid lines are with augmentation, dashed without. Every figure and table also stands where
nothing has run yet: panels stay empty, cells say so.
"""

from collections.abc import Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.equivalents import Equivalent, equivalent_examples
from mlp_lib.pictures import decode_pictures
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, plain_log_axis, t_bounds
from mlp_lib.rules import by_seed
from mlp_lib.stats import Estimate, paired_difference, t_interval

NONE, ALL = "none", "all"


class Worth(NamedTuple):
    """What one augmentation is worth to one model at the number of images at which they are compared."""

    model: str
    family: str
    augmentation: str
    top1: Estimate
    gain: Estimate  # points, paired by seed with no augmentation
    equivalent: Equivalent


def worth(results) -> list[Worth]:
    """Every model's augmentations in the study's order, with the number of images that would do as much."""
    found = []
    for model, family in _models(results.frame):
        curve, compared = learning_curve(results, model), results.compared
        base = by_seed(compared, model=model, augmentation=NONE)
        for name in compared.loc[compared["model"] == model, "augmentation"].unique():
            scores = by_seed(compared, model=model, augmentation=name)
            found.append(
                Worth(model, family, name, t_interval(scores), paired_difference(scores, base),
                      equivalent_examples(curve, scores))
            )  # fmt: skip
    return found


def learning_curve(results, model: str) -> pd.DataFrame:
    """Test top-1 without augmentation: a row a seed, a column a number of images; diverged runs count as chance."""
    rows = results.usual[(results.usual["model"] == model) & (results.usual["augmentation"] == NONE)]
    return pd.DataFrame({n: by_seed(cell, model=model) for n, cell in rows.groupby("train_examples")})


def _models(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return frame[["model", "family"]].drop_duplicates().itertuples(index=False, name=None)


# --- tables


def table_of_worth(results) -> pd.DataFrame:
    """A row a model and augmentation: test top-1, points gained, and the same in training examples."""
    rows = [
        {
            "model": w.model,
            "augmentation": w.augmentation,
            "test top-1 % [95%]": w.top1.text(),
            "gain, points [95%]": "" if w.augmentation == NONE else w.gain.text(),
            "as much as this many images [95%]": "" if w.augmentation == NONE else w.equivalent.text(),
            "times as many": "" if w.augmentation == NONE else w.equivalent.factor(results.subset),
        }
        for w in worth(results)
    ]
    return pd.DataFrame(rows)


def table_of_overfitting(results) -> pd.DataFrame:
    """With and without augmentation: the gap between training and test images, and how far the validation loss has
    risen at the end from the lowest point of its learning curve."""
    rows = []
    for model, _ in _models(results.frame):
        for name in (NONE, ALL):
            cell = results.compared
            cell = cell[(cell["model"] == model) & (cell["augmentation"] == name) & (cell["status"] == "ok")]
            gap = t_interval(cell["train_top1"] - cell["test_top1"]) if len(cell) else t_interval([])
            rows.append(
                {
                    "model": model,
                    "augmentation": name,
                    "train - test top-1, points [95%]": gap.text(),
                    "rise of the validation loss, nats [95%]": t_interval(_rises(cell)).text(2),
                }
            )
    return pd.DataFrame(rows)


def _rises(cell: pd.DataFrame) -> list[float]:
    """Last minus lowest validation loss of each run's curve."""
    curves = [[point["val_loss"] for point in curve if "val_loss" in point] for curve in cell.get("curve", [])]
    return [losses[-1] - min(losses) for losses in curves if losses]


def table_of_smoothing(results) -> pd.DataFrame:
    """Label smoothing with and without augmentation, where it is varied: test top-1 and loss, and the difference to the
    least of it, paired by seed."""
    frame = results.frame[results.frame["train_examples"] == results.subset]
    varied = frame.loc[frame["label_smoothing"].isin(_varied(frame)), "model"].unique()
    rows = []
    for model in varied:
        for name in (NONE, ALL):
            cell = frame[(frame["model"] == model) & (frame["augmentation"] == name)]
            values = sorted(cell["label_smoothing"].unique())
            for value in values:
                runs = cell[cell["label_smoothing"] == value]
                scores, least = by_seed(runs), by_seed(cell[cell["label_smoothing"] == values[0]])
                loss = runs["test_loss"].dropna() if "test_loss" in runs else []
                rows.append(
                    {
                        "model": model,
                        "augmentation": name,
                        "smoothing": f"{value:g}",
                        "test top-1 % [95%]": t_interval(scores).text(),
                        f"more than at {values[0]:g}, points": ""
                        if value == values[0] else paired_difference(scores, least).text(),
                        "test loss, nats [95%]": t_interval(loss).text(2),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows) if rows else pd.DataFrame({"label smoothing": ["not varied in this preset"]})


def _varied(frame: pd.DataFrame) -> list[float]:
    values = sorted(frame["label_smoothing"].unique())
    return values[:-1]  # the largest is what all runs have


def table_of_locality(results) -> pd.DataFrame:
    """First-layer weights of every MLP by number of images: radius and entropy over all units, in percent of an even
    spread's, before and after training."""
    rows, layers = [], _layers(results)
    by_cell = {key: cell for key, cell in layers.groupby(["model", "augmentation", "train_examples"])}
    order = list(layers["model"].unique())
    for model, name, examples in sorted(by_cell, key=lambda key: (order.index(key[0]), key[1] == ALL, key[2])):
        cell = by_cell[model, name, examples]
        values = {column: t_interval(100 * cell[column].dropna())
                  for column in ("radius", "initial_radius", "entropy", "initial_entropy")}  # fmt: skip
        rows.append(
            {
                "model": model,
                "augmentation": name,
                "images": f"{examples:,}",
                "radius, % [95%]": values["radius"].text(),
                "before training": _short(values["initial_radius"]),
                "entropy, % [95%]": values["entropy"].text(),
                "before training ": _short(values["initial_entropy"]),
            }
        )
    return pd.DataFrame(rows)


def _short(estimate: Estimate) -> str:
    return f"{estimate.mean:.1f}" if estimate.n else "not run"


def table_of_moves(results, pixels: tuple[int, ...] = (1, 2, 4, 8)) -> pd.DataFrame:
    """What moving the test images by so many pixels costs, in points of test top-1, paired by seed."""
    rows = []
    for family, name, cell in _moved(results):
        shifts = cell["translated"].iloc[0]["shifts"]
        at = {shift: [m["top1"][i] for m in cell["translated"]] for i, shift in enumerate(shifts)}
        rows.append(
            {"model": family, "augmentation": name, "as they are, %": t_interval(at[0]).text()}
            | {f"{p} px": t_interval(np.subtract(at[p], at[0])).text() for p in pixels if p in at}
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"moved test images": ["not run"]})


# --- figures


def gains(results) -> Figure:
    """Points of test top-1 that each augmentation brings to each model, with 95% t-intervals, paired by seed."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6))
    found = [w for w in worth(results) if w.augmentation != NONE]
    names, families = list(dict.fromkeys(w.augmentation for w in found)), list(dict.fromkeys(w.family for w in found))
    for w in found:
        if w.gain.n:
            y = names.index(w.augmentation) + 0.16 * (families.index(w.family) - (len(families) - 1) / 2)
            low, high = w.gain.interval or (w.gain.mean, w.gain.mean)
            axis.errorbar(w.gain.mean, y, xerr=[[w.gain.mean - low], [high - w.gain.mean]], marker="o", capsize=3,
                          color=FAMILY_COLOURS[w.family], lw=1.5)  # fmt: skip
    for family in families:
        axis.plot([], [], color=FAMILY_COLOURS[family], marker="o", ls="", label=family)
    axis.axvline(0, color="#777777", lw=1)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("points of test top-1 over no augmentation")
    axis.legend(ncols=len(families), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    plt.close(figure)
    return figure


def read_off_the_curve(results) -> Figure:
    """Test top-1 over the number of images, a panel a model: dashed without augmentation, solid with all of it, 95%
    bands; and how the worth of all of it is read: from its accuracy across to the dashed curve, and down."""
    models = list(_models(results.frame))
    rows = -(-len(models) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 2.6 * rows), sharex=True, squeeze=False)
    full = {w.model: w for w in worth(results) if w.augmentation == ALL}
    for axis, (model, family) in zip(axes.flat, models, strict=False):
        for name, style in ((NONE, "--"), (ALL, "-")):
            cell = results.usual[(results.usual["model"] == model) & (results.usual["augmentation"] == name)]
            _band(axis, cell, "train_examples", "test_top1", FAMILY_COLOURS[family], style)
        _reading(axis, full.get(model), results.subset)
        plain_log_axis(axis)
        axis.set_title(model, fontsize=10)
    for axis in axes.flat[len(models) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("test top-1 (%)")
    for axis in axes[-1]:
        axis.set_xlabel("training images")
    plt.close(figure)
    return figure


def _reading(axis, found: Worth | None, base: int) -> None:
    """From the augmented accuracy across to the curve and down to the axis, with the interval as a grey stripe."""
    if found is None or found.equivalent.n == 0:
        return
    e = found.equivalent

    def inside(n: float) -> float:
        return float(np.clip(n, e.fewest, e.most))

    if e.interval is not None:
        axis.axvspan(*(inside(end) for end in e.interval), color="#999999", alpha=0.25, lw=0)
    if 0 < e.examples < np.inf:
        axis.plot([base, e.examples, e.examples], [found.top1.mean] * 2 + [axis.get_ylim()[0]], color="#333333", lw=1,
                  ls=":")  # fmt: skip
    else:
        axis.plot([base, inside(e.examples)], [found.top1.mean] * 2, color="#333333", lw=1, ls=":")


def _band(axis, rows: pd.DataFrame, over: str, column: str, colour: str, style: str, label: str | None = None) -> None:
    """Mean of a column with its 95% t-band, over another column, whose values are on the x-axis."""
    rows = rows.dropna(subset=[column]) if column in rows else rows[:0]
    if rows.empty:
        return
    grouped = rows.groupby(over)[column]
    mean, bounds = grouped.mean(), grouped.apply(t_bounds)
    axis.plot(mean.index, mean, color=colour, ls=style, marker="o", markersize=3, label=label)
    axis.fill_between(mean.index, [b[0] for b in bounds], [b[1] for b in bounds], color=colour, alpha=0.18, lw=0)


def _layers(results) -> pd.DataFrame:
    """The runs whose first layer is compared: MLPs without and with all of the augmentation."""
    frame = results.usual
    return frame[frame["family"].str.endswith("MLP") & frame["augmentation"].isin((NONE, ALL))]


def locality_over_images(results) -> Figure:
    """Radius and entropy of first-layer weights over the number of training images, mean over all units, 95% bands;
    grey: before training."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    layers = _layers(results)
    labels = {"radius": "effective radius", "entropy": "spatial entropy"}
    for axis, (column, label) in zip(axes, labels.items(), strict=True):
        for family, rows in layers.groupby("family", sort=False):
            for name, style in ((NONE, "--"), (ALL, "-")):
                cell = rows[rows["augmentation"] == name]
                _band(axis, cell, "train_examples", column, FAMILY_COLOURS[family], style,
                      f"{family}{', augmented' if name == ALL else ''}")  # fmt: skip
        initial = layers[f"initial_{column}"].dropna()
        if len(initial):
            axis.axhline(initial.mean(), color="#777777", lw=1, ls=":", label="before training")
        plain_log_axis(axis)
        axis.set(xlabel="training images", title=f"{label} (1: spread evenly)")
    if layers["initial_radius"].notna().any():
        axes[0].legend(fontsize=7)
    plt.close(figure)
    return figure


def first_layers_over_images(results, columns: int = 5, rows: int = 4) -> Figure:
    """The same first units of the B-MLP's first layer, before training and after it on ever more images; above without
    augmentation, below with all of it. Greatest |weight| over channels, each unit scaled by its own maximum."""
    frame = results.usual[(results.usual["family"] == "B-MLP") & (results.usual["seed"] == results.usual["seed"].min())]
    frame = frame[frame["augmentation"].isin((NONE, ALL))]
    both = set.intersection(*({*frame.loc[frame["augmentation"] == name, "train_examples"]} for name in (NONE, ALL)))
    sizes = sorted(both)
    figure, axes = plt.subplots(2, 1 + len(sizes), figsize=(WIDTH, 2 * WIDTH / (1 + len(sizes)) * rows / columns + 0.5),
                                squeeze=False)  # fmt: skip
    pictures = {(row["augmentation"], row["train_examples"]): _measured(row, "first_layer")
                for row in frame.to_dict("records")}  # fmt: skip
    initial = next(filter(None, (_measured(row, "first_layer_initial") for row in frame.to_dict("records"))), None)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    for line, name in zip(axes, (NONE, ALL), strict=True):
        for axis, measured in zip(line, [initial, *(pictures.get((name, n)) for n in sizes)], strict=True):
            if measured:
                axis.imshow(_sheet(decode_pictures(measured), columns, rows), cmap="magma", interpolation="nearest")
        line[0].set_ylabel("no augmentation" if name == NONE else "augmented", fontsize=9)
    for axis, title in zip(axes[0], ["before training", *(f"{n:,} images" for n in sizes)], strict=True):
        axis.set_title(title, fontsize=9)
    plt.close(figure)
    return figure


def _sheet(units: np.ndarray, columns: int, rows: int) -> np.ndarray:
    shown = units[: columns * rows]
    shown = np.pad(shown, ((0, columns * rows - len(shown)), (1, 1), (1, 1)), constant_values=255)
    height, width = shown.shape[1:]
    return shown.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def _measured(row: dict, name: str):
    return row["measures"].get(name) if isinstance(row.get("measures"), dict) else None


def _moved(results) -> list[tuple[str, str, pd.DataFrame]]:
    """The runs whose test images were moved, with the measure in a column `translated`, by model and augmentation."""
    rows = [row | {"translated": _measured(row, "translated")} for row in results.compared.to_dict("records")]
    rows = [row for row in rows if row["translated"]]
    if not rows:
        return []
    grouped = pd.DataFrame(rows).groupby(["model", "augmentation"], sort=False)
    return [(model, name, cell) for (model, name), cell in grouped]


def accuracy_when_moved(results) -> Figure:
    """Test top-1 over the number of pixels by which the test images are moved, 95% bands between seeds."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2))
    found = _moved(results)
    for _, name, cell in found:
        points = pd.DataFrame(
            {"shift": shift, "top1": top1}
            for m in cell["translated"] for shift, top1 in zip(m["shifts"], m["top1"], strict=True)
        )  # fmt: skip
        family = cell["family"].iloc[0]
        _band(axis, points, "shift", "top1", FAMILY_COLOURS[family], "-" if name == ALL else "--",
              f"{family}{', augmented' if name == ALL else ''}")  # fmt: skip
    axis.set(xlabel="test images moved by (pixels; mean of four directions)", ylabel="test top-1 (%)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if found:
        axis.legend(fontsize=8)
    plt.close(figure)
    return figure
