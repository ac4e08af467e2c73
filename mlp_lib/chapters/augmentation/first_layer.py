"""First-layer weights of MLPs with and without augmentation: figures and tables of rq2-augmentation, which also stand
where nothing has run yet.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.augmentation.figures import band, if_run, rate_text, short
from mlp_lib.chapters.augmentation.presets import ALL, NONE
from mlp_lib.chapters.rule import Rule
from mlp_lib.measures.weight_images import decode_pictures
from mlp_lib.plots.style import DASHES, FAMILY_COLOURS, WIDTH, plain_log_axis, say_not_run
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import measures_of
from mlp_lib.stats.intervals import Estimate, paired_difference, t_interval

MEASURED = ("radius", "entropy")
REST = {"entropy": "entropy", "change_radius": "radius of the change", "change_entropy": "entropy of the change"}


def table_of_locality(results) -> pd.DataFrame:
    """First-layer weights of every MLP by number of images: radius and entropy over all units, in percent of an even
    spread's, before and after training."""
    rows, layers = [], _layers(results)
    by_cell = {key: cell for key, cell in layers.groupby(["model", "augmentation", "train_examples"])}
    order = list(layers["model"].unique())
    for model, name, examples in sorted(by_cell, key=lambda key: (order.index(key[0]), key[1] == ALL, key[2])):
        cell = by_cell[model, name, examples]
        values = {
            column: t_interval(100 * with_runs(cell[column], cell).dropna())
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


def table_of_differences(results) -> pd.DataFrame:
    """First-layer weights with all of the augmentation minus without it, by number of images, paired by seed, in % of
    an even spread: of the weights, and of the weights minus the initial ones. Below 0 is more local with it."""
    rows, layers = [], _layers(results)
    for model, runs in layers.groupby("model", sort=False):
        for images in _both_sides(runs):
            more = _differences(runs[runs["train_examples"] == images])
            n = more["radius"].n
            rows.append(
                {"model": model, "images": f"{images:,}", "radius [95%]": more["radius"].text()}
                | {
                    f"{label} [95%]": if_run(n and more[column].n, more[column].text())
                    for column, label in REST.items()
                }
            )
    return pd.DataFrame(rows)


def table_of_movement(results) -> pd.DataFrame:
    """How far training came: by MLP, augmentation and number of images, the learning rate, top-1 on training images (as
    they are), and the norm of the change of the first layer's weights in percent of the initial weights' norm."""
    rows, layers = [], _layers(results)
    for (model, name), runs in layers.groupby(["model", "augmentation"], sort=False):
        for images, cell in runs[runs["train_examples"].isin(_both_sides(layers[layers["model"] == model]))].groupby(
            "train_examples"
        ):
            done = cell[cell["status"] == "ok"]
            train = t_interval(with_runs(done["train_top1"], done) if len(done) else [])
            moved = t_interval(100 * with_runs(cell["moved"], cell).dropna())
            rows.append(
                {
                    "model": model,
                    "augmentation": name,
                    "images": f"{images:,}",
                    "learning rate": rate_text(results.choices[model, name]),
                    "train top-1, % [95%]": train.text(),
                    "moved, % of the initial norm [95%]": if_run(moved.n, moved.text()),
                }
            )
    return pd.DataFrame(rows)


def table_at_other_rates(results) -> pd.DataFrame:
    """At the most images that both sides have: first-layer weights without and with augmentation at each learning rate
    that was tried there, radius and entropy in percent of an even spread's. Rates beside the chosen are of the control
    (`results.control`), which no rule sees."""
    rows, layers = [], _layers(results)
    for model in layers["model"].unique():
        runs = _at_most_images(results, model)
        for (name, lr), cell in sorted(
            runs.groupby(["augmentation", "lr"]), key=lambda pair: (pair[0][0] == ALL, pair[0][1])
        ):
            choice = results.choices[model, name]
            own = {column: t_interval(100 * with_runs(cell[column], cell).dropna()) for column in MEASURED}
            rows.append(
                {
                    "model": model,
                    "augmentation": name,
                    "learning rate": f"{lr:g}" + (" (chosen)" if choice.final and choice.lr == lr else ""),
                    "radius, % [95%]": own["radius"].text(),
                    "entropy, % [95%]": if_run(own["entropy"].n, own["entropy"].text()),
                }
            )
    return pd.DataFrame(rows)


def table_of_settings(settings: Mapping[str, Mapping[str, Estimate]], rule: Rule) -> pd.DataFrame:
    """The parts of a rule under other settings (`rules.by_setting`), a row a setting and part, in the rule's unit; a
    setting counts as holding where all of its parts lie above 0, interval and all."""
    rows = []
    for setting, parts in settings.items():
        shown = {name: part for name, part in parts.items() if part.n}
        held = bool(parts) and all(part.interval and part.interval[0] > 0 for part in parts.values())
        compared = bool(parts) and all(part.interval for part in parts.values())
        for at, (name, part) in enumerate(shown.items() if shown else [("", Estimate(float("nan"), None, 0))]):
            first = at == 0
            rows.append(
                {
                    "setting": setting if first else "",
                    "comparison": name,
                    f"{rule.unit} [95%]": part.text(),
                    "holds": ("yes" if held else "no" if compared else "") if first else "",
                }
            )
    return pd.DataFrame(rows)


def training_at_most_images(results, family: str = "B-MLP") -> tuple[int, dict[str, Estimate]]:
    """The most images at which a family has both sides, and its top-1 on training images (as they are) there, without
    augmentation (`NONE`) and with all of it (`ALL`)."""
    rows = _layers(results)
    rows = rows[rows["family"] == family]
    images = most_images(results, rows["model"].iloc[0])
    done = rows[(rows["train_examples"] == images) & (rows["status"] == "ok")]
    found = {name: done.loc[done["augmentation"] == name] for name in (NONE, ALL)}
    return images, {
        name: t_interval(with_runs(cell["train_top1"], cell) if len(cell) else []) for name, cell in found.items()
    }


def _differences(runs: pd.DataFrame) -> dict[str, Estimate]:
    """Statistics of the first layer with all of the augmentation minus without it, in percent, paired by seed."""

    def by_seed(name: str, column: str) -> pd.Series:
        own = runs[runs["augmentation"] == name]
        return 100 * with_runs(own.set_index("seed")[column], own).dropna()

    return {column: paired_difference(by_seed(ALL, column), by_seed(NONE, column)) for column in (*MEASURED, *REST)}


def _at_most_images(results, model: str) -> pd.DataFrame:
    """A model's runs without and with augmentation on the most images that both have, those of the control too."""
    layers, control = _layers(results), results.control
    own = layers[(layers["model"] == model) & (layers["train_examples"] == most_images(results, model))]
    return own if control.empty else pd.concat([own, control[control["model"] == model]])


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
        axis.set(xlabel="training images", title=f"First layer: {label} (1 is even)")
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
