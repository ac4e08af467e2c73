"""Which law predicts the runs that it has not seen: those of the largest compute."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.curves import LAWS, fit_curve
from mlp_lib.stats.laws.joint import METHODS, fit_joint


@dataclass(frozen=True)
class HeldOut:
    """How a law fitted without the largest runs meets them. Errors are of log(observed / predicted)."""

    runs: int  # held out
    start: float  # the least compute (or x) that was held out
    rms_log: float
    mean_log: float  # positive: the law is too optimistic
    note: str = ""  # why there is no score


def largest(x, share: float) -> np.ndarray:
    """Which runs are held out, (n,) bool: those of the largest x, a share of the runs or a little more, with all equal
    to the least of them; never all."""
    if not 0 < share < 1:
        raise UserError(f"share to hold out is {share:g}; it must lie between 0 and 1")
    x = np.asarray(x, float)
    edge = np.sort(x)[::-1][max(1, int(np.ceil(share * len(x)))) - 1]
    return x >= edge


def score(observed, predicted, start: float) -> HeldOut:
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(observed) / predicted)
    return HeldOut(len(logs), float(start), float(np.sqrt(np.mean(logs**2))), float(logs.mean()))


def hold_out_curve(law: str, x, error, share: float = 0.25, **options) -> HeldOut:
    """A one-variable law fitted without the largest x, scored on them. Options as of `curves.fit_curve`."""
    x, error = np.asarray(x, float), np.asarray(error, float)
    out = largest(x, share)
    try:
        fit = fit_curve(law, x[~out], error[~out], draws=0, **options)
    except UserError as why:
        return HeldOut(int(out.sum()), float(x[out].min()), float("nan"), float("nan"), str(why))
    return score(error[out], fit.predict(x[out]), x[out].min())


def hold_out_joint(runs: pd.DataFrame, method: str, share: float = 0.2) -> HeldOut:
    """The joint law fitted without the runs of largest compute, scored on them.

    runs: columns params, examples, loss, compute.
    """
    out = largest(runs["compute"], share)
    start = float(runs["compute"][out].min())
    kept = runs[~out]
    try:
        law = fit_joint(kept["params"], kept["examples"], kept["loss"], method=method, draws=0)
    except UserError as why:
        return HeldOut(int(out.sum()), start, float("nan"), float("nan"), f"the runs that are left: {why}")
    return score(runs["loss"][out], law.predict(runs["params"][out], runs["examples"][out]), start)


def compare_joint(runs: pd.DataFrame, share: float = 0.2) -> dict[str, HeldOut]:
    """`hold_out_joint` of each method."""
    return {method: hold_out_joint(runs, method, share) for method in METHODS}


def compare_curves(x, error, laws=LAWS, share: float = 0.25, draws: int = 0, **options) -> pd.DataFrame:
    """The one-variable laws beside each other, a row each, the best held-out score first.

    Columns: law, constants (dict), open (names of constants that the data do not limit, with the side), r2, rms_log,
    aicc, delta_aicc (to the least; infinite where there are too few runs for that many constants), held_out_runs,
    held_out_rms_log, held_out_mean_log, and `note`, why a row is empty. Options as of `curves.fit_curve`.
    """
    rows = []
    for law in laws:
        own = {name: value for name, value in options.items() if name != "chance" or law == "m4"}
        try:
            fit = fit_curve(law, x, error, draws=draws, **own)
        except UserError as why:
            rows.append({"law": law, "note": str(why)})
            continue
        unseen = hold_out_curve(law, x, error, share, **own)
        rows.append(
            {"law": law, "constants": fit.constants, "r2": fit.r2, "rms_log": fit.rms_log, "aicc": fit.aicc}
            | {"open": ", ".join(f"{name} ({side})" for name, side in fit.open_side.items() if side)}
            | {"held_out_runs": unseen.runs, "held_out_rms_log": unseen.rms_log}
            | {"held_out_mean_log": unseen.mean_log, "note": unseen.note}
        )
    names = ["law", "constants", "open", "r2", "rms_log", "aicc", "held_out_runs", "held_out_rms_log"]
    table = pd.DataFrame(rows, columns=[*names, "held_out_mean_log", "note"])
    finite = table["aicc"][np.isfinite(table["aicc"].astype(float))]
    table.insert(6, "delta_aicc", table["aicc"] - (finite.min() if len(finite) else 0.0))
    return table.sort_values("held_out_rms_log", na_position="last", kind="stable").reset_index(drop=True)
