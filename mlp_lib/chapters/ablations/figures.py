"""What each ingredient is worth: the figures and tables of chapter rq1-ablations.

Frames have one row a run, with `condition`; a gain is test top-1 with an ingredient minus without it, paired by seed.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.ablations.conditions import (
    CONDITIONS,
    DEEP,
    DEFAULT,
    INGREDIENTS,
    SHALLOW_SKIPS,
    SHOWN,
    SKIPS,
    SLIGHT,
    STRONG,
)
from mlp_lib.chapters.ablations.rules import gain, gain_by_ingredient, probe_gain, word
from mlp_lib.plots.style import WIDTH, say_not_run, t_bounds
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, difference, paired_difference, t_interval

GROUPS = {"said to help": STRONG, "said to help a little": SLIGHT, "not named": SHOWN}
WIDE_GAIN = 8.0  # points: with one larger, the axis is logarithmic beyond 2 points
PANELS = {
    "block": (DEFAULT, "ReLU", "plain block", "no skips"),
    "normalisation": (DEFAULT, "no norm", "norm after the block", "BatchNorm"),
    "twice as deep": (DEEP, "no skips, twice as deep"),
    "regularisation": (DEFAULT, "no smoothing", "dropout"),
    "decay and clipping": (DEFAULT, "weight decay", "weight decay 0.001", "clipping"),
    "optimiser": (DEFAULT, "AdamW", "SGD"),
}
# Apart in deuteranopia and protanopia (Okabe and Ito), and by their dashes in grey; the default comes first.
LINES = (("#222222", "-"), ("#0072B2", "--"), ("#D55E00", "-."), ("#009E73", ":"))
FILLED = {"helps": "o", "hurts": "s", "not shown": "o"}


def forest(frame: pd.DataFrame) -> Figure:
    """The gain of every ingredient with its 95% t-interval, its number of seeds and what the interval shows: filled
    circles help, filled squares hurt, of hollow ones neither is shown."""
    figure, axis = plt.subplots(figsize=(WIDTH, 5.2))
    found = gain_by_ingredient(frame)
    reach, ticks, y = 1.0, [], 0.0
    for group, names in GROUPS.items():
        beside = dict(transform=axis.get_yaxis_transform(), va="center", fontsize=8)
        axis.text(-0.02, y, group, ha="right", fontweight="bold", **beside)
        for name in names:
            y += 1
            ticks.append((y, name))
            estimate, verdict = found[name], word(found[name])
            axis.text(1.02, y, _told(estimate, verdict), **beside)
            if not estimate.interval:
                continue
            low, high = estimate.interval
            axis.errorbar(
                estimate.mean,
                y,
                xerr=[[estimate.mean - low], [high - estimate.mean]],
                color="#C4302B",
                marker=FILLED[verdict],
                mfc="white" if verdict == "not shown" else "#C4302B",
                capsize=3,
                lw=1.5,
            )
            reach = max(reach, abs(low), abs(high))
        y += 1
    axis.axvline(0, color="#777777", lw=1, ls=":")
    scale = "linear" if max((abs(e.mean) for e in found.values() if e.n), default=0.0) <= WIDE_GAIN else "symlog"
    if scale == "symlog":
        axis.set_xscale("symlog", linthresh=2.0)
        points = [sign * tick for tick in (2, 5, 10, 20, 40) if tick <= 1.1 * reach for sign in (-1, 1)]
        axis.set_xticks(sorted([0, *points]), [f"{point:g}" for point in sorted([0, *points])])
    axis.set_yticks([place for place, _ in ticks], [name for _, name in ticks], fontsize=8)
    axis.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(y - 0.5, -0.6))
    note = ", logarithmic beyond 2" if scale == "symlog" else ""
    axis.set_xlabel(f"with the ingredient minus without it (points of test top-1{note})")
    axis.set_title(_title(found), fontsize=10)
    plt.close(figure)
    return figure


def _told(estimate: Estimate, verdict: str) -> str:
    return f"{estimate.text()}: {verdict}" if estimate.n else "not run"


def _title(found: dict[str, Estimate]) -> str:
    words = [word(estimate) for estimate in found.values()]
    if "not run" in words:
        return "What each ingredient is worth"
    return f"Of {len(words)} comparisons {words.count('helps')} help and {words.count('hurts')} hurt"


def learning(points: pd.DataFrame) -> Figure:
    """Validation accuracy over epochs, a panel a group of conditions; bands are 95% t-intervals between seeds.

    points: one row a run and point (`records.curves`), with epoch, val_top1 and condition.
    """
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.0), sharex=True, sharey=True)
    if "val_top1" not in points:
        points = pd.DataFrame(columns=["condition", "epoch", "val_top1"])  # nothing finished yet: empty panels
    for axis, (title, conditions) in zip(axes.flat, PANELS.items(), strict=True):
        axis.set_title(title, fontsize=10)
        for condition, (colour, dashes) in zip(conditions, LINES, strict=False):
            rows = points[points["condition"] == condition].dropna(subset=["val_top1"])
            if rows.empty:
                continue
            grouped = rows.groupby("epoch")["val_top1"]
            mean, bounds = grouped.mean(), grouped.apply(t_bounds)
            axis.plot(mean.index, mean, color=colour, ls=dashes, lw=1.4, label=condition.replace(DEEP, "default"))
            axis.fill_between(
                mean.index, [b[0] for b in bounds], [b[1] for b in bounds], color=colour, alpha=0.12, lw=0
            )
        if axis.lines:
            axis.legend(fontsize=7, loc="lower right")
        else:
            say_not_run(axis)
    if len(points):
        epochs = sorted(points["epoch"].unique())
        axes[0, 0].set(xscale="log")
        last = max(epochs)
        marked = [epoch for epoch in epochs if epoch == last or epoch < 0.75 * last]  # labels that do not overlap
        axes[0, 0].set_xticks(marked, [f"{epoch:g}" for epoch in marked])
        axes[0, 0].set_xticks([], minor=True)
    for axis in axes[1]:
        axis.set_xlabel("epochs")
    for axis in axes[:, 0]:
        axis.set_ylabel("validation top-1 (%)")
    plt.close(figure)
    return figure


def named(found: dict[str, Estimate], wanted: str) -> list[str]:
    """The ingredients of which a gain's interval shows this (`rules.word`), the largest gain first."""
    kept = {name: estimate for name, estimate in found.items() if word(estimate) == wanted}
    return sorted(kept, key=lambda name: -abs(kept[name].mean))


