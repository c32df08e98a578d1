"""Tasks that do nothing, for ``scale_out.py``: in a module, as Dask's workers have to find them."""

import importlib
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Sleep:
    """A task that takes so many seconds.

    Attributes:
        module: is imported first, if it is not yet.
    """

    number: int
    seconds: float
    module: str = "time"

    def run(self) -> int:
        """See ``pseudoval.tasks.Task``."""
        importlib.import_module(self.module)
        return sleep(self.number, self.seconds)


def sleep(number: int, seconds: float) -> int:
    """The same as a plain function."""
    time.sleep(seconds)
    return number
