"""The chapters on scaling laws: on made-up runs that follow a known law, with a made-up store."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from mlp_lib.chapters import scaling, scaling_grids
from mlp_lib.chapters.allocation import figures as allocation_figures
from mlp_lib.chapters.allocation import rules as allocation
from mlp_lib.chapters.laws import depths, probed
from mlp_lib.chapters.laws import figures as laws_figures
from mlp_lib.chapters.laws import rules as laws
from mlp_lib.chapters.laws.study import STUDY
from mlp_lib.chapters.parameters import validated
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import not_run
from mlp_lib.errors import UserError
from mlp_lib.models import build_for
from mlp_lib.records.architectures import family_of
from mlp_lib.records.store import Store
from mlp_lib.sweeps.execute import execute
from mlp_lib.training.how import How

UPSTREAM, PROBE = (name.format("CIFAR-100") for name in (laws.UPSTREAM, laws.PROBE))
WIDTHS = {"B-6/Wi-32": 1.5e5, "B-6/Wi-64": 4e5, "B-6/Wi-128": 1.2e6, "B-6/Wi-256": 4e6}


def frame(alpha: float, beta: float) -> pd.DataFrame:
    """Finished runs whose validation error is 0.2 + A / P^alpha + B / N^beta after every pass, with a little noise."""
    rows, noise = [], np.random.default_rng(0)
    for seed in range(3):
        for model, params in WIDTHS.items():
            for images in (500, 2000, 8000, 32_000):
                error = 0.2 + 0.1 * (params / 1.5e5) ** -alpha + 0.3 * (images / 500) ** -beta
                curve = [
                    {
                        "epoch": float(epoch),
                        "step": epoch * 5,
                        "val_top1": 100 * (1 - error * np.exp(noise.normal(0, 0.002))),
                        "val_loss": 2 * error,
                    }
                    for epoch in (1, 2, 3)
                ]
                rows.append(
                    {
                        "key": f"{len(rows):012x}",
                        "model": model,
                        "family": "B-MLP",
                        "seed": seed,
                        "status": "ok",
                        "train_examples": images,
                        "parameters": params,
                        "parameters_body": params / 2,
                        "train_flops": 6 * params * images * 3,
                        "paper_flops": 3 * params * images * 3,
                        "total_steps": 15,
                        "curve": curve,
                    }
                )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.35), (0.4, 0.4)])
def test_the_rules_find_the_exponents_of_a_known_law(alpha, beta):
    runs = frame(alpha, beta)
    (difference,) = laws.steeper_in_parameters(runs).values()
    assert difference.mean == pytest.approx(alpha - beta, abs=0.2) and difference.n == 3
    (share,) = allocation.optimal_parameters(runs).values()
    assert share.mean == pytest.approx(beta / (alpha + beta), abs=0.08)


def test_points_are_every_length_and_the_best_epoch_is_chosen_by_the_other_seeds():
    points = scaling.points_of(frame(1.0, 0.35))
    assert len(points) == 3 * 4 * 4 * 3 and scaling.most_passes(points) == 3
    first = points[(points["epoch"] == 1) & (points["examples"] == 500) & (points["params"] == 1.5e5)]
    assert first["compute"].tolist() == pytest.approx([6 * 1.5e5 * 500] * 3)
    best = scaling.at_best_epoch(points)
    assert len(best) == 3 * 4 * 4
    cell = points[(points["examples"] == 500) & (points["params"] == 1.5e5)]
    others = cell[cell["seed"] != 0].groupby("epoch")["error"].mean().idxmin()
    chosen = best[(best["examples"] == 500) & (best["params"] == 1.5e5) & (best["seed"] == 0)]
    assert chosen["epoch"].tolist() == [others]


def test_without_records_everything_says_so():
    empty = frame(1.0, 0.35).assign(status="not run")
    assert {part.n for part in laws.law_holds(empty).values()} == {0}
    assert {part.n for part in laws.steeper_in_parameters(empty).values()} == {0}
    assert {part.n for part in allocation.optimal_parameters(empty).values()} == {0}


# --- learned on one set, read on another


def test_the_probed_grid_is_a_preset_that_asks_for_its_measure():
    grid = STUDY.resolve("laptop", **scaling_grids.PROBED)
    asked = {}

    def ensure(runs, train=True, measures=None):
        asked.update((run.key, (run, measures)) for run in runs)
        return not_run(runs)

    scaling.collect(grid, ensure)
    reported = [run for run, measures in asked.values() if measures == ("probe_cifar10",)]
    starts = [run for run in reported if run.total_steps == 1]
    assert len(reported) - len(starts) == 4 * 4 * 3 and {run.dataset for run in reported} == {"cifar100"}
    assert sorted((run.model, run.seed) for run in starts) == sorted(
        (m, s) for m in grid.chosen_models for s in grid.seeds
    )
    assert all(run.seed >= 1000 for run, measures in asked.values() if measures is None)
    with pytest.raises(UserError, match="'cifar10' or 'cifar100'"):
        validated(STUDY.parameters, {"probe": "mnist"})


def test_what_the_probe_reads_takes_the_place_of_the_error_at_the_end():
    """The probe's error is given another law than the validation error, and the table finds each."""
    runs = frame(1.0, 0.35)
    others = frame(0.5, 0.5)["curve"].map(lambda curve: curve[-1]["val_top1"])
    runs["measures"] = [{"probe_cifar10": {"test_top1": top1}} for top1 in others]
    grid = STUDY.resolve("laptop", **scaling_grids.PROBED)
    results = scaling.Scaling({}, runs, scaling.points_of(runs), grid)
    read = scaling.by_probe(results)
    assert len(read) == len(runs) and set(read["epoch"]) == {3.0}
    assert read.set_index("key").loc[runs["key"], "error"].tolist() == pytest.approx((1 - others / 100).tolist())
    table = probed.table({("B-MLP", "CIFAR-100"): results}).set_index("measured by")
    table = table.drop(columns=["family", "learned on"])
    found = {name: [float(row[column].split()[0]) for column in list(row.index)[2:4]] for name, row in table.iterrows()}
    best, last, probe = found.values()
    assert best == pytest.approx([1.0, 0.35], abs=0.15) and last == pytest.approx([1.0, 0.35], abs=0.15)
    assert probe == pytest.approx([0.5, 0.5], abs=0.15)

    shown = Shown(results, lambda size, **changes: results if changes else None)
    checks = laws.exponent_checks(shown)
    assert checks[PROBE].mean == pytest.approx(-laws.STEEPER, abs=0.2)
    assert checks[UPSTREAM].mean == pytest.approx(0.65 - laws.STEEPER, abs=0.2)
    assert {PROBE, UPSTREAM} <= set(laws.law_checks(shown))