def depth_and_skips(frame: pd.DataFrame) -> Estimate:
    """The gain of the skips at twice the depth minus their gain at the default's, in points, paired by seed."""
    sides = [by_seed(frame, condition=one) for name in (SKIPS, SHALLOW_SKIPS) for one in INGREDIENTS[name]]
    deep, deep_without, shallow, shallow_without = sides
    return paired_difference(difference(deep, deep_without), difference(shallow, shallow_without))


def strict_level(count: int = len(INGREDIENTS)) -> float:
    """The level at which all intervals together hold in 95% of cases, by Bonferroni's inequality."""
    return 1 - 0.05 / count


def table_of_gains(frame: pd.DataFrame) -> pd.DataFrame:
    """A row an ingredient (and preset, where there are several): accuracy in % without it and with it, the gain in
    points paired by seed, what its interval shows, and what an interval shows that allows for all comparisons."""
    rows = []
    for preset, runs in frame.groupby("preset", sort=False) if "preset" in frame else [("", frame)]:
        for name, (present, absent) in INGREDIENTS.items():
            estimate = gain(runs, name)
            rows.append(
                {
                    "ingredient": name,
                    "without": _mean(by_seed(runs, condition=absent)),
                    "with": _mean(by_seed(runs, condition=present)),
                    "gain, points [95%]": estimate.text(),
                    "verdict": word(estimate),
                    "strict": word(gain(runs, name, strict_level())),
                    **({"preset": preset} if preset else {}),
                }
            )
    return pd.DataFrame(rows)


