"""Scores in ascending order within a stated memory: sorted runs, on disk where they do not fit."""

import errno
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pseudoval.errors import UserError

NORMAL_BYTES = 4
"""Of a normal pixel in memory: its score, sorted in place."""
ANOMALOUS_BYTES = 60
"""Of an anomalous pixel in memory: score, weight, order, and what is made of its thresholds."""
LEAST_MEMORY = 2**20

Pixels = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Window:
    """All pixels in a range of scores, or at one single score.

    Attributes:
        normal: scores of the normal pixels, ascending.
        scores, weights: of the anomalous pixels, in any order.
        ties_normal, ties_anomalous, ties_weight: at a single score, of which there may be more
            than memory holds, the counts and the sum of the weights; the arrays are empty then.
    """

    normal: np.ndarray = field(default_factory=lambda: np.empty(0))
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    weights: np.ndarray = field(default_factory=lambda: np.empty(0))
    ties_normal: int = 0
    ties_anomalous: int = 0
    ties_weight: float = 0.0


@contextmanager
def sorted_windows(
    pixels: Pixels, normal: int, anomalous: int, *, memory: int, folder: Path | None
) -> Iterator[Iterator[Window]]:
    """Windows that cover all scores, from the highest down; a NaN is in the first one.

    Args:
        pixels: normal scores, anomalous scores and weights of the latter, part by part.
        normal, anomalous: how many there are in all parts together.
        memory: bytes that may be in use at a time; beyond it runs are written to ``folder``.

    Raises:
        UserError: the disk is full.
    """
    if NORMAL_BYTES * normal + ANOMALOUS_BYTES * anomalous <= memory:
        yield _in_memory(pixels, normal, anomalous)
        return
    memory = max(memory, LEAST_MEMORY)
    try:
        with tempfile.TemporaryDirectory(prefix="pseudoval-", dir=folder) as name:
            place = Path(name)
            # A quarter for each buffer; the rest is for the part that comes in, and for a window.
            low = _Runs(place, "normal", min(normal, memory // 4 // NORMAL_BYTES), weighted=False)
            high = _Runs(place, "anomalous", min(anomalous, memory // 4 // 32), weighted=True)
            for below, above, weights in pixels:
                low.add(below)
                high.add(above, weights)
            low.close()
            high.close()
            yield _merged(low, high, memory // (2 * ANOMALOUS_BYTES))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        needed = (NORMAL_BYTES * normal + 12 * anomalous) / 2**30
        raise UserError(
            f"The disk of {folder or tempfile.gettempdir()} is full: the pixel figures need "
            f"{needed:.1f} GiB of temporary files there. Free so much, or set TMPDIR to a folder "
            "on another disk."
        ) from None


def _in_memory(pixels: Pixels, normal: int, anomalous: int) -> Iterator[Window]:
    """Everything as one window."""
    parts = iter(pixels)
    below, above, share = next(parts)
    scores = np.empty(normal, dtype=below.dtype)
    high = np.empty(anomalous, dtype=above.dtype)
    weights = np.empty(anomalous)
    at = to = 0
    while True:
        scores[at : at + below.size] = below
        high[to : to + above.size] = above
        weights[to : to + above.size] = share
        at, to = at + below.size, to + above.size
        following = next(parts, None)
        if following is None:
            break
        below, above, share = following
    scores.sort()
    yield Window(normal=scores, scores=high, weights=weights)


@dataclass
class _Runs:
    """Scores in sorted runs of ``capacity`` pixels, one file each, weights in another.

    Attributes:
        values, weights: the finished runs, mapped from their files.
    """

    folder: Path
    name: str
    capacity: int
    weighted: bool
    values: list[np.ndarray] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    _buffer: np.ndarray | None = None
    _beside: np.ndarray | None = None
    _filled: int = 0

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take in pixels; a full buffer becomes a run."""
        if self._buffer is None:
            self._buffer = np.empty(self.capacity, dtype=values.dtype)
            self._beside = np.empty(self.capacity if self.weighted else 0)
        taken = 0
        while taken < values.size:
            room = min(self.capacity - self._filled, values.size - taken)
            here = slice(self._filled, self._filled + room)
            self._buffer[here] = values[taken : taken + room]
            if weights is not None and self._beside is not None:
                self._beside[here] = weights[taken : taken + room]
            self._filled += room
            taken += room
            if self._filled == self.capacity:
                self._write()

    def close(self) -> None:
        """Make a run of what is left, and free the buffer."""
        if self._filled:
            self._write()
        self._buffer = self._beside = None

    def _write(self) -> None:
        assert self._buffer is not None
        assert self._beside is not None
        values = self._buffer[: self._filled]
        if self.weighted:
            order = values.argsort()
            self.weights.append(self._stored("weights", self._beside[: self._filled][order]))
            values = values[order]
        else:
            values.sort()
        self.values.append(self._stored("scores", values))
        self._filled = 0

    def _stored(self, kind: str, array: np.ndarray) -> np.ndarray:
        path = self.folder / f"{self.name}-{kind}-{len(self.values):06d}"
        with path.open("wb") as file:  # unlike tofile, this says why it fails
            file.write(array.data)
        return np.memmap(path, dtype=array.dtype, mode="r")


def _merged(low: _Runs, high: _Runs, room: int) -> Iterator[Window]:
    """Windows of at most ``room`` pixels over the runs of both kinds, from the highest down.

    Between every two splitters lies a window, and at each splitter one of its own, since there
    may be more pixels at one score than memory holds.
    """
    runs = [*low.values, *high.values]
    if any(np.isnan(run[-1]) for run in runs):  # sorted last
        yield Window(normal=np.array([np.nan]))
        return
    splitters = _splitters(runs, room)
    cuts_low = [_cuts(run, splitters) for run in low.values]
    cuts_high = [_cuts(run, splitters) for run in high.values]
    for number in range(2 * len(splitters), -1, -1):
        below = _slices(low.values, cuts_low, number)
        above = _slices(high.values, cuts_high, number)
        share = _slices(high.weights, cuts_high, number)
        if number % 2:
            yield Window(
                ties_normal=sum(part.size for part in below),
                ties_anomalous=sum(part.size for part in above),
                ties_weight=float(sum(part.sum() for part in share)),
            )
            continue
        normal = np.concatenate(below)
        normal.sort()
        yield Window(normal=normal, scores=np.concatenate(above), weights=np.concatenate(share))


def _slices(
    runs: Sequence[np.ndarray], cuts: Sequence[np.ndarray], number: int
) -> list[np.ndarray]:
    """What each run has between two of its cuts."""
    return [run[c[number] : c[number + 1]] for run, c in zip(runs, cuts, strict=True)]


def _splitters(runs: list[np.ndarray], room: int) -> np.ndarray:
    """Scores, ascending and distinct, with at most ``room`` pixels strictly between any two.

    Of every run each m-th score is a sample, and each R-th sample of all R runs a splitter. Fewer
    than R samples lie strictly between two splitters, hence in each run at most m pixels more
    than m times its share of them: 2 R m in all.
    """
    count = len(runs)
    step = max(1, room // (2 * count))
    samples = np.sort(np.concatenate([run[step - 1 :: step] for run in runs]))
    return np.unique(samples[count - 1 :: count])


def _cuts(run: np.ndarray, splitters: np.ndarray) -> np.ndarray:
    """Where a run is cut: before and after each splitter, ``[2 * splitters + 2]``."""
    cuts = np.empty(2 * len(splitters) + 2, dtype=np.int64)
    cuts[0], cuts[-1] = 0, len(run)
    cuts[1:-1:2] = np.searchsorted(run, splitters, side="left")
    cuts[2:-1:2] = np.searchsorted(run, splitters, side="right")
    return cuts
