"""The one exception of this package that a user is meant to read."""


class LafiteError(ValueError):
    """An input, option or file is at fault; the message says what, where and how to mend it."""
