"""The one error a user is meant to read."""


class UserError(ValueError):
    """Something the caller can put right. The message is one line that says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks for this): the line alone, not the stack above it."""
        return [f"UserError: {self}"]
