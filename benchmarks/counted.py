"""The command line with small tasks, and a letter in a file for every piece of work that is begun.

``kill.py`` runs this in the place of ``pseudoval``. Workers of Dask import the main script of the
process that starts them, so that they count too. The file is named in ``$PSEUDOVAL_COUNT``.
"""

import functools
import os
from collections import Counter
from pathlib import Path
from typing import Any

from lafite_core import train
from pseudoval.cli.commands import main
from pseudoval.models import fit_tasks
from pseudoval.scoring import blocks
from pseudoval.scoring.pixels import PixelFigures

FILE = "PSEUDOVAL_COUNT"
IMAGES = 2
"""Images in a block: many short ones, so that there is much to lose."""
COUNTED: dict[str, tuple[Any, str]] = {
    "blocks": (blocks.ScoreBlock, "run"),
    "pixel figures": (PixelFigures, "run"),
    "epochs": (train, "_epoch"),
}
"""The functions that do a piece of work, and what they are called in the result."""


def install() -> None:
    """Make tasks small, and have every piece of work that is begun noted."""
    blocks.BLOCK_IMAGES = fit_tasks.IMAGES = IMAGES
    for name, (owner, function) in COUNTED.items():
        setattr(owner, function, _noted(getattr(owner, function), name[0]))


def _noted(function: Any, letter: str) -> Any:
    @functools.wraps(function)
    def noted(*arguments: Any, **options: Any) -> Any:
        with Path(os.environ[FILE]).open("a", encoding="ascii") as file:
            file.write(letter)
        return function(*arguments, **options)

    return noted


def begun(path: Path) -> dict[str, int]:
    """How often each kind of work was begun."""
    letters = Counter(path.read_text(encoding="ascii") if path.exists() else "")
    return {name: letters[name[0]] for name in COUNTED}


if FILE in os.environ:  # in a worker the name is not __main__
    install()
if __name__ == "__main__":
    main()
