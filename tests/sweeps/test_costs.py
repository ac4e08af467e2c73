"""Costs: FLOPs by hand, and that the grids of the presets fit their budgets."""

import subprocess
import sys

import pytest

from mlp_lib.chapters import planning
from mlp_lib.chapters.from_scratch import study as rq1
from mlp_lib.chapters.tuning import TUNING_SEED
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs
from mlp_lib.training.how import How

WIDE = make_run(model="B-6/Wi-256", dataset="cifar10", subset=10_000, epochs=30, batch_size=256)


def planned_minutes(preset: str, tmp_path) -> tuple[float, float]:
    """Minutes of a preset from nothing on two CPU cores, and of one more point for every cell's lr grid."""
    grid = rq1.STUDY.resolve(preset)
    plan = planning.plan(rq1.STUDY, grid, Store(tmp_path))
    total = sum(costs.planned_seconds(run) for run in plan.runs) / 60
    widest = 0.0
    if len(grid.lrs) > 1:
        tuned = {(run.model, run.augment): run for run in plan.runs if run.seed == TUNING_SEED}
        widest = sum(costs.planned_seconds(run) for run in tuned.values()) / 60
    assert not any(plan.done) and plan.flops == [costs.training_flops(run) for run in plan.runs]
    return total, widest


def test_the_laptop_grid_takes_at_most_25_minutes(tmp_path):
    total, widest = planned_minutes("laptop", tmp_path)
    assert 15 < total <= 25
    assert total + widest <= 27  # the rare worst case, every cell's grid widened, is not promised


def test_the_overnight_grid_takes_at_most_8_hours(tmp_path):
    total, _ = planned_minutes("overnight", tmp_path)
    assert 4 * 60 < total <= 8 * 60


def test_the_smoke_grid_takes_seconds(tmp_path):
    assert sum(planned_minutes("smoke", tmp_path)) < 5 / 60


def test_flops_of_a_training_by_hand():
    matrices = 3072 * 256 + 6 * 8 * 256 * 256 + 256 * 10
    per_example = 2 * (3 * matrices - 3072 * 256)  # forward and both gradients, without the image's own
    assert costs.training_flops(WIDE) == per_example * 256 * (30 * (10_000 // 256))
    assert costs.planned_seconds(WIDE) == costs.training_flops(WIDE) / 1.5e11


def test_planned_rates_are_lower_for_what_two_cores_do_badly():
    small_batch, narrow, cnn = WIDE.but(batch_size=32), WIDE.but(model="B-6/Wi-64"), WIDE.but(model="CNN-16")
    rates = [costs.training_flops(run) / costs.planned_seconds(run) for run in (small_batch, narrow, cnn)]
    assert rates == pytest.approx([5e10, 5e10, 1e11])


def test_measured_seconds_scale_with_the_steps_and_time_each_shape_once(monkeypatch):
    run = make_run(model="B-1/Wi-16", dataset="digits", steps=10)
    timed, real = [], costs._step_seconds
    monkeypatch.setattr(costs, "_step_seconds", lambda run, how: timed.append(run.key) or real(run, how))
    runs = [run, run.but(steps=30, seed=1), run.but(batch_size=64)]
    seconds = costs.measured_seconds(runs, How("cpu", "fp32", threads=1))
    assert set(seconds) == {r.key for r in runs} and min(seconds.values()) > 0
    assert seconds[runs[1].key] == pytest.approx(3 * seconds[run.key])
    assert timed == [runs[0].key, runs[2].key]


def test_matmul_rate_is_a_rate_a_machine_can_have():
    for precision in ("fp32", "bf16"):
        assert 1e8 < costs.matmul_rate(precision, "cpu", seconds=0.01) < 1e16


def test_threads_for_small_and_large_steps(monkeypatch):
    monkeypatch.setattr(costs, "usable_cores", lambda: 8)
    assert costs.sensible_threads(WIDE) == 8
    assert costs.sensible_threads(make_run(model="B-2/Wi-32", dataset="digits", epochs=1)) == 1


def test_durations_are_written_for_people():
    written = [costs.human_seconds(s) for s in (0.4, 12, 89.6, 204, 5399, 18_000)]
    assert written == ["0 s", "12 s", "90 s", "3.4 min", "90.0 min", "5.0 h"]


def test_costs_read_from_the_committed_records_are_those_that_are_counted():
    records = list(Store())
    recorded = costs.recorded(records)
    shapes = {costs._shape(record.run): record.run for record in records}
    assert len(shapes) > 10
    for run in shapes.values():
        other = run.but(steps=7, epochs=None, batch_size=32, seed=99)  # no record of it: of its network only
        assert recorded(other) == costs.training_flops(other)
    assert costs.planned_seconds(WIDE, 10**12) == 1e12 / costs.PLANNED_RATE["wide"]


def test_a_page_of_finished_runs_is_planned_without_torch():
    code = (
        "import sys; from mlp_lib.chapters.notebook import open_chapter; "
        "chapter = open_chapter('rq1', dict(preset='laptop', train=False)); chapter.plan(); chapter.results(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
