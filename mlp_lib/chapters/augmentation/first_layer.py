"""First-layer weights of MLPs with and without augmentation: figures and tables of rq2-augmentation. No torch.

From `studies.augmentation.Results`, and standing as well where nothing has run yet, as in plots/augmentation.py.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.augmentation.figures import ALL, NONE, band, choices, if_run, short, side
from mlp_lib.measures.weight_images import decode_pictures
from mlp_lib.plots.style import DASHES, FAMILY_COLOURS, WIDTH, plain_log_axis, say_not_run
from mlp_lib.records.frames import measures_of
from mlp_lib.stats.intervals import Estimate, paired_difference, t_interval

MEASURED = ("radius", "entropy")
MORE, LESS, NOT_SHOWN = "more local", "less local", "not shown"


def table_of_locality(results) -> pd.DataFrame:
    """First-layer weights of every MLP by number of images: radius and entropy over all units, in percent of an even
    spread's, before and after training."""
    rows, layers = [], _layers(results)
    by_cell = {key: cell for key, cell in layers.groupby(["model", "augmentation", "train_examples"])}
    order = list(layers["model"].unique())
    for model, name, examples in sorted(by_cell, key=lambda key: (order.index(key[0]), key[1] == ALL, key[2])):
        cell = by_cell[model, name, examples]
        values = {
            column: t_interval(100 * cell[column].dropna())
            for column in ("radius", "initial_radius", "entropy", "initial_entropy")
        }
        rows.append(
            {
                "model": model,
                "augmentation": name,
                "images": f"{examples:,}",
                "radius, % [95%]": values["radius"].text(),
                "before training": short(values["initial_radius"]),
                "entropy, % [95%]": if_run(values["entropy"].n, values["entropy"].text()),
                "before training ": short(values["initial_entropy"]),
            }
        )
    return pd.DataFrame(rows)


def table_at_one_lr(results) -> pd.DataFrame:
    """First-layer weights without and with augmentation at one and the same learning rate, at each that was chosen for
    either, on the most images that both have; radius and entropy in percent of an even spread's, differences paired by
    seed. The runs at the other's rate are `results.control`, which no rule sees."""
    rows, layers, control, chosen = [], _layers(results), results.control, choices(results)
    for model in layers["model"].unique() if control.empty else control["model"].unique():
        runs = _at_most_images(results, model)
        for lr in sorted({chosen[model, name].lr for name in (NONE, ALL)}):
            more = _differences(runs, lr, lr)
            for name in (NONE, ALL):
                choice, weights = chosen[model, name], _by_seed(runs, name, lr)
                radius, entropy = (t_interval(weights[column]) for column in MEASURED)
                n = 0 if name == NONE else more["radius"].n
                rows.append(
                    {
                        "model": model,
                        "learning rate": f"{lr:g}" + (" (chosen)" if choice.final and choice.lr == lr else ""),
                        "augmentation": name,
                        "radius, % [95%]": radius.text(),
                        "radius, all - none [95%]": if_run(n, more["radius"].text()),
                        "entropy, % [95%]": if_run(entropy.n, entropy.text()),
                        "entropy, all - none [95%]": if_run(n, more["entropy"].text()),
                    }
                )
    return pd.DataFrame(rows)


def at_either_rate(results, family: str = "B-MLP") -> dict[str, str]:
    """Does the sign of claim 12's difference between the sides survive at one learning rate? For sentences: what the
    radius shows on the most images `between` the chosen rates, and `at-one` rate in both, at each; and the `sign`."""
    layers, chosen = _layers(results), choices(results)
    model = layers.loc[layers["family"] == family, "model"].iloc[0]
    runs, lrs = _at_most_images(results, model), [chosen[model, name].lr for name in (NONE, ALL)]
    between = _differences(runs, *lrs)["radius"]
    if lrs[0] == lrs[1]:
        same, says = f"the two chosen rates are one, {lrs[0]:g}", "needs no such control: the sides have one rate"
        return {"between": _more_local(between), "at-one": same, "sign": says}
    alone = {f"{lr:g}": _differences(runs, lr, lr)["radius"] for lr in sorted(lrs)}
    sign, signs = _local(between), {lr: _local(difference) for lr, difference in alone.items()}
    kept = [lr for lr, found in signs.items() if found == sign]
    others = ", ".join(f"at {lr} {found}" for lr, found in signs.items() if found != sign)
    if sign in (NOT_SHOWN, "not run"):
        says = "is not there to be kept: between the chosen rates none is shown"
    elif "not run" in signs.values():
        says = f"cannot be judged at both rates yet ({', '.join(f'at {lr} {found}' for lr, found in signs.items())})"
    elif not others:
        says = "is the same at either rate, so the learning rates alone do not make it"
    else:
        says = f"is the same {f'at {kept[0]} only' if kept else 'at neither'} ({others})"
    texts = "; ".join(f"at {lr} {_more_local(difference)}" for lr, difference in alone.items())
    return {"between": _more_local(between), "at-one": texts, "sign": says}


def by_radius_and_entropy(results) -> dict[str, str]:
    """Do the two measures agree that weights are more local with augmentation? For sentences: by MLP family, the
    numbers of images by what the intervals of with minus without show; and where the measures are `opposed`."""
    layers, words, opposed = _layers(results), {}, []
    for family, rows in layers.groupby("family", sort=False):
        sizes: dict[tuple[str, str], list[str]] = {}
        for examples in _both_sides(rows):
            more = _differences(rows[rows["train_examples"] == examples])
            radius, entropy = (_local(more[column]) for column in MEASURED)
            sizes.setdefault((radius, entropy), []).append(f"{examples:,}")
            opposed += [f"{family} at {examples:,}"] if {radius, entropy} == {LESS, MORE} else []
        words[family] = "; ".join(
            f"at {', '.join(found)} images "
            + (f"{radius} by either" if radius == entropy else f"{radius} by radius, {entropy} by entropy")
            for (radius, entropy), found in sizes.items()
        )
    return words | {"opposed": ", ".join(opposed) or "no number of images"}


