"""The one error a user is meant to read."""


class UserError(ValueError):
    """Something the caller can put right. The message is one line that says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks for this): the line alone, not the stack above it."""
        return [f"UserError: {self}"]


class Busy(UserError):
    """Another process is at it: nothing is wrong, and there is nothing to do but to wait for it."""


class NotMeasurable(UserError):
    """What was trained does not let this be measured: its numbers are too large to compute with."""
