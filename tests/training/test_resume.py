"""Nothing that interrupts a training changes a number: stops, kills, damaged files, a full disk."""

import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from helpers import DIGITS, HOW, RICH, same, stop_at, weights_of

from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.run import make_run
from mlp_lib.training.loop import train
from mlp_lib.training.seeds import device_random_state, set_random_state


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """RICH trained without interruption: (run, outcome, folder)."""
    folder, run = tmp_path_factory.mktemp("rich"), make_run(**RICH)
    outcome, model = train(run, folder, HOW)
    assert outcome.status == "ok" and not model.training
    return run, outcome, folder


def assert_same_run(outcome, folder, reference):
    run, expected, expected_folder = reference
    assert outcome.status == "ok" and outcome.metrics == expected.metrics and outcome.curve == expected.curve
    assert same(weights_of(folder, run.key), weights_of(expected_folder, run.key))
    assert not list(folder.glob("*.checkpoint")) and not list(folder.glob("*.part"))


def test_a_repeated_run_is_identical(rich, tmp_path):
    torch.rand(7)
    before = torch.get_rng_state()
    outcome, _ = train(rich[0], tmp_path, HOW)
    assert_same_run(outcome, tmp_path, rich)
    assert torch.equal(before, torch.get_rng_state())  # the caller's generator is left as it was


@pytest.mark.parametrize("stops", [(13,), (1, 6, 9)], ids=["once", "often"])
def test_a_stopped_run_goes_on_as_if_it_had_not(rich, tmp_path, stops):
    run, done = rich[0], 0
    for steps in stops:
        outcome, model = train(run, tmp_path, HOW, should_stop=stop_at(steps))
        done += steps
        assert (outcome.status, outcome.step, outcome.metrics, model) == ("paused", done, {}, None)
        assert [p.name for p in tmp_path.iterdir()] == [f"{run.key}.checkpoint"]
    outcome, _ = train(run, tmp_path, HOW)
    assert_same_run(outcome, tmp_path, rich)
    assert outcome.step == 30 and outcome.seconds > 0


@pytest.mark.parametrize("optimizer, lr", [("sgd", 0.05), ("adamw", 1e-3)])
@pytest.mark.parametrize("dataset, subset", [("shapes", 640)])
def test_other_optimisers_go_on_too_and_so_do_running_statistics(tmp_path, optimizer, lr, dataset, subset):
    run = make_run(
        model="CNN-4", dataset=dataset, subset=subset, epochs=2, optimizer=optimizer, lr=lr, augment="flip+crop+mixup"
    )
    expected, _ = train(run, tmp_path / "whole", HOW)
    train(run, tmp_path / "cut", HOW, should_stop=stop_at(7))
    outcome, _ = train(run, tmp_path / "cut", HOW)
    assert_same_run(outcome, tmp_path / "cut", (run, expected, tmp_path / "whole"))


def test_a_stop_at_the_last_step_is_the_end(rich, tmp_path):
    outcome, _ = train(rich[0], tmp_path, HOW, should_stop=stop_at(30))
    assert_same_run(outcome, tmp_path, rich)


def test_a_resumed_run_keeps_its_precision(tmp_path):
    run = make_run(**DIGITS)
    train(run, tmp_path, HOW._replace(precision="bf16"), should_stop=stop_at(4))
    with pytest.raises(UserError, match="begun in bf16 and fp32 is asked for; go on with --precision bf16"):
        train(run, tmp_path, HOW)
    outcome, _ = train(run, tmp_path, HOW._replace(precision="auto"))
    assert outcome.precision == "bf16"


KILLED = """
import sys, time
from pathlib import Path
from mlp_lib.training import loop
from mlp_lib.training.how import How
from mlp_lib.records.run import make_run

loop.SAVE_SECONDS = 0.0
steps = iter(range(1, 1000))

def should_stop():
    if next(steps) == 17:
        print("ready", flush=True)
        time.sleep(60)

loop.train(make_run(**eval(sys.argv[2])), Path(sys.argv[1]), How("cpu", "fp32", threads=1),
           should_stop=should_stop)
"""


def test_a_killed_run_goes_on_as_if_it_had_not(rich, tmp_path):
    run = rich[0]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(tmp_path), repr(RICH)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (tmp_path / f"{run.key}.checkpoint.123.part").write_bytes(b"half a checkpoint")
    steps = []
    outcome, _ = train(run, tmp_path, HOW, should_stop=lambda: steps.append(1))
    assert len(steps) < 20  # steps 1 to 16 were saved
    (tmp_path / f"{run.key}.checkpoint.123.part").unlink()
    assert_same_run(outcome, tmp_path, rich)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "cut"])
def test_a_damaged_checkpoint_is_one_line(rich, tmp_path, content):
    run = rich[0]
    path = tmp_path / f"{run.key}.checkpoint"
    if content == "cut":
        train(run, tmp_path, HOW, should_stop=stop_at(2))
        content = path.read_bytes()[:-3000]
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read .*; delete it to start over") as caught:
        train(run, tmp_path, HOW)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_checkpoint_of_another_run_is_one_line(rich, tmp_path):
    run = rich[0]
    train(run, tmp_path, HOW, should_stop=stop_at(2))
    other, path = run.but(seed=1), tmp_path / f"{run.key}.checkpoint"
    path.rename(tmp_path / f"{other.key}.checkpoint")
    with pytest.raises(UserError, match=f"belongs to run {run.key}, not {other.key}"):
        train(other, tmp_path, HOW)
    torch.save(torch.zeros(3), path)
    with pytest.raises(UserError, match="belongs to run None"):
        train(run, tmp_path, HOW)


def test_checkpoints_run_no_code(tmp_path):
    run = make_run(**DIGITS)

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    torch.save({"key": run.key, "model": Bomb()}, tmp_path / f"{run.key}.checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        train(run, tmp_path, HOW)
    assert not (tmp_path / "exploded").exists()


@pytest.fixture
def small_disk():
    """Files cannot grow beyond 20 kB: writing fails where a full disk would make it fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_loses_nothing(rich, tmp_path, small_disk, monkeypatch):
    run = rich[0]
    with pytest.raises(UserError, match="checkpoint: File too large; free some space") as caught:
        train(run, tmp_path, HOW, should_stop=stop_at(4))
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="cannot write .*safetensors: .*File too large"):
        train(run, tmp_path, HOW)
    assert list(tmp_path.iterdir()) == []
    small_disk()  # space again
    train(run, tmp_path, HOW, should_stop=stop_at(8))
    kept = (tmp_path / f"{run.key}.checkpoint").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match="No space left on device"):
            train(run, tmp_path, HOW)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [kept]
    outcome, _ = train(run, tmp_path, HOW)
    assert_same_run(outcome, tmp_path, rich)


def test_the_random_state_that_is_kept_is_that_of_the_device_trained_on(monkeypatch):
    put = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda": torch.tensor([torch.device(device).index]))
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device="cuda": put.append((state.item(), str(device)))
    )
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.tensor([7]))
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: put.append((state.item(), "mps")))
    host = torch.get_rng_state()
    for name in ("cuda:1", "mps", "cpu"):
        device = torch.device(name)
        set_random_state(host, device_random_state(device), device)
    assert put == [(1, "cuda:1"), (7, "mps")] and device_random_state(torch.device("cpu")) is None
