"""The rule of claim 7: do compute-optimal MLPs put more of the compute into examples than into parameters?"""

import pandas as pd

from mlp_lib.chapters import scaling, scaling_grids
from mlp_lib.chapters.rule import Rule, Shown
from mlp_lib.errors import UserError
from mlp_lib.stats.intervals import Estimate, below, t_interval
from mlp_lib.stats.laws.allocate import Exponents, of_grid, of_law

JUDGED = "B-MLP"
EVEN = 0.5  # the exponent of parameters where both sides grow alike, as for transformers (Hoffmann et al. 2022)
PARAMETERS = "exponent of the optimal parameters"
METHODS = {"varpro": "joint law", "huber": "joint law, Huber loss", "isoflop": "isoFLOP minima", "frontier": "frontier"}


def runs_of(
    points: pd.DataFrame,
    quantity: str = "error",
    params: str = "params",
    compute: str = "compute",
    epoch: int | None = None,
) -> pd.DataFrame:
    """The cells of one family after the same number of passes, as the fitters take them: a row a run, columns params,
    examples, loss (the quantity), compute, seed and, of points that have it, key. Without `epoch`: the most passes that
    every cell has; compute is then proportional to P N."""
    rows = scaling.at_epoch(points, scaling.most_passes(points) if epoch is None else epoch)
    return pd.DataFrame(
        {
            "params": rows[params],
            "examples": rows["examples"],
            "loss": rows[quantity],
            "compute": rows[compute],
            "seed": rows["seed"],
            **({"key": rows["key"]} if "key" in rows else {}),
        }
    )


def exponents(runs: pd.DataFrame, method: str = "varpro") -> Exponents | None:
    """P* ~ C^a and N* ~ C^(1 - a) by one of `METHODS`; None where there are too few cells."""
    if runs["params"].nunique() < 3 or runs["examples"].nunique() < 3:
        return None
    try:
        if method in ("isoflop", "frontier"):
            return of_grid(method, runs, draws=1000, seed=0, level=0.95)
        return of_law(scaling.joint_law(runs["params"], runs["examples"], runs["loss"], method))
    except UserError:
        return None


def estimate_of(found: Exponents | None, runs: pd.DataFrame) -> Estimate:
    """The exponent of the optimal parameters; unbounded where the data do not identify it, n = 0 without one.
    `runs` are those that it was fitted to."""
    if found is None or found.params != found.params:  # nan
        return t_interval([])
    known = "not identified" not in found.note
    return Estimate(found.params, found.params_interval if known else scaling.UNKNOWN, runs["seed"].nunique()).of_runs(
        runs
    )


def optimal_parameters(frame: pd.DataFrame) -> dict[str, Estimate]:
    """The part of claim 7, for the B-MLP."""
    runs = runs_of(scaling.of_family(scaling.points_of(frame), JUDGED))
    return {PARAMETERS: estimate_of(exponents(runs), runs)}


def checks(shown: Shown) -> dict[str, Estimate]:
    """Claim 7 under other settings: how far the exponent lies below one half."""
    points, other = shown.results.points, scaling.once_complete(shown.at("overnight"))
    narrow = scaling.once_complete(shown.at("overnight", **scaling_grids.NARROW))
    mlp = scaling.of_family(points, JUDGED)
    settings = {
        **{name: (runs_of(mlp), method) for method, name in METHODS.items() if method != "varpro"},
        "S-MLP": (runs_of(scaling.of_family(points, "S-MLP")), "varpro"),
        "parameters without embedding and head": (runs_of(mlp, params="body"), "varpro"),
        "validation loss instead of error": (runs_of(mlp, "loss"), "varpro"),
        "after 1 pass": (runs_of(mlp, epoch=1), "varpro"),
        "after 5 passes": (runs_of(mlp, epoch=5), "varpro"),
    }
    if other:
        settings["overnight"] = (runs_of(scaling.of_family(other.points, JUDGED)), "varpro")
    if narrow:
        wider = runs_of(scaling.together(mlp, scaling.of_family(narrow.points, JUDGED)))
        settings |= {"with two narrower widths": (wider, "varpro"), "the same, isoFLOP minima": (wider, "isoflop")}
    found = {}
    for name, (runs, method) in settings.items():
        found[name] = below(estimate_of(exponents(runs, method), runs), EVEN)
    return found


RULES = {
    7: Rule(
        "The joint law E = E_inf + A / P^alpha + B / N^beta, fitted by variable projection to the B-MLP's validation "
        "error after the most passes that every cell has (10 at laptop size), so that compute is proportional to P N; "
        "P with embedding and head. Then P* ~ C^a with a = beta / (alpha + beta). Supported if the 95% interval of a "
        "(bootstrap over runs) lies below 0.5, not supported if it lies wholly above; inconclusive where the data do "
        "not identify either exponent (profile likelihood).",
        "rq4-allocation",
        optimal_parameters,
        float("-inf"),
        EVEN,
        unit="exponent of compute",
        digits=2,
        rows=lambda frame: frame[frame["family"] == JUDGED],
        checks=checks,
    ),
}

RULE_CHANGES: tuple[tuple[str, int, str], ...] = (
    (
        "2026-11-30",
        7,
        "two checks more, declared before their runs: the law's best sizes lay below the narrowest width of the grid, "
        "so two narrower widths are put beside it. The rule itself is as it was.",
    ),
)
