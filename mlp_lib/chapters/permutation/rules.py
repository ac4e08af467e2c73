"""The rule of claim 15: a fixed permutation of the pixels changes nothing for an MLP and ruins a CNN."""

import pandas as pd

from mlp_lib.chapters.rule import Rule, Shown, of_families
from mlp_lib.chapters.tuning import at_neighbours
from mlp_lib.records.architectures import MLPS
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import NOTHING, Estimate, minus, paired_difference, paired_equivalence
from mlp_lib.stats.learning_curves import at_best_length

RUIN = 10.0  # points that a network loses, at least, of which the claim says that it is ruined
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


def room(change: Estimate) -> Estimate:
    """How far a change lies inside the margin that counts as nothing: above 0 with its whole interval where the change
    is shown to be nothing, below 0 where it is shown to be something."""
    change = change._replace(runs=change.runs._replace(of=""))
    if change.interval is None:
        return change._replace(mean=NOTHING - abs(change.mean))
    low, high = change.interval
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return change._replace(mean=NOTHING - abs(change.mean), interval=(NOTHING - max(-low, high), NOTHING - nearest))


def checks(shown: Shown) -> dict[str, Estimate]:
    """The rule's comparisons with every side at its own best length (validation top-1; the other seeds choose it), in
    the overnight preset, and for the CNN at neighbouring learning rates (the tuning runs): points inside the bounds."""
    frame = shown.results.frame
    convolutional = convolutional_in(frame)
    best = {
        family: [at_best_length(frame, family=family, permuted=permuted) for permuted in (False, True)]
        for family in (*PERMUTED_MLP, convolutional)
    }
    found = {
        f"{family}, each side at its best length": room(paired_equivalence(after, before, NOTHING).estimate)
        for family, (before, after) in best.items()
        if family in PERMUTED_MLP
    }
    found["CNN, each side at its best length"] = minus(paired_difference(*best[convolutional]), RUIN)
    if (larger := shown.at("overnight")) is not None:
        for name, part in permutation_effect(larger.frame).items():
            found[f"{name}, overnight"] = minus(part, RUIN) if name == PERMUTED_CNN else room(part)
    before, after = (
        next((c.choice for c in shown.results.cells if c.family == convolutional and c.permuted == permuted), None)
        for permuted in (False, True)
    )
    if before and after:
        worst = min(at_neighbours(before, after).values(), key=lambda part: part.mean)
        found["CNN, at the neighbouring rates that lose least"] = minus(worst, RUIN)
    return found


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
        bounds={PERMUTED_CNN: (RUIN, float("inf"))},
        min_seeds=dict.fromkeys(PERMUTED_MLP.values(), 5),
        rows=lambda frame: of_families(*MLPS, convolutional_in(frame))(frame),
        checks=checks,
    ),
}
