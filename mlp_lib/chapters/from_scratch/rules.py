"""The rules of claims 1, 2 and 3: what augmentation, the bottleneck and convolution are worth."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from mlp_lib.chapters.rule import MIN_SEEDS, Rule, Shown, of_families
from mlp_lib.chapters.tuning import at_neighbours
from mlp_lib.records.architectures import MLPS
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, at_best_of_others, minus, paired_difference, unpaired_difference
from mlp_lib.stats.learning_curves import at_equal_compute, at_longest_common, by_length, last

ROUGHLY_20 = (10.0, 30.0)  # points of test top-1 (claim 1)
FAR = 10.0  # points of test top-1 (claim 3)
PAPERS_SHORTEST = 1000  # epochs that the paper trains with augmentation, at the least
SHORT = "short training"  # what a part of claim 1 is called where ours is shorter
TREATMENTS = {"without augmentation": False, "with augmentation": True}
SECOND = dict(dataset="cifar100", subset=10_000)  # of the laptop preset: CIFAR-100 at the size of its CIFAR-10


def augmentation_gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """Augmented minus not, for each MLP; named as of a short training below `PAPERS_SHORTEST` epochs."""
    augmented = frame.loc[frame["augmented"] & frame["family"].isin(MLPS), "epochs"]
    long = len(augmented) and augmented.min() >= PAPERS_SHORTEST
    return {
        family if long else f"{family}, {SHORT}": paired_difference(
            by_seed(frame, family=family, augmented=True), by_seed(frame, family=family, augmented=False)
        )
        for family in MLPS
    }


def bottleneck_gain(frame: pd.DataFrame, difference=paired_difference) -> dict[str, Estimate]:
    """B-MLP minus S-MLP, with and without augmentation."""
    return {
        name: difference(
            by_seed(frame, family="B-MLP", augmented=augmented), by_seed(frame, family="S-MLP", augmented=augmented)
        )
        for name, augmented in TREATMENTS.items()
    }


def control_in(frame: pd.DataFrame) -> str:
    """The family beside the MLPs of claim 3."""
    return "ResNet18" if len(by_seed(frame, family="ResNet18", augmented=True)) >= MIN_SEEDS else "CNN"


def convolution_gap(frame: pd.DataFrame, difference=paired_difference) -> dict[str, Estimate]:
    """The convolutional control minus each MLP, all with augmentation: a ResNet18 where enough seeds of it have ended,
    else the CNN."""
    control = control_in(frame)
    return {
        f"{control} - {family}": difference(
            by_seed(frame, family=control, augmented=True), by_seed(frame, family=family, augmented=True)
        )
        for family in MLPS
    }


# --- the same under other settings: above 0 speaks for the claim ----------------------------------------------------


def checks_of_augmentation(shown: Shown) -> dict[str, Estimate]:
    """The gain of augmentation less the least that the rule reads as "roughly 20": at equal epochs and over the best
    epoch without (validation), on CIFAR-100, at the overnight size."""
    frame, found = shown.results.frame, {}
    for family in MLPS:
        without, with_it = (by_length(frame, family=family, augmented=a) for a in (False, True))
        found[f"{family}, after equal epochs"] = at_longest_common(with_it, without)[1]
        found[f"{family}, over the best epoch without"] = paired_difference(last(with_it), at_best_of_others(without))
    for where, other in _elsewhere(shown):
        found |= {f"{name}, {where}": gain for name, gain in augmentation_gain(other.frame).items()}
    return {name: minus(gain, ROUGHLY_20[0]) for name, gain in _run(found).items()}


def checks_of_bottleneck(shown: Shown) -> dict[str, Estimate]:
    """B-MLP minus S-MLP at equal compute, at the best epoch, at the least favourable of the neighbouring rates (all on
    validation), without pairing, on CIFAR-100, and at the overnight size."""
    frame, found = shown.results.frame, {}
    for name, augmented in TREATMENTS.items():
        cells = {family: frame[(frame["family"] == family) & (frame["augmented"] == augmented)] for family in MLPS}
        tables = {family: by_length(frame, family=family, augmented=augmented) for family in MLPS}
        found[f"at equal compute, {name}"] = at_equal_compute(cells["B-MLP"], cells["S-MLP"])
        found[f"at the best epoch, {name}"] = paired_difference(
            *(at_best_of_others(tables[f]) for f in ("B-MLP", "S-MLP"))
        )
        found[f"at neighbouring rates, {name}"] = _least_at_neighbours(shown.results.cells, "B-MLP", "S-MLP", augmented)
    found |= {f"unpaired, {name}": gain for name, gain in bottleneck_gain(frame, unpaired_difference).items()}
    for where, other in _elsewhere(shown):
        found |= {f"{where}, {name}": gain for name, gain in bottleneck_gain(other.frame).items()}
    return _run(found)


def checks_of_convolution(shown: Shown) -> dict[str, Estimate]:
    """The gap to the control less the least that the rule reads as far: without pairing, at the best epoch and at the
    least favourable of the neighbouring rates (validation), and on CIFAR-100."""
    frame = shown.results.frame
    control = control_in(frame)
    found = {f"{name}, unpaired": gap for name, gap in convolution_gap(frame, unpaired_difference).items()}
    best = {family: at_best_of_others(by_length(frame, family=family, augmented=True)) for family in (control, *MLPS)}
    for family in MLPS:
        found[f"{control} - {family}, at the best epoch"] = paired_difference(best[control], best[family])
        found[f"{control} - {family}, at neighbouring rates"] = _least_at_neighbours(
            shown.results.cells, control, family, augmented=True
        )
    for where, other in _elsewhere(shown):
        found |= {f"{name}, {where}": gap for name, gap in convolution_gap(other.frame).items()}
    return {name: minus(gap, FAR) for name, gap in _run(found).items()}


def _elsewhere(shown: Shown) -> Iterable[tuple[str, Any]]:
    """Recorded results on a second data set and at the paper's width, with what they are called."""
    asked = (("on CIFAR-100", shown.at("laptop", **SECOND)), ("at the overnight size", shown.at("overnight")))
    return [(name, results) for name, results in asked if results is not None]


