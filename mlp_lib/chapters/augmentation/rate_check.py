"""Does the learning rate that was chosen at one number of images fit the most images? Tables and numbers of
rq2-augmentation, from the control (study.py), which also stand where nothing has run yet.
"""

from typing import NamedTuple

import pandas as pd

from mlp_lib.chapters.augmentation.figures import gains_by_images, if_run
from mlp_lib.chapters.augmentation.presets import ALL, NONE
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, paired_difference, t_interval


class GainAtMost(NamedTuple):
    """Points of test top-1 that all of the augmentation brings a model at the most images, paired by seed: at the rates
    chosen at fewer images, and at those that are best there on validation, which some of the same seeds chose."""

    model: str
    family: str
    images: int
    at_chosen: Estimate
    at_best: Estimate
    best: tuple[float, float]  # the rates, without augmentation and with it


def gains_at_most(results) -> list[GainAtMost]:
    """The MLPs of the control. None where every rate is given."""
    found = []
    for model, runs in _at_most_images(results):
        sides = (NONE, ALL)
        chosen, best = ([choices[model, name].lr for name in sides] for choices in (results.choices, results.at_most))
        gains = [
            paired_difference(by_seed(runs, augmentation=ALL, lr=full), by_seed(runs, augmentation=NONE, lr=without))
            for without, full in (chosen, best)
        ]
        row = runs.iloc[0]
        found.append(GainAtMost(model, row["family"], int(row["train_examples"]), *gains, tuple(best)))
    return found


def table_of_gains(results) -> pd.DataFrame:
    """`gains_at_most`, a row a model, with the rates."""
    return pd.DataFrame(
        {
            "model": gain.model,
            "images": f"{gain.images:,}",
            "gain of all at the chosen rates, points of test top-1 [95%]": gain.at_chosen.text(),
            "at the rates that are best there [95%]": if_run(gain.at_chosen.n and gain.at_best.n, gain.at_best.text()),
            "best rate without": f"{gain.best[0]:g}",
            "best rate with": f"{gain.best[1]:g}",
        }
        for gain in gains_at_most(results)
    )


def table_of_rates(results) -> pd.DataFrame:
    """At the most images: validation and test top-1 of the MLPs at the chosen rate and at those beside it, and test
    top-1 minus that at the chosen rate, paired by seed. A row a model, side and rate."""
    rows = []
    for model, runs in _at_most_images(results):
        for name in (NONE, ALL):
            side, chosen = runs[runs["augmentation"] == name], results.choices[model, name].lr
            for lr in sorted(side["lr"].unique()):
                cell = side[side["lr"] == lr]
                test, own = by_seed(cell), by_seed(side[side["lr"] == chosen])
                more, top1 = paired_difference(test, own), t_interval(test)
                val = t_interval(with_runs(cell["val_top1"], cell).dropna() if "val_top1" in cell else [])
                rows.append(
                    {
                        "model": model,
                        "augmentation": name,
                        "learning rate": f"{lr:g}" + _marks(lr == chosen, lr == results.at_most[model, name].lr),
                        "test top-1, % [95%]": top1.text(),
                        "validation top-1, %": f"{val.mean:.1f}" if val.n else "",
                        "more than at the chosen rate [95%]": if_run(more.n if lr != chosen else 0, more.text()),
                    }
                )
    return pd.DataFrame(rows)


def _at_most_images(results) -> list[tuple[str, pd.DataFrame]]:
    """The MLPs of the control, each with its runs of both sides on the most images, those of the control too."""
    usual, found = results.usual, []
    for model in results.control["model"].unique() if len(results.control) else []:
        most = max(n for other, n in gains_by_images(results) if other == model)
        rows = usual[(usual["model"] == model) & (usual["train_examples"] == most)]
        rows = pd.concat([rows[rows["augmentation"].isin((NONE, ALL))], results.control])
        found.append((model, rows[rows["model"] == model]))
    return found


def _marks(chosen: bool, best: bool) -> str:
    words = [word for word, true in (("chosen at fewer images", chosen), ("best here", best)) if true]
    return f" ({', '.join(words)})" if words else ""
