"""Every family beside the best MLP of the same images: points at equal images, compute at equal error, as tables."""

import pandas as pd

from mlp_lib.records.behind import note
from mlp_lib.stats.intervals import paired_difference, sign, t_interval
from mlp_lib.stats.learning_curves import (
    BesideMLP,
    ComputeRatio,
    at_best_length,
    at_last_length,
    best_length,
    best_mlp,
    by_length,
    compute_ratios,
    error_levels,
    others_beside_best_mlp,
)

SHARES = {1.0: "all", 1 / 2: "half", 1 / 4: "a quarter", 1 / 8: "an eighth"}  # of the MLP's training
OTHER_SCHEDULE = "not comparable: no constant rate"


def on_the_same_images(frame: pd.DataFrame, larger: pd.DataFrame) -> pd.DataFrame:
    """The results' rows, and of larger presets the controls with a recipe of their own, as far as both are about the
    images that the results' searched families are trained on."""
    searched = frame[frame["searched"]].iloc[0]
    rows = pd.concat([frame, larger[~larger["searched"]]], ignore_index=True) if len(larger) else frame
    same = (rows["dataset"] == searched["dataset"]) & (rows["train_examples"] == searched["train_examples"])
    return rows[same].reset_index(drop=True)


def families_by_sign(beside: list[BesideMLP], column: str = "at_the_end") -> dict[str, list[str]]:
    """Names of the families whose interval (of `at_the_end` or `at_best`) lies above 0, below it, and of all others."""
    names: dict[str, list[str]] = {"ahead": [], "behind": [], "undecided": []}
    for one in beside:
        names[{1: "ahead", -1: "behind", 0: "undecided"}[sign(getattr(one, column))]].append(one.family)
    return names


def epochs_of_points(frame: pd.DataFrame) -> list[float]:
    """The numbers of epochs after which any family's learning curve at a constant rate has a point."""
    return sorted({epoch for family in frame["family"].unique() for epoch in by_length(frame, family=family)})


def table_beside_mlp(frame: pd.DataFrame) -> pd.DataFrame:
    """Points of test top-1 after the last epoch, and the compute ratio at each of `error_levels`; the headings name the
    MLP and the levels."""
    best = best_mlp(frame)
    if best is None:
        return pd.DataFrame({"family": frame["family"].unique(), "beside the best MLP": "not run"})
    beside = others_beside_best_mlp(frame)
    table = pd.DataFrame({"family": [one.family for one in beside]})
    table[f"test top-1 minus {best}'s, points [95%]"] = [one.at_the_end.text() for one in beside]
    for share, level in error_levels(frame).items():
        ratios = compute_ratios(frame, level)
        heading = f"compute ratio at {level:.1f}% ({SHARES[share]}) [95%]"
        table[heading] = [ratio_text(ratios[one.family]) if one.at_the_end.n else "not run" for one in beside]
    return table


def table_at_best_length(frame: pd.DataFrame) -> pd.DataFrame:
    """Every family's best length and its validation top-1 there, and that minus the best MLP's, each at its own best
    length; beside it the same difference after the last epoch."""
    best = best_mlp(frame)
    if best is None:
        return pd.DataFrame({"family": frame["family"].unique(), "at its best length": "not run"})
    rows = []
    for label in (best, *(one.family for one in others_beside_best_mlp(frame))):
        there, at_end = (read(frame, family=label) for read in (at_best_length, at_last_length))
        at_best = paired_difference(there, at_best_length(frame, family=best))
        at_last = paired_difference(at_end, at_last_length(frame, family=best))
        other = (frame.loc[frame["family"] == label, "schedule"] != "constant").any()
        texts = [OTHER_SCHEDULE if other else estimate.text() for estimate in (t_interval(there), at_best, at_last)]
        rows.append(
            {
                "family": label,
                "best length, epochs": "" if other else length_text(frame, label),
                "validation top-1 there, % [95%]": texts[0],
                f"minus {best}'s, each at its best length, points [95%]": "" if label == best else texts[1],
                "the same difference after the last epoch, points [95%]": "" if label == best else texts[2],
            }
        )
    return pd.DataFrame(rows)


def length_text(frame: pd.DataFrame, family: str) -> str:
    """After how many epochs the mean of a family's seeds is highest: "20 of 30"; "not run" without curves."""
    table = by_length(frame, family=family)
    return f"{best_length(table):g} of {max(table):g}" if len(table.columns) else "not run"


def ratio_at(frame: pd.DataFrame, family: str, share: float = 1.0) -> str:
    """A family's compute ratio, as `ratio_text`, at the error that the best MLP came to by a share of its training."""
    level = error_levels(frame).get(share)
    found = {} if level is None else compute_ratios(frame, level)
    return ratio_text(found[family]) if family in found else "not run"


def ratio_text(ratio: ComputeRatio) -> str:
    """The compute ratio as a table shows it: a number with its interval, a bound, or why there is none."""
    if ratio.seeds == 0:
        return OTHER_SCHEDULE
    if ratio.reached == 0:
        return "never reached"
    if ratio.reached < ratio.seeds:
        return f"reached by {ratio.reached} of {ratio.seeds} seeds"
    if ratio.lower_bound and ratio.upper_bound:
        return "both there by their first points"
    ends = ratio.estimate.interval
    interval = f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else ""
    bound = "at least " if ratio.lower_bound else "at most " if ratio.upper_bound else ""
    return bound + note(f"{ratio.estimate.mean:.3g}{interval} n={ratio.estimate.n}", ratio.estimate.runs)
