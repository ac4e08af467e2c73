"""The rules by which our runs judge the paper's claims: which comparison, in which unit, inside which bounds.

A rule is committed before the records that it judges. A later change of a rule is listed in `RULE_CHANGES`. A claim
whose chapter does not exist yet has no rule. No torch, no training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from mlp_lib.datasets import facts
from mlp_lib.records import FINISHED
from mlp_lib.stats import Estimate, paired_difference, paired_equivalence

# (date, claim, what changed and why)
RULE_CHANGES: tuple[tuple[str, int, str], ...] = (
    (
        "2026-11-22", 3,
        "The claim is about a ResNet18, and the CNN in its place is weaker: its gap is a lower bound of a ResNet18's, "
        "so a CNN that leads by less than 10 points refutes nothing. Such an interval, until then not supported, is "
        "now inconclusive, and where three seeds of a ResNet18 have ended they are compared instead. Changed after the "
        "laptop records of CIFAR-10 and CIFAR-100 were seen and before any of a ResNet18 was made; the word for "
        "CIFAR-100 at laptop size went from not supported to inconclusive, that for CIFAR-10 stayed.",
    ),
)  # fmt: skip

POINTS = "points of test top-1"
MIN_SEEDS = 3  # fewer seeds give numbers, not verdicts


@dataclass(frozen=True)
class Rule:
    """How our runs judge a claim, in words and in code.

    `parts` turns a study's frame into comparisons by name. A part whose interval lies wholly inside its bounds supports
    the claim, one whose interval lies wholly outside refutes it. A part in `at_least` is a lower bound of what the
    claim speaks of: to lie below refutes nothing.
    """

    words: str
    chapter: str  # the notebook that shows it
    parts: Callable[[pd.DataFrame], dict[str, Estimate]]
    low: float  # the bounds of every part,
    high: float = float("inf")
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # but for the parts that have their own
    unit: str = POINTS
    min_seeds: Mapping[str, int] = field(default_factory=dict)  # for the parts that ask for more than MIN_SEEDS
    rows: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame  # what the parts compare: the scale is theirs
    at_least: Mapping[str, str] = field(default_factory=dict)  # the parts that are lower bounds, and why
    remark: str = ""  # what stands beside any verdict by this rule

    def seeds_of(self, name: str) -> int:
        """With fewer seeds than this, a part gives a number and no verdict."""
        return self.min_seeds.get(name, MIN_SEEDS)

    def bounds_of(self, name: str) -> tuple[float, float]:
        return self.bounds.get(name, (self.low, self.high))

    def supported_by(self, name: str, part: Estimate) -> bool:
        """Does the part's interval lie wholly inside its bounds?"""
        low, high = self.bounds_of(name)
        return part.interval is not None and part.interval[0] > low and part.interval[1] < high

    def refuted_by(self, name: str, part: Estimate) -> bool:
        """Does the part's interval lie wholly outside its bounds, on a side that can refute?"""
        _, high = self.bounds_of(name)
        below = self.below(name, part) and name not in self.at_least
        return below or (part.interval is not None and part.interval[0] > high)

    def below(self, name: str, part: Estimate) -> bool:
        """Does the part's interval lie wholly below its bounds?"""
        return part.interval is not None and part.interval[1] < self.bounds_of(name)[0]

    def caveat(self, parts: Mapping[str, Estimate]) -> str:
        """Why parts that lie wholly below their bounds refute nothing, and the rule's remark; empty where there is
        neither, and where nothing was compared."""
        below = [name for name in self.at_least if name in parts and self.below(name, parts[name])]
        why = dict.fromkeys(self.at_least[name] for name in below)
        tested = any(part.n for part in parts.values())
        return "; ".join([*why, *([self.remark] if self.remark and tested else [])])

    def margin(self, name: str, part: Estimate) -> float:
        """How far the part's interval lies inside its bounds, in the rule's unit; negative where it reaches beyond."""
        low, high = self.bounds_of(name)
        first, last = part.interval or (part.mean, part.mean)
        return min(first - low, high - last)


MLPS = ("S-MLP", "B-MLP")


