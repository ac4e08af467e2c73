"""The runs behind the chapters on scaling laws: model sizes by numbers of examples, read along learning curves.

What is trained stands in `scaling_grids`. A cell is a model on N training images, without augmentation, at a constant
learning rate. It is trained for a number of epochs, and for a number of steps if that is longer, so that every shorter
training is a point of its curve. Rates are chosen for every model, with three seeds, at one number of images; the grid
of the choice shows what one rate for all widths would have given.

Errors are those of the 5,000 validation images: the test images are read once, at the end of a run, and most points of
a curve are no end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.scaling_grids import BESIDE, GRIDS, Grid
from mlp_lib.chapters.tuning import Choice, Ensure, choose_lrs
from mlp_lib.records.architectures import family_of
from mlp_lib.records.frames import compute_so_far, curves, measures_of
from mlp_lib.records.record import FINISHED
from mlp_lib.shared_pages import shared
from mlp_lib.stats.laws.joint import Joint, fit_joint

UNKNOWN = (float("-inf"), float("inf"))  # the interval of an exponent that the data do not identify
FAMILIES = ("B-MLP", "S-MLP", "CNN", "ViT")


@dataclass(frozen=True)
class Scaling:
    """What both chapters show. `frame`: one row a run. `choices`: by model. `points`: one row a run and point of its
    curve (`points_of`). `untrained`: one row a network as it starts, where the grid has a probe to read it."""

    choices: dict[str, Choice]
    frame: pd.DataFrame
    points: pd.DataFrame
    grid: Grid
    untrained: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def complete(self) -> bool:
        """Every learning rate is chosen, and every run of the grid has ended."""
        final = all(choice.final for choice in self.choices.values())
        return final and bool(self.frame["status"].isin(FINISHED).all())

    @property
    def sufficient(self) -> bool:
        """Complete, with at least three seeds, three sizes of B-MLP and four numbers of images."""
        mlps = self.frame[self.frame["family"] == "B-MLP"]
        enough = mlps["model"].nunique() >= 3 and mlps["train_examples"].nunique() >= 4 and mlps["seed"].nunique() >= 3
        return self.complete and bool(enough)


def collect(grid: Grid, ensure: Ensure) -> Scaling:
    """Choose every model's rate, then train its cells, one seed of all cells before the next."""
    candidates = {model: grid.run(model, grid.tuned_at) for model in grid.chosen_models}
    choices = choose_lrs(candidates, {model: grid.lrs[model] for model in candidates}, ensure)
    runs = [
        grid.run(model, images, seed).but(lr=choices[model].lr)
        for seed in grid.seeds
        for images in grid.sizes
        for model in grid.chosen_models
    ]
    measures = (f"probe_{grid.probe}",) if grid.probe else None
    frame = ensure(runs, train=all(choice.final for choice in choices.values()), measures=measures)
    frame["family"] = frame["model"].map(family_of)
    frame["augmented"] = False
    frame["flags"] = [", ".join(choices[model].flags) for model in frame["model"]]
    if not grid.probe:
        return Scaling(choices, frame, points_of(frame), grid)
    starts = [grid.untrained(model, seed) for seed in grid.seeds for model in grid.chosen_models]
    return Scaling(choices, frame, points_of(frame), grid, ensure(starts, measures=measures))


def choices_of(*families: str) -> Callable[[Shown], list[Choice]]:
    """How the learning rates of these families were chosen, for `Study.first_screen`; of no family, no choice."""
    return lambda shown: [choice for model, choice in shown.results.choices.items() if family_of(model) in families]


COLUMNS = [
    "family",
    "model",
    "seed",
    "params",
    "body",
    "examples",
    "epoch",
    "compute",
    "paper_compute",
    "error",
    "loss",
    "key",
]


def points_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Every point of the finished runs' learning curves as what a training of that length gives: one row each.

    Columns (`COLUMNS`): params and body (without embedding and head), examples (N), epoch (T), compute (FLOPs, a
    multiply-add as two) and paper_compute (as one, the paper's convention), error (share of validation images that are
    wrong, 0 to 1) and loss (cross-entropy of validation images, nats).
    """
    rows = curves(frame[frame["status"] == "ok"])
    if "val_top1" not in rows:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in COLUMNS})
    share = rows["step"] / rows["total_steps"]
    rows = rows.assign(
        params=rows["parameters"].astype(float),
        body=rows["parameters_body"].astype(float),
        examples=rows["train_examples"].astype(float),
        compute=compute_so_far(rows),
        paper_compute=rows["paper_flops"].astype(float) * share,
        error=1 - rows["val_top1"].astype(float) / 100,
        loss=rows["val_loss"].astype(float),
    )
    return rows[COLUMNS].reset_index(drop=True)


def probe_errors(frame: pd.DataFrame, target: str | None) -> dict[str, float]:
    """What share of the target's test images the probe gets wrong, by the key of the run that it reads."""
    found = {}
    for row in frame.to_dict("records"):
        if measure := measures_of(row).get(f"probe_{target}"):
            found[row["key"]] = 1 - measure["test_top1"] / 100
    return found


