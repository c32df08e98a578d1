"""What the benchmarks share: a clock that knows when to stop, and the form of a result file."""

import importlib.metadata
import json
import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from pseudoval import __version__
from pseudoval.data.files import write_json
from pseudoval.progress import Progress

PACKAGES = (
    "torch", "timm", "numpy", "pandas", "scipy", "scikit-learn", "faiss-cpu", "optuna",
    "albumentations",
)  # fmt: skip


class OutOfTime(Exception):
    """The time that the user gave is up; everything finished is on disk."""


class StopWatch:
    """A progress display that measures how fast parts go, and stops when the time is up.

    Seconds and speeds are kept in a file, so that several resumed runs add up.

    Attributes:
        seconds: time spent by name of the work.
    """

    def __init__(self, path: Path, minutes: float | None, images: Mapping[str, int]) -> None:
        self.path = path
        self.images = images
        self.end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self.speeds: dict[str, float] = kept.get("images_per_second", {})
        self._show = Progress()
        self._steps: dict[str, list[float]] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        self._show(name, done, total)
        now = time.monotonic()
        self._steps.setdefault(name.partition(",")[0], []).append(now)
        if now > self.end and done < total:
            raise OutOfTime(f"Stopped in '{name}' at {done} of {total}")

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Count the time of the block, also if it is stopped; several resumed runs add up."""
        started = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            self._keep()

    def images_per_second(self, name: str) -> float | None:
        """Median speed of the passes of a named work, the first two (warming up) left out."""
        ticks = self._steps.get(name, [])
        passes = [after - before for before, after in pairwise(ticks[2:])]
        if len(passes) >= 3:
            self.speeds[name] = self.images[name] / statistics.median(passes)
            self._keep()
        return self.speeds.get(name)

    def _keep(self) -> None:
        write_json(self.path, {"seconds": self.seconds, "images_per_second": self.speeds})


def device_name(device: str) -> str:
    """The processor that the figures belong to."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed here."""
    found = {"python": platform.python_version(), "pseudoval": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def result(found: Mapping[str, Any], *, device: str, seed: int) -> dict[str, Any]:
    """The content of a result file: what was found, with what and where."""
    return {
        **found,
        "versions": versions(),
        "device": device_name(device),
        "seed": seed,
        "command": shlex.join(["python", *map(_portable, sys.argv)]),
    }


def _portable(argument: str) -> str:
    """A path of this machine by its last name, which is all that it says elsewhere."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def show(found: Mapping[str, Any]) -> None:
    """Print the figures as a table, and the checks that are single values."""
    print(f"{'figure':<24}{'ours':>12}{'peer':>12}{'ratio':>9}  unit, peer")
    for name, row in found["figures"].items():
        cells = f"{row['ours']:>12.4g}{row['peer']:>12.4g}{row['ratio']:>9.4g}"
        print(f"{name:<24}{cells}  {row['unit']}, {row['peer_name']}")
    for name, value in found["checks"].items():
        if not isinstance(value, list | dict):
            print(f"{name}: {value}")
