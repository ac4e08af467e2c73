"""What a near tie between two learning rates of the default does to every comparison with it; it judges nothing.

Added when the verdict was known. The default's runs stand on one side of most comparisons, so if its rate is chosen by
a hair, that choice enters all of them. The condition with a weight decay of 0.001 is the default in all but name: so
weak a decay takes less than a thousandth off a weight. Its rate was chosen by the same procedure, and may be the other
one of the tie: it is the default's stand-in.
"""

import pandas as pd

from mlp_lib.chapters.ablations.conditions import DEFAULT, INGREDIENTS, SMALL_DECAY
from mlp_lib.chapters.ablations.rules import gain, word
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, paired_difference

STAND_IN = INGREDIENTS[SMALL_DECAY].present
# The comparisons with the default on one side, but for that of the stand-in itself.
COMPARED = tuple(name for name, pair in INGREDIENTS.items() if DEFAULT in pair and name != SMALL_DECAY)


def beside_stand_in(frame: pd.DataFrame, name: str) -> Estimate:
    """The gain of an ingredient with the stand-in in the place of the default: points of test top-1, paired by seed."""
    sides = [STAND_IN if condition == DEFAULT else condition for condition in INGREDIENTS[name]]
    return paired_difference(*(by_seed(frame, condition=one) for one in sides))


def same_word(frame: pd.DataFrame) -> dict[str, str]:
    """The ingredients whose gain says the same, "helps" or "hurts", beside the default and beside its stand-in; those
    without the default on a side say what they say. By name."""
    found = {}
    for name in INGREDIENTS:
        said = word(gain(frame, name))
        if name == SMALL_DECAY or said not in ("helps", "hurts"):
            continue
        if name not in COMPARED or word(beside_stand_in(frame, name)) == said:
            found[name] = said
    return found


def table_of_stand_in(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a comparison with the default: the gain and its word, and the same with the stand-in in its place."""
    rows = []
    for name in COMPARED:
        plain, other = gain(frame, name), beside_stand_in(frame, name)
        rows.append(
            {
                "ingredient": name,
                "beside the default, points [95%]": plain.text(),
                "verdict": word(plain),
                "beside its stand-in, points [95%]": other.text(),
                "there": word(other),
            }
        )
    return pd.DataFrame(rows)