def by_probe(results: Scaling) -> pd.DataFrame:
    """The last point of every run that was probed, with the probe's error on the other set's test images in the place
    of `error`: columns of `points_of`."""
    found = probe_errors(results.frame, results.grid.probe)
    own = results.points[results.points["key"].isin(found.keys())]
    last = own.loc[own.groupby("key", sort=False)["epoch"].idxmax()]
    return last.assign(error=last["key"].map(found).astype(float)).reset_index(drop=True)


def as_they_start(results: Scaling) -> pd.DataFrame:
    """The networks that were read by the probe without any training: family, model, seed, params, error (0 to 1) and
    key, a row each; empty where none was."""
    found = probe_errors(results.untrained, results.grid.probe)
    rows = [row for row in results.untrained.to_dict("records") if row["key"] in found]
    return pd.DataFrame(
        [
            {
                "family": family_of(row["model"]),
                "model": row["model"],
                "seed": row["seed"],
                "params": float(row["parameters"]),
                "error": found[row["key"]],
                "key": row["key"],
            }
            for row in rows
        ],
        columns=["family", "model", "seed", "params", "error", "key"],
    )


def at_best_epoch(points: pd.DataFrame, quantity: str = "error") -> pd.DataFrame:
    """Each run's point at the epoch that is best for the other seeds of its cell: a row a run, with the columns of
    `points_of`. A run's own best would be too low by selection. Cells of one seed are left out."""
    values, seed_of, epoch_of = (points[name].to_numpy() for name in (quantity, "seed", "epoch"))
    places: list[int] = []
    for own in points.groupby(["model", "examples"]).indices.values():  # the rows of a cell
        seeds, row = np.unique(seed_of[own], return_inverse=True)
        epochs, column = np.unique(epoch_of[own], return_inverse=True)
        table, place = np.full((len(seeds), len(epochs)), np.nan), np.full((len(seeds), len(epochs)), -1)
        table[row, column], place[row, column] = values[own], own
        whole = ~np.isnan(table).any(axis=0)
        table, place = table[:, whole], place[:, whole]
        for i in range(len(seeds)) if len(seeds) > 1 else ():
            places.append(place[i, np.delete(table, i, axis=0).mean(axis=0).argmin()])
    return points.iloc[places].reset_index(drop=True)


def at_epoch(points: pd.DataFrame, epoch: int) -> pd.DataFrame:
    """The points after so many passes."""
    return points[np.isclose(points["epoch"], epoch)].reset_index(drop=True)


def most_passes(points: pd.DataFrame) -> int:
    """The most passes after which every cell has a point; 0 where there is none."""
    found = [{round(epoch) for epoch in cell["epoch"]} for _, cell in points.groupby(["model", "examples", "seed"])]
    return max(set.intersection(*found), default=0) if found else 0


def together(*parts: pd.DataFrame) -> pd.DataFrame:
    """The points of several grids; of a run that is in more than one, once."""
    found = [part for part in parts if len(part)]
    if not found:
        return parts[0]
    return pd.concat(found, ignore_index=True).drop_duplicates(["key", "epoch"], ignore_index=True)


def once_complete(results: Scaling | None) -> Scaling | None:
    """The results, without a row or point until they are complete: a part of a grid would be another check."""
    if results is None or results.complete:
        return results
    return replace(results, frame=results.frame[:0], points=results.points[:0])


def with_beside(results: Scaling, at: Callable[..., Scaling]) -> pd.DataFrame:
    """The points of the laptop preset with those of what was trained beside it (`BESIDE`), which `at(size, **changes)`
    reads; of any other results their own."""
    if results.grid != GRIDS["laptop"]:
        return results.points
    beside = [at("overnight", **changes) for changes in BESIDE]
    return together(results.points, *(other.points for other in beside if other.complete))


def of_family(points: pd.DataFrame, family: str) -> pd.DataFrame:
    """The points of one family."""
    return points[points["family"] == family].reset_index(drop=True)


def joint_law(params, examples, loss, method: str = "varpro", groups=None) -> Joint:
    """`stats.laws.joint.fit_joint` with its intervals, worked out once for equal runs. Raises UserError as it does."""
    columns = [np.asarray(values, float) for values in (params, examples, loss)]
    groups = None if groups is None else np.asarray(groups)
    key = ("joint law", method, None if groups is None else groups.tobytes(), *(column.tobytes() for column in columns))
    if key not in _LAWS:
        _LAWS[key] = shared(key, lambda: fit_joint(*columns, method=method, groups=groups))
    return _LAWS[key]


_LAWS: dict[tuple, Joint] = {}
