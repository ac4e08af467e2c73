"""The gain of augmentation, family beside family, with what speaks for and against each comparison: tables and numbers
of rq2-augmentation, which also stand where nothing has run yet.

A gain rests on two learning rates, and a difference of gains on four. So each stands beside what it would be at their
neighbours, on validation, from the runs by which the rates were chosen (`tuning.contrast_at_neighbours`).
"""

from collections.abc import Sequence

import pandas as pd

from mlp_lib.chapters.augmentation.figures import if_run, rate_text
from mlp_lib.chapters.augmentation.presets import ALL, NONE, Preset
from mlp_lib.chapters.augmentation.study import candidates
from mlp_lib.chapters.tuning import Choice, at_either_neighbour, contrast_at_neighbours
from mlp_lib.records.architectures import family_of
from mlp_lib.records.frames import by_seed
from mlp_lib.records.store import Store
from mlp_lib.stats.intervals import Estimate, difference, paired_difference, t_interval, unpaired_difference


def gain_by_seed(results, family: str) -> pd.Series:
    """Points of test top-1 that all of the augmentation brings to a family where augmentations are compared."""
    rows = results.compared
    return difference(*(by_seed(rows, family=family, augmentation=name) for name in (ALL, NONE)))


def between(results, first: str, second: str) -> Estimate:
    """One family's gain minus another's, in points of test top-1, paired by seed."""
    return paired_difference(gain_by_seed(results, first), gain_by_seed(results, second))


def unpaired(results, first: str, second: str) -> Estimate:
    """`between` without pairing: families share no weights by seed, and little but the order of their images. The
    interval is Welch's."""
    return unpaired_difference(gain_by_seed(results, first).dropna(), gain_by_seed(results, second).dropna())


def recorded_gain(preset: Preset, store: Store, family: str, without: float, full: float) -> pd.Series:
    """Points of test top-1, by seed, that all of the augmentation brings a family where augmentations are compared, at
    these two learning rates, whatever was chosen. From records; empty where there are none."""
    by_side = {}
    for (model, name), run in candidates(preset).items():
        if family_of(model) == family:
            lr = without if name == NONE else full
            by_side[name] = pd.DataFrame([store.row(run.but(lr=lr, seed=seed)) for seed in preset.seeds])
    return difference(by_seed(by_side[ALL]), by_seed(by_side[NONE]))


def gain_at_neighbours(results, family: str) -> dict[str, Estimate]:
    """A family's gain in points of validation top-1, at the chosen rates and with either moved to its neighbours."""
    without, full = choices_of(results, family)
    return contrast_at_neighbours((1, full), (-1, without))


def between_at_neighbours(results, first: str, second: str) -> dict[str, Estimate]:
    """One family's gain minus another's, in points of validation top-1, with each of the four rates moved in turn."""
    (without, full), (others_without, others_full) = choices_of(results, first), choices_of(results, second)
    return contrast_at_neighbours((1, full), (-1, without), (-1, others_full), (1, others_without))


def choices_of(results, family: str) -> tuple[Choice, Choice]:
    """A family's choices of the learning rate, without augmentation and with all of it."""
    model = results.frame.loc[results.frame["family"] == family, "model"].iloc[0]
    return results.choices[model, NONE], results.choices[model, ALL]


def mixup_adds(results) -> dict[str, Estimate]:
    """By family, what MixUp adds to the rest of the augmentation, in points of test top-1, paired by seed: all of it
    minus flips and crops, or minus crops where images are not flipped. All at one learning rate, chosen with all."""
    rows = results.compared
    rest = "flip + crop" if "flip + crop" in {*rows["augmentation"]} else "crop"
    return {
        family: paired_difference(
            by_seed(rows, family=family, augmentation=ALL), by_seed(rows, family=family, augmentation=rest)
        )
        for family in families_of(results)
    }


def families_of(results) -> list[str]:
    """The families of the results, in the study's order."""
    return list(results.frame["family"].unique())


def table_of_families(results) -> pd.DataFrame:
    """A row a family: test top-1 without augmentation, the gain of all of it, the same on validation with either
    learning rate at a neighbour, and what MixUp adds to flips and crops."""
    rows, added, compared = [], mixup_adds(results), results.compared
    for family in families_of(results):
        start = t_interval(by_seed(compared, family=family, augmentation=NONE).dropna())
        gain = t_interval(gain_by_seed(results, family).dropna())
        without, full = choices_of(results, family)
        rows.append(
            {
                "family": family,
                "without augmentation, % [95%]": start.text(),
                "gain of all, points [95%]": if_run(gain.n, gain.text()),
                "at either neighbour, validation": at_either_neighbour(gain_at_neighbours(results, family)),
                "rate without": rate_text(without),
                "rate with": rate_text(full),
                "MixUp adds, points [95%]": if_run(added[family].n, added[family].text()),
            }
        )
    return pd.DataFrame(rows)


def table_between(results, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """One family's gain minus another's, a row a pair: on test, paired by seed and not, and on validation with each of
    the four learning rates at a neighbour."""
    rows = []
    for first, second in pairs:
        paired, apart = between(results, first, second), unpaired(results, first, second)
        rows.append(
            {
                "gain of": f"{first} minus {second}",
                "points, paired by seed [95%]": paired.text(),
                "not paired [95%]": if_run(apart.n, apart.text()),
                "at either neighbour, validation": at_either_neighbour(between_at_neighbours(results, first, second)),
            }
        )
    return pd.DataFrame(rows)