def of_families(*names: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The rows of these families."""
    return lambda frame: frame[frame["family"].isin(names)]


def by_seed(frame: pd.DataFrame, **where) -> pd.Series:
    """Test top-1 by seed of one cell; diverged runs count as chance."""
    rows = frame
    for column, value in where.items():
        rows = rows[rows[column] == value]
    rows = rows[rows["status"].isin(FINISHED)]
    if rows.empty or rows["seed"].duplicated().any():  # of two models of one family, a claim does not say which
        return pd.Series(dtype=float)
    chance = rows["dataset"].map(lambda name: 100 / facts(name).num_classes)
    top1 = rows["test_top1"] if "test_top1" in rows else pd.Series(float("nan"), rows.index)
    return top1.fillna(chance).set_axis(rows["seed"])


def augmentation_gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """Augmented minus not, for each MLP."""
    return {
        family: paired_difference(
            by_seed(frame, family=family, augmented=True), by_seed(frame, family=family, augmented=False)
        )
        for family in MLPS
    }


def bottleneck_gain(frame: pd.DataFrame) -> dict[str, Estimate]:
    """B-MLP minus S-MLP, with and without augmentation."""
    return {
        name: paired_difference(
            by_seed(frame, family="B-MLP", augmented=augmented), by_seed(frame, family="S-MLP", augmented=augmented)
        )
        for name, augmented in (("without augmentation", False), ("with augmentation", True))
    }


def control_in(frame: pd.DataFrame) -> str:
    """The family beside the MLPs of claim 3."""
    return "ResNet18" if len(by_seed(frame, family="ResNet18", augmented=True)) >= MIN_SEEDS else "CNN"


def convolution_gap(frame: pd.DataFrame) -> dict[str, Estimate]:
    """The convolutional control minus each MLP, all with augmentation: a ResNet18 where enough seeds of it have ended,
    else the CNN."""
    control = control_in(frame)
    return {
        f"{control} - {family}": paired_difference(
            by_seed(frame, family=control, augmented=True), by_seed(frame, family=family, augmented=True)
        )
        for family in MLPS
    }


LARGER_MLP, LARGER_CNN = "B-MLP, largest - smallest batch", "CNN, largest - smallest batch"


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


NOTHING = 1.0  # points: a change that is smaller counts as none (claim 15)
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


LOCAL = 1.0  # % of an even spread's radius: a smaller change counts as none (claim 12)
MORE_DATA = "with augmentation: fewest - most images"
WITH_DA = "most images: without - with augmentation"
ONLY_WITH_DA = "half of fewest - most with augmentation, minus fewest - most without"


def localised_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The B-MLP's rows with no and with all augmentation, at the fewest and the most images that have both; none where
    there is one such number of images, or no radius. Columns as in `localisation`."""
    wanted = {"radius", "augmentation", "label_smoothing"}
    rows = frame[(frame["family"] == "B-MLP") & (frame["label_smoothing"] == 0.3)] if wanted <= {*frame} else frame[:0]
    both = {n for n, cell in rows.groupby("train_examples") if {"none", "all"} <= {*cell["augmentation"]}}
    ends = {min(both), max(both)} if len(both) > 1 else set()
    return rows[rows["train_examples"].isin(ends) & rows["augmentation"].isin(("none", "all"))] if ends else rows[:0]


def localisation(frame: pd.DataFrame) -> dict[str, Estimate]:
    """How much the radius of the B-MLP's first-layer weights shrinks with data and with augmentation, in % of an even
    spread's. `frame` has radius, augmentation ("none", "all", parts of it) and label_smoothing (0.3, or varied)."""
    rows = localised_rows(frame)
    if rows.empty:
        return {name: paired_difference(pd.Series(dtype=float), pd.Series(dtype=float))
                for name in (MORE_DATA, WITH_DA, ONLY_WITH_DA)}  # fmt: skip
    fewest, most = rows["train_examples"].min(), rows["train_examples"].max()

    def radius(augmentation: str, examples: int) -> pd.Series:
        cell = rows[(rows["augmentation"] == augmentation) & (rows["train_examples"] == examples)]
        cell = cell[(cell["status"] == "ok") & ~cell["seed"].duplicated(keep=False)]
        return 100 * cell.set_index("seed")["radius"]

    shrinks = {name: radius(name, fewest) - radius(name, most) for name in ("none", "all")}
    return {
        MORE_DATA: paired_difference(radius("all", fewest), radius("all", most)),
        WITH_DA: paired_difference(radius("none", most), radius("all", most)),
        ONLY_WITH_DA: paired_difference(shrinks["all"] / 2, shrinks["none"]),
    }


RULES = {
    1: Rule(
        "The gain in test top-1 is paired by seed, for S-MLP and for B-MLP. Roughly 20 is read as between 10 and 30: "
        "supported if both 95% intervals lie inside, not supported if either lies wholly outside.",
        "rq1-from-scratch", augmentation_gain, 10.0, 30.0, rows=of_families(*MLPS),
    ),
    2: Rule(
        "B-MLP minus S-MLP at equal depth and width, paired by seed, with and without augmentation: supported if both "
        "95% intervals lie above 0, not supported if either lies wholly below.",
        "rq1-from-scratch", bottleneck_gain, 0.0, rows=of_families(*MLPS),
    ),
    3: Rule(
        "The convolutional control minus each MLP, all with augmentation, paired by seed. Far is read as 10 points: "
        "supported if both 95% intervals lie above 10. The control is a ResNet18 where at least three seeds of it have "
        "ended, and then not supported if either interval lies wholly below. Otherwise it is the CNN, whose gap is a "
        "lower bound of a ResNet18's: an interval wholly below is then inconclusive, as the control is weaker than the "
        "claim's.",
        "rq1-from-scratch", convolution_gap, 10.0,
        rows=lambda frame: of_families(*MLPS, control_in(frame))(frame[frame["augmented"]]),
        at_least=dict.fromkeys(("CNN - S-MLP", "CNN - B-MLP"), "the control is weaker than the claim's"),
    ),
    4: Rule(
        "Test top-1 at the preset's largest batch size minus that at its smallest: at equal epochs, with LION, at the "
        "constant learning rate that validation chose for each batch size, on fresh seeds, paired. For the B-MLP the "
        "95% interval lies above 0 (a larger batch generalises better), for the CNN, which has BatchNorm, below 0 (the "
        "opposite): supported if both do, not supported if either lies wholly on the other side of 0. Diverged runs "
        "count as chance. What one learning rate for all batch sizes gives is shown beside it, and judges nothing.",
        "rq2-batch-size", larger_batch_gain, 0.0, bounds={LARGER_CNN: (float("-inf"), 0.0)},
        rows=smallest_and_largest_batch,
        remark="at the last step of one length at a constant rate; to be read with the chapter's other lengths, its "
        "schedule and its comparison at equal fit, which need not agree",
    ),
    12: Rule(
        "The radius of the B-MLP's first-layer weights: how far a unit's squared weights (greatest over channels) lie "
        "from their centre, root mean square, mean over all units, in % of an even spread's. All runs take equally "
        "many steps; differences are paired by seed. Localised is read as a radius smaller by 1%, about twice the "
        "deviation between untrained units. With more data: fewest minus most images, both with augmentation. With "
        "augmentation: without minus with it, both at most images. Only with it: what more data do without "
        "augmentation is less than half of what they do with it. Supported if the 95% intervals of the first two lie "
        "above 1 and that of half the one minus the other lies above 0; not supported if any lies wholly below.",
        "rq2-augmentation", localisation, LOCAL, bounds={ONLY_WITH_DA: (0.0, float("inf"))},
        unit="% of an even spread's radius", rows=localised_rows,
        remark="the initial weights, which nothing decays, are still in it; the chapter says how far training came",
    ),
    15: Rule(
        "Images with permuted pixels, a permutation for each seed, against images as they are, paired by seed. Nothing "
        "is read as less than 1 point: for S-MLP and B-MLP, with at least five seeds, the 90% interval of the change "
        "lies between -1 and 1 (two one-sided t-tests at 5%). Ruins is read as 10 points: for the CNN, in larger "
        "presets a ResNet18, the 95% interval of the loss lies above 10. Supported if all three do, not supported if "
        "any lies wholly outside.",
        "rq1-permutation", permutation_effect, -NOTHING, NOTHING, bounds={PERMUTED_CNN: (10.0, float("inf"))},
        min_seeds=dict.fromkeys(PERMUTED_MLP.values(), 5),
        rows=lambda frame: of_families(*MLPS, convolutional_in(frame))(frame),
    ),
}  # fmt: skip
