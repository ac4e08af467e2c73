"""The grid behind the chapters on scaling laws: model sizes by numbers of examples, read along learning curves.

A cell is a model on N training images, without augmentation, at a constant learning rate. It is trained for a number of
epochs, and for a number of steps if that is longer, so that every shorter training is a point of its curve. Rates are
chosen for every model, with three seeds, at one number of images; the grid of the choice shows what one rate for all
widths would have given.

Errors are those of the 5,000 validation images: the test images are read once, at the end of a run, and most points of
a curve are no end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from mlp_lib.chapters.parameters import parameters_of
from mlp_lib.chapters.tuning import Choice, Ensure, choose_lrs
from mlp_lib.errors import UserError
from mlp_lib.measures.applicable import TARGETS
from mlp_lib.records.architectures import family_of
from mlp_lib.records.frames import compute_so_far, curves, measures_of
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run, make_run
from mlp_lib.shared_pages import shared
from mlp_lib.stats.laws.joint import Joint, fit_joint

UNKNOWN = (float("-inf"), float("inf"))  # the interval of an exponent that the data do not identify
FAMILIES = ("B-MLP", "S-MLP", "CNN", "ViT")


@dataclass(frozen=True)
class Grid:
    """One size of the study. `sizes`: numbers of training images. `lrs`: by model, the rates that are tried first.

    A cell is trained for `epochs` passes, or for as many as `least_steps` steps take. Rates are chosen at `tuned_at`
    images.
    """

    dataset: str
    sizes: tuple[int, ...]
    lrs: Mapping[str, tuple[float, ...]]
    epochs: int
    least_steps: int
    batch_size: int
    tuned_at: int
    seeds: tuple[int, ...] = (0, 1, 2)
    models: tuple[str, ...] = field(default=())  # a part of those with rates; all where empty
    probe: Literal[TARGETS] | None = None  # a data set on which a linear probe reads every cell's features at its end

    @property
    def chosen_models(self) -> tuple[str, ...]:
        """The models of this grid, those of one family together. Raises UserError for one without rates."""
        for model in self.models:
            if model not in self.lrs:
                raise UserError(f"models: {model!r} has no rates in this grid; it has: {', '.join(self.lrs)}")
        return self.models or tuple(self.lrs)

    def epochs_at(self, images: int) -> int:
        """Passes over so many images."""
        return max(self.epochs, -(-self.least_steps * self.batch_size // images))

    def run(self, model: str, images: int, seed: int = 0) -> Run:
        """A cell's run at the middle of its model's rates."""
        rates = self.lrs[model]
        return make_run(
            model=model,
            dataset=self.dataset,
            subset=images,
            epochs=self.epochs_at(images),
            batch_size=self.batch_size,
            lr=rates[len(rates) // 2],
            seed=seed,
        )


PARAMETERS = parameters_of(
    Grid, "dataset", "sizes", "models", "epochs", "least_steps", "batch_size", "tuned_at", "seeds", "probe"
)


def _around(middle: float) -> tuple[float, ...]:
    return tuple(float(f"{middle * multiple:.2g}") for multiple in (1 / 3, 1.0, 3.0))


# The middles of the grids, from the rates that the other chapters chose for models of these families; a narrower MLP
# takes a larger rate (Yang et al. 2021: by about the inverse of the width for optimisers that divide by the gradient's
# size).
MIDDLES = {
    "B-6/Wi-32": 1e-3,
    "B-6/Wi-64": 1e-3,
    "B-6/Wi-128": 5e-4,
    "B-6/Wi-256": 3e-4,
    "S-6/Wi-64": 1e-3,
    "S-6/Wi-128": 5e-4,
    "S-6/Wi-256": 3e-4,
    "CNN-4": 3e-3,
    "CNN-8": 3e-3,
    "CNN-16": 3e-3,
    "B-2/Wi-256": 5e-4,
    "B-12/Wi-128": 3e-4,
    "B-6/Wi-512": 1.5e-4,
    "S-6/Wi-512": 1.5e-4,
    "CNN-32": 2e-3,
    "ViT-32x2/8": 1e-3,
    "ViT-64x2/8": 1e-3,
    "ViT-64x4/8": 5e-4,
    "ViT-128x4/8": 3e-4,
    "B-6/Wi-8": 1e-3,
    "B-6/Wi-16": 1e-3,
}
LAPTOP = tuple(MIDDLES)[:10]
# What makes the laptop preset measure where the paper does: features that are learned on one data set, read on another.
PROBED = {
    "dataset": "cifar100",
    "models": tuple(model for model in LAPTOP if model.startswith("B-")),
    "probe": "cifar10",
}


def _rates(*models: str) -> dict[str, tuple[float, ...]]:
    return {model: _around(MIDDLES[model]) for model in models}


GRIDS = {
    "smoke": Grid(
        dataset="digits",
        sizes=(100, 200, 400, 800),
        lrs={model: (1e-3, 3e-3) for model in ("B-2/Wi-8", "B-2/Wi-16", "B-2/Wi-32", "CNN-2", "CNN-4")},
        epochs=2,
        least_steps=10,
        batch_size=50,
        tuned_at=400,
        seeds=(0, 1),
    ),
    "laptop": Grid(
        dataset="cifar10",
        sizes=(500, 2000, 8000, 32_000),
        lrs=_rates(*LAPTOP),
        epochs=10,
        least_steps=800,
        batch_size=100,
        tuned_at=8000,
    ),
    "overnight": Grid(
        dataset="cifar10",
        sizes=(500, 1000, 2000, 4000, 8000, 16_000, 45_000),
        lrs=_rates(*MIDDLES),
        epochs=20,
        least_steps=2000,
        batch_size=100,
        tuned_at=8000,
    ),
    "gpu": Grid(
        dataset="cifar10",
        sizes=(500, 1000, 2000, 4000, 8000, 16_000, 45_000),
        lrs={
            **{f"B-6/Wi-{width}": _around(0.08 / width) for width in (64, 128, 256, 512, 1024)},
            **{f"B-12/Wi-{width}": _around(0.06 / width) for width in (512, 1024)},
            **{f"S-6/Wi-{width}": _around(0.08 / width) for width in (64, 128, 256, 512, 1024)},
            **{f"CNN-{width}": _around(2e-3) for width in (8, 16, 32, 64)},
            "ViT-64x4/4": _around(1e-3),
            "ViT-192x6/4": _around(3e-4),
            "ViT-192x12/4": _around(3e-4),
        },
        epochs=50,
        least_steps=5000,
        batch_size=500,
        tuned_at=16_000,
        seeds=(0, 1, 2),
    ),
}


def _of_laptop_size(*models: str) -> dict[str, tuple[str, ...] | tuple[int, ...] | int]:
    """What makes the overnight preset train these of its models as the laptop preset trains its own."""
    own = GRIDS["laptop"]
    return {"models": models, "sizes": own.sizes, "epochs": own.epochs, "least_steps": own.least_steps}


# Beside the laptop preset: widths below its narrowest, so that a best size may lie inside; and transformers.
NARROW = _of_laptop_size("B-6/Wi-8", "B-6/Wi-16")
TRANSFORMERS = _of_laptop_size("ViT-32x2/8", "ViT-64x2/8", "ViT-64x4/8")


@dataclass(frozen=True)
class Scaling:
    """What both chapters show. `frame`: one row a run. `choices`: by model. `points`: one row a run and point of its
    curve (`points_of`)."""

    choices: dict[str, Choice]
    frame: pd.DataFrame
    points: pd.DataFrame
    grid: Grid

    @property
    def complete(self) -> bool:
        """Every learning rate is chosen, and every run has ended."""
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
    return Scaling(choices, frame, points_of(frame), grid)


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


def by_probe(results: Scaling) -> pd.DataFrame:
    """The last point of every run that was probed, with the probe's error on the other set's test images in the place
    of `error`: columns of `points_of`."""
    found = {}
    for row in results.frame.to_dict("records"):
        for name, measure in measures_of(row).items():
            if name == f"probe_{results.grid.probe}":
                found[row["key"]] = 1 - measure["test_top1"] / 100
    own = results.points[results.points["key"].isin(found.keys())]
    last = own.loc[own.groupby("key", sort=False)["epoch"].idxmax()]
    return last.assign(error=last["key"].map(found).astype(float)).reset_index(drop=True)


def at_best_epoch(points: pd.DataFrame, quantity: str = "error") -> pd.DataFrame:
    """Each run's point at the epoch that is best for the other seeds of its cell: a row a run, with the columns of
    `points_of`. A run's own best would be too low by selection. Cells of one seed are left out."""
    rows = []
    for _, cell in points.groupby(["model", "examples"]):
        table = cell.pivot(index="seed", columns="epoch", values=quantity).dropna(axis="columns")
        if len(table) < 2:
            continue
        for seed in table.index:
            best = table.drop(index=seed).mean().idxmin()
            rows.append(cell[(cell["seed"] == seed) & (cell["epoch"] == best)].iloc[0])
    return pd.DataFrame(rows, columns=points.columns).reset_index(drop=True)


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
    """The points of the laptop preset with those of the narrower widths and the transformers that were trained beside
    it, which `at(size, **changes)` reads; of any other results their own."""
    if results.grid != GRIDS["laptop"]:
        return results.points
    beside = [at("overnight", **changes) for changes in (NARROW, TRANSFORMERS)]
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
