"""Everything the laws say of a table of runs, as one object for JSON, and as plain text."""

import math

import numpy as np
import pandas as pd

from mlp_lib.errors import UserError
from mlp_lib.stats.laws.allocate import FLOPS_PER, Exponents, Recommendation, allocation, checked_budget, recommend
from mlp_lib.stats.laws.compare import compare_curves, compare_joint
from mlp_lib.stats.laws.grids import pareto
from mlp_lib.stats.laws.joint import CONSTANTS, METHODS, Joint, fit_joint
from mlp_lib.stats.laws.table import ROLES, tidy

CURVE_RUNS = 10  # runs on the frontier from which one-variable laws are compared along it


def report(
    frame: pd.DataFrame,
    columns=ROLES,
    budget: float | None = None,
    *,
    flops_per: float = FLOPS_PER,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    held_out: float = 0.2,
) -> dict:
    """All that the laws say of a table of runs: an object of numbers, texts, lists and None, ready for JSON.

    frame: a row a run; `columns` are its names for params, examples and loss. A column `compute` is used in place of
    flops_per x params x examples; rows with equal params and examples are repeats. budget: what to recommend a model
    for. Raises UserError, one line, for a table or a budget that will not do.

    Keys: runs, cells, columns, params, examples, compute, settings, joint.METHOD.{A, B, E, alpha, beta, intervals,
    profile, identified, open, r2, rms_log}, allocation.METHOD.{params_exponent, examples_exponent, intervals, note},
    held_out.METHOD.{rms_log, mean_log, runs, from_compute, note}, frontier_laws, recommendation (None without a
    budget) and notes. An interval is [low, high]; an open end, and a number that there is none of, is None.
    """
    if budget is not None:
        budget = checked_budget(budget)
    if int(draws) != draws or draws < 2:
        raise UserError(f"draws is {draws}; a bootstrap interval needs a whole number of 2 or more")
    runs = tidy(frame, columns, flops_per)
    arrays = [runs[name].to_numpy() for name in ROLES]
    laws = {name: fit_joint(*arrays, method=name, draws=draws, seed=seed, level=level) for name in METHODS}
    per = (runs["compute"] / (runs["params"] * runs["examples"])).to_numpy()
    typical = float(np.exp(np.log(per).mean()))
    notes = _notes(runs, laws, per, typical)
    advice = None
    if budget is not None:
        advice, whys = {}, set()
        for name, law in laws.items():
            try:
                found = recommend(law, budget, typical, largest=float(runs["compute"].max()))
                advice[name] = _recommendation(found)
            except UserError as why:
                advice[name] = None
                whys.add(f"no recommendation by {name}: {why}")
        notes += sorted(whys)
    scores = compare_joint(runs, held_out)
    answer = {
        "runs": len(runs),
        "cells": int(runs.groupby(["params", "examples"]).ngroups),
        "columns": dict(zip(ROLES, map(str, columns), strict=True)),
        **{name: _range(runs[name]) for name in ("params", "examples", "compute")},
        "settings": {"draws": int(draws), "seed": seed, "level": level, "flops_per": typical, "held_out": held_out},
        "joint": {name: _joint(law) for name, law in laws.items()},
        "allocation": {name: _exponents(found) for name, found in allocation(runs, laws, draws, seed, level).items()},
        "held_out": {
            name: {
                "rms_log": s.rms_log,
                "mean_log": s.mean_log,
                "runs": s.runs,
                "from_compute": s.start,
                "note": s.note,
            }
            for name, s in scores.items()
        },
        "frontier_laws": _frontier_laws(runs),
        "recommendation": advice,
        "notes": notes,
    }
    return plain(answer)


