"""Synthetic runs of known laws, for the tests of `mlp_lib.stats.laws`."""

import numpy as np
import pandas as pd

from mlp_lib.stats.laws.joint import law_of

EVEN = (4.0e2, 4.0e2, 0.5, 0.5, 0.5)  # A, B, E, alpha, beta: equal exponents
MLP = (1.0e5, 50.0, 0.4, 1.0, 0.35)  # the exponents of the paper


def grid(constants, noise=0.0, seeds=1, sizes=8, lengths=9, params=(1e5, 1e8), examples=(1e5, 1e10), seed=0):
    """Runs with params, examples, loss, compute and seed: every size with every number of examples."""
    rng = np.random.default_rng(seed)
    p, n = (a.ravel() for a in np.meshgrid(np.geomspace(*params, sizes), np.geomspace(*examples, lengths)))
    tables = []
    for number in range(seeds):
        loss = law_of(constants, p, n) * np.exp(noise * rng.standard_normal(len(p)))
        tables.append(pd.DataFrame({"params": p, "examples": n, "loss": loss, "compute": 6 * p * n, "seed": number}))
    return pd.concat(tables, ignore_index=True)


def columns(runs):
    return runs["params"], runs["examples"], runs["loss"]
