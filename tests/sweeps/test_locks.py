"""Locks between processes, also on file systems that have none."""

import errno
import fcntl
import subprocess
import sys

import pytest

from mlp_lib import locks, output
from mlp_lib.errors import Busy, UserError

BUSY = Busy("somebody is at it")


@pytest.fixture
def no_flock(monkeypatch):
    """A file system that answers flock with this error."""

    def set_to(number):
        def flock(descriptor, how):
            raise OSError(number, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
        monkeypatch.setattr(output, "_said", set())

    return set_to


def held(path):
    return locks.held(path, BUSY)


@pytest.mark.parametrize("number", [None, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_lock_is_held_by_one_and_said_to_be_of_another_kind_once(tmp_path, no_flock, capsys, number):
    path = tmp_path / "run.lock"
    with held(path):
        pass  # a lock of flock's kind leaves its file, which must not count as held
    if number:
        no_flock(number)
    for _ in range(2):
        with held(path):
            with pytest.raises(Busy, match="somebody is at it"):
                with held(path):
                    pass
    said = capsys.readouterr().out
    assert said.count("has no locks (flock)") == (1 if number else 0) and str(tmp_path) in said or not number
    assert not (tmp_path / "run.lock.held").exists()


def test_what_a_killed_process_has_left_is_taken_over(tmp_path, no_flock):
    no_flock(errno.ENOLCK)
    path = tmp_path / "run.lock"
    code = f"import os, filelock; lock = filelock.SoftFileLock({str(path) + '.held'!r}); lock.acquire(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert (tmp_path / "run.lock.held").exists()
    with held(path):
        assert (tmp_path / "run.lock.held").exists()
    assert not (tmp_path / "run.lock.held").exists()


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, no_flock):
    no_flock(errno.EIO)
    with pytest.raises(UserError, match="cannot lock .*run.lock.*choose another --out") as caught:
        with held(tmp_path / "run.lock"):
            pass
    assert "\n" not in str(caught.value) and not isinstance(caught.value, Busy)
