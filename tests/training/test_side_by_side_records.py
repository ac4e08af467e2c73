"""Which runs are trained side by side, and what is recorded of them; how to say so on the command line."""

import json
import time

import filelock
import pytest
import torch
from helpers import DIGITS, HOW, SGD, keys, record_of, seeds

from mlp_lib import cli
from mlp_lib.chapters import planning
from mlp_lib.errors import UserError
from mlp_lib.records.record import read_record
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps import execute as executing
from mlp_lib.sweeps.ensure import ensure
from mlp_lib.sweeps.execute import execute_together
from mlp_lib.training import loop as training
from mlp_lib.training import side_by_side
from mlp_lib.training import stacked as stack
from mlp_lib.training.side_by_side import arranged, can_stack, groups, pays

# --- who is trained with whom -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "CNN-4"},
        {"norm": "batch"},
        {"dropout": 0.1},
        {"model": "ResNet18", "resolution": 32, "dataset": "shapes"},
    ],
)
def test_batch_norm_and_dropout_are_never_together(fields):
    runs = seeds(3, **fields)
    assert not any(map(can_stack, runs)) and groups(runs, 8) == [[run] for run in runs]
    assert [len(part) for part in arranged(runs, HOW._replace(together=8))] == [1, 1, 1]


def test_only_seed_and_learning_rate_may_differ():
    runs = seeds(3)
    rates = [run.but(lr=0.5) for run in runs]
    others = [
        runs[0].but(**change)
        for change in (
            {"epochs": 4},
            {"batch_size": 64},
            {"subset": 500},
            {"augment": "flip"},
            {"model": "B-2/Wi-16"},
            {"weight_decay": 0.1},
            {"clip": 1.0},
            {"schedule": "cosine"},
            {"label_smoothing": 0.0},
            {"permute_seed": 1},
        )
    ]
    mixed = [runs[0], *others, rates[0], runs[1], rates[2], runs[2], rates[1]]
    together, *alone = groups(mixed, 8)
    assert sorted(keys(together)) == sorted(keys([*runs, *rates])) and sorted(map(keys, alone)) == sorted(
        [run.key] for run in others
    )
    assert [run.lr for run in together] == [0.05] * 3 + [0.5] * 3
    assert [len(part) for part in groups(mixed, 4)[:2]] == [3, 3]  # even parts
    assert [len(part) for part in groups(mixed, 1)] == [1] * 16
    assert groups(runs, 8, apart=lambda run: run.seed == 0) == [[runs[0]], runs[1:]]


def test_parents_come_before_their_children_and_never_among_them():
    parents = seeds(3)
    children = [run.but(init={"run": run}) for run in parents]
    mixed = [children[0], parents[1], children[1], parents[2], children[2]]  # the first parent is at hand
    assert groups(mixed, 8) == [parents[1:], children]


@pytest.mark.parametrize("faster", [True, False])
def test_on_cuda_a_measurement_decides_and_elsewhere_nothing_is_together_unasked(monkeypatch, faster):
    runs, asked = [*seeds(3), *seeds(10, epochs=4), make_run(**dict(SGD, model="CNN-4"))], []
    assert list(arranged(runs, HOW)) == [[run] for run in runs]  # a CPU

    def measured(members, how):
        asked.append(len(members))
        return faster

    monkeypatch.setattr(side_by_side, "pays", measured)
    monkeypatch.setattr(side_by_side, "pick_device", lambda name: torch.device("cuda"))
    sizes = [len(part) for part in arranged(runs, HOW)]
    assert sizes == ([3, 5, 5, 1] if faster else [1] * 14) and asked == [3, 5]  # the second five are like the first
    assert [len(part) for part in arranged(runs, HOW._replace(together=2))] == [1, 2] + [2] * 5 + [1]
    assert [len(part) for part in arranged(runs, HOW._replace(together=1))] == [1] * 14
    assert [len(part) for part in arranged(runs, HOW._replace(accumulate=2))] == [1] * 14
    assert asked == [3, 5]  # who is told does not measure


