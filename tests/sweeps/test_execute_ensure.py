"""`execute` writes down what happened; `ensure` trains what is missing, once, parents first, and loses nothing."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import NO_TENSORS, forget, record_of

from mlp_lib.chapters import planning
from mlp_lib.datasets import load
from mlp_lib.errors import Busy, CannotRun, NotMeasurable, UserError
from mlp_lib.measures.take import MEASURES, measure
from mlp_lib.models import build_for
from mlp_lib.models.flops import cost_of
from mlp_lib.records.frames import measures_of
from mlp_lib.records.record import read_record
from mlp_lib.records.run import make_run, with_parents
from mlp_lib.records.store import Store
from mlp_lib.sweeps import execute as executing
from mlp_lib.sweeps.ensure import ensure, missing
from mlp_lib.sweeps.execute import add_measures, execute
from mlp_lib.training import loop as training
from mlp_lib.training.how import How
from mlp_lib.training.step import batch_gradient

HOW = How("cpu", "fp32", threads=1)
RUN = make_run(model="B-1/Wi-16", dataset="digits", epochs=2, lr=1e-3)
PARENT = RUN.but(seed=7, epochs=3)
CHILD = RUN.but(init={"run": PARENT, "epoch": 1}, epochs=1)
GRANDCHILD = RUN.but(init={"run": CHILD, "transform": "new_head"}, epochs=1)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def trained(monkeypatch):
    """Keys in the order in which `ensure` trained them in this process."""
    order, real = [], executing.execute

    def noted(run, *args, **kwargs):
        order.append(run.key)
        return real(run, *args, **kwargs)

    monkeypatch.setattr(executing, "execute", noted)
    return order


def quietly(runs, store, **options):
    return ensure(runs, store=store, how=HOW, progress=False, **options)


def keys(runs):
    return [run.key for run in runs]


def numbers(frame):
    """Everything that must repeat: metrics and curves."""
    columns = [c for c in frame if c.startswith(("train_top", "val_", "test_"))]
    return frame[["key", *columns]].to_dict("records"), frame["curve"].tolist()


# --- execute --------------------------------------------------------------------------------------------------------


def test_a_record_says_what_was_done(store):
    progress = []
    result = execute(RUN, store, HOW, measures=("first_layer",), on_progress=lambda *p: progress.append(p))
    record = read_record(result.path)
    assert record == result.record == store.get(RUN) and record.run == RUN and record.key == RUN.key
    assert (record.status, record.steps, record.device) == ("ok", 20, "cpu")
    assert (record.precision, record.threads, record.accumulate) == ("fp32", 1, 1)
    assert set(record.metrics) == {f"{s}_{m}" for s in ("train", "val", "test") for m in ("top1", "top5", "loss")}
    assert [p["epoch"] for p in record.curve] == [1, 2] and progress[-1] == (20, 20)
    cost = cost_of(RUN)
    assert record.macs == cost.macs == 64 * 16 + 2 * 16 * 64 + 16 * 10
    assert record.train_flops == cost.true * 128 * 20 and record.paper_flops == 3 * cost.macs * 128 * 20
    assert record.parameters == sum(p.numel() for p in build_for(RUN).parameters())
    assert record.parameters_body == 2 * 16 + (16 * 64 + 64) + (64 * 16 + 16)
    assert record.measures["first_layer"]["units"] == 16
    assert record.versions["torch"] == torch.__version__.split("+")[0] or record.versions["torch"] == torch.__version__
    assert record.images_per_second > 0 and record.seconds > 0 and record.hardware
    assert len(record.data) == len(record.sources) == 16
    left = sorted(path.name for path in store.weights.iterdir())
    assert left == [f"{RUN.key}.lock", f"{RUN.key}.origin", f"{RUN.key}.safetensors"]


@pytest.mark.parametrize(
    "run, how, measures, says",
    [
        (RUN, HOW._replace(device="tpu"), (), "device='tpu'"),
        (RUN, HOW._replace(precision="fp16"), (), "precision='fp16' is not one of: auto, fp32, bf16"),
        (RUN, HOW, ("probe",), "unknown measure 'probe'"),
        (RUN.but(model="CNN-4"), HOW, ("translated", "first_layer"), "first_layer .* MLP, and CNN-4 starts"),
        (CHILD, HOW, ("first_layer_initial",), "starts from another run's weights; leave this measure out"),
        (RUN, HOW, ("probe_cifar10",), "digits sees 1 channels, and cifar10 has 3"),
        (RUN.but(dataset="shapes"), HOW, ("probe_cifar10",), "CIFAR-10 is not under .*fetch cifar10"),
        (RUN.but(model="CNN-4", resolution=4), HOW, (), "resolution=4.*at least 8"),
        (RUN.but(dataset="cifar100"), HOW, (), "CIFAR-100 is not under .*fetch cifar100"),
    ],
)
def test_what_cannot_start_leaves_nothing_behind(store, monkeypatch, tmp_path, run, how, measures, says):
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=says) as caught:
        execute(run, store, how, measures=measures)
    assert "\n" not in str(caught.value) and not store.folder.exists()


def test_a_run_is_trained_by_one_process_at_a_time(store):
    store.weights.mkdir(parents=True)
    with filelock.FileLock(store.weights / f"{RUN.key}.lock"), pytest.raises(UserError, match="another process"):
        execute(RUN, store, HOW)
    assert execute(RUN, store, HOW).record.status == "ok"


def test_leftovers_of_a_killed_writer_are_cleared(store):
    store.weights.mkdir(parents=True)
    for name in (f"{RUN.key}.checkpoint.7.part", f"{RUN.key}@1.safetensors.7.part", "other.checkpoint.8.part"):
        (store.weights / name).write_bytes(b"half")
    execute(RUN, store, HOW)
    assert [p.name for p in store.weights.glob("*.part")] == ["other.checkpoint.8.part"]


def test_a_crash_is_recorded_raised_and_tried_again(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, "batch_gradient", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            quietly([RUN], store)
    record = store.get(RUN)
    assert (record.status, record.error, record.metrics) == ("failed", "ZeroDivisionError: division by zero", {})
    assert quietly([RUN], store)["status"].tolist() == ["ok"]
    assert [r.status for r in store.replicates(RUN)] == ["ok"]


@pytest.mark.parametrize(
    "error, why",
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\n  Tried to allocate"),
            "OutOfMemoryError: CUDA out of memory. Tried",
        ),
        (np.linalg.LinAlgError("SVD did not converge"), "LinAlgError: SVD did not converge"),
    ],
)
def test_a_measure_that_fails_is_written_down_and_all_else_goes_on(store, trained, monkeypatch, capsys, error, why):
    kept, other = RUN.but(seed=2), RUN.but(seed=1)
    quietly([kept], store)

    def fails(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setitem(MEASURES, "first_layer", fails)
        frame = quietly([RUN, kept, other], store, measures=("first_layer", "first_layer_spread"))
    assert frame["status"].tolist() == ["ok"] * 3 and not frame.attrs["stopped"]
    for run, found in zip((RUN, kept, other), frame["measures"], strict=True):
        assert (
            found["first_layer"]["not_measured"].startswith(why) and "not_measured" not in found["first_layer_spread"]
        )
        assert f"first_layer of run {run.key} is not measured: {why}" in capsys.readouterr().out or run is not RUN
    assert len(list(store)) == 3 and len(trained) == 3
    again = quietly([RUN, kept, other], store, measures=("first_layer",))
    assert again["measures"].tolist() == frame["measures"].tolist() and len(trained) == 3
    assert "first_layer" not in measures_of(again.to_dict("records")[0])


def test_images_that_a_measure_misses_are_the_users_business(store, monkeypatch):
    def misses(*arguments):
        raise UserError("CIFAR-10 is not there")

    monkeypatch.setitem(MEASURES, "first_layer", misses)
    with pytest.raises(UserError, match="CIFAR-10 is not there"):
        quietly([RUN], store, measures=("first_layer",))
    assert (store.get(RUN).status, store.get(RUN).measures) == ("ok", {})


def test_a_full_disk_stores_nothing_and_the_next_call_completes(store, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(UserError, match="cannot write record"):
            execute(RUN, store, HOW)
    assert store.get(RUN) is None
    assert execute(RUN, store, HOW).record.status == "ok"


def test_what_another_process_has_finished_meanwhile_is_not_trained_again(store, trained):
    first = execute(RUN, store, HOW).record
    result = execute(RUN, Store(store.folder), HOW, again=False)
    assert result.record == first and result.path == store.folder / first.filename and len(list(store)) == 1
    execute(RUN, store, HOW)  # asked for: a replicate
    assert len(store.replicates(RUN)) == 2


def test_a_run_that_another_process_trains_is_left_to_it_with_what_starts_from_it(store, capsys):
    store.weights.mkdir(parents=True)
    child, other = RUN.but(init={"run": RUN}), RUN.but(seed=1)
    for workers in (None, 2):
        with filelock.FileLock(store.weights / f"{RUN.key}.lock"):
            frame = ensure([RUN, child, other], store=store, how=HOW, progress=False, workers=workers)
        assert frame["status"].tolist() == ["not run", "not run", "ok"]
        assert "2 runs are left to another process" in capsys.readouterr().out
        (store.folder / store.get(other).filename).unlink()
        store.reload()
    assert quietly([RUN, child], store)["status"].tolist() == ["ok", "ok"]


def test_a_measure_goes_to_the_training_that_the_weights_are_from(store):
    first = execute(RUN, store, HOW).record
    second = execute(RUN, store, HOW._replace(precision="bf16")).record
    assert add_measures(RUN, store, ("first_layer",))
    measured = {record.precision: set(record.measures) for record in store.replicates(RUN)}
    assert (first.precision, second.precision) == ("fp32", "bf16")
    assert measured == {"fp32": set(), "bf16": {"first_layer"}}
    with filelock.FileLock(store.weights / f"{RUN.key}.lock"), pytest.raises(Busy):
        add_measures(RUN, store, ("first_layer_spread",))
    assert quietly([RUN], store, measures=("first_layer_spread",))["measures"][0].keys() == {
        "first_layer",
        "first_layer_spread",
    }


def test_what_the_weights_do_not_let_be_measured_is_written_down_once(store, monkeypatch):
    calls = []

    def overflows(*args):
        calls.append(1)
        raise NotMeasurable("too large")

    monkeypatch.setitem(MEASURES, "sharpness", overflows)
    for _ in range(2):
        frame = quietly([RUN], store, measures=("sharpness", "first_layer"))
    assert calls == [1] and store.get(RUN).measures["sharpness"] == {"not_measured": "too large"}
    assert set(measures_of(frame.to_dict("records")[0])) == {"first_layer"}
    assert measures_of({"status": "not run", "measures": {"a": {}}}) == {}


def test_measuring_kept_weights_waits_too_when_the_budget_is_spent(store):
    quietly([RUN], store)
    quietly([RUN, RUN.but(seed=1)], store, measures=("first_layer",), budget_minutes=0.0)
    assert store.get(RUN).measures == {}
    quietly([RUN], store, measures=("first_layer",), budget_minutes=0.0)
    assert store.get(RUN).measures == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_kept_weights_are_measured_stops_the_study(store, trained, monkeypatch, number):
    quietly([RUN, RUN.but(seed=1)], store)
    real, later = MEASURES["first_layer"], RUN.but(seed=2)

    def interrupted(*arguments):
        os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setitem(MEASURES, "first_layer", interrupted)
    ensure_all = planning.training(store, ("first_layer",), how=HOW, progress=False)
    frame = ensure_all([RUN, RUN.but(seed=1)])
    assert frame.attrs["stopped"] and [len(measures) for measures in frame["measures"]] == [1, 0]
    assert ensure_all([later])["status"].tolist() == ["not run"] and len(trained) == 2
    monkeypatch.setitem(MEASURES, "first_layer", real)
    assert planning.training(store, (), how=HOW, progress=False)([later])["status"].tolist() == ["ok"]


def test_kept_weights_are_measured_on_the_device_that_is_asked_for(store, monkeypatch):
    quietly([RUN], store)
    asked = []
    monkeypatch.setattr(executing, "pick_device", lambda name="auto": asked.append(name) or torch.device("cpu"))
    quietly([RUN], store, measures=("first_layer",))
    assert asked == ["cpu"]


def test_other_images_under_the_same_name_are_refused(store, tmp_path, monkeypatch):
    digits = load("digits")
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path))
    (tmp_path / "mine").mkdir()
    np.savez(tmp_path / "mine" / "test.npz", images=digits.test_images[:, 0], labels=digits.test_labels)

    def write(images):
        np.savez(tmp_path / "mine" / "train.npz", images=images[:, 0], labels=digits.train_labels)
        forget()

    write(digits.train_images)
    mine = make_run(model="B-1/Wi-16", dataset="npz:mine", epochs=1, lr=1e-3)
    assert quietly([mine], store)["status"].tolist() == ["ok"]
    write(digits.train_images[::-1])
    with pytest.raises(UserError, match=f"images of npz:mine are not those that run {mine.key} was trained on"):
        quietly([mine, mine.but(seed=1)], store)
    assert quietly([mine], store, train=False)["status"].tolist() == ["ok"]  # shown, and nothing trained beside it


# --- what is missing ------------------------------------------------------------------------------------------------


def test_parents_come_first_and_once():
    assert list(with_parents([GRANDCHILD, RUN, CHILD])) == keys([PARENT, CHILD, GRANDCHILD, RUN])


def test_missing_are_runs_without_a_result_and_parents_without_weights(store):
    assert keys(missing([RUN, GRANDCHILD], store)) == keys([RUN, PARENT, CHILD, GRANDCHILD])
    for run in (RUN, PARENT, CHILD):
        store.add(record_of(run))
    assert keys(missing([RUN, CHILD], store)) == []
    assert keys(missing([GRANDCHILD], store)) == keys([PARENT, CHILD, GRANDCHILD])  # records, but no weights
    store.weights.mkdir()
    (store.weights / f"{CHILD.key}.safetensors").write_bytes(NO_TENSORS)
    assert keys(missing([GRANDCHILD], store)) == keys([GRANDCHILD])
    store.add(record_of(GRANDCHILD, status="diverged"))
    store.add(record_of(RUN.but(seed=1), status="failed", error="x"))
    assert keys(missing([GRANDCHILD, RUN.but(seed=1)], store)) == keys([RUN.but(seed=1)])


# --- ensure, in this process ----------------------------------------------------------------------------------------


def test_only_what_is_missing_is_trained_parents_first(store, trained):
    first = quietly([RUN], store)
    assert trained == [RUN.key] and first["status"].tolist() == ["ok"]
    frame = quietly([GRANDCHILD, RUN, RUN.but(seed=1)], store)
    assert trained[1:] == keys([PARENT, CHILD, GRANDCHILD, RUN.but(seed=1)])
    assert frame["key"].tolist() == keys([GRANDCHILD, RUN, RUN.but(seed=1)])
    assert (store.weights / f"{PARENT.key}@1.safetensors").exists()
    before = len(trained)
    again = quietly([GRANDCHILD, RUN, RUN.but(seed=1)], store)
    assert len(trained) == before and numbers(again) == numbers(frame)
    assert len(store.replicates(RUN)) == 1


def test_a_parents_epoch_that_is_wanted_later_is_made_again(store, trained):
    quietly([PARENT], store)
    quietly([CHILD], store)
    assert trained == keys([PARENT, PARENT, CHILD])
    a, b = store.replicates(PARENT)
    assert a.metrics == b.metrics and a.curve == b.curve


HOT = RUN.but(optimizer="sgd", lr=1e10, norm="none", epochs=60)


@pytest.mark.parametrize("options", [{}, {"workers": 2}])
def test_a_diverged_run_is_a_result_what_starts_from_it_cannot_run_and_the_rest_goes_on(store, capsys, options):
    child = RUN.but(init={"run": HOT})
    grandchild, other = RUN.but(init={"run": child, "transform": "new_head"}), RUN.but(seed=1)
    expected = ["diverged", "cannot run", "cannot run", "ok"]
    frame = quietly([HOT, child, grandchild, other], store, **options)
    assert frame["status"].tolist() == expected and not frame.attrs["stopped"]
    assert "2 runs cannot run" in capsys.readouterr().out
    assert missing([child, grandchild, other], store) == [] and store.get(child) is None
    again = quietly([HOT, child, grandchild, other, RUN], store, **options)
    assert again["status"].tolist() == [*expected, "ok"] and len(store.replicates(HOT)) == 1
    assert again["train_flops"][1] == cost_of(child).true * 128 * 20
    with pytest.raises(CannotRun, match=f"starts from {HOT.key}, which diverged"):
        execute(child, store, HOW)
    with pytest.raises(CannotRun, match=f"starts from {HOT.key}, which diverged"):
        execute(grandchild, store, HOW)


def test_what_starts_from_weights_that_a_replicate_has_left_can_run(store):
    hot, child = record_of(PARENT, status="diverged", time="2025-03-01T00:00:00+00:00"), CHILD
    store.add(record_of(PARENT))
    store.add(hot)
    assert store.blocked_by(child) == PARENT and store.row(child)["status"] == "cannot run"
    store.weights.mkdir()
    safetensors.torch.save_file({"w": torch.zeros(1)}, store.weights / f"{PARENT.key}@1.safetensors")
    assert store.blocked_by(child) is None and keys(missing([child], store)) == [child.key]


def test_not_trained_is_not_run_with_its_cost(store, trained):
    quietly([RUN], store)
    frame = quietly([RUN, RUN.but(seed=1)], store, train=False)
    assert frame["status"].tolist() == ["ok", "not run"] and trained == [RUN.key]
    assert frame["train_flops"].tolist() == [cost_of(RUN).true * 128 * 20] * 2
    assert np.isnan(frame["test_top1"][1])


def test_a_budget_of_nothing_loses_nothing(store, tmp_path):
    expected = quietly([RUN], Store(tmp_path / "expected"))
    other, steps = RUN.but(seed=1), []
    for _ in range(3):
        assert quietly([RUN, other], store, budget_minutes=0.0)["status"].tolist() == ["not run", "not run"]
        saved = torch.load(store.weights / f"{RUN.key}.checkpoint", weights_only=True)
        steps.append(saved["step"])
    assert steps == [1, 2, 3] and not list(store.weights.glob(f"{other.key}*"))
    assert numbers(quietly([RUN], store)) == numbers(expected)


def test_a_signal_stops_with_a_checkpoint_and_the_handlers_are_put_back(store, monkeypatch):
    before, real, calls = signal.getsignal(signal.SIGTERM), batch_gradient, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(training, "batch_gradient", interrupted)
    assert quietly([RUN, RUN.but(seed=1)], store)["status"].tolist() == ["not run", "not run"]
    assert len(calls) == 5 and (store.weights / f"{RUN.key}.checkpoint").exists()
    assert signal.getsignal(signal.SIGTERM) is before
    assert quietly([RUN], store)["status"].tolist() == ["ok"] and len(calls) == 20


def test_threads_of_the_caller_stay(store):
    torch.set_num_threads(1)
    quietly([RUN], store)
    assert torch.get_num_threads() == 1


def test_measures_are_added_to_an_old_record_when_its_weights_are_at_hand(store, trained):
    cnn = RUN.but(model="CNN-4")
    quietly([RUN, cnn], store)
    assert store.get(RUN).measures == {}
    frame = quietly([RUN, cnn, RUN.but(seed=1)], store, measures=("first_layer",))
    assert len(trained) == 3 and len(list(store)) == 3
    assert [sorted(m) for m in frame["measures"]] == [["first_layer"], [], ["first_layer"]]
    expected = measure(("first_layer",), build_of(store, RUN), RUN, None)
    assert frame["measures"][0] == json.loads(json.dumps(expected))
    content = {p.name: p.read_bytes() for p in store.folder.glob("*.json")}
    quietly([RUN, cnn], store, measures=("first_layer",))
    assert {p.name: p.read_bytes() for p in store.folder.glob("*.json")} == content


def build_of(store, run):
    from safetensors.torch import load_file

    model = build_for(run)
    model.load_state_dict(load_file(store.weights / f"{run.key}.safetensors"))
    return model


def test_a_measure_whose_weights_are_gone_is_trained_for_again_and_is_not_metrics(store, trained, capsys):
    first = record_of(RUN)
    store.add(first)
    for kept in ([RUN], [RUN.but(seed=1)]):
        assert keys(missing(kept, store)) == ([] if kept == [RUN] else keys(kept))
    assert keys(missing([RUN], store, ("first_layer",))) == [RUN.key]
    assert add_measures(RUN, store, ("first_layer",)) is False
    assert quietly([RUN], store, train=False, measures=("first_layer",))["measures"].tolist() == [{}] and not trained
    frame = ensure([RUN], ("first_layer",), store=store, how=HOW)
    assert "1 recorded runs are trained again" in capsys.readouterr().out
    assert trained == [RUN.key] and set(frame["measures"][0]) == {"first_layer"}
    assert (frame["test_top1"][0], frame["hardware"][0]) == (first.metrics["test_top1"], "test")
    assert store.get(RUN) == first and len(store.replicates(RUN)) == 2
    (store.weights / f"{RUN.key}.safetensors").unlink()
    again = quietly([RUN], store, measures=("first_layer",))
    assert trained == [RUN.key] and again["measures"].tolist() == frame["measures"].tolist()


def test_what_is_trained_for_again_takes_its_parents_along_and_diverges_once(store):
    store.add(record_of(PARENT))
    store.add(record_of(CHILD))
    assert keys(missing([CHILD], store, ("first_layer",))) == keys([PARENT, CHILD])
    assert missing([CHILD], store, ("first_layer_initial",)) == []  # of a start from other weights there is none
    store.add(record_of(CHILD, status="diverged", time="2025-02-01T00:00:00+00:00"))
    assert missing([CHILD], store, ("first_layer",)) == []
    store.add(record_of(RUN, status="diverged"))
    assert missing([RUN], store, ("first_layer",)) == []


def test_a_named_measure_is_refused_of_an_old_run_too(store):
    cnn = RUN.but(model="CNN-4")
    for run in (RUN, cnn):
        store.add(record_of(run))
    with pytest.raises(UserError, match="unknown measure 'probe'"):
        add_measures(RUN, store, ("probe",))
    with pytest.raises(UserError, match="CNN-4 starts with a convolution; leave this measure out"):
        add_measures(cnn, store, ("first_layer",))
    with pytest.raises(UserError, match="unknown measure 'probe'"):
        quietly([RUN.but(seed=1)], store, measures=("probe",))
    assert not store.weights.exists()


# --- ensure, with worker processes ----------------------------------------------------------------------------------


def test_two_workers_give_what_one_process_gives(store, tmp_path):
    runs = [GRANDCHILD, RUN]
    alone = quietly(runs, Store(tmp_path / "here"))  # first: torch sets variables of its own when it first trains
    environment = dict(os.environ)
    pooled = quietly(runs, store, workers=2, measures=("first_layer_initial",))
    assert [sorted(m) for m in pooled["measures"]] == [[], ["first_layer_initial"]]  # where there is such a thing
    assert pooled["status"].tolist() == ["ok", "ok"]
    assert numbers(pooled) == numbers(alone)
    assert (store.weights / f"{PARENT.key}@1.safetensors").exists()
    assert {r.threads for r in store} == {1} and len(list(store)) == 4
    assert dict(os.environ) == environment


def test_a_killed_worker_is_one_line_and_the_next_call_completes(store):
    long = RUN.but(epochs=20_000)

    def kill_when_it_trains():
        import multiprocessing

        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (store.weights / f"{long.key}.lock").exists():
                for worker in multiprocessing.active_children():
                    os.kill(worker.pid, signal.SIGKILL)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_when_it_trains)
    killer.start()
    with pytest.raises(UserError, match="a training process was killed.*--workers 1") as caught:
        quietly([long], store, workers=1)
    killer.join()
    assert "\n" not in str(caught.value) and store.get(long) is None
    assert quietly([RUN], store)["status"].tolist() == ["ok"]


def test_no_workers_is_one_line(store):
    with pytest.raises(UserError, match="workers=0: take 1 to 1,024"):
        quietly([RUN], store, workers=0)
