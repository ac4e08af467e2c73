"""What a prior is worth: points of accuracy at equal images, and compute at equal error, read off learning curves.

Everything is beside the best MLP of the same images.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from mlp_lib.datasets import facts
from mlp_lib.records.architectures import MLPS
from mlp_lib.records.frames import by_seed, compute_so_far, curves
from mlp_lib.records.record import FINISHED
from mlp_lib.stats.intervals import Estimate, at_best_of_others, paired_difference, paired_ratio, sign, t_interval

NO_RATIO = Estimate(float("nan"), None, 0)
SHARES = {1.0: "all", 1 / 2: "half", 1 / 4: "a quarter", 1 / 8: "an eighth"}  # of the MLP's compute: one level each


class Worth(NamedTuple):
    """A family beside the best MLP.

    `points`: its test top-1 after the last epoch minus the MLP's, paired by seed; `at_best`: the same of validation
    top-1 with each at its best length (`at_best_length`). `ratio`: the MLP's training compute divided by the
    family's, each up to where the validation error first is at the level (`level_of` the MLP): geometric mean and 95%
    t-interval of the logarithm over paired seeds; n = 0 where it cannot be read.
    """

    family: str
    points: Estimate
    ratio: Estimate
    reached: int  # seeds of the family that come to the level
    seeds: int  # finished ones of the family at a constant lr, whose curves can be read so
    at_least: bool  # some curve of the family was there by its first point: the ratio is a lower bound
    at_most: bool = False  # some curve of the MLP was: it is an upper bound; with both, it is no bound at all
    at_best: Estimate = NO_RATIO


def on_the_same_images(frame: pd.DataFrame, larger: pd.DataFrame) -> pd.DataFrame:
    """The results' rows, and of larger presets the controls with a recipe of their own, as far as both are about the
    images that the results' searched families are trained on."""
    searched = frame[frame["searched"]].iloc[0]
    rows = pd.concat([frame, larger[~larger["searched"]]], ignore_index=True) if len(larger) else frame
    same = (rows["dataset"] == searched["dataset"]) & (rows["train_examples"] == searched["train_examples"])
    return rows[same].reset_index(drop=True)


def with_compute(frame: pd.DataFrame) -> pd.DataFrame:
    """Points of the finished runs' curves with `error` (%, validation) and `compute` (FLOPs of training so far)."""
    points = curves(frame[frame["status"] == "ok"])
    if "val_top1" not in points:
        return pd.DataFrame(columns=["family", "seed", "schedule", "step", "total_steps", "compute", "error"])
    points = points.dropna(subset=["val_top1"])
    return points.assign(compute=compute_so_far(points), error=100 - points["val_top1"])


def best_mlp(frame: pd.DataFrame) -> str | None:
    """The MLP family with the higher mean validation top-1 (not test) of its finished runs; None without any."""
    done = frame[(frame["status"] == "ok") & frame["family"].isin(MLPS)]
    return done.groupby("family")["val_top1"].mean().idxmax() if len(done) else None


def level_of(frame: pd.DataFrame, family: str, share: float = 1.0) -> float:
    """The lowest validation error (%) that every finished seed of a family comes to by this share of its training: what
    the worst seed comes to, which more seeds can only make easier. nan without curves, or where one begins later."""
    points = with_compute(frame)
    found = [_lowest_by(one, share) for _, one in points[points["family"] == family].groupby("seed")]
    return max(found) if found and not np.isnan(found).any() else float("nan")


def levels(frame: pd.DataFrame) -> dict[float, float]:
    """The levels at which compute is compared, by the share of the best MLP's compute after which it came to them:
    the ratio of two families' compute depends on the error at which it is read. Empty without an MLP."""
    best = best_mlp(frame)
    found = {share: level_of(frame, best, share) for share in SHARES} if best else {}
    return {share: level for share, level in found.items() if not np.isnan(level)}


def _lowest_by(points: pd.DataFrame, share: float) -> float:
    """The lowest error of one run's curve up to a share of its training, linear in log-log between points."""
    points = points.sort_values("step")
    done, error = (points["step"] / points["total_steps"]).to_numpy(float), points["error"].to_numpy(float)
    so_far = done <= share * (1 + 1e-9)
    if not so_far.any():
        return float("nan")
    lowest, i = error[so_far].min(), int(so_far.sum())
    if np.isclose(done[i - 1], share) or i == len(done) or error[i] >= lowest:
        return float(lowest)
    at = np.exp(np.interp(np.log(share), np.log(done), np.log(np.maximum(error, 1e-9))))
    return float(np.clip(at, error[i], lowest))  # rounding must not put it below the curve


