"""However a sweep or a training is stopped, there is a checkpoint, one line, and an exit code that says how it was."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from mlp_lib.paths import REPOSITORY
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store

RUNS = [make_run(model="B-1/Wi-16", dataset="digits", epochs=200_000, lr=1e-3, seed=seed) for seed in range(2)]
# A sweep under the command line's own `main`, in a script that does not ask whether it is `__main__`.
SWEEP = """
from mlp_lib import cli
from mlp_lib.cli.app import Paused
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps.ensure import ensure
from mlp_lib.training.how import How

@cli.app.command()
def sweep(folder: str, workers: int, epochs: int):
    run = make_run(model="B-1/Wi-16", dataset="digits", epochs=epochs, lr=1e-3)
    how = How("cpu", "fp32", 1)
    frame = ensure([run, run.but(seed=1)], store=Store(folder), how=how, workers=workers or None, progress=False)
    print("ended:", *frame["status"], flush=True)
    if frame.attrs["stopped"]:
        raise Paused

cli.main()
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def sweep(tmp_path, store):
    """Start the sweep with so many workers (0: in its own process), at the head of a process group."""
    script, started = tmp_path / "sweep.py", []
    script.write_text(SWEEP)

    def start(workers, epochs=200_000, stdout=subprocess.PIPE, **options):
        command = [sys.executable, str(script), "sweep", str(store.folder), str(workers), str(epochs)]
        options = {"stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT, "start_new_session": True} | options
        started.append(subprocess.Popen(command, stdout=stdout, **options))
        return started[-1]

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def wait_for(condition, process=None, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def training(store, runs):
    return lambda: all((store.weights / f"{run.key}.lock").exists() for run in runs)


def checkpoints(store):
    found = {path.name.split(".")[0]: torch.load(path) for path in store.weights.glob("*.checkpoint")}
    assert not list(store.weights.glob("*.part")) and not list(store)
    return {key: state["step"] for key, state in found.items()}


def nobody_trains(store, runs):
    import filelock

    def free():
        for run in runs:
            try:
                filelock.FileLock(store.weights / f"{run.key}.lock").acquire(timeout=0).lock.release()
            except filelock.Timeout:
                return False
        return True

    return free


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
@pytest.mark.parametrize("times", [1, 2])  # `timeout` sends its signal twice, to the child and to its group
def test_a_signal_to_the_group_ends_in_a_checkpoint_of_each(sweep, store, number, code, times):
    process = sweep(2)
    wait_for(training(store, RUNS), process)
    time.sleep(0.5)
    for _ in range(times):
        os.killpg(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (code, "ended: not run not run\n", "")
    assert {*checkpoints(store)} == {run.key for run in RUNS} and all(checkpoints(store).values())


def test_a_signal_while_the_workers_start_is_not_their_end(sweep, store):
    process = sweep(2)
    wait_for(lambda: len(children(process.pid)) >= 3, process)  # two workers, and Python's own helper
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (75, "ended: not run not run\n", "")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def test_a_signal_to_one_worker_stops_the_sweep_with_checkpoints(sweep, store):
    process = sweep(2)
    wait_for(training(store, RUNS), process)
    time.sleep(0.5)
    worker = children(process.pid)[-1]
    os.kill(int(worker), signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (75, "ended: not run not run\n", "")
    assert {*checkpoints(store)} == {run.key for run in RUNS}


def test_workers_whose_parent_is_gone_write_their_checkpoints(sweep, store):
    process = sweep(2)
    wait_for(training(store, RUNS), process)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(nobody_trains(store, RUNS))
    assert {*checkpoints(store)} == {run.key for run in RUNS}


@pytest.mark.parametrize("number, code, word", [(signal.SIGTERM, 75, "stopped"), (signal.SIGINT, 130, "interrupted")])
def test_a_second_signal_ends_at_once_and_a_checkpoint_is_whole(sweep, store, number, code, word):
    first = RUNS[0].but(epochs=15_000)  # planned short enough to be trained in the sweep's own process
    process = sweep(0, epochs=first.epochs)
    wait_for(training(store, [first]), process)
    time.sleep(0.5)
    assert len(children(process.pid)) == 0
    os.kill(process.pid, signal.SIGSTOP)  # so that it has no time to act between the two
    os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(1.2)
    if process.poll() is None:
        os.kill(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code and err in ("", f"{word}; the same command goes on from the last checkpoint\n")
    assert {*checkpoints(store)} <= {first.key}


def test_under_nohup_a_closed_terminal_stops_nothing(sweep, store):
    process = sweep(2, epochs=300, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(lambda: len(children(process.pid)) >= 3, process)
    os.kill(process.pid, signal.SIGHUP)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out, err) == (0, "ended: ok ok\n", "")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how, code", [(">&- 2>&-", 0), ("> /dev/full", 74), ("| head -c 0", 0)])
def test_output_that_nobody_can_read_stops_no_work(tmp_path, store, workers, how, code):
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    line = f'set -o pipefail; "{sys.executable}" "{script}" sweep "{store.folder}" {workers} 40 {how}'
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == code and len(list(store)) == 2 and {record.status for record in store} == {"ok"}
    said = "error: cannot write to stdout: No space left on device; the records are kept\n"
    assert done.stderr == (said if code else "")
