"""The one error a user is meant to read."""


class UserError(ValueError):
    """Something the caller can put right. The message is one line that says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks for this): the line alone, not the stack above it."""
        return [f"UserError: {self}"]


class _OfRun(UserError):
    def __init__(self, message: str, key: str | None = None):
        super().__init__(message)
        self.key = key  # of the run that it is about


class Busy(_OfRun):
    """Another process is at it: nothing is wrong, and there is nothing to do but to wait for it."""


class CannotRun(_OfRun):
    """What the run starts from diverged and left no weights: it has no result, and never will have one."""


class NotMeasurable(UserError):
    """What was trained does not let this be measured: its numbers are too large to compute with."""