def compute_to_reach(points: pd.DataFrame, level: float) -> tuple[float, bool]:
    """FLOPs at which one run's curve first comes down to `level` % error, and whether it was there by its first point,
    which makes them an upper bound. Linear in log-log between points; infinity where the curve never comes so low.

    points: one row a point of the curve, with compute and error.
    """
    points = points.sort_values("compute")
    compute, error = points["compute"].to_numpy(float), points["error"].to_numpy(float)
    below = np.flatnonzero(error <= level)
    if not len(below):
        return float("inf"), False
    i = int(below[0])
    if i == 0:
        return float(compute[0]), True
    before, after, wanted = np.log(np.maximum([error[i - 1], error[i], level], 1e-9))  # an error of 0 has no logarithm
    share = (before - wanted) / (before - after)
    return float(compute[i - 1] * (compute[i] / compute[i - 1]) ** share), False


def worths(frame: pd.DataFrame, share: float = 1.0) -> list[Worth]:
    """Every other family beside the best MLP, the ratio at the level that this one came to by a share of its training.

    frame: one row a run, all on the same images.
    """
    best = best_mlp(frame)
    if best is None:
        return []
    level, points = level_of(frame, best, share), with_compute(frame)
    points = points[points["schedule"] == "constant"]  # only there is a point what a shorter training would have given

    def arrivals(label: str) -> pd.DataFrame:
        rows = {seed: compute_to_reach(one, level) for seed, one in points[points["family"] == label].groupby("seed")}
        found = pd.DataFrame.from_dict(rows, orient="index", columns=["compute", "at_first"])
        return found.astype({"compute": float, "at_first": bool})

    mlp, beside = arrivals(best), []
    for label in (label for label in frame["family"].unique() if label != best):
        own, runs = arrivals(label), frame[(frame["family"] == label) & (frame["schedule"] == "constant")]
        reached, seeds = int(np.isfinite(own["compute"]).sum()), int(runs["status"].isin(FINISHED).sum())
        difference = paired_difference(by_seed(frame, family=label), by_seed(frame, family=best))
        at_best = paired_difference(*(at_best_length(frame, family=one) for one in (label, best)))
        # Leaving out the seeds that never arrive would flatter the family, so it is all of them or no ratio.
        ratio = paired_ratio(mlp["compute"], own["compute"]) if 0 < reached == seeds else NO_RATIO
        firsts = bool(own["at_first"].any()), bool(mlp["at_first"].any())
        beside.append(Worth(label, difference, ratio, reached, seeds, *firsts, at_best=at_best))
    return beside


def seeds_by_length(
    runs: pd.DataFrame, quantity: str = "val_top1", length: str = "epoch", *, diverged: bool = True
) -> pd.DataFrame:
    """A quantity of one cell's learning curves after every training length: a row a seed, a column a length.

    runs: rows of one cell, one a seed, with `curve`. length: "epoch" or "step". Lengths that some seed lacks are left
    out. With `diverged`, those runs count as chance (of top-1) at every length; without, they are left out. Empty
    without curves, where a seed stands twice, and where a learning rate is not constant: there no point of a curve is
    what a shorter training would have given.
    """
    runs = runs[runs["status"].isin(FINISHED if diverged else ("ok",))]
    points = curves(runs[runs["status"] == "ok"])
    if quantity not in points or runs["seed"].duplicated().any() or (runs["schedule"] != "constant").any():
        return pd.DataFrame()
    table = points.pivot(index="seed", columns=length, values=quantity).reindex(runs["seed"])
    table.loc[runs.loc[runs["status"] == "diverged", "seed"]] = 100 / facts(runs["dataset"].iloc[0]).num_classes
    return table.dropna(axis="columns")


def by_length(frame: pd.DataFrame, **where) -> pd.DataFrame:
    """`seeds_by_length` of the one cell whose columns have these values."""
    rows = frame
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return seeds_by_length(rows)


def at_best_length(frame: pd.DataFrame, **where) -> pd.Series:
    """`by_length`'s value by seed, each at the length that is best for the *other* seeds; empty for fewer than two."""
    return at_best_of_others(by_length(frame, **where))