@pytest.mark.parametrize("stacked, expected", [(3.1, True), (3.3, False)])
def test_together_pays_when_it_saves_a_fifth(monkeypatch, stacked, expected):
    works, times = [], iter([1.0, stacked])

    def fake(work, device, limit):
        work()
        works.append(limit)
        return next(times)

    monkeypatch.setattr(side_by_side, "seconds_of", fake)
    before = torch.get_rng_state()
    assert pays(seeds(4), HOW) is expected
    assert len(works) == 2 and sum(works) < 0.5 and torch.equal(before, torch.get_rng_state())


def test_what_does_not_fit_does_not_pay(monkeypatch):
    def full(self, batches):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(stack.Stack, "update", full)
    assert pays(seeds(2), HOW) is False


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def calls(monkeypatch):
    """Keys of each call that trained, in order."""
    seen = []
    for name in ("execute", "execute_together"):
        real = getattr(executing, name)

        def noted(runs, *args, real=real, **options):
            seen.append(keys(runs) if isinstance(runs, list) else [runs.key])
            return real(runs, *args, **options)

        monkeypatch.setattr(executing, name, noted)
    return seen


def ensured(runs, store, most=4, **options):
    return ensure(runs, store=store, how=HOW._replace(together=most), progress=False, **options)


def test_ensure_writes_one_record_each_and_asks_nothing_twice(store, calls, tmp_path):
    runs = seeds(5)
    norm = runs[0].but(norm="batch")
    child = runs[1].but(init={"run": runs[1], "epoch": 1}, epochs=1)
    started = time.perf_counter()
    frame = ensured([norm, child, *runs], store, measures=("first_layer",))
    wall = time.perf_counter() - started
    assert frame["key"].tolist() == keys([norm, child, *runs]) and set(frame["status"]) == {"ok"}
    assert frame["together"].tolist() == [1, 1, 4, 1, 4, 4, 4]  # the parent's first epoch is kept: it is apart
    assert sorted(map(len, calls)) == [1, 1, 1, 4] and calls[-1] == [child.key]
    assert 0 < sum(frame["seconds"]) <= wall and all(frame["images_per_second"] > 0)
    assert [sorted(m) for m in frame["measures"]] == [["first_layer"]] * 7
    assert len(list(store.folder.glob("*.json"))) == 7 and not list(store.weights.glob("*.checkpoint"))
    for path in store.folder.glob("*.json"):
        record, stored = read_record(path), json.loads(path.read_text())
        assert path.name == record.filename and record.key == record.run.key and record.steps == record.run.total_steps
        assert stored.get("together") == (None if record.together == 1 else 4)
    calls.clear()
    ensured([norm, child, *runs], store, measures=("first_layer",))
    assert calls == []
    alone = ensure(runs, store=Store(tmp_path / "alone"), how=HOW, progress=False)
    assert frame["test_loss"][2:].tolist() == pytest.approx(alone["test_loss"].tolist(), rel=1e-3)
    assert frame["test_top1"][2:].tolist() == pytest.approx(alone["test_top1"].tolist(), abs=0.6)  # one image: 0.28


def test_a_record_of_a_run_alone_is_written_as_ever():
    alone = record_of(make_run(**DIGITS))
    assert "together" not in json.loads(alone.to_json())
    three = alone.model_copy(update={"together": 3})
    assert json.loads(three.to_json()) == {**json.loads(alone.to_json()), "together": 3}
    assert three.filename != alone.filename


def test_a_budget_stops_all_with_checkpoints_and_later_calls_go_on(store, calls, tmp_path):
    runs = seeds(4)
    expected = ensured(runs, Store(tmp_path / "expected"))
    for step in (1, 2):
        assert set(ensured(runs, store, budget_minutes=0.0)["status"]) == {"not run"}
        saved = [torch.load(store.weights / f"{key}.checkpoint") for key in keys(runs)]
        assert [state["step"] for state in saved] == [step] * 4
    frame = ensured(runs, store)
    assert frame["test_loss"].tolist() == expected["test_loss"].tolist()
    assert frame["curve"].tolist() == expected["curve"].tolist()


