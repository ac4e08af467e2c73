"""Learning curves: accuracy after every shorter training, at the best length, at equal compute, at equal error.

Only at a constant learning rate is a point of a curve what a shorter training would have given; other curves are not
read. Frames have one row a run (records/frames.py), with family, seed, status, schedule and curve.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from mlp_lib.datasets import facts
from mlp_lib.records.architectures import MLPS
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed, compute_so_far, curves
from mlp_lib.records.record import FINISHED
from mlp_lib.stats.intervals import Estimate, at_best_of_others, paired_difference, paired_ratio, t_interval

NOT_READ = Estimate(float("nan"), None, 0)
SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8)  # of the best MLP's training: one level of error each


# --- seeds by lengths -----------------------------------------------------------------------------------------------


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
    return with_runs(table.dropna(axis="columns"), runs)


def by_length(frame: pd.DataFrame, **where) -> pd.DataFrame:
    """`seeds_by_length` of the one cell whose columns have these values."""
    rows = frame
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return seeds_by_length(rows)


def last(table: pd.DataFrame) -> pd.Series:
    """The value by seed at the longest length of `seeds_by_length`; empty where there is none."""
    return table[max(table)] if len(table.columns) else pd.Series(dtype=float)


def at_best_length(frame: pd.DataFrame, **where) -> pd.Series:
    """`by_length`'s value by seed, each at the length that is best for the *other* seeds; empty for fewer than two."""
    return at_best_of_others(by_length(frame, **where))


def at_last_length(frame: pd.DataFrame, **where) -> pd.Series:
    """`by_length`'s value by seed after the last epoch; empty where there is none."""
    return last(by_length(frame, **where))


def best_length(table: pd.DataFrame) -> float:
    """The length at which the mean of all seeds is highest; nan without curves."""
    return float(table.mean().idxmax()) if len(table.columns) else float("nan")


def change_after_best(table: pd.DataFrame) -> Estimate:
    """The value at the last length minus that at the length which is best for the other seeds, paired by seed."""
    return paired_difference(last(table), at_best_of_others(table)) if len(table.columns) else NOT_READ


def late_rise(table: pd.DataFrame, share: float = 2 / 3) -> tuple[float, Estimate]:
    """What the last part of a training still brings: the value at the last length minus that at the longest length
    within `share` of it, paired by seed; and that length. nan and n = 0 where no point lies there."""
    earlier = [length for length in table.columns if length <= share * max(table)]
    if not earlier:
        return float("nan"), NOT_READ
    return float(max(earlier)), paired_difference(last(table), table[max(earlier)])


def at_longest_common(first: pd.DataFrame, second: pd.DataFrame) -> tuple[float, Estimate]:
    """The longest length at which both tables have a column, and first minus second there, paired by seed."""
    common = [length for length in first.columns if length in second.columns]
    if not common:
        return float("nan"), NOT_READ
    return float(max(common)), paired_difference(first[max(common)], second[max(common)])


# --- at equal compute, at equal error -------------------------------------------------------------------------------


def with_compute(frame: pd.DataFrame) -> pd.DataFrame:
    """Points of the finished runs' curves with `error` (%, validation) and `compute` (FLOPs of training so far)."""
    points = curves(frame[frame["status"] == "ok"])
    if "val_top1" not in points:
        return pd.DataFrame(columns=["family", "seed", "schedule", "step", "total_steps", "compute", "error"])
    points = points.dropna(subset=["val_top1"])
    return points.assign(compute=compute_so_far(points), error=100 - points["val_top1"])


def at_equal_compute(larger: pd.DataFrame, smaller: pd.DataFrame) -> Estimate:
    """Validation top-1 of the dearer cell where it has cost as many FLOPs as the cheaper one's whole training, minus
    the cheaper one's at its end; points, paired by seed.

    Both are rows of one cell. Linear in the logarithm of the FLOPs between points; seeds whose curve does not span that
    cost are left out.
    """
    dear, cheap = (points[points["schedule"] == "constant"] for points in map(with_compute, (larger, smaller)))
    ends = cheap.sort_values("compute").groupby("seed")[["compute", "error"]].last()
    found = {}
    for seed, curve in dear.sort_values("compute").groupby("seed"):
        cost = ends["compute"].get(seed, float("nan"))
        if curve["compute"].iloc[0] <= cost <= curve["compute"].iloc[-1]:
            error = np.interp(np.log(cost), np.log(curve["compute"].astype(float)), curve["error"].astype(float))
            found[seed] = ends.loc[seed, "error"] - error
    return t_interval(found.values()).of_runs(larger, smaller)


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


