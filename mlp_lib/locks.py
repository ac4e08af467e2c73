"""A lock between processes that works on the file systems people have."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from mlp_lib.errors import Busy, UserError
from mlp_lib.output import say_once

# What `flock` answers where the file system, many a network one, has no such thing.
MISSING = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


@contextmanager
def held(path: Path, busy: Busy, wait: float = 0) -> Iterator[None]:
    """Hold the lock `path` (its name ends in "lock") against other processes while the block runs.

    Where the file system has no `flock`, a file beside it, `path` + ".held", that only one process can make stands in
    for the lock, and a line says so once. One that a killed process of this machine has left is taken over.

    Args:
        busy: the error to raise when another process holds it.
        wait: seconds to wait for that process; -1 for as long as it takes.

    Raises `busy`, and UserError where the lock cannot be made at all.
    """
    lock = _acquired(path, busy, wait)
    try:
        yield
    finally:
        lock.release()


def _acquired(path: Path, busy: Busy, wait: float) -> filelock.BaseFileLock:
    try:
        # Not the library's own way out, which knows one of these answers only, and takes an old lock for a held one.
        lock = filelock.FileLock(path, fallback_to_soft=False)
        lock.acquire(timeout=wait)
        return lock
    except filelock.Timeout:
        raise busy from None
    except OSError as error:
        if error.errno not in MISSING:
            raise UserError(f"cannot lock {path}: {error.strerror or error}; choose another --out") from error
    say_once(
        f"the file system of {path.parent} has no locks (flock); files named *.held stand in for them: after a "
        "machine that held one has crashed, delete what it left"
    )
    soft = filelock.SoftFileLock(os.fspath(path) + ".held")
    try:
        soft.acquire(timeout=wait)
    except filelock.Timeout:
        raise busy from None
    except OSError as error:
        raise UserError(f"cannot lock {path}: {error.strerror or error}; choose another --out") from error
    return soft
