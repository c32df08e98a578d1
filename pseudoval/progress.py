"""Progress on stderr: a bar on a terminal, plain lines when piped."""

import sys
import time

from tqdm import tqdm

LINE_SECONDS = 10.0


class Progress:
    """Callable with (what is being done, steps done, steps in all).

    A part of the name after a comma, such as a loss, is shown but does not start a new bar.
    """

    def __init__(self) -> None:
        self._name = ""
        self._bar: tqdm | None = None
        self._printed = 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        name, _, detail = name.partition(", ")
        if name != self._name:
            self.close()
            self._name = name
            self._printed = 0.0
            if sys.stderr.isatty():
                self._bar = tqdm(total=total, desc=name, leave=True)
        if self._bar is not None:
            self._bar.set_postfix_str(detail, refresh=False)
            self._bar.update(done - self._bar.n)
            if done >= total:
                self.close()
        elif done >= total or time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            print(f"{name}: {done}/{total}{' ' + detail if detail else ''}", file=sys.stderr)

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._name = ""