def best_mlp(frame: pd.DataFrame) -> str | None:
    """The MLP family with the higher mean validation top-1 (not test) of its finished runs; None without any."""
    done = frame[(frame["status"] == "ok") & frame["family"].isin(MLPS)]
    return done.groupby("family")["val_top1"].mean().idxmax() if len(done) else None


def error_reached_by(frame: pd.DataFrame, family: str, share: float = 1.0) -> float:
    """The lowest validation error (%) that every finished seed of a family comes to by this share of its training: what
    the worst seed comes to, which more seeds can only make easier. nan without curves, or where one begins later."""
    points = with_compute(frame)
    found = [_lowest_by(one, share) for _, one in points[points["family"] == family].groupby("seed")]
    return max(found) if found and not np.isnan(found).any() else float("nan")


def error_levels(frame: pd.DataFrame) -> dict[float, float]:
    """The errors (%) at which compute is compared, by the share of the best MLP's training after which it came to them:
    the ratio of two families' compute depends on the error at which it is read. Empty without an MLP."""
    best = best_mlp(frame)
    found = {share: error_reached_by(frame, best, share) for share in SHARES} if best else {}
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


class ComputeRatio(NamedTuple):
    """The best MLP's training compute divided by a family's, each up to where its validation error first is at a level.

    `estimate`: geometric mean and 95% t-interval of the logarithm over paired seeds; n = 0 where it cannot be read:
    not every one of the family's `seeds` (at a constant rate) comes to the level, but `reached` of them. A lower bound
    where some curve of the family was there by its first point, an upper bound where some curve of the MLP was.
    """

    estimate: Estimate
    reached: int
    seeds: int
    lower_bound: bool = False
    upper_bound: bool = False


class BesideMLP(NamedTuple):
    """A family minus the best MLP, in points, paired by seed: test top-1 after the last epoch, and validation top-1
    with each at its best length, which the other seeds choose."""

    family: str
    at_the_end: Estimate
    at_best: Estimate


def others_beside_best_mlp(frame: pd.DataFrame) -> list[BesideMLP]:
    """Every family but the best MLP beside it; empty without an MLP. frame: one row a run, all on the same images."""
    best = best_mlp(frame)
    if best is None:
        return []
    mlp, mlp_at_best = by_seed(frame, family=best), at_best_length(frame, family=best)
    return [
        BesideMLP(
            family,
            paired_difference(by_seed(frame, family=family), mlp),
            paired_difference(at_best_length(frame, family=family), mlp_at_best),
        )
        for family in frame["family"].unique()
        if family != best
    ]


def compute_ratios(frame: pd.DataFrame, level: float) -> dict[str, ComputeRatio]:
    """`ComputeRatio` at a level of error (%), by family, the best MLP left out."""
    best, points = best_mlp(frame), with_compute(frame)
    points = points[points["schedule"] == "constant"]

    def compute_by_seed(family: str) -> pd.DataFrame:
        rows = {seed: compute_to_reach(one, level) for seed, one in points[points["family"] == family].groupby("seed")}
        found = pd.DataFrame.from_dict(rows, orient="index", columns=["compute", "at_first"])
        own = points[points["family"] == family]
        return with_runs(found.astype({"compute": float, "at_first": bool}), own, by="seed")

    found = {}
    for family in frame["family"].unique() if best else ():
        if family == best:
            continue
        mlp, own = compute_by_seed(best), compute_by_seed(family)
        runs = frame[(frame["family"] == family) & (frame["schedule"] == "constant")]
        reached, seeds = int(np.isfinite(own["compute"]).sum()), int(runs["status"].isin(FINISHED).sum())
        # Leaving out the seeds that never arrive would flatter the family, so it is all of them or no ratio.
        ratio = paired_ratio(mlp["compute"], own["compute"]) if 0 < reached == seeds else NOT_READ
        found[family] = ComputeRatio(ratio, reached, seeds, bool(own["at_first"].any()), bool(mlp["at_first"].any()))
    return found
