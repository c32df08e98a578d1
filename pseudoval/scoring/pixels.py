"""Pixel metrics of a score matrix, from the coarse maps of its blocks; kept beside these."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from pseudoval.data.dataset import ImageItem
from pseudoval.data.files import read_npz, sha256_json, write_npz
from pseudoval.data.images import image_shape, read_mask
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics.pixel_metrics import PixelMetrics, Regions, label_regions, pixel_metrics
from pseudoval.metrics.score_matrix import PIXEL_METRICS, Config, ScoreMatrix
from pseudoval.models.source import Judges
from pseudoval.progress import ProgressCallback, silent
from pseudoval.scoring.blocks import ScoreBlock, Scoring, array_of
from pseudoval.tasks import ALONE, Workers, run_tasks

RENDERED = 16
"""Maps of full size that are in memory together, for each configuration that is measured."""

TASK_BYTES = 8 * 2**20
"""Coarse maps that go to a worker at once, beyond one configuration; masks are read each time."""

NO_MASK = "no defect image of this category has a mask"
NO_MAPS = "the detector has no anomaly maps"


@dataclass(frozen=True, kw_only=True)
class PixelFigures:
    """The task of measuring some configurations on the images of a category.

    Attributes:
        items: the images, with absolute paths.
        maps: their coarse anomaly maps ``[configs, images, h, w]``.
        key: hash of all that the result depends on.
        path: where the result is kept.
    """

    judges: Judges
    category: str
    items: Sequence[ImageItem]
    configs: Sequence[Config]
    maps: np.ndarray
    key: str
    path: Path

    def __str__(self) -> str:
        return f"Measuring the pixels of {self.category}"

    def run(self) -> np.ndarray | None:
        """Pixel AUROC, AP and AUPRO ``[configs, 3]``; None without a mask.

        A defect image without a mask, or with an empty one, is left out: counting its defect as
        normal would charge the detector for finding it.
        """
        judge = self.judges.of(self.category)
        side = judge.render(self.maps[0, :1]).shape[1:]
        found = {row: _mask(item, side) for row, item in enumerate(self.items)}
        masks = {row: mask for row, mask in found.items() if mask is not None}
        if not any(self.items[row].label for row in masks):
            return None
        regions = label_regions(np.stack([*masks.values()]))
        with ThreadPoolExecutor(_side_by_side(regions)) as pool:
            measured = pool.map(partial(_measured, judge, regions), self.maps[:, [*masks]])
            return np.array([[one.auroc, one.ap, one.aupro] for one in measured])

    def keep(self, result: np.ndarray | None) -> None:
        """Write the result; no rows where there is none."""
        figures = np.empty((0, len(PIXEL_METRICS))) if result is None else result
        write_npz(self.path, {"figures": figures, "key": np.array(self.key)}, compress=False)


def add_pixel_figures(
    matrix: ScoreMatrix,
    scored: Sequence[Scoring],
    *,
    workers: Workers = ALONE,
    progress: ProgressCallback = silent,
) -> ScoreMatrix:
    """The matrix with the pixel figures of every configuration that lacks them.

    Args:
        scored: what the scores came from; the coarse maps are in its blocks.
    """
    names = matrix.category_names
    pixel = matrix.pixel or {
        metric: np.full((len(matrix.configs), len(names)), np.nan) for metric in PIXEL_METRICS
    }
    pixel = {metric: values.copy() for metric, values in pixel.items()}
    reasons = list(matrix.pixel_reason) or [""] * len(names)
    if not all(one.detector.has_maps for one in scored):
        return replace(matrix, pixel=pixel, pixel_reason=[NO_MAPS] * len(names))
    done = 0

    def enter(category: str, configs: Sequence[Config], found: np.ndarray | None) -> None:
        nonlocal done
        column = names.index(category)
        if found is None or len(found) == 0:
            reasons[column] = NO_MASK
        else:
            for metric, values in zip(PIXEL_METRICS, found.T, strict=True):
                pixel[metric][[matrix.row(config) for config in configs], column] = values
        done += len(configs)
        progress("pixel figures", done, total)

    def keep(task: PixelFigures, found: np.ndarray | None) -> None:
        task.keep(found)
        enter(task.category, task.configs, found)

    total = sum(len(one.configs) for one in scored) * len(names)
    tasks = (task for one in scored for task in _missing(one, workers, enter))
    run_tasks(tasks, workers.executor, keep, kinds=workers.kinds)
    return replace(matrix, pixel=pixel, pixel_reason=reasons)


def _missing(
    scored: Scoring,
    workers: Workers,
    enter: Callable[[str, Sequence[Config], np.ndarray | None], None],
) -> Iterator[PixelFigures]:
    """By category, and for workers by configuration too; one category's maps are in memory.

    Args:
        enter: is given what is kept from before.
    """
    blocks = scored.blocks()
    for number, category in enumerate(sorted({item.category for item in scored.items})):
        rows = [row for row, item in enumerate(scored.items) if item.category == category]
        items = [_absolute(scored.items[row]) for row in rows]
        about = sha256_json(
            [[block.key for block in blocks], category, [_mask_state(item) for item in items]]
        )
        one = array_of(blocks[0], "coarse")[0, 0].nbytes * len(rows)
        step = max(1, TASK_BYTES // one) if workers.executor else len(scored.configs)
        maps = None
        for start in range(0, len(scored.configs), step):
            configs = scored.configs[start : start + step]
            path = blocks[0].path.with_name(f"pixels-{number:04d}-{start:07d}.npz")
            key = sha256_json([about, start, len(configs)])
            if (kept := _kept(path, key)) is not None:
                enter(category, configs, kept)
                continue
            maps = _maps(blocks, rows) if maps is None else maps
            yield PixelFigures(
                judges=Judges.among(scored.detector, [category]),
                category=category,
                items=items,
                configs=configs,
                maps=maps[start : start + step],
                key=key,
                path=path,
            )


def _kept(path: Path, key: str) -> np.ndarray | None:
    """The figures at a path, if they are those of this key."""
    try:
        found = read_npz(path, "The pixel figures")
    except UserError:  # missing, or damaged: measured again
        return None
    return found["figures"] if str(found.get("key")) == key else None


def _mask_state(item: ImageItem) -> tuple[int, int] | None:
    """Size and time of a mask, which no block depends on; None without one."""
    if item.mask_path is None or not item.mask_path.exists():
        return None
    found = item.mask_path.stat()
    return found.st_size, found.st_mtime_ns


def _maps(blocks: Sequence[ScoreBlock], rows: Sequence[int]) -> np.ndarray:
    """Coarse maps ``[configs, rows, h, w]``, from the blocks that have some of these rows."""
    parts, wanted, first = [], set(rows), 0
    for block in blocks:
        here = range(first, first + len(block.images))
        first = here.stop
        inside = [row - here.start for row in here if row in wanted]
        if inside:
            parts.append(array_of(block, "coarse")[:, inside])
    return np.concatenate(parts, axis=1)


def _absolute(item: ImageItem) -> ImageItem:
    """An item that is found from any folder."""
    mask = item.mask_path and item.mask_path.absolute()
    return replace(item, path=item.path.absolute(), mask_path=mask)


def _measured(judge: Detector, regions: Regions, grids: np.ndarray) -> PixelMetrics:
    """The metrics of one configuration from its coarse maps, which are drawn a few at a time."""
    starts = range(0, len(grids), RENDERED)
    return pixel_metrics((judge.render(grids[at : at + RENDERED]) for at in starts), regions)


def _side_by_side(regions: Regions) -> int:
    """How many configurations are measured at once: one a core, if half the memory holds them.

    On a cluster a process may not use every core of its machine.
    """
    everywhere = not hasattr(os, "sched_getaffinity")
    cores = (os.cpu_count() or 1) if everywhere else len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return max(1, min(cores, memory // regions.memory))


def _mask(item: ImageItem, side: tuple[int, ...]) -> np.ndarray | None:
    """Mask at the size of the anomaly maps, all False for a normal image, None if unusable.

    A map pixel is anomalous if the mask is at its centre (nearest neighbour).
    """
    if item.label == 0:
        return np.zeros(side, dtype=bool)
    if item.mask_path is None:
        return None
    mask = read_mask(item.mask_path, image_shape(item.path))
    rows = ((np.arange(side[0]) + 0.5) * mask.shape[0] / side[0]).astype(int)
    columns = ((np.arange(side[1]) + 0.5) * mask.shape[1] / side[1]).astype(int)
    small = mask[rows[:, None], columns[None, :]]
    return small if small.any() else None
