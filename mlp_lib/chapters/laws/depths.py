"""Does only the number of parameters count? Networks of other depths beside the law of those with six blocks.

The grid `scaling_grids.DEPTHS` has two depths at laptop size. The law knows a network by its parameters and its images
alone: if that is enough, it predicts networks of any depth as well as those that it was fitted to.
"""

import numpy as np
import pandas as pd

from mlp_lib.chapters import scaling
from mlp_lib.chapters.laws import rules
from mlp_lib.records.architectures import parse
from mlp_lib.records.behind import with_runs
from mlp_lib.stats.intervals import Estimate, t_interval


def misses(points: pd.DataFrame, others: pd.DataFrame) -> dict[tuple[str, int], Estimate]:
    """How far the error of each cell of `others` lies above the joint law of the judged family of `points`, in % of the
    error, between seeds: by model and number of images. Nothing where the law cannot be fitted."""
    law, _ = rules.exponents(scaling.of_family(points, rules.JUDGED))
    if law is None:
        return {}
    found = {}
    for (model, images), cell in scaling.at_best_epoch(others).groupby(["model", "examples"]):
        above = 100 * np.log(cell["error"] / law.predict(cell["params"], cell["examples"]))
        found[model, int(images)] = t_interval(with_runs(above.set_axis(cell["seed"]), cell))
    return found


def largest(found: dict[tuple[str, int], Estimate]) -> Estimate:
    """The miss that is largest, whichever its sign; n = 0 where there is none."""
    return max(found.values(), key=lambda miss: abs(miss.mean), default=t_interval([]))


def table(found: dict[tuple[str, int], Estimate], others: pd.DataFrame) -> pd.DataFrame:
    """A row a model of `others`: blocks and parameters, and what was `found` by `misses` at every number of images."""
    params = others.drop_duplicates("model").set_index("model")["params"]
    rows = [
        {
            "model": model,
            "blocks": parse(model).depth,
            "parameters": f"{params[model] / 1e6:.2g} million",
            **{f"{images:,} images": miss.text() for (one, images), miss in found.items() if one == model},
        }
        for model in sorted({model for model, _ in found}, key=lambda model: parse(model).depth)
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame({"model": ["not run"]})
