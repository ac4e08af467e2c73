"""The peak of a training in a process of its own, imports, data and evaluation included.

`python -m benchmarks.memory '{"model": ..., "dataset": ..., ...}' fp32 cpu` is that process; `peak` starts it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlp_lib.datasets import facts
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.sweeps.process import environment

MISSING = 3  # exit code: the images are not at hand


class Peak(NamedTuple):
    gb: float  # 1e9 bytes: resident in memory on a CPU, taken from the device on a GPU
    data: str


def peak(fields: dict[str, Any], precision: str, device: str) -> Peak:
    """Train the run of `fields` in a new process. Random images of the set's size stand in where it is not at hand.

    Raises UserError when the process fails.
    """
    done = _start(fields, precision, device)
    if done.returncode != MISSING:
        return Peak(_read(done), fields["dataset"])
    with tempfile.TemporaryDirectory() as folder, environment(MLP_LIB_DATA=folder):
        _write_stand_in(Path(folder, "standin"), fields["dataset"])
        done = _start(fields | {"dataset": "npz:standin"}, precision, device)
    return Peak(_read(done), f"random images of the size of {fields['dataset']}, which is not at hand")


def _start(fields: dict[str, Any], precision: str, device: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(fields), precision, device]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def _read(done: subprocess.CompletedProcess) -> float:
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"the training whose memory is measured failed ({done.returncode}): {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def _write_stand_in(folder: Path, dataset: str) -> None:
    f, rng = facts(dataset), np.random.default_rng(0)
    folder.mkdir()
    for name, count in (("train", f.train_size), ("test", f.test_size)):
        images = rng.integers(0, 256, (count, f.resolution, f.resolution, f.channels), np.uint8)
        np.savez(folder / f"{name}.npz", images=images, labels=np.arange(count) % f.num_classes)


def _child(fields: dict[str, Any], precision: str, device: str) -> None:
    import torch

    from mlp_lib.records.run import make_run
    from mlp_lib.training import loaders, loop
    from mlp_lib.training.how import How

    run = make_run(**fields)
    try:
        loaders.load_data(run, device)
    except UserError:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as weights:
        loop.train(run, Path(weights), How(device, precision))
    print(json.dumps(torch.cuda.max_memory_reserved() / 1e9 if device == "cuda" else resident_peak()))


def resident_peak(status: Path = Path("/proc/self/status")) -> float:
    """The most memory that this process has had resident, in units of 1e9 bytes."""
    if status.exists():  # Linux: getrusage would count the parent too, whose memory a child shares until it execs
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e9 / 1024)


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3])