def at_last_length(frame: pd.DataFrame, **where) -> pd.Series:
    """`by_length`'s value by seed after the last epoch; empty where there is none."""
    table = by_length(frame, **where)
    return table[max(table)] if len(table.columns) else pd.Series(dtype=float)


def best_length(frame: pd.DataFrame, family: str) -> str:
    """After how many epochs the mean of all a family's seeds is highest: "20 of 30", "not run" without curves."""
    table = by_length(frame, family=family)
    return f"{table.mean().idxmax():g} of {max(table):g}" if len(table.columns) else "not run"


def lengths(frame: pd.DataFrame) -> str:
    """The numbers of epochs after which the curves have a point, for a sentence: "1, 2, 3, 5"."""
    points = with_compute(frame)
    return ", ".join(f"{epoch:g}" for epoch in sorted(points["epoch"].unique())) if len(points) else "not run"


def sides(found: list[Worth], column: str = "points") -> dict[str, str]:
    """Families by name, for a sentence: those whose interval of points (or `at_best`) lies above 0, below it, and all
    others."""
    words: dict[str, list[str]] = {"ahead": [], "behind": [], "undecided": []}
    for worth in found:
        words[{1: "ahead", -1: "behind", 0: "undecided"}[sign(getattr(worth, column))]].append(worth.family)
    return {side: ", ".join(names) or "none" for side, names in words.items()}


def table_of_worths(frame: pd.DataFrame) -> pd.DataFrame:
    """`worths` in words, with the ratio at each of the `levels`; the headings name the MLP and the levels."""
    best = best_mlp(frame)
    if best is None:
        return pd.DataFrame({"family": frame["family"].unique(), "beside the best MLP": "not run"})
    found = worths(frame)
    table = pd.DataFrame({"family": [worth.family for worth in found]})
    table[f"test top-1 minus {best}'s, points [95%]"] = [worth.points.text() for worth in found]
    for share, level in levels(frame).items():
        heading = f"compute ratio at {level:.1f}% ({SHARES[share]}) [95%]"
        table[heading] = [ratio_text(worth) for worth in worths(frame, share)]
    return table


def table_at_best_length(frame: pd.DataFrame) -> pd.DataFrame:
    """Every family's best length and its validation top-1 there, and that minus the best MLP's, each at its own best
    length; beside it the same difference after the last epoch."""
    best = best_mlp(frame)
    if best is None:
        return pd.DataFrame({"family": frame["family"].unique(), "at its best length": "not run"})
    rows = []
    for label in (best, *(worth.family for worth in worths(frame))):
        there, last = (read(frame, family=label) for read in (at_best_length, at_last_length))
        at_best = paired_difference(there, at_best_length(frame, family=best))
        at_last = paired_difference(last, at_last_length(frame, family=best))
        other = (frame.loc[frame["family"] == label, "schedule"] != "constant").any()
        estimates = t_interval(there), at_best, at_last
        texts = ["not comparable: no constant rate" if other else estimate.text() for estimate in estimates]
        rows.append(
            {
                "family": label,
                "best length, epochs": "" if other else best_length(frame, label),
                "validation top-1 there, % [95%]": texts[0],
                f"minus {best}'s, each at its best length, points [95%]": "" if label == best else texts[1],
                "the same difference after the last epoch, points [95%]": "" if label == best else texts[2],
            }
        )
    return pd.DataFrame(rows)


def ratios_in_words(frame: pd.DataFrame, family: str) -> str:
    """A family's compute ratio at each of the `levels`, for a sentence: "8 [7, 9] n=3 at 48.0%, 4 ... at 50.1%"."""
    texts = [
        f"{ratio_text(worth)} at {level:.1f}%"
        for share, level in levels(frame).items()
        for worth in worths(frame, share)
        if worth.family == family
    ]
    return ", ".join(texts) or "not run"


def ratio_text(worth: Worth) -> str:
    """The compute ratio as a table shows it: a number with its interval, a bound, or why there is none."""
    if worth.points.n == 0:
        return "not run"
    if worth.seeds == 0:
        return "not comparable: no constant rate"
    if worth.reached == 0:
        return "never reached"
    if worth.reached < worth.seeds:
        return f"reached by {worth.reached} of {worth.seeds} seeds"
    ends = worth.ratio.interval
    interval = f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else ""
    if worth.at_least and worth.at_most:
        return "both there by their first points"
    bound = "at least " if worth.at_least else "at most " if worth.at_most else ""
    return f"{bound}{worth.ratio.mean:.3g}{interval} n={worth.ratio.n}"
