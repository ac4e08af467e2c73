"""What a process may use: affinity and control groups, not what the machine has; and refusals of impossible sizes."""

import os
import subprocess
import sys

import pytest

from mlp_lib import machine
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """An empty tree of control groups, this process in /user/job, on a machine of 8 cores."""
    (tmp_path / "own").write_text("0::/user/job\n")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "user" / "job").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("", 8), ("x y", 8)],
)
@pytest.mark.parametrize("where", ["", "user", "user/job"])
def test_a_quota_counts_wherever_it_is_set(groups, where, quota, cores):
    (groups / where / "cpu.max").write_text(quota)
    assert machine.usable_cores() == cores


def test_quotas_of_the_first_version(groups):
    (groups / "own").write_text("4:cpu,cpuacct:/user/job\n")
    folder = groups / "cpu,cpuacct" / "user" / "job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("-1")
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert machine.usable_cores() == 8
    (folder / "cpu.cfs_quota_us").write_text("300000")
    assert machine.usable_cores() == 3


def test_memory_limits(groups):
    whole = machine.usable_memory()
    assert whole > 2**28
    (groups / "user" / "memory.max").write_text("max")
    assert machine.usable_memory() == whole
    (groups / "user" / "memory.max").write_text("1000000")
    assert machine.usable_memory() == 1_000_000
    with pytest.raises(UserError, match="the images: 0.0 GB, but this machine lets it have 0.0 GB; take fewer"):
        machine.check_fits(1_000_001, "the images", "take fewer")
    machine.check_fits(1_000_000, "the images", "take fewer")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_process_bound_to_one_core_has_one():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from mlp_lib.machine import *; "
    code += "from mlp_lib.sweeps.workers import processes_for; print(usable_cores(), processes_for(9, True))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize("count", [0, -1, 1025, 100_000])
def test_counts_beyond_any_machine(count):
    with pytest.raises(UserError, match=f"threads={count}: take 1 to 1,024; this process may use"):
        machine.check_count(count, "threads")
    machine.check_count(None, "threads")
    machine.check_count(1024, "threads")
