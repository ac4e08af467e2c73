"""The rule of claim 15: a fixed permutation of the pixels changes nothing for an MLP and ruins a CNN."""

import pandas as pd

from mlp_lib.chapters.rule import Rule, of_families
from mlp_lib.records.architectures import MLPS
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import NOTHING, Estimate, paired_difference, paired_equivalence

PERMUTED_MLP = {"S-MLP": "S-MLP, change", "B-MLP": "B-MLP, change"}
PERMUTED_CNN = "CNN, loss"


def convolutional_in(frame: pd.DataFrame) -> str:
    """The family that stands for convolution: ResNet18 where there is one."""
    return "ResNet18" if (frame["family"] == "ResNet18").any() else "CNN"


def permutation_effect(frame: pd.DataFrame) -> dict[str, Estimate]:
    """What a fixed permutation of the pixels does: to each MLP, permuted minus not, with the 90% interval of the test
    for equivalence; to the convolutional network, not minus permuted. A frame without `permuted` has no such runs."""
    if "permuted" not in frame:
        frame = frame.assign(permuted=False)

    def cell(family: str, permuted: bool) -> pd.Series:
        return by_seed(frame, family=family, permuted=permuted)

    parts = {
        name: paired_equivalence(cell(family, True), cell(family, False), NOTHING).estimate
        for family, name in PERMUTED_MLP.items()
    }
    convolutional = convolutional_in(frame)
    return parts | {PERMUTED_CNN: paired_difference(cell(convolutional, False), cell(convolutional, True))}


RULES = {
    15: Rule(
        "Images with permuted pixels, a permutation for each seed, against images as they are, paired by seed. Nothing "
        "is read as less than 1 point: for S-MLP and B-MLP, with at least five seeds, the 90% interval of the change "
        "lies between -1 and 1 (two one-sided t-tests at 5%). Ruins is read as 10 points: for the CNN, in larger "
        "presets a ResNet18, the 95% interval of the loss lies above 10. Supported if all three do, not supported if "
        "any lies wholly outside.",
        "rq1-permutation",
        permutation_effect,
        -NOTHING,
        NOTHING,
        bounds={PERMUTED_CNN: (10.0, float("inf"))},
        min_seeds=dict.fromkeys(PERMUTED_MLP.values(), 5),
        rows=lambda frame: of_families(*MLPS, convolutional_in(frame))(frame),
    ),
}