def plain(value):
    """The value in JSON's own types: lists for tuples and arrays, None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _range(values: pd.Series) -> dict:
    return {"distinct": int(values.nunique()), "from": float(values.min()), "to": float(values.max())}


def _joint(law: Joint) -> dict:
    return {
        **law.constants,
        "intervals": law.intervals,
        "profile": law.profile,
        "identified": law.identified,
        "open": law.open_side,
        "r2": law.r2,
        "rms_log": law.rms_log,
    }


def _exponents(found: Exponents) -> dict:
    return {
        "params_exponent": found.params,
        "examples_exponent": found.examples,
        "intervals": {"params_exponent": found.params_interval, "examples_exponent": found.examples_interval},
        "note": found.note,
    }


def _recommendation(found: Recommendation) -> dict:
    return {
        "budget": found.budget,
        "params": found.params,
        "examples": found.examples,
        "loss": found.loss,
        "intervals": {
            "params": found.params_interval,
            "examples": found.examples_interval,
            "loss": found.loss_interval,
        },
        "budget_over_largest_run": found.extrapolated,
    }


def _frontier_laws(runs: pd.DataFrame) -> list[dict]:
    """The one-variable laws along the runs that no cheaper run equals; empty for fewer than CURVE_RUNS of them."""
    front = pareto(runs)
    if len(front) < CURVE_RUNS:
        return []
    return compare_curves(front["compute"].to_numpy(), front["loss"].to_numpy(), relative=True).to_dict("records")


def _notes(runs: pd.DataFrame, laws: dict[str, Joint], per, typical: float) -> list[str]:
    notes = []
    for name in ("params", "examples"):
        if runs[name].nunique() < 3:
            notes.append(f"{runs[name].nunique()} different {name}: three or more are needed to tell its exponent")
    copies = int(runs.duplicated().sum())
    if copies:
        notes.append(f"{copies} rows are exact copies of others; if they are not repeats, the intervals are too narrow")
    if np.ptp(np.log(per)) > 0.02:
        notes.append(
            f"compute is not proportional to params x examples ({per.min():.3g} to {per.max():.3g}): the exponents "
            f"of the joint laws and the recommendation use {typical:.3g}"
        )
    for name, law in laws.items():
        sides = {constant: side for constant, side in law.open_side.items() if side}
        if sides:
            said = ", ".join(f"{constant} ({side})" for constant, side in sides.items())
            notes.append(f"{name}: the data do not limit {said}")
    return notes


def as_text(answer: dict) -> str:
    """The report as plain text: a table of constants, one of exponents, and what to be careful about."""
    level = f"{100 * answer['settings']['level']:g}%"
    size = {name: answer[name] for name in ("params", "examples", "compute")}
    lines = [
        f"{answer['runs']} runs, {answer['cells']} different (params, examples)",
        *(f"  {name:<9}{own['distinct']:>4} from {own['from']:.4g} to {own['to']:.4g}" for name, own in size.items()),
        "",
        f"L = E + A / params^alpha + B / examples^beta, {level} intervals by bootstrap over runs",
        f"  {'':<7}" + "".join(f"{name:<36}" for name in answer["joint"]).rstrip(),
    ]
    for constant in CONSTANTS:
        cells = []
        for own in answer["joint"].values():
            mark = "" if own["identified"][constant] else " *"
            cells.append(f"{own[constant]:.4g} {_span(own['intervals'][constant])}{mark}")
        lines.append(f"  {constant:<7}" + "".join(f"{cell:<36}" for cell in cells).rstrip())
    fit = "".join(f"{_number(own['rms_log']):<36}" for own in answer["joint"].values())
    held = "".join(f"{_number(own['rms_log']):<36}" for own in answer["held_out"].values())
    lines += [f"  {'fit':<7}{fit.rstrip()}", f"  {'unseen':<7}{held.rstrip()}"]
    out = next(iter(answer["held_out"].values()))
    left_out = f"{out['runs']} runs from compute {out['from_compute']:.4g} that were left out of the fit"
    lines += [
        f"  fit: rms log residual; unseen: of {left_out}",
        *(f"  unseen, {name}: {own['note']}" for name, own in answer["held_out"].items() if own["note"]),
    ]
    if not all(all(own["identified"].values()) for own in answer["joint"].values()):
        lines.append("  * the data do not limit this constant on both sides")
    lines += ["", "Compute-optimal sizes: params ~ C^p, examples ~ C^n", f"  {'':<9}{'p':<28}{'n':<28}"]
    for name, own in answer["allocation"].items():
        cells = [
            f"{_number(own[key])} {_span(own['intervals'][key])}" for key in ("params_exponent", "examples_exponent")
        ]
        lines.append(f"  {name:<9}" + "".join(f"{cell:<28}" for cell in cells) + own["note"])
    if answer["frontier_laws"]:
        lines += ["", "Loss over compute along the frontier", f"  {'law':<12}{'unseen':<10}{'AICc - least':<14}open"]
        for own in answer["frontier_laws"]:
            cells = f"{_number(own['held_out_rms_log']):<10}{_number(own['delta_aicc']):<14}{own['open'] or ''}"
            lines.append(f"  {own['law']:<12}{cells}".rstrip())
    for name, own in (answer["recommendation"] or {}).items():
        if own is not None:
            spans = [
                f"{what} {own[what]:.4g} {_span(own['intervals'][what])}" for what in ("params", "examples", "loss")
            ]
            beyond = f", {own['budget_over_largest_run']:.3g} x the largest run"
            lines += ["", f"For a budget of {own['budget']:.4g}{beyond}, by {name}:", *(f"  {span}" for span in spans)]
    if answer["notes"]:
        lines += ["", *(f"note: {note}" for note in answer["notes"])]
    return "\n".join(line.rstrip() for line in lines)


def _number(value) -> str:
    return "-" if value is None else f"{value:.3g}"


def _span(ends) -> str:
    return f"[{_number(ends[0])}, {_number(ends[1])}]"
