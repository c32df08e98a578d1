"""Making the files of a pseudo set, in this process or spread over several."""

import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
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
from pseudoval.pseudo_set.foreground import Foreground
from pseudoval.pseudo_set.plan import EXTERNAL, Copy, Task

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class AnomalyMaker:
    """Makes the anomaly of a task, unless it is there, and tells the hashes of its files.

    What a task gives depends on the task alone.

    Attributes:
        data, out: the normals, and the set.
        configs: configuration of each generator that tasks name.
        foregrounds: what finds the foreground, by category.
    """

    data: Path
    out: Path
    configs: Mapping[str, Any]
    foregrounds: Mapping[str, Foreground]

    def __call__(self, task: Task | Copy) -> tuple[str, str]:
        """SHA-256 of image and mask.

        Raises:
            UserError: the anomaly cannot be made, or a file changed since the set was planned.
        """
        image, mask = self.out / task.image, self.out / task.mask
        if not (image.is_file() and mask.is_file()):
            if isinstance(task, Copy):
                one, folder = task.external, self.configs[EXTERNAL].folder
                copy_checked(folder / one.mask, mask, one.mask_sha256)
                copy_checked(folder / one.image, image, one.sha256)
            else:
                pixels, shape = self.make(task)
                write_png(mask, shape)
                write_png(image, pixels)
        return sha256_file(image), sha256_file(mask)

    def make(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 ``[H, W, 3]`` and mask bool ``[H, W]`` of a task."""
        below, source = task.background, task.source
        where = self.data / below.name
        generate = GENERATORS[task.maker].generate
        assert generate is not None
        try:
            return generate(
                _decoded(where, below.file_sha256),
                _decoded(self.data / source.name, source.file_sha256),
                self.configs[task.maker],
                np.random.default_rng(task.key),
                _foreground(self.foregrounds[task.category], where, below.name, below.file_sha256),
            )
        except UserError as error:
            raise UserError(f"No anomaly can be made on {where} by {task.maker}: {error}") from None


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
    progress: ProgressCallback,
) -> list[Result]:
    """``function`` of every item, in order; in other processes if there is more than one worker.

    Raises:
        UserError: a worker died.
    """

    def collect(outcomes: Iterable[Result]) -> list[Result]:
        results = []
        for outcome in outcomes:
            results.append(outcome)
            progress(stage, len(results), len(items))
        return results

    workers = min(workers, len(items))
    if workers <= 1:
        return collect(map(function, items))
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads may hang
    try:
        with ProcessPoolExecutor(workers, spawn, initializer=_start_worker) as pool:
            return collect(pool.map(function, items, chunksize=4))
    except BrokenProcessPool:
        raise UserError(
            f"A worker process died while {stage} images, perhaps for want of memory; run again "
            "with fewer --workers."
        ) from None


def _start_worker() -> None:
    """One thread per worker, and an interrupt left to the parent to handle."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@lru_cache(maxsize=8)
def _decoded(path: Path, sha256: str) -> np.ndarray:
    """A normal's pixels; the anomalies on one background follow each other."""
    if sha256_file(path) != sha256:
        raise _changed(path)
    image = read_rgb(path)
    image.flags.writeable = False
    return image


@lru_cache(maxsize=1)
def _foreground(find: Foreground, path: Path, name: str, sha256: str) -> np.ndarray | None:
    """Where the object is on a normal of that hash; ``name`` is its POSIX path in DATA."""
    return find(_decoded(path, sha256), name)


def _changed(path: Path) -> UserError:
    return UserError(f"{path} changed while the set was being built; build it again.")
