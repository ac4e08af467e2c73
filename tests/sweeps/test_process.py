"""What a process does with its memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlp_lib.training.how import keep_freed_memory

GROWTH = """
import sys, torch
from mlp_lib.training.how import keep_freed_memory

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS:")) // 1024

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resident()
blocks = [torch.ones(20 * 2**18) for _ in range(10)]  # 200 MiB in all
assert resident() - before > 190
del blocks
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists() or not keep_freed_memory(), reason="needs Linux and glibc")
def test_freed_memory_stays_with_the_process_when_asked_to():
    def growth(mode: str) -> int:
        command = [sys.executable, "-c", GROWTH, mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert growth("keep") > 190 and growth("leave") < 100
