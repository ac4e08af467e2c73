"""Lines for the user that never end the work they tell of: the reader of a pipe may leave, a disk may be full."""

import io
import os
import select
import sys
from collections.abc import Callable
from typing import Any, TextIO

_said: set[str] = set()
_other: Callable[[str], object] | None = None  # to whom lines go instead of stdout


class Unfailing:
    """A text stream for progress bars whose writes are dropped where they fail, or where there is no stream."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError, AttributeError):  # gone, closed, or never there
            pass
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError, AttributeError):
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str) -> None:
    """Print a line to stdout, where that can be written to; or give it to whom `say_to` has named."""
    if _other is not None:
        _other(text)
        return
    stream = Unfailing(sys.stdout)
    stream.write(f"{text}\n")
    stream.flush()


def say_once(text: str) -> None:
    """The same, unless this process has said it before."""
    if text not in _said:
        _said.add(text)
        say(text)


def say_to(other: Callable[[str], object]) -> None:
    """Have the lines of this process said by another: a worker's by its parent, between two states of a bar."""
    global _other
    _other = other


class _Lossy(io.FileIO):
    """A file descriptor to write to; from the first failure on, what is written to it is dropped."""

    def __init__(self, descriptor: int):
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data) -> int:
        if self.failure is None:
            try:
                while (written := super().write(data)) is None:  # a pipe that does not block, and is full
                    select.select([], [self], [])
                return written
            except OSError as error:
                self.failure = error
        return len(memoryview(data).cast("B"))


def protect_streams() -> None:
    """Let nothing that is written to stdout and stderr fail, for the rest of the process.

    Descriptors 0 to 2 are opened on nothing where they are closed: the next file would get their number, and with it
    what is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)  # takes the lowest number: this one
            os.set_inheritable(descriptor, True)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        if old is not None and (old is not getattr(sys, f"__{name}__") or _descriptor(old) != descriptor):
            continue  # a test's, or a notebook's
        tty = os.isatty(descriptor)
        encoding, errors = (old.encoding, old.errors) if old else ("utf-8", "backslashreplace")
        if old is not None:
            Unfailing(old).flush()
        buffered = io.BufferedWriter(_Lossy(descriptor))
        line_buffering = tty or descriptor == 2
        setattr(sys, name, io.TextIOWrapper(buffered, encoding, errors, line_buffering=line_buffering))


def lost_output() -> OSError | None:
    """Why lines to stdout were lost since `protect_streams`; None where they were not, or nobody read them any more."""
    Unfailing(sys.stdout).flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = getattr(raw, "failure", None)
    return None if isinstance(failure, BrokenPipeError) else failure


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