def _local(difference: Estimate) -> str:
    """What the interval of a measure with augmentation minus without says: both are smaller for more local weights."""
    return side(difference, LESS, MORE, NOT_SHOWN)


def _more_local(difference: Estimate) -> str:
    return f"{_local(difference)} ({difference.text()})" if difference.n else "not run"


def _differences(runs: pd.DataFrame, without: float | None = None, full: float | None = None) -> dict[str, Estimate]:
    """Radius and entropy with all of the augmentation minus without it, in percent, paired by seed; of all runs, or of
    those at a learning rate for either side."""
    less, more = _by_seed(runs, NONE, without), _by_seed(runs, ALL, full)
    return {column: paired_difference(more[column], less[column]) for column in MEASURED}


def _by_seed(runs: pd.DataFrame, name: str, lr: float | None = None) -> pd.DataFrame:
    """Radius and entropy, in percent, of the runs with an augmentation (and lr) that are measured; a row a seed."""
    cell = runs[(runs["augmentation"] == name) & (True if lr is None else runs["lr"] == lr)]
    return 100 * cell.set_index("seed")[list(MEASURED)].dropna()


def _at_most_images(results, model: str) -> pd.DataFrame:
    """A model's runs without and with augmentation on the most images that both have, those of the control too."""
    layers, control = _layers(results), results.control
    own = layers[(layers["model"] == model) & (layers["train_examples"] == most_images(results, model))]
    return own if control.empty else pd.concat([own, control[control["model"] == model]])


def beside_the_verdict(results, family: str = "B-MLP") -> dict[str, str]:
    """What else differs between the two sides that claim 12 compares, for a sentence: the largest number of `images`,
    and there, by side, the learning rate (`lr-none`, `lr-all`) and top-1 on training images (`train-none`, ...)."""
    rows = _layers(results)
    rows = rows[rows["family"] == family]
    rows = rows[rows["train_examples"] == most_images(results, rows["model"].iloc[0])] if len(rows) else rows
    words = {"images": f"{rows['train_examples'].iloc[0]:,}" if len(rows) else "no"}
    for name in (NONE, ALL):
        cell = rows[rows["augmentation"] == name]
        done = cell[cell["status"] == "ok"]
        words[f"lr-{name}"] = f"{done['lr'].iloc[0]:g}" if len(done) else "not run"
        words[f"train-{name}"] = t_interval(done["train_top1"] if len(done) else []).text()
    return words


def most_images(results, model: str) -> int:
    """The largest number of images at which a model is trained both without and with all of the augmentation."""
    rows = _layers(results)
    return max(_both_sides(rows[rows["model"] == model]))


def _both_sides(rows: pd.DataFrame) -> list[int]:
    """The numbers of images, ascending, at which rows are without augmentation and with all of it."""
    sides = ({*rows.loc[rows["augmentation"] == name, "train_examples"]} for name in (NONE, ALL))
    return sorted(int(examples) for examples in set.intersection(*sides))


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
                band(
                    axis,
                    cell,
                    "train_examples",
                    column,
                    FAMILY_COLOURS[family],
                    style,
                    f"{family}{', augmented' if name == ALL else ''}",
                )
        initial = layers[f"initial_{column}"].dropna()
        if len(initial):
            axis.axhline(initial.mean(), color="#777777", lw=1, ls=":", label="before training")
        else:
            say_not_run(axis)
        plain_log_axis(axis)
        axis.set(xlabel="training images", title=f"{label} (1: spread evenly)")
    handles, names = axes[0].get_legend_handles_labels()
    if handles:  # below the panels: within them it would lie over a line
        figure.legend(
            handles, names, loc="outside lower center", ncols=5, fontsize=8, handlelength=DASHES, columnspacing=1.2
        )
    plt.close(figure)
    return figure


def first_layers_over_images(results, columns: int = 5, rows: int = 4) -> Figure:
    """The same first units of the B-MLP's first layer, before training and after it on ever more images; above without
    augmentation, below with all of it. Greatest |weight| over channels, each unit scaled by its own maximum."""
    frame = results.usual[(results.usual["family"] == "B-MLP") & (results.usual["seed"] == results.usual["seed"].min())]
    frame = frame[frame["augmentation"].isin((NONE, ALL))]
    sizes = _both_sides(frame)
    figure, axes = plt.subplots(
        2, 1 + len(sizes), figsize=(WIDTH, 2 * WIDTH / (1 + len(sizes)) * rows / columns + 0.5), squeeze=False
    )
    found = [(row, measures_of(row)) for row in frame.to_dict("records")]
    pictures = {(row["augmentation"], row["train_examples"]): measures.get("first_layer") for row, measures in found}
    initial = next(filter(None, (measures.get("first_layer_initial") for _, measures in found)), None)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    for line, name in zip(axes, (NONE, ALL), strict=True):
        for axis, units in zip(line, [initial, *(pictures.get((name, n)) for n in sizes)], strict=True):
            if units:
                axis.imshow(_sheet(decode_pictures(units), columns, rows), cmap="magma", interpolation="nearest")
            else:
                say_not_run(axis)
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
