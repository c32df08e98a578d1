"""Making the files of a pseudo set, in this process or spread over several."""

import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from pseudoval.data.files import atomic_path, sha256_file
from pseudoval.data.images import read_rgb, write_png
from pseudoval.errors import UserError
from pseudoval.generators import GENERATORS
from pseudoval.progress import ProgressCallback
from pseudoval.pseudo_set.plan import Copy, Task

Item = TypeVar("Item")
Result = TypeVar("Result")
FindForeground = Callable[[np.ndarray, str], np.ndarray | None]
"""``(image, its POSIX name in DATA) -> bool [H, W], or None for the whole image``."""


class Workshop:
    """Makes the anomaly of a task, unless it is there, and tells the hashes of its files.

    It is sent to every worker once. What a task gives depends on the task alone; remembered is
    only what neighbouring tasks share.
    """

    def __init__(
        self,
        *,
        data: Path,
        out: Path,
        external: Path | None,
        configs: Mapping[str, Any],
        foregrounds: Mapping[str, FindForeground],
    ) -> None:
        """Remember where things are.

        Args:
            external: folder of the external anomalies, if there are any.
            configs: configuration of each generator that tasks name.
            foregrounds: what finds the foreground, by category.
        """
        self.data, self.out, self.external = data, out, external
        self.configs, self.foregrounds = configs, foregrounds
        self._foreground: tuple[str, np.ndarray | None] = ("", None)

    def __call__(self, task: Task | Copy) -> tuple[str, str]:
        """SHA-256 of image and mask.

        Raises:
            UserError: the anomaly cannot be made, or a file changed since the set was planned.
        """
        image, mask = self.out / task.image, self.out / task.mask
        if not (image.is_file() and mask.is_file()):
            if isinstance(task, Copy):
                assert self.external is not None
                one = task.external
                copy_checked(self.external / one.mask, mask, one.mask_sha256)
                copy_checked(self.external / one.image, image, one.sha256)
            else:
                pixels, shape = self.make(task)
                write_png(mask, shape)
                write_png(image, pixels)
        return sha256_file(image), sha256_file(mask)

    def make(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 ``[H, W, 3]`` and mask bool ``[H, W]`` of a task."""
        where = self.data / task.background.name
        background = _decoded(where, task.background.file_sha256)
        source = _decoded(self.data / task.source.name, task.source.file_sha256)
        try:
            return GENERATORS[task.maker].generate(
                background,
                source,
                self.configs[task.maker],
                np.random.default_rng(task.key),
                self._find_foreground(task, background),
            )
        except UserError as error:
            raise UserError(f"No anomaly can be made on {where} by {task.maker}: {error}") from None

    def _find_foreground(self, task: Task, background: np.ndarray) -> np.ndarray | None:
        """The foreground of a task's background; anomalies on one follow each other."""
        name = task.background.name
        if self._foreground[0] != name:
            find = self.foregrounds[task.image.partition("/")[0]]
            self._foreground = (name, find(background, name))
        return self._foreground[1]


def copy_checked(source: Path, target: Path, sha256: str) -> None:
    """Copy a file byte for byte, atomically.

    Raises:
        UserError: its content is not that of the hash.
    """
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
        if sha256_file(temporary) != sha256:
            raise _changed(source)


def spread(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    stage: str,
    progress: ProgressCallback | None,
) -> list[Result]:
    """``function`` of every item, in order; in other processes if there is more than one worker.

    Raises:
        UserError: a worker died.
    """
    results: list[Result] = []

    def collect(outcomes: Iterable[Result]) -> list[Result]:
        for outcome in outcomes:
            results.append(outcome)
            if progress is not None:
                progress(stage, len(results), len(items))
        return results

    workers = min(workers, len(items))
    if workers <= 1:
        return collect(map(function, items))
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads may hang
    try:
        with ProcessPoolExecutor(
            workers, spawn, initializer=_start_worker, initargs=(function,)
        ) as pool:
            return collect(pool.map(_in_worker, items, chunksize=4))
    except BrokenProcessPool:
        raise UserError(
            f"A worker process died while {stage} images, perhaps for want of memory; run again "
            "with fewer --workers."
        ) from None


_function: Callable[[Any], Any] | None = None
"""What this worker process does with every item; sent once, as it may hold whole images."""


def _start_worker(function: Callable[[Any], Any]) -> None:
    """One thread per worker, and an interrupt left to the parent to handle."""
    global _function
    _function = function
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_worker(item: Any) -> Any:
    assert _function is not None
    return _function(item)


@lru_cache(maxsize=8)
def _decoded(path: Path, sha256: str) -> np.ndarray:
    """A normal's pixels; the anomalies on one background follow each other."""
    if sha256_file(path) != sha256:
        raise _changed(path)
    image = read_rgb(path)
    image.flags.writeable = False
    return image


def _changed(path: Path) -> UserError:
    return UserError(f"{path} changed while the set was being built; build it again.")
