"""The gain of augmentation, family beside family, and what else differs between them: words for the sentences of
rq2-augmentation, from its results (`studies.augmentation.Results`). No torch.

They also stand where nothing has run yet, as in plots/augmentation.py.
"""

import pandas as pd

from mlp_lib.chapters.augmentation.figures import ALL, NONE, choices, if_run, rate_text, side, worth
from mlp_lib.chapters.tuning import Choice
from mlp_lib.records.architectures import MLPS
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, paired_difference, t_interval


def gain_by_seed(results, family: str) -> pd.Series:
    """Points of test top-1 that all of the augmentation brings to a family where augmentations are compared."""
    rows = results.compared
    return by_seed(rows, family=family, augmentation=ALL) - by_seed(rows, family=family, augmentation=NONE)


def between(results, first: str, second: str) -> Estimate:
    """One family's gain minus another's, in points, paired by seed."""
    return paired_difference(gain_by_seed(results, first), gain_by_seed(results, second))


def most_gained(results) -> str:
    """The family with the largest mean gain, and against which others the interval of the difference, paired by seed,
    says so. "the CNN gained most, 13.5 [11.2, 15.7] n=3 points; more than B-MLP, ViT"."""
    found = {family: t_interval(gain_by_seed(results, family).dropna()) for family in results.frame["family"].unique()}
    gains = {family: gain for family, gain in found.items() if gain.n}
    missing = ", ".join(family for family in found if family not in gains)
    if not gains:
        return "no gain is measured yet"
    most = max(gains, key=lambda family: gains[family].mean)
    others = {family: between(results, most, family) for family in gains if family != most}
    words = by_side(others, "more than", "less than", "a difference is not shown to")
    said = [f"the {most} gained most, {gains[most].text()} points", words, f"not run: {missing}" if missing else ""]
    return "; ".join(text for text in said if text)


def starts(results) -> str:
    """Each family's test top-1 without augmentation, where augmentations are compared, in percent."""
    rows = results.compared
    found = {f: t_interval(by_seed(rows, family=f, augmentation=NONE).dropna()) for f in rows["family"].unique()}
    return "; ".join(f"{family} {estimate.text()}" for family, estimate in found.items())


def to_the_mlps(results) -> str:
    """What all of the augmentation is worth to each MLP: points, and the images that would do as much."""
    return "; ".join(
        f"{w.family} {w.gain.text()}" + if_run(w.equivalent.n, f", as {w.equivalent.text()} images would")
        for w in worth(results)
        if w.augmentation == ALL and w.family in MLPS
    )


def mixup_adds(results) -> dict[str, Estimate]:
    """By family, what MixUp adds to the rest of the augmentation, in points of test top-1, paired by seed: all of it
    minus flips and crops, or minus crops where images are not flipped. All at one learning rate, chosen with all."""
    rows = results.compared
    rest = "flip + crop" if "flip + crop" in {*rows["augmentation"]} else "crop"
    return {
        family: paired_difference(
            by_seed(rows, family=family, augmentation=ALL), by_seed(rows, family=family, augmentation=rest)
        )
        for family in rows["family"].unique()
    }


def listed(estimates: dict[str, Estimate]) -> str:
    """Every family with its estimate, for a sentence."""
    return "; ".join(f"{family} {estimate.text()}" for family, estimate in estimates.items())


def by_side(estimates: dict[str, Estimate], above: str, below: str, neither: str) -> str:
    """Families by what their intervals show of a sign, for a sentence: "adds to CNN; takes from none ..."."""
    families: dict[str, list[str]] = {}
    for family, estimate in estimates.items():
        families.setdefault(side(estimate, above, below, neither), []).append(family)
    order = [words for words in (above, below, neither, "not run") if words in families]
    return "; ".join(f"{words}{':' if words == 'not run' else ''} {', '.join(families[words])}" for words in order)


# --- learning rates, of which every side has its own


def chosen_after(results, share: float) -> str:
    """How the learning rates came about, for a sentence, where a choice trains for that share of the steps."""
    if all((cell.choice.grid["status"] == "given").all() for cell in results.cells):
        return "given, not chosen"
    steps = int(results.frame["steps"].iloc[0])
    return f"chosen after {max(1, round(share * steps)):,} of {steps:,} steps"


def rates(results) -> str:
    """Each family's two learning rates, without augmentation and with all of it, and how far they lie apart."""
    return "; ".join(f"{family} {_both(*pair)}" for family, pair in _pairs(results).items())


def farthest_apart(results) -> str:
    """The families whose two learning rates lie farthest apart, for a sentence: "the CNN (0.0001 without ...)"."""
    factors = {family: _factor(*pair) for family, pair in _pairs(results).items() if all(c.final for c in pair)}
    most = max(factors.values(), default=1.0)
    if most == 1:
        return "no family, since each has one rate for both sides"
    return ", ".join(f"the {f} ({_both(*_pairs(results)[f])})" for f, factor in factors.items() if factor == most)


def at_edge(results) -> str:
    """The choices that stay at an edge of their grid, for a sentence: a better rate may lie beyond. Or "none"."""
    found = [
        f"{family} {'without' if name == NONE else 'with'} augmentation ({choice.lr:g})"
        for family, pair in _pairs(results).items()
        for name, choice in zip((NONE, ALL), pair, strict=True)
        if choice.final and choice.at_edge
    ]
    return "; ".join(found) or "none"


def _pairs(results) -> dict[str, tuple[Choice, Choice]]:
    chosen, families = choices(results), results.frame[["model", "family"]].drop_duplicates()
    return {
        family: (chosen[model, NONE], chosen[model, ALL])
        for model, family in families.itertuples(index=False, name=None)
    }


def _factor(without: Choice, full: Choice) -> float:
    return max(without.lr / full.lr, full.lr / without.lr)


def _both(without: Choice, full: Choice) -> str:
    if not (without.final and full.final):
        return "not chosen yet"
    if without.lr == full.lr:
        return f"{rate_text(full)} for both"
    apart = f"{_factor(without, full):.2g} times {'smaller' if full.lr < without.lr else 'larger'}"
    return f"{rate_text(without)} without and {rate_text(full)} with it, {apart}"