def test_a_grid_of_which_a_run_is_missing_is_no_check_yet():
    runs = frame(1.0, 0.35)
    runs["measures"] = [{"probe_cifar10": {"test_top1": curve[-1]["val_top1"]}} for curve in runs["curve"]]
    grid = STUDY.resolve("laptop", **scaling_grids.PROBED)
    whole = scaling.Scaling({}, runs, scaling.points_of(runs), grid)
    short = runs.assign(status=["not run", *runs["status"][1:]])
    part = scaling.Scaling({}, short, scaling.points_of(short), grid)
    read = {
        name: Shown(whole, lambda size, own=own, **changes: own) for name, own in (("part", part), ("whole", whole))
    }
    for checks in (laws.exponent_checks, laws.law_checks, allocation.checks):
        found = {name: checks(shown) for name, shown in read.items()}
        differ = {name for name in found["whole"] if found["part"][name].n != found["whole"][name].n}
        assert "overnight" in differ and all(found["part"][name].n == 0 for name in differ)
        if checks is not allocation.checks:
            assert differ == {
                "overnight",
                *(name.format(title) for name in (laws.PROBE, laws.UPSTREAM) for title in laws.ELSEWHERE),
            }


def test_without_probes_nothing_is_read():
    runs = frame(1.0, 0.35).assign(status="not run")
    results = scaling.Scaling({}, runs, scaling.points_of(runs), STUDY.resolve("laptop", **scaling_grids.PROBED))
    assert scaling.by_probe(results).empty
    assert probed.table({("B-MLP", "CIFAR-100"): results})["measured by"].tolist() == ["not run"]
    assert laws.exponent_checks(Shown(results, lambda size, **changes: results))[PROBE].n == 0


# --- what was trained beside the laptop preset


def test_narrow_widths_and_transformers_stand_beside_the_laptop_preset_alone():
    laptop = scaling_grids.GRIDS["laptop"]
    runs = frame(1.0, 0.35)
    results = scaling.Scaling({}, runs, scaling.points_of(runs), laptop)
    asked = []

    def at(size, **changes):
        asked.append((size, changes))
        own = runs.assign(key=runs["key"].str.replace("0", changes["models"][0][0], n=1))  # other runs' keys
        named = own.assign(model=changes["models"][0], family=family_of(changes["models"][0]))
        return scaling.Scaling({}, named, scaling.points_of(named), laptop)

    wider = scaling.with_beside(results, at)
    assert [size for size, _ in asked] == ["overnight", "overnight"]
    assert len(wider) == 3 * len(results.points) and set(wider["family"]) == {"B-MLP", "ViT"}
    found = allocation_figures.exponents_beside(results.points, wider)
    assert list(found) == ["B-MLP", "B-MLP with narrower widths", "ViT"]
    changed = replace(results, grid=replace(laptop, dataset="cifar100"))
    assert scaling.with_beside(changed, at) is results.points and len(asked) == 2
    for changes in (scaling_grids.NARROW, scaling_grids.TRANSFORMERS):
        grid = STUDY.resolve("overnight", **changes)
        assert (grid.dataset, grid.sizes, grid.epochs_at(500)) == (laptop.dataset, laptop.sizes, laptop.epochs_at(500))
        assert not {*grid.chosen_models} & {*laptop.chosen_models}


def test_a_run_in_two_grids_counts_once():
    points = scaling.points_of(frame(1.0, 0.35))
    assert len(scaling.together(points, points[:10])) == len(points)
    assert scaling.together(points[:0], points[:0]).empty


