"""The rule of claim 14: far fewer FLOPs, and far more images a second, than networks with a vision prior.

The FLOPs follow from the architectures by arithmetic, and hold on every machine. What a measurement decides is the
throughput.
"""

import numpy as np
import pandas as pd

from mlp_lib.chapters.rule import Rule, Shown
from mlp_lib.records.architectures import MLPS
from mlp_lib.stats.intervals import Estimate, minus, paired_ratio

FAR = 10.0  # times: the claim's "far"
COMPETITORS = ("ResNet152", "ViT", "Mixer")
FLOPS, THROUGHPUT = "FLOPs", "throughput"
NOT_MEASURED = Estimate(float("nan"), None, 0)


def part_name(family: str, kind: str) -> str:
    return f"{family}, {kind}"


def judged_mlp(frame: pd.DataFrame) -> str | None:
    """The MLP with most parameters, which the rule compares. None where nothing was measured."""
    mlps = frame[frame["family"].isin(MLPS)]
    return None if mlps.empty else mlps.loc[mlps["parameters"].astype(float).idxmax(), "model"]


def nearest_mlp(frame: pd.DataFrame, family: str) -> str | None:
    """The MLP whose number of parameters is nearest to that of the family's network. None where there is none."""
    mlps, other = frame[frame["family"].isin(MLPS)], frame[frame["family"] == family]
    if mlps.empty or other.empty:
        return None
    apart = (mlps["parameters"].astype(float) - float(other["parameters"].iloc[0])).abs()
    return mlps.loc[apart.idxmin(), "model"]


def common_batch(frame: pd.DataFrame) -> int | None:
    """The largest batch size at which every model was measured."""
    sizes = [set(rows["batch_size"]) for _, rows in frame.groupby("model")]
    return max(set.intersection(*sizes), default=None) if sizes else None


def flops_ratio(frame: pd.DataFrame, family: str, mlp: str | None) -> Estimate:
    """FLOPs of the family's network over those of the MLP, for one image. Exact: an interval without width, n = 1."""
    other = frame[frame["family"] == family]
    if mlp is None or other.empty:
        return NOT_MEASURED
    ratio = float(other["flops"].iloc[0] / frame.loc[frame["model"] == mlp, "flops"].iloc[0])
    return Estimate(ratio, (ratio, ratio), 1)


def throughput_ratio(frame: pd.DataFrame, family: str, mlp: str | None, batch: int | None) -> Estimate:
    """Images/s of the MLP over those of the family's network at one batch size: the geometric mean of the ratios within
    each round, with its t-interval over rounds."""
    if mlp is None or batch is None or not (frame["family"] == family).any():
        return NOT_MEASURED
    at = frame[frame["batch_size"] == batch]
    ours, theirs = (
        rows.set_index("seed")["images_per_second"].astype(float)
        for rows in (at[at["model"] == mlp], at[at["family"] == family])
    )
    return paired_ratio(ours, theirs)


def latency_ratio(frame: pd.DataFrame, family: str, mlp: str | None) -> Estimate:
    """Seconds that one image alone takes the family's network, over those of the MLP: medians of the calls of a round,
    compared within it."""
    if mlp is None or not (frame["family"] == family).any():
        return NOT_MEASURED
    one = frame[frame["batch_size"] == 1]
    ours, theirs = (
        rows.set_index("seed")["latency"].astype(float)
        for rows in (one[one["model"] == mlp], one[one["family"] == family])
    )
    return paired_ratio(theirs, ours)


def cheaper(frame: pd.DataFrame) -> dict[str, Estimate]:
    """How many times fewer FLOPs, and more images/s at the largest batch size common to all, than each network. A frame
    without FLOPs holds no such measurement."""
    if "flops" not in frame:
        return {part_name(family, kind): NOT_MEASURED for kind in (FLOPS, THROUGHPUT) for family in COMPETITORS}
    mlp, batch = judged_mlp(frame), common_batch(frame)
    parts = {part_name(family, FLOPS): flops_ratio(frame, family, mlp) for family in COMPETITORS}
    return parts | {
        part_name(family, THROUGHPUT): throughput_ratio(frame, family, mlp, batch) for family in COMPETITORS
    }


def checks(shown: Shown) -> dict[str, Estimate]:
    """How far the ratios lie above `FAR`, in times: of the MLP nearest in parameters instead of the largest, and of the
    seconds that one image alone takes."""
    frame = shown.results.frame
    mlp, batch = judged_mlp(frame), common_batch(frame)
    found = {}
    for family in COMPETITORS:
        near = nearest_mlp(frame, family)
        found[f"{family}, FLOPs, the MLP nearest in parameters"] = flops_ratio(frame, family, near)
        found[f"{family}, throughput, the MLP nearest in parameters"] = throughput_ratio(frame, family, near, batch)
        found[f"{family}, latency of one image alone"] = latency_ratio(frame, family, mlp)
    return {name: minus(part, FAR) if part.n else part for name, part in found.items()}


def bound_seconds(flops: float, weight_bytes: float, batch: np.ndarray, matmul: float, read: float) -> np.ndarray:
    """The least seconds of a forward pass of `batch` images: every weight is read once, at `read` bytes a second, and
    every operation done, at `matmul` FLOPs a second; the longer of the two."""
    return np.maximum(weight_bytes / read, flops * np.asarray(batch, float) / matmul)


RULES = {
    14: Rule(
        "The largest B-MLP, which has more parameters than each of the three, against ResNet-152 (stride and pooling "
        "of the stem removed), ViT-B/4 and Mixer-B/4 at 64 pixels and 1,000 classes, in fp32. Far is read as a factor "
        "of 10, an order of magnitude, since smaller ones can be won by a better implementation. FLOPs of one image, "
        "which are exact: how many times fewer. Images per second, at the largest batch size at which all were "
        "measured: how many times more, by ratios within a round, with their 95% interval over rounds. Supported if "
        "all six lie above 10, not supported if any lies wholly below.",
        "rq1-inference",
        cheaper,
        FAR,
        unit="times",
        min_seeds={part_name(family, FLOPS): 1 for family in COMPETITORS},
        rows=lambda frame: frame[frame["family"].isin((*MLPS, *COMPETITORS))],
        checks=checks,
    ),
}
