"""What this process may use of the machine: cores and memory; and refusals of what no machine holds."""

import math
import os
from pathlib import Path

from mlp_lib.errors import UserError

MOST_THREADS = 1024  # more than any machine of today has cores: a slip of the keyboard
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may use: those it is bound to (taskset, a batch system), less where a container or a
    service has a quota of processor time. At least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on this system
        cores = os.cpu_count() or 1
    quota = min((share for folder in _cgroup_folders() if (share := _quota(folder))), default=math.inf)
    return max(1, min(cores, math.ceil(quota) if quota < cores else cores))


def usable_memory() -> int | None:
    """Bytes that this process may hold at most: the machine's, or a container's limit; None where neither is told."""
    try:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):
        limits = []
    for folder in _cgroup_folders():
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(folder / name)
            if text.isdigit():
                limits.append(int(text))
    return min(limits, default=None)


def check_fits(size: int, what: str, advice: str) -> None:
    """Raises UserError where `size` bytes are more than the process may hold: before anything is allocated."""
    limit = usable_memory()
    if limit is not None and size > limit:
        raise UserError(f"{what}: {size / 1e9:,.1f} GB, but this machine lets it have {limit / 1e9:,.1f} GB; {advice}")


def check_count(count: int | None, name: str, most: int = MOST_THREADS) -> None:
    """Raises UserError for a number of threads or processes that is none, below 1 or beyond any machine."""
    if count is not None and not (type(count) is int and 1 <= count <= most):
        raise UserError(f"{name}={count!r}: take 1 to {most:,}; this process may use {usable_cores()} cores")


def _cgroup_folders() -> list[Path]:
    """The control groups that this process is in, from the root down: any of them may set a limit."""
    folders = [_CGROUPS, _CGROUPS / "cpu", _CGROUPS / "memory"]
    for line in _text(_OWN_CGROUP).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for base in [_CGROUPS / controllers] if controllers else [_CGROUPS]:
            folders += [base.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return folders


def _quota(folder: Path) -> float | None:
    """Cores' worth of time that a control group allows; None without a limit."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")  # version 2
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    try:
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except ValueError:  # "max", or not told
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
