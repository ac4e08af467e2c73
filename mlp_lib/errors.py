"""The one error a user is meant to read."""


class UserError(ValueError):
    """Something the caller can put right. The message is one line that says what is wrong and what to do."""
