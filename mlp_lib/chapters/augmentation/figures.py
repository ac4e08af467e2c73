"""Accuracy with and without augmentation: figures and tables of rq2-augmentation, from its results (study.Results).

Colours stand for families; solid lines are with augmentation, dashed without. Where nothing has run yet, panels and
rows say so.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mlp_lib.chapters.augmentation.presets import ALL, NONE
from mlp_lib.chapters.tuning import Choice
from mlp_lib.plots.style import DASHES, FAMILY_COLOURS, WIDTH, plain_log_axis, say_not_run, t_bounds
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.equivalent_examples import Equivalent, equivalent_examples
from mlp_lib.stats.intervals import Estimate, paired_difference, t_interval


class Gain(NamedTuple):
    """What one augmentation is worth to one model at the number of images at which they are compared."""

    model: str
    family: str
    augmentation: str
    top1: Estimate
    gain: Estimate  # points, paired by seed with no augmentation
    equivalent: Equivalent


def worth(results) -> list[Gain]:
    """Every model's augmentations in the study's order, with the number of images that would do as much."""
    found = []
    for model, family in _models(results.frame):
        curve, compared = learning_curve(results, model), results.compared
        base = by_seed(compared, model=model, augmentation=NONE)
        for name in compared.loc[compared["model"] == model, "augmentation"].unique():
            scores = by_seed(compared, model=model, augmentation=name)
            found.append(
                Gain(
                    model,
                    family,
                    name,
                    t_interval(scores),
                    paired_difference(scores, base),
                    equivalent_examples(curve, scores),
                )
            )
    return found


def learning_curve(results, model: str, augmentation: str = NONE) -> pd.DataFrame:
    """Test top-1, without augmentation unless one is named: a row a seed, a column a number of images; diverged runs
    count as chance."""
    rows = results.usual[(results.usual["model"] == model) & (results.usual["augmentation"] == augmentation)]
    curve = pd.DataFrame({n: by_seed(cell, model=model) for n, cell in rows.groupby("train_examples")})
    return with_runs(curve, rows, by="seed")


def _models(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return frame[["model", "family"]].drop_duplicates().itertuples(index=False, name=None)


# --- tables


def table_of_worth(results) -> pd.DataFrame:
    """A row a model and augmentation: test top-1, points gained, the same in training examples, learning rate."""
    rows = []
    for w in worth(results):
        n = 0 if w.augmentation == NONE else w.gain.n
        rows.append(
            {
                "model": w.model,
                "augmentation": w.augmentation,
                "test top-1 % [95%]": w.top1.text(),
                "gain, points [95%]": if_run(n, w.gain.text()),
                "as much as this many images [95%]": if_run(n and w.equivalent.n, w.equivalent.text()),
                "times as many": if_run(n and w.equivalent.n, w.equivalent.factor(results.subset)),
                "learning rate": rate_text(results.choices[w.model, NONE if w.augmentation == NONE else ALL]),
            }
        )
    return pd.DataFrame(rows)


def rate_text(choice: Choice) -> str:
    """A chosen learning rate, marked where a choice is flagged; blank where it is not chosen yet."""
    return f"{choice.lr:g}{' (flagged)' if choice.flags else ''}" if choice.final else ""


def if_run(n: int, text: str) -> str:
    """What is derived is left blank where the runs it needs are missing: the row says once that they are."""
    return text if n else ""


def short(estimate: Estimate) -> str:
    """The mean alone, where the interval stands elsewhere or matters less; blank where nothing has run."""
    return f"{estimate.mean:.1f}" if estimate.n else ""


def gains_by_images(results) -> dict[tuple[str, int], Estimate]:
    """Points of test top-1 that all of the augmentation brings, paired by seed, by model and number of images: where a
    model is trained with it and without."""
    usual, found = results.usual, {}
    for model, _ in _models(results.frame):
        rows = usual[usual["model"] == model]
        both = set.intersection(*({*rows.loc[rows["augmentation"] == name, "train_examples"]} for name in (NONE, ALL)))
        for n in sorted(both):
            cell = rows[rows["train_examples"] == n]
            found[model, int(n)] = paired_difference(by_seed(cell, augmentation=ALL), by_seed(cell, augmentation=NONE))
    return found


def gains_at_most(results) -> tuple[int, dict[str, Estimate]]:
    """The largest number of images with augmentation beside them, and what all of it brings there, by family."""
    found, families = gains_by_images(results), dict(_models(results.frame))
    most = max(n for _, n in found)
    return most, {families[model]: gain for (model, n), gain in found.items() if n == most}


def times_seen(results, images: int) -> float:
    """How often a run sees each of so many training images; every run takes the same steps of the same batch."""
    row = results.frame.iloc[0]
    return row["steps"] * row["batch_size"] / images


def table_of_gains_by_images(results) -> pd.DataFrame:
    """The gain of all of the augmentation by number of images, and how much of the training images (as they are) is
    learnt without it and with it: what it costs where many images meet few steps."""
    rows = []
    for (model, images), gain in gains_by_images(results).items():
        cell = results.usual[(results.usual["model"] == model) & (results.usual["train_examples"] == images)]
        learnt = {
            name: t_interval(with_runs(cell["train_top1"], cell)[cell["augmentation"] == name].dropna())
            if "train_top1" in cell
            else t_interval([])
            for name in (NONE, ALL)
        }
        rows.append(
            {
                "model": model,
                "images": f"{images:,}",
                "times each is seen": f"{float(f'{times_seen(results, images):.3g}'):,g}",
                "gain of all, points of test top-1 [95%]": gain.text(),
                "train top-1 % without": short(learnt[NONE]),
                "with": short(learnt[ALL]),
            }
        )
    return pd.DataFrame(rows)


def by_preset(table: Callable[..., pd.DataFrame], sizes: Mapping[str, object]) -> pd.DataFrame:
    """One of the tables for the results of several presets, by name, under each other: its rows that have runs, with
    the preset and its training length before them, without the columns in which nothing stands. Empty without rows."""
    found = []
    for preset, results in sizes.items():
        row, rows = results.frame.iloc[0], table(results)
        rows.insert(0, "preset", f"{preset}: {row['steps']:,.0f} steps of {row['batch_size']}")
        found.append(rows[~rows.isin(["not run"]).any(axis=1)])
    joined = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    return joined.loc[:, ~(joined == "").all()]


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
                more, top1 = paired_difference(scores, least), t_interval(scores)
                loss = t_interval(with_runs(runs["test_loss"], runs).dropna() if "test_loss" in runs else [])
                rows.append(
                    {
                        "model": model,
                        "augmentation": name,
                        "smoothing": f"{value:g}",
                        "test top-1 % [95%]": top1.text(),
                        f"more than at {values[0]:g}, points": if_run(more.n if value > values[0] else 0, more.text()),
                        "test loss, nats [95%]": if_run(loss.n, loss.text(2)),
                    }
                )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"label smoothing": ["not run: this preset does not vary it"]})


def _varied(frame: pd.DataFrame) -> list[float]:
    values = sorted(frame["label_smoothing"].unique())
    return values[:-1]  # the largest is what all runs have


# --- figures


def gains(results) -> Figure:
    """Points of test top-1 that each augmentation brings to each model, with 95% t-intervals, paired by seed."""
    figure, axis = plt.subplots(figsize=(WIDTH, 1.3 + 0.55 * (len({*results.compared["augmentation"]}) - 1)))
    found = [w for w in worth(results) if w.augmentation != NONE]
    names, families = list(dict.fromkeys(w.augmentation for w in found)), list(dict.fromkeys(w.family for w in found))
    for w in found:
        if w.gain.n:
            y = names.index(w.augmentation) + 0.16 * (families.index(w.family) - (len(families) - 1) / 2)
            low, high = w.gain.interval or (w.gain.mean, w.gain.mean)
            axis.errorbar(
                w.gain.mean,
                y,
                xerr=[[w.gain.mean - low], [high - w.gain.mean]],
                marker="o",
                capsize=3,
                color=FAMILY_COLOURS[w.family],
                lw=1.5,
            )
    for family in families:
        axis.plot([], [], color=FAMILY_COLOURS[family], marker="o", ls="", label=family)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    if any(w.gain.n for w in found):
        axis.axvline(0, color="#777777", lw=1)
    else:
        say_not_run(axis)
    axis.set_xlabel("points of test top-1 over no augmentation, 95% intervals")
    axis.set_title(f"Gain of each augmentation at {results.subset:,} training images", pad=28)
    axis.legend(ncols=len(families), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    plt.close(figure)
    return figure


def read_off_the_curve(results) -> Figure:
    """Test top-1 over the number of images, a panel a model: dashed without augmentation, solid with all of it, 95%
    bands; and how the worth of all of it is read: from its accuracy across to the dashed curve, and down to the number
    of images, with its interval as a grey stripe."""
    models = list(_models(results.frame))
    rows = -(-len(models) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 2.6 * rows), sharex=True, squeeze=False)
    full = {w.model: w for w in worth(results) if w.augmentation == ALL}
    for axis, (model, family) in zip(axes.flat, models, strict=False):
        for name, style in ((NONE, "--"), (ALL, "-")):
            curve = learning_curve(results, model, name).melt(var_name="images", value_name="top1")
            band(axis, curve, "images", "top1", FAMILY_COLOURS[family], style)
        _reading(axis, full.get(model), results.subset)
        plain_log_axis(axis)
        if not axis.has_data():
            say_not_run(axis)
        axis.set_title(model, fontsize=10)
    for axis in axes.flat[len(models) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("test top-1 (%)")
    for axis in axes[-1]:
        axis.set_xlabel("training images")
    handles = [
        Line2D([], [], color="#333333", ls="--", marker="o", ms=3, label="no augmentation"),
        Line2D([], [], color="#333333", ls="-", marker="o", ms=3, label="all of it"),
        Line2D([], [], color="#333333", ls=":", lw=1, label="read across, then down"),
        Patch(color="#999999", alpha=0.25, lw=0, label="95% interval of the reading"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, handlelength=DASHES)
    plt.close(figure)
    return figure


def _reading(axis, found: Gain | None, base: int) -> None:
    """From the augmented accuracy across to the curve and down to the axis, with the interval as a grey stripe."""
    if found is None or found.equivalent.n == 0:
        return
    e = found.equivalent

    def inside(n: float) -> float:
        return float(np.clip(n, e.fewest, e.most))

    if e.interval is not None:
        axis.axvspan(*(inside(end) for end in e.interval), color="#999999", alpha=0.25, lw=0)
    if 0 < e.examples < np.inf:
        axis.plot(
            [base, e.examples, e.examples], [found.top1.mean] * 2 + [axis.get_ylim()[0]], color="#333333", lw=1, ls=":"
        )
    else:
        axis.plot([base, inside(e.examples)], [found.top1.mean] * 2, color="#333333", lw=1, ls=":")


def band(axis, rows: pd.DataFrame, over: str, column: str, colour: str, style: str, label: str | None = None) -> None:
    """Mean of a column with its 95% t-band, over another column, whose values are on the x-axis."""
    rows = rows.dropna(subset=[column]) if column in rows else rows[:0]
    if rows.empty:
        return
    grouped = rows.groupby(over)[column]
    mean, bounds = grouped.mean(), grouped.apply(t_bounds)
    axis.plot(mean.index, mean, color=colour, ls=style, marker="o", markersize=3, label=label)
    axis.fill_between(mean.index, [b[0] for b in bounds], [b[1] for b in bounds], color=colour, alpha=0.18, lw=0)
