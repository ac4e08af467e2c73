"""What a process inherits, and how it is stopped."""

import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlp_lib.output import Unfailing

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
ONE_STOP = 1.0  # seconds in which further signals are the same stop: `timeout` sends two, a closed terminal several
INTERRUPTED = 130  # exit code after Ctrl-C
PAUSED = 75  # exit code "try again": stopped before it was done, by its budget or a signal; the same command goes on

_stopped_by: int | None = None  # the signal that came first, since `note_signals`


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables for the processes started inside the block, then put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def on_signal(act: Callable[[], None]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP call `act` once; a second one, a second later, interrupts; a third ends the process.

    Elsewhere than in the main thread: nothing. A SIGHUP that is ignored, as under nohup, stays so.
    """
    came: list[float] = []

    def handle(number, frame) -> None:
        _note(number)
        if came and time.monotonic() - came[-1] < ONE_STOP:
            return
        came.append(time.monotonic())
        if len(came) == 1:
            act()
        elif len(came) == 2:
            raise KeyboardInterrupt
        else:
            leave_now()

    with _handled(handle):
        yield


@contextmanager
def ends_by_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt in the block, as Ctrl-C does, where no `on_signal` in it acts on them.
    `exit_code` then tells which it was."""
    global _stopped_by
    _stopped_by = None

    def handle(number, frame) -> None:
        _note(number)
        raise KeyboardInterrupt

    with _handled(handle):
        yield


def exit_code() -> int:
    """The exit code of a command that did not get done: `INTERRUPTED` after Ctrl-C, `PAUSED` after anything else."""
    return INTERRUPTED if _stopped_by == signal.SIGINT else PAUSED


def leave_now() -> None:
    """End this process without waiting for anything: its workers write their checkpoints and follow."""
    Unfailing(sys.stderr).write("stopped at once; the same command goes on from the last checkpoint\n")
    Unfailing(sys.stderr).flush()
    os._exit(exit_code())


def ignore_further_signals() -> None:
    """After a signal has stopped the command: let this process end with its exit code. At its end Python gives signals
    their default action back, so that one more would kill it."""
    if _stopped_by is not None and threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)


def _note(number: int) -> None:
    global _stopped_by
    _stopped_by = number if _stopped_by is None else _stopped_by


@contextmanager
def _handled(handle: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    if before.get(getattr(signal, "SIGHUP", None)) is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Signals that stop wait until the end of the block. Processes started in it hold them back until they call
    `let_signals_through`: one that is still importing would die of them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_signals_through() -> None:
    """The end of `signals_held_back` for a process that was started in it."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


@contextmanager
def nothing_of_main() -> Iterator[None]:
    """Processes started in the block do not import the user's script: one that calls `ensure` outside of
    `if __name__ == "__main__"` would call it again in each of them."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