def _least_at_neighbours(cells, first: str, second: str, augmented: bool) -> Estimate:
    """The least favourable of the differences at the chosen and the neighbouring rates, from the tuning runs."""
    choices = {cell.family: cell.choice for cell in cells if (cell.augment != "none") == augmented}
    if not {first, second} <= {*choices} or any(choices[family].given for family in (first, second)):
        return Estimate(float("nan"), None, 0)
    found = _run(at_neighbours(choices[first], choices[second])).values()
    lowest = [estimate.interval[0] if estimate.interval else estimate.mean for estimate in found]
    return min(zip(lowest, found, strict=True))[1] if lowest else Estimate(float("nan"), None, 0)


def _run(found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name: estimate for name, estimate in found.items() if estimate.n}


RULES = {
    1: Rule(
        "The gain in test top-1 is paired by seed, for S-MLP and for B-MLP. Roughly 20 is read as between 10 and 30: "
        "supported if both 95% intervals lie inside, not supported if either lies wholly outside. The paper's gain is "
        "that of 1,000 epochs with augmentation and more. A gain after fewer is a lower bound: an interval wholly "
        "below 10 is then inconclusive, as the training is shorter than the claim's.",
        "rq1-from-scratch",
        augmentation_gain,
        *ROUGHLY_20,
        rows=of_families(*MLPS),
        at_least={
            f"{family}, {SHORT}": f"augmented for fewer than the claim's {PAPERS_SHORTEST:,} epochs" for family in MLPS
        },
        checks=checks_of_augmentation,
    ),
    2: Rule(
        "B-MLP minus S-MLP at equal depth and width, paired by seed, with and without augmentation: supported if both "
        "95% intervals lie above 0, not supported if either lies wholly below.",
        "rq1-from-scratch",
        bottleneck_gain,
        0.0,
        rows=of_families(*MLPS),
        remark="at equal epochs, for which the B-MLP spends more compute",
        checks=checks_of_bottleneck,
    ),
    3: Rule(
        "The convolutional control minus each MLP, all with augmentation, paired by seed. Far is read as 10 points: "
        "supported if both 95% intervals lie above 10. The control is a ResNet18 where at least three seeds of it have "
        "ended, and then not supported if either interval lies wholly below. Otherwise it is the CNN, whose gap is a "
        "lower bound of a ResNet18's: an interval wholly below is then inconclusive, as the control is weaker than the "
        "claim's.",
        "rq1-from-scratch",
        convolution_gap,
        FAR,
        rows=lambda frame: of_families(*MLPS, control_in(frame))(frame[frame["augmented"]]),
        at_least=dict.fromkeys(("CNN - S-MLP", "CNN - B-MLP"), "the control is weaker than the claim's"),
        checks=checks_of_convolution,
    ),
}

# (date, claim, what changed and why)
RULE_CHANGES: tuple[tuple[str, int, str], ...] = (
    (
        "2026-11-22",
        3,
        "The claim is about a ResNet18, and the CNN in its place is weaker: its gap is a lower bound of a ResNet18's, "
        "so a CNN that leads by less than 10 points refutes nothing. Such an interval, until then not supported, is "
        "now inconclusive, and where three seeds of a ResNet18 have ended they are compared instead. Changed after the "
        "laptop records of CIFAR-10 and CIFAR-100 were seen and before any of a ResNet18 was made; the word for "
        "CIFAR-100 at laptop size went from not supported to inconclusive, that for CIFAR-10 stayed.",
    ),
    (
        "2026-11-25",
        1,
        "The paper's gain is that of 1,000 epochs with augmentation and more. Ours is read after 75 or 90, where the "
        "augmented learning curves still rise, so it is a lower bound: below 10 points it refutes nothing, as rule 3 "
        "already says of a weak control. Such an interval, until then not supported, is now inconclusive. Changed "
        "after the records were seen; the word at laptop size, on CIFAR-10 and on CIFAR-100, went from not supported "
        "to inconclusive.",
    ),
)