def test_a_run_that_another_process_trains_is_not_touched(store):
    runs = seeds(3)
    store.weights.mkdir(parents=True)
    with filelock.FileLock(store.weights / f"{runs[1].key}.lock"):
        with pytest.raises(UserError, match=f"run {runs[1].key} is being trained by another process"):
            execute_together(runs, store, HOW)
        assert list(store) == []
    assert [result.record.status for result in execute_together(runs, store, HOW)] == ["ok"] * 3


def test_a_run_that_another_process_has_leaves_the_others_to_be_trained(store, calls, capsys):
    runs = seeds(4)
    store.weights.mkdir(parents=True)
    with filelock.FileLock(store.weights / f"{runs[1].key}.lock"):
        frame = ensured(runs, store)
    assert frame["status"].tolist() == ["ok", "not run", "ok", "ok"] and frame["together"].tolist()[0] == 3
    assert calls[-1] == keys([runs[0], *runs[2:]]) and "1 runs are left to another process" in capsys.readouterr().out
    assert set(ensured(runs, store)["status"]) == {"ok"} and calls[-1] == [runs[1].key]


def test_a_group_that_another_terminal_has_trained_meanwhile_is_not_trained_again(store, monkeypatch):
    runs, real, steps = seeds(3), executing.execute_together, []

    def after_another_terminal(members, here, *args, **options):
        monkeypatch.setattr(executing, "execute_together", real)
        real(members[:2], Store(store.folder), HOW)
        monkeypatch.setattr(
            training, "take_remaining_steps", lambda loop, *a, **k: steps.append(loop.run.key) or went(loop, *a, **k)
        )
        return real(members, here, *args, **options)

    went = training.take_remaining_steps
    monkeypatch.setattr(executing, "execute_together", after_another_terminal)
    assert set(ensured(runs, store)["status"]) == {"ok"}
    assert steps == [runs[2].key] and len(list(store)) == 3
    assert len(execute_together(runs, store, HOW)) == 3 and len(list(store)) == 6  # asked for: replicates


def test_a_crash_is_that_of_all_that_have_not_ended_and_is_tried_again(store, monkeypatch):
    runs, real, finished = seeds(3), training.finish, []

    def crash(loop, *args):
        finished.append(loop)
        return 1 / 0 if len(finished) == 2 else real(loop, *args)

    with monkeypatch.context() as patch:
        patch.setattr(training, "finish", crash)
        with pytest.raises(ZeroDivisionError):
            ensured(runs, store)
    assert sorted(record.status for record in store) == ["failed", "failed", "ok"]
    assert {r.error for r in store if r.status == "failed"} == {"ZeroDivisionError: division by zero"}
    assert set(ensured(runs, store)["status"]) == {"ok"} and len(list(store)) == 3


def test_a_diverged_parent_is_one_line(store):
    runs = seeds(2)
    store.add(record_of(runs[1], status="diverged"))
    with pytest.raises(UserError, match=f"starts from {runs[1].key}, which diverged"):
        execute_together([run.but(init={"run": run}) for run in runs], store, HOW)
    assert len(list(store)) == 1


@pytest.mark.parametrize(
    "most, options, says",
    [(0, {}, "together=0: take 1 to 1,024"), (4, {"workers": 2}, "together=4 trains runs in one process, workers=2")],
)
def test_what_cannot_be_is_one_line(store, most, options, says):
    with pytest.raises(UserError, match=says):
        ensured(seeds(2), store, most, **options)


def test_a_study_is_told_on_the_command_line(monkeypatch, tmp_path):
    told = []

    def training_of(store, measures, how, **options):
        told.append(how.together)
        raise UserError("enough")

    monkeypatch.setattr(planning, "training", training_of)
    for arguments in ([], ["--together", "5"]):
        with pytest.raises(UserError, match="enough"):
            cli.app(
                [
                    "study",
                    "rq1",
                    "--preset",
                    "smoke",
                    "--device",
                    "cpu",
                    "--precision",
                    "fp32",
                    "--out",
                    str(tmp_path),
                    *arguments,
                ],
                standalone_mode=False,
            )
    assert told == [None, 5]
