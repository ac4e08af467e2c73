"""How our runs judge claim 4, does a larger batch generalise better: the rule, and the checks of its B-MLP half."""

from typing import Any

import pandas as pd

from mlp_lib.chapters.batch_size.comparisons import BEST, at_lengths, difference, probe_difference
from mlp_lib.chapters.batch_size.presets import BEYOND, COSINE, MLP
from mlp_lib.chapters.rule import LARGER_CNN, LARGER_MLP, Rule, Shown
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, paired_difference


def smallest_and_largest_batch(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows at either end of the batch sizes."""
    return frame[frame["batch_size"].isin((frame["batch_size"].min(), frame["batch_size"].max()))]


def larger_batch_gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """Test top-1 at the largest batch size minus that at the smallest, each at its tuned learning rate and all at equal
    epochs with LION. `frame` has architecture and batch_size; a batch size that is not run yet counts as one."""
    if "architecture" not in frame:
        frame = frame.assign(architecture="")
    smallest, largest = frame["batch_size"].min(), frame["batch_size"].max()

    def gain(architecture: str) -> Estimate:
        small, large = (by_seed(frame, architecture=architecture, batch_size=size) for size in (smallest, largest))
        return paired_difference(large, small) if smallest < largest else paired_difference(small[:0], large[:0])

    return {LARGER_MLP: gain("B-MLP"), LARGER_CNN: gain("CNN")}


def checks(shown: Shown) -> dict[str, Estimate]:
    """The B-MLP's largest minus smallest batch under every other setting of the study; above 0 speaks for the claim.

    By validation after each shorter training length, and at the best epoch by the other seeds; by test under a cosine
    schedule, over the wider range of batch sizes, with SGD and with AdamW; by the paper's linear probe, at its one rate
    after each length and at tuned rates; and the test and probe comparisons of the next smaller preset with records.

    Equal steps is no check: a larger batch then sees more images, so that a gain may come from these, and the claim is
    about equal epochs.
    """
    results = shown.results
    tuned, probes = results.tuned, results.probes
    lengths = at_lengths(tuned, MLP)
    epochs = sorted(epoch for epoch in lengths if epoch != BEST)
    found = {f"after {epoch:g} of {epochs[-1]:g} epochs": lengths[epoch] for epoch in epochs[:-1]}
    if epochs:
        found["at the best epoch by the other seeds"] = lengths[BEST]
    found |= {
        "under a cosine schedule": difference(tuned, MLP, budget=COSINE.budget),
        "over the wider range of batch sizes": difference(tuned, MLP, budget=BEYOND.budget),
        "with SGD": difference(tuned, MLP, "sgd"),
        "with AdamW": difference(tuned, MLP, "adamw"),
    }
    found |= _probe_checks(probes)
    smaller = smaller_preset(shown)
    if smaller is not None:
        name = f"after {smaller.frame['epochs'].iloc[0]:g} epochs on {_images(smaller.frame):,} images"
        found[f"{name}, smaller preset"] = difference(smaller.tuned, MLP)
        found |= {f"{check}, smaller preset": estimate for check, estimate in _probe_checks(smaller.probes).items()}
    return found


def _probe_checks(probes: pd.DataFrame) -> dict[str, Estimate]:
    lengths = sorted(probes["epochs"].unique())
    fixed = {
        f"probe at one rate, {epochs:g} epochs": probe_difference(probes, MLP, "fixed", epochs) for epochs in lengths
    }
    return fixed | {f"probe at tuned rates, {lengths[-1]:g} epochs": probe_difference(probes, MLP, "tuned")}


def smaller_preset(shown: Shown):
    """The recorded results of the laptop preset, where these are of fewer passes or images than what is shown."""
    other = shown.at("laptop")
    return other if other is not None and _seen(other.frame) < _seen(shown.results.frame) else None


def _images(frame: pd.DataFrame) -> int:
    return int(frame["train_examples"].iloc[0])


def _seen(frame: pd.DataFrame) -> float:
    """How many images a run of the judged comparison sees."""
    return float(frame["total_steps"].iloc[0] * frame["batch_size"].iloc[0])


def probes_at_one_rate(results: Any) -> pd.DataFrame:
    """Of the chapter's results, the B-MLPs of the paper's protocol: pre-trained at its one learning rate."""
    probes = results.probes
    return probes[(probes["architecture"] == MLP) & (probes["budget"] == "fixed")]


def probe_gain(probes: pd.DataFrame) -> dict[str, Estimate]:
    """The probe's test top-1 at the largest upstream batch size minus that at the smallest, by training length."""
    return {
        f"B-MLP, probe, largest - smallest batch, {epochs:g} epochs": probe_difference(probes, MLP, "fixed", epochs)
        for epochs in sorted(probes["epochs"].unique())
    }


# Committed on 2026-11-25, when the records of the laptop and overnight presets were known; see RULE_CHANGES.
PROTOCOL = Rule(
    "Pre-training on the preset's upstream data with LION, the paper's augmentation and its one learning rate, 5e-5, "
    "at equal epochs for every batch size; then a linear probe on the target data. The probe's test top-1 after the "
    "largest upstream batch size minus that after the smallest, paired by seed, at each training length. The 95% "
    "interval of the B-MLP lies above 0 (a larger batch generalises better) at every length: supported; wholly below 0 "
    "at any: not supported. A pre-training that diverged has no features, and its seed is left out.",
    "rq2-batch-size",
    probe_gain,
    0.0,
    unit="points of the probe's test top-1",
    rows=smallest_and_largest_batch,
    reads=probes_at_one_rate,
    name="by the paper's own protocol",
)

RULES = {
    4: Rule(
        "Test top-1 at the preset's largest batch size minus that at its smallest: at equal epochs, with LION, at the "
        "constant learning rate that validation chose for each batch size, on fresh seeds, paired. For the B-MLP the "
        "95% interval lies above 0 (a larger batch generalises better), for the CNN, which has BatchNorm, below 0 (the "
        "opposite): supported if both do, not supported if either lies wholly on the other side of 0. Diverged runs "
        "count as chance. What one learning rate for all batch sizes gives is shown beside it, and judges nothing.",
        "rq2-batch-size",
        larger_batch_gain,
        0.0,
        bounds={LARGER_CNN: (float("-inf"), 0.0)},
        rows=smallest_and_largest_batch,
        remark="at the last step of one length at a constant learning rate; the checks need not agree",
        checks=checks,
        companion=PROTOCOL,
    ),
}

RULE_CHANGES: tuple[tuple[str, int, str], ...] = (
    (
        "2026-11-25",
        4,
        "A second rule stands beside the first, by the paper's own protocol: a linear probe after pre-training at one "
        "learning rate, which is what the claim is about; the first looks at the training task itself, at tuned rates. "
        "And the first rule got checks: other lengths, schedules, ranges, optimisers, sizes and the probe. Both were "
        "added when the laptop and overnight records were known, and before any of a larger preset was made; the first "
        "rule and its word are as they were.",
    ),
)
