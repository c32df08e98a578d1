"""The command line; the only room that imports all others."""

from pseudoval.cli.commands import main, run

__all__ = ["main", "run"]