def test_the_corners_of_the_probed_grid():
    runs = frame(1.0, 0.35)
    runs["measures"] = [{"probe_cifar10": {"test_top1": curve[-1]["val_top1"]}} for curve in runs["curve"]]
    results = scaling.Scaling({}, runs, scaling.points_of(runs), STUDY.resolve("laptop", **scaling_grids.PROBED))
    found = probed.corners(scaling.by_probe(results))
    few, many = 0.2 + 0.1 * (4e6 / 1.5e5) ** -1 + 0.3, 0.2 + 0.1 + 0.3 * (32_000 / 500) ** -0.35
    assert found["few"].mean == pytest.approx(100 * few, abs=0.5) and found["few"].n == 3
    assert found["many"].mean == pytest.approx(100 * many, abs=0.5)
    assert {corner.n for corner in probed.corners(scaling.by_probe(results)[:0]).values()} == {0}


def test_two_families_are_compared_at_their_largest_models_and_their_slope_over_images_is_found():
    runs = frame(1.0, 0.35)
    worse = runs.assign(family="ViT", model="ViT " + runs["model"], key=runs["key"].str.replace("0", "v", n=1))
    worse["curve"] = [[point | {"val_top1": point["val_top1"] - 4} for point in curve] for curve in runs["curve"]]
    points = scaling.points_of(pd.concat([runs, worse], ignore_index=True))
    found = laws_figures.error_beyond(points, "ViT", "B-MLP", 2000)
    assert found.mean == pytest.approx(4.0) and found.n == 3 and len(found.runs.keys) == 6
    assert laws_figures.error_beyond(points, "CNN", "B-MLP", 2000).n == 0
    assert float(laws_figures.exponent_of_images(points, "B-MLP").split()[0]) == pytest.approx(0.35, abs=0.08)
    assert laws_figures.exponent_of_images(points, "CNN") == "not run"


def test_networks_of_other_depths_are_held_against_the_law_of_six_blocks():
    """Errors that are 5% above a known law of parameters and images are found to be so, at every number of images."""
    runs = frame(0.4, 0.4)
    deep = runs[runs["model"] == "B-6/Wi-64"].assign(model="B-12/Wi-64", parameters=8e5)
    curves = []
    for row in deep.itertuples():
        error = 1.05 * (0.2 + 0.1 * (8e5 / 1.5e5) ** -0.4 + 0.3 * (row.train_examples / 500) ** -0.4)
        curves.append([point | {"val_top1": 100 * (1 - error)} for point in row.curve])
    deep["curve"] = curves
    points, others = scaling.points_of(runs), scaling.points_of(deep)
    found = depths.misses(points, others)
    assert {images for _, images in found} == {500, 2000, 8000, 32_000}
    assert all(miss.mean == pytest.approx(100 * np.log(1.05), abs=0.6) and miss.n == 3 for miss in found.values())
    assert depths.largest(found) in found.values()
    table = depths.table(found, others)
    assert table["blocks"].tolist() == [12] and table["500 images"].iloc[0].endswith("n=3")
    assert (
        depths.table(depths.misses(points, others[:0]), others[:0])["model"].tolist() == ["not run"]
        and depths.largest({}).n == 0
    )


def test_a_network_as_it_starts_is_read_beside_what_it_learns():
    runs = frame(1.0, 0.35)
    runs["measures"] = [{"probe_cifar10": {"test_top1": 45.0}} for _ in range(len(runs))]
    grid = STUDY.resolve("laptop", **scaling_grids.PROBED)
    starts = runs.drop_duplicates(["model", "seed"]).assign(key=lambda rows: "s" + rows["key"].str[1:])
    starts["measures"] = [{"probe_cifar10": {"test_top1": 30.0 + seed}} for seed in starts["seed"]]
    results = scaling.Scaling({}, runs, scaling.points_of(runs), grid, starts)
    read = probed.as_it_starts(results)
    assert list(read) == list(grid.chosen_models)
    assert all(
        found.mean == pytest.approx(69.0) and found.n == 3 and len(found.runs.keys) == 3 for found in read.values()
    )
    table = probed.table_of_starts({("B-MLP", "CIFAR-100"): results})
    assert len(table) == 4 and set(table["after the most images"]) == {"55.0 [55.0, 55.0] n=3"}
    bare = replace(results, untrained=pd.DataFrame())
    assert {found.n for found in probed.as_it_starts(bare).values()} == {0}


@pytest.mark.parametrize("model", ["B-2/Wi-16", "CNN-4"])
def test_the_run_of_a_start_leaves_the_weights_as_they_start(model, tmp_path):
    grid = replace(scaling_grids.GRIDS["smoke"], lrs={model: (1e-3,)}, probe="digits")
    run = grid.untrained(model, seed=3)
    execute(run, Store(tmp_path), How("cpu", "fp32", threads=1))
    trained = load_file(tmp_path / "weights" / f"{run.key}.safetensors")
    for name, weights in build_for(run).named_parameters():
        assert (trained[name] - weights).abs().max() <= 1e-8, name
