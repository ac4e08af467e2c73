"""The rules of claim 13: which ingredients help, and which help a little.

Frames have one row a run, with `condition`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mlp_lib.chapters.ablations.conditions import BATCH, INGREDIENTS, SLIGHT, SMALL_DECAY, STRONG
from mlp_lib.chapters.rule import Rule, Shown
from mlp_lib.chapters.tuning import at_neighbours
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed, measures_of
from mlp_lib.stats.intervals import NOTHING, Estimate, minus, paired_difference, sign
from mlp_lib.stats.learning_curves import at_best_length

SEEDS = 5  # of a part: where differences of under two points decide, fewer seeds give a number and no verdict
WORDS = {1: "helps", -1: "hurts", 0: "not shown"}
NO_WORSE = {BATCH: (-NOTHING, float("inf"))}  # the bound of the one part that the claim calls no worse


def gain(frame: pd.DataFrame, name: str, level: float = 0.95) -> Estimate:
    """Test top-1 with an ingredient minus without it, in points, paired by seed; diverged runs count as chance."""
    if "condition" not in frame:
        frame = frame.assign(condition=None)
    return paired_difference(*(by_seed(frame, condition=one) for one in INGREDIENTS[name]), level)


def gain_by_ingredient(
    frame: pd.DataFrame, names: Sequence[str] = tuple(INGREDIENTS), level: float = 0.95
) -> dict[str, Estimate]:
    """`gain` of each ingredient, by name."""
    return {name: gain(frame, name, level) for name in names}


def word(estimate: Estimate) -> str:
    """What a gain's interval shows: helps where it lies above 0, hurts where it lies below, else "not shown"; "not
    run" without two seeds."""
    return WORDS[sign(estimate)] if estimate.interval else "not run"


def probed(frame: pd.DataFrame, condition: str) -> pd.Series:
    """The linear probe's test top-1 in percent by seed, of one condition; empty where no probe was measured."""
    found, rows = {}, frame[frame["condition"] == condition]
    for row in rows.to_dict("records"):
        for name, measure in measures_of(row).items():
            if name.startswith("probe_"):
                found[row["seed"]] = measure["test_top1"]
    return with_runs(pd.Series(found, dtype=float), rows, by="seed")


def probe_gain(frame: pd.DataFrame, name: str) -> Estimate:
    """The probe's test top-1 with an ingredient minus without it, in points, paired by seed."""
    return paired_difference(*(probed(frame, one) for one in INGREDIENTS[name]))


def least_at_neighbours(results, name: str) -> Estimate:
    """The gain on validation, paired by tuning seed, with the learning rate of either side moved to the neighbour in
    its grid, or neither, where that is least; n = 0 where the rates are given."""
    choices = {cell.condition: cell.choice for cell in results.cells}
    tried = [part for part in at_neighbours(*(choices[one] for one in INGREDIENTS[name])).values() if part.n]
    return min(tried, key=lambda part: part.mean, default=Estimate(np.nan, None, 0))


def compared(names: Sequence[str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The rows of the conditions that these ingredients compare."""
    conditions = {condition for name in names for condition in INGREDIENTS[name]}
    return lambda frame: frame[frame["condition"].isin(conditions)] if "condition" in frame else frame


def checks_of(names: Sequence[str], others: Sequence[str] = ()) -> Callable[[Shown], dict[str, Estimate]]:
    """The comparisons of these ingredients under other settings, less the bound that each has: every side at its own
    best length (validation, which the other seeds choose), at the neighbouring learning rates that favour it least, by
    the linear probe, and at the other of the presets laptop and overnight. `others`: ingredients that stand beside."""

    def checks(shown: Shown) -> dict[str, Estimate]:
        frame = shown.results.frame
        found = {}
        for name in names:
            best = (at_best_length(frame, condition=one) for one in INGREDIENTS[name])
            found[f"{name}, each side at its best length"] = paired_difference(*best), name
            found[f"{name}, at the neighbouring rates that favour it least"] = (
                least_at_neighbours(shown.results, name),
                name,
            )
            found[f"{name}, by the linear probe"] = probe_gain(frame, name), name
        for size in ("laptop", "overnight"):
            other = shown.at(size)
            if other is None or not other.sufficient or {*other.frame["key"]} == {*frame["key"]}:
                continue
            for name in names:
                found[f"{name}, {size}"] = gain(other.frame, name), name
                found[f"{name}, {size}, by the linear probe"] = probe_gain(other.frame, name), name
        found |= {f"{name}, in its place": (gain(frame, name), name) for name in others}
        return {text: minus(part, NO_WORSE.get(name, (0.0,))[0]) for text, (part, name) in found.items() if part.n}

    return checks


SLIGHT_RULE = Rule(
    "The ingredients of which the claim says that they help a little: label smoothing of 0.3, gradients clipped at "
    f"norm 1, weight decay, dropout of 0.1; and {BATCH}, which is said to be better or alike. Each is test top-1 with "
    "the ingredient minus without it, paired by at least five seeds, every side at a learning rate of its own. "
    f"Supported if all 95% intervals lie above 0, that of {BATCH} above -1 point; not supported if one lies wholly "
    "below its bound. The weight decay is one that can matter: the paper's 0.001, times LION's learning rate and the "
    "number of steps, takes less than a hundredth off a weight, so it stands among the checks.",
    "rq1-ablations",
    lambda frame: gain_by_ingredient(frame, SLIGHT),
    0.0,
    bounds=NO_WORSE,
    min_seeds=dict.fromkeys(SLIGHT, SEEDS),
    rows=compared(SLIGHT),
    checks=checks_of(SLIGHT, (SMALL_DECAY,)),
    name="the ingredients said to help a little",
)

RULES = {
    13: Rule(
        "The six comparisons that the claim makes without reserve: GELU over ReLU; residual connections, at twice the "
        "default's depth, where they are needed; the inverted bottleneck over a plain block that is wider, at equal "
        "FLOPs; LayerNorm over none; LayerNorm before the block over after it; LION over AdamW. Each is test top-1 "
        "with the ingredient minus without it, at equal training FLOPs, paired by at least five seeds, every side at a "
        "learning rate of its own. The claim is their conjunction: supported if all six 95% intervals lie above 0, not "
        "supported if one lies wholly below. What is said to help a little has a rule of its own: effects of a few "
        "tenths of a point would leave the whole claim undecided, whatever the large ones are.",
        "rq1-ablations",
        lambda frame: gain_by_ingredient(frame, STRONG),
        0.0,
        min_seeds=dict.fromkeys(STRONG, SEEDS),
        rows=compared(STRONG),
        checks=checks_of(STRONG),
        companion=SLIGHT_RULE,
    ),
}
