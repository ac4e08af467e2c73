"""The rules of claims 8 and 9: is pre-training and fine-tuning better than training from scratch, and without
augmentation?

Frames are `study.Results.frame`: one row a training on the target, with start, model, train_examples, upstream_images
and judged (the model, the number of images on either side that the rules judge).
"""

import pandas as pd

from mlp_lib.chapters.rule import Rule, Shown
from mlp_lib.chapters.transfer.presets import AUGMENTED, LONG, PLAIN, SCRATCH
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, paired_difference
from mlp_lib.stats.learning_curves import at_best_length

FAR = 5.0  # points of test top-1: "far above" is read as more than this
GAIN, FAR_GAIN = "B-MLP, fine-tuned - from scratch", "B-MLP, fine-tuned - from scratch, by more than 5 points"
SHORT_SCRATCH = "against as many steps on the target alone"  # a check
SHORT_OF = "B-MLP, from scratch with augmentation - pre-trained without"


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that the rules compare; none of a frame without `judged`."""
    return frame[frame["judged"]] if "judged" in frame else frame.iloc[:0].assign(start=None)


def between(frame: pd.DataFrame, first: str, second: str, **where) -> Estimate:
    """Test top-1 after one start minus after another, paired by seed, of the rows that `where` picks."""
    return paired_difference(by_seed(frame, start=first, **where), by_seed(frame, start=second, **where))


def gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """What pre-training with augmentation and fine-tuning is better by than training from scratch for as long."""
    found = between(judged(frame), AUGMENTED, LONG)
    return {GAIN: found, FAR_GAIN: found}


def short_of(frame: pd.DataFrame) -> dict[str, Estimate]:
    """What training from scratch, with augmentation, is better by than fine-tuning what was pre-trained without."""
    return {SHORT_OF: between(judged(frame), LONG, PLAIN)}


def _elsewhere(frame: pd.DataFrame, first: str, second: str) -> dict[str, Estimate]:
    """The comparison at other numbers of target images, by other models, and with either side at its best length."""
    rows = judged(frame)
    if rows.empty:
        return {}
    model, images = rows["model"].iloc[0], int(rows["train_examples"].iloc[0])
    whole = frame[frame["whole_upstream"]]
    own, same = whole[whole["model"] == model], whole[whole["train_examples"] == images]
    found = {
        f"at {size:,} target images": between(own, first, second, train_examples=size)
        for size in sorted(own["train_examples"].unique())
        if size != images
    }
    for other in same["model"].unique():
        if other != model and {first, second} <= {*same.loc[same["model"] == other, "start"]}:
            found[other] = between(same, first, second, model=other)
    best = [at_best_length(rows, start=start) for start in (first, second)]
    return found | {"each side at its best length (validation)": paired_difference(*best)}


def checks_of_gain(shown: Shown) -> dict[str, Estimate]:
    """Claim 8 beside other comparisons: from scratch for the target's steps alone, then `_elsewhere`."""
    frame = shown.results.frame
    found = {SHORT_SCRATCH: between(judged(frame), AUGMENTED, SCRATCH)}
    return found | _elsewhere(frame, AUGMENTED, LONG)


def checks_of_augmentation(shown: Shown) -> dict[str, Estimate]:
    """Claim 9 beside other comparisons: from scratch for the target's steps alone, pre-training with augmentation
    instead of training from scratch, then `_elsewhere`."""
    frame = shown.results.frame
    return {
        SHORT_SCRATCH: between(judged(frame), SCRATCH, PLAIN),
        "pre-trained with - without augmentation": between(judged(frame), AUGMENTED, PLAIN),
        **_elsewhere(frame, LONG, PLAIN),
    }


RULES = {
    8: Rule(
        "A B-MLP pre-trained with augmentation on one data set and fine-tuned on another, minus one trained from "
        "scratch on the second, with augmentation, for as many steps as both trainings together; test top-1, paired by "
        "seed, learning rates chosen for each. Not supported if the 95% interval lies wholly below 0. Supported if it "
        "lies wholly above 5 points, as which 'far above' is read.",
        "rq5-transfer",
        gain,
        0.0,
        bounds={FAR_GAIN: (FAR, float("inf"))},
        rows=judged,
        at_least={FAR_GAIN: "the upstream set has 45,000 images, and the paper's 11.8 million"},
        checks=checks_of_gain,
    ),
    9: Rule(
        "A B-MLP trained from scratch on the target with augmentation, for as many steps as pre-training and "
        "fine-tuning together, minus one pre-trained without augmentation and fine-tuned; test top-1, paired by seed, "
        "learning rates chosen for each. Supported if the 95% interval lies above 0, not supported if it lies wholly "
        "below.",
        "rq5-transfer",
        short_of,
        0.0,
        rows=judged,
        checks=checks_of_augmentation,
    ),
}
