"""The scaling-law fitter measured: seconds, coverage of its intervals, and the PyPI package `chinchilla` beside it.

    python -m benchmarks.laws seconds              1,000 bootstrap fits of every law on 200 runs; about 10 s
    python -m benchmarks.laws coverage [SWEEPS]    how often 95% intervals hold the truth; 200 sweeps take some minutes
    python -m benchmarks.laws chinchilla           the same tables for both; needs `pip install chinchilla`

Synthetic runs of known laws; one core is enough (OMP_NUM_THREADS=1). The last line is one JSON object.
"""

import functools
import json
import sys
import tempfile
import time

import numpy as np
import pandas as pd

from mlp_lib.stats.laws.allocate import allocation, optimum
from mlp_lib.stats.laws.compare import largest
from mlp_lib.stats.laws.curves import LAWS, fit_curve
from mlp_lib.stats.laws.joint import CONSTANTS, METHODS, fit_joint, law_of

TRUTHS = {  # A, B, E, alpha, beta
    "transformer-like": (406.4, 410.7, 1.69, 0.34, 0.285),
    "mlp-like": (1.0e5, 50.0, 0.4, 1.0, 0.35),
}
RANGES = {"transformer-like": ((1e7, 1e10), (1e9, 1e12)), "mlp-like": ((1e5, 1e8), (1e5, 1e10))}
NOISE = 0.01  # standard deviation of the log loss


def sweep(name: str, sizes: int = 8, lengths: int = 9, seed: int = 0, seeds: int = 1) -> pd.DataFrame:
    """Runs of every size with every number of examples: params, examples, loss, compute."""
    rng = np.random.default_rng(seed)
    (p0, p1), (n0, n1) = RANGES[name]
    p, n = (a.ravel() for a in np.meshgrid(np.geomspace(p0, p1, sizes), np.geomspace(n0, n1, lengths)))
    p, n = np.tile(np.round(p), seeds), np.tile(np.round(n), seeds)
    loss = law_of(TRUTHS[name], p, n) * np.exp(NOISE * rng.standard_normal(len(p)))
    return pd.DataFrame({"params": p, "examples": n, "loss": loss, "compute": 6 * p * n})


def seconds(draws: int = 1000) -> dict:
    """Seconds of a fit with its bootstrap and profiles, by law, on 200 runs; `total` is of all of them."""
    found = {}
    x = np.geomspace(1e3, 1e9, 200)
    error = (5 * (2e4 + x) ** -0.35 + 0.12) * np.exp(NOISE * np.random.default_rng(0).standard_normal(200))
    for law in LAWS:
        started = time.perf_counter()
        fit_curve(law, x, error, draws=draws)
        found[law] = time.perf_counter() - started
    runs = sweep("mlp-like", 10, 20)
    laws = {}
    for method in METHODS:
        started = time.perf_counter()
        laws[method] = fit_joint(runs["params"], runs["examples"], runs["loss"], method=method, draws=draws)
        found[f"joint, {method}"] = time.perf_counter() - started
    started = time.perf_counter()
    allocation(runs, laws, draws=draws)
    found["frontier and isoflop"] = time.perf_counter() - started
    return found | {"total": sum(found.values())}


def coverage(sweeps: int = 200, draws: int = 300) -> dict:
    """The share of sweeps whose 95% interval holds the truth: constants by bootstrap and profile, exponent of params by
    all four methods (joint laws from single runs, frontier and isoFLOP also from three repeats a cell)."""
    found = {}
    for name, truth in TRUTHS.items():
        share = truth[4] / (truth[3] + truth[4])
        hits: dict[str, list[bool]] = {}
        for seed in range(sweeps):
            runs = sweep(name, seed=seed)
            laws = {}
            for method in METHODS:
                law = fit_joint(*(runs[c] for c in ("params", "examples", "loss")), method=method, draws=draws)
                laws[method] = law
                for constant, value in zip(CONSTANTS, truth, strict=True):
                    for kind, ends in (("bootstrap", law.intervals), ("profile", law.profile)):
                        low, high = ends[constant]
                        hits.setdefault(f"{method} {kind} {constant}", []).append(low <= value <= high)
            for label, table in (("", runs), (" of 3 repeats", sweep(name, seed=seed, seeds=3))):
                for method, own in allocation(table, laws, draws=draws).items():
                    if method in METHODS and label:
                        continue
                    low, high = own.params_interval
                    if np.isfinite(low):
                        hits.setdefault(f"exponent, {method}{label}", []).append(low <= share <= high)
        found[name] = {key: round(float(np.mean(values)), 3) for key, values in hits.items()}
    return found


