"""The one exception that a user is meant to read."""


class UserError(Exception):
    """The user's input or environment is at fault.

    The message is one clear sentence: what is wrong, where, and how to mend it. The command line
    prints it without a traceback and leaves with exit code 2.
    """
