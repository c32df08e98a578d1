"""Progress on stderr: a bar on a terminal, plain lines when piped."""

import math
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

LINE_SECONDS = 10.0

ProgressCallback = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


class Progress:
    """A ``ProgressCallback`` that shows a person how far the work is and how long it will take.

    A part of the name after a comma, such as a loss, is shown but does not start a new bar. Time
    left follows from the speed since the first call of a bar, so that steps which an earlier,
    interrupted process did are not taken for ours.
    """

    def __init__(self) -> None:
        self._name = ""
        self._bar: tqdm | None = None
        self._printed = 0.0
        self._began = 0.0
        self._before = 0

    def __call__(self, name: str, done: int, total: int) -> None:
        name, _, detail = name.partition(", ")
        now = time.monotonic()
        if name != self._name:
            self.close()
            self._name = name
            self._printed = -math.inf
            self._began, self._before = now, done
            if sys.stderr.isatty():
                self._bar = tqdm(total=total, initial=done, desc=name, leave=True)
        if self._bar is not None:
            self._bar.set_postfix_str(detail, refresh=False)
            self._bar.update(done - self._bar.n)
            if done >= total:
                self.close()
        elif done >= total or now - self._printed >= LINE_SECONDS:
            self._printed = now
            left = ""
            if self._before < done < total:
                seconds = (now - self._began) / (done - self._before) * (total - done)
                left = f", {time_left(seconds)}"
            print(f"{name}: {done}/{total}{' ' + detail if detail else ''}{left}", file=sys.stderr)

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._name = ""


def time_left(seconds: float) -> str:
    """A duration as a person would say it, such as ``about 6 min left``."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


def silent(name: str, done: int, total: int) -> None:
    """A ``ProgressCallback`` that shows nothing."""


def labelled(progress: ProgressCallback, label: str) -> ProgressCallback:
    """The same progress, with what it is of in front; an empty label changes nothing."""
    if not label:
        return progress
    return lambda name, done, total: progress(f"{label} {name}", done, total)
