"""The rule of claim 4: does a larger batch generalise better?"""

import pandas as pd

from mlp_lib.chapters.rule import LARGER_CNN, LARGER_MLP, Rule
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
        remark="at the last step of one length at a constant rate; to be read with the chapter's other lengths, its "
        "schedule and its comparison at equal fit, which need not agree",
    ),
}