def table_of_probes(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Both numbers of every ingredient, by preset: the gain in test top-1, and the gain in the accuracy of the linear
    probe on another data set; only presets whose runs were probed. One row that says so where there are none."""
    rows = []
    for preset, frame in frames.items():
        for name in INGREDIENTS:
            probe = probe_gain(frame, name)
            if probe.n:
                test = gain(frame, name)
                rows.append(
                    {
                        "ingredient": name,
                        "test, points [95%]": test.text(),
                        "probe, points [95%]": probe.text(),
                        "probe says": word(probe),
                        "preset": preset,
                    }
                )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"ingredient": ["all"], "probe, points [95%]": ["not run"]})


def table_of_flops(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a condition: network, parameters, training FLOPs as counted by the run and relative to those of the default
    of its depth, updates, learning rate, and the accuracy on training and test images."""
    rows = []
    done = frame[frame["status"] == "ok"]
    for condition in frame["condition"].unique():
        own = done[done["condition"] == condition]
        if own.empty:
            rows.append({"condition": condition, "network": "not run"})
            continue
        base = done.loc[done["condition"] == (DEEP if CONDITIONS[condition].deep else DEFAULT), "train_flops"]
        first = own.iloc[0]
        rows.append(
            {
                "condition": condition,
                "network": first["model"],
                "weights": f"{int(first['parameters']):,}",
                "TFLOP": f"{first['train_flops'] / 1e12:.4f}",
                "to default": f"{first['train_flops'] / base.iloc[0]:.4f}" if len(base) else "",
                "steps": f"{int(first['total_steps']):,}",
                "lr": f"{first['lr']:g}",
                "train %": f"{own['train_top1'].mean():.1f}",
                "test % [95%]": t_interval(with_runs(own["test_top1"], own)).text(),
            }
        )
    return pd.DataFrame(rows).fillna("")


def table_of_choices(cells: Sequence) -> pd.DataFrame:
    """How every condition's learning rate was chosen: validation top-1 (%, mean of the tuning seeds) by rate, the
    chosen rate, and what speaks against the choice (`Choice.flags`)."""
    rows = []
    for cell in cells:
        grid = cell.choice.grid
        scores = [
            f"{lr:g}: " + ("given" if status == "given" else f"{value:.1f}" if status == "ok" else status)
            for lr, value, status in zip(grid["lr"], grid["val_top1"], grid["status"], strict=True)
        ]
        rows.append(
            {
                "condition": cell.condition,
                "validation top-1 by rate": ", ".join(scores),
                "chosen": f"{cell.choice.lr:g}" if cell.choice.final else "open",
                "flags": "; ".join(cell.choice.flags) or "none",
            }
        )
    return pd.DataFrame(rows)


def table_at_equal_rates(cells: Sequence) -> pd.DataFrame:
    """The gain in points of validation top-1 with both sides at one learning rate, paired by tuning seed, for every
    rate that both grids have; beside it the rates that were chosen. Ingredients that are optimisers are left out: one
    rate means another step size to each."""
    by_condition = {cell.condition: cell for cell in cells}
    rows = []
    for name, pair in INGREDIENTS.items():
        sides = [by_condition[condition] for condition in pair]
        if len({side.runs[0].optimizer for side in sides}) > 1:
            continue
        present, absent = (side.choice for side in sides)
        shared = sorted({*present.trials["lr"]} & {*absent.trials["lr"]})
        found = {lr: paired_difference(present.by_seed(lr), absent.by_seed(lr)) for lr in shared}
        rows.append(
            {
                "ingredient": name,
                "chosen with, without": f"{present.lr:g}, {absent.lr:g}" if present.final and absent.final else "open",
                **{f"{lr:g}": estimate.text().partition(" n=")[0] for lr, estimate in found.items() if estimate.n},
            }
        )
    table = pd.DataFrame(rows).fillna("")
    first = ["ingredient", "chosen with, without"]
    return table[[*first, *sorted((column for column in table if column not in first), key=float)]]


def _mean(values: pd.Series) -> str:
    return f"{values.mean():.1f}" if len(values) else "not run"