def beside_chinchilla(starts: int = 3) -> dict:
    """Constants, log error on the held-out largest fifth of compute, and seconds, of both packages on the same tables.

    `chinchilla` is given its own default loss and the Huber loss of the paper it is named after, `starts` values of
    each of five constants to start from, around the usual ones, one process, no figure. No bootstrap on either side.
    """
    try:
        import chinchilla
        from chinchilla._metrics import asymmetric_mae, log_huber
    except ImportError as error:
        sys.exit(f"chinchilla cannot be imported ({error}); pip install chinchilla, or put it on PYTHONPATH")
    grid = {
        "e": np.linspace(-1, 1, starts),
        "a": np.linspace(3, 12, starts),
        "b": np.linspace(2, 8, starts),
        "alpha": np.linspace(0.2, 1.1, starts),
        "beta": np.linspace(0.2, 0.6, starts),
    }
    losses = {"default": asymmetric_mae, "log Huber 1e-3": functools.partial(log_huber, delta=1e-3)}
    found = {}
    for name, truth in TRUTHS.items():
        runs = sweep(name)
        out = largest(runs["compute"], 0.2)
        kept, unseen = runs[~out], runs[out]
        arms = {"truth": (dict(zip(CONSTANTS, truth, strict=True)), 0.0)}
        for method in METHODS:
            started = time.perf_counter()
            law = fit_joint(kept["params"], kept["examples"], kept["loss"], method=method, draws=0)
            arms[f"ours, {method}"] = (law.constants, time.perf_counter() - started)
        for label, loss in losses.items():
            with tempfile.TemporaryDirectory() as folder:
                theirs = chinchilla.Chinchilla(folder, param_grid=grid, loss_fn=loss, log_level=50)
                theirs.visualizer.optim = lambda *_, **__: None
                for row in kept.itertuples():
                    theirs.database.append(N=row.params, D=row.examples, C=row.compute, loss=row.loss)
                started = time.perf_counter()
                theirs.fit(parallel=False)
                took = time.perf_counter() - started
            arms[f"chinchilla, {label}"] = ({c: float(getattr(theirs, c)) for c in CONSTANTS}, took)
        found[name] = {}
        for arm, (constants, took) in arms.items():
            values = [constants[c] for c in CONSTANTS]
            logs = np.log(unseen["loss"] / law_of(values, unseen["params"], unseen["examples"]))
            exponent = constants["beta"] / (constants["alpha"] + constants["beta"])
            ratio = optimum(values, 1e20)[0] / optimum(truth, 1e20)[0]
            found[name][arm] = {c: float(f"{v:.4g}") for c, v in constants.items()} | {
                "held_out_rms_log": float(f"{np.sqrt(np.mean(logs**2)):.4g}"),
                "seconds": round(took, 2),
                "params_exponent": round(exponent, 4),
                "params_at_1e20_over_true": round(float(ratio), 3),
            }
    return found


def show(table: dict, indent: str = "") -> None:
    for key, value in table.items():
        if isinstance(value, dict):
            print(f"{indent}{key}")
            show(value, indent + "  ")
        else:
            print(f"{indent}{key:<40} {value:.4g}")


def main() -> None:
    task, *rest = sys.argv[1:] or ["seconds"]
    tasks = {"seconds": seconds, "coverage": coverage, "chinchilla": beside_chinchilla}
    if task not in tasks or not all(text.isdigit() for text in rest):
        sys.exit(f"say one of {', '.join(tasks)}, and a whole number at most")
    answer = tasks[task](*map(int, rest))
    show(answer)
    print(json.dumps({task: answer}))


if __name__ == "__main__":
    main()
