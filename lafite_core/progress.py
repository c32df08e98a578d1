"""How long work says how far it is, and what a user should know."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""
Notice = Callable[[str], None]
"""Takes one sentence for the user, such as on a smaller micro-batch."""


def silent(*_: object) -> None:
    """Say nothing."""
