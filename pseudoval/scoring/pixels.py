"""Pixel metrics of a score matrix, from the coarse maps of its blocks."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from pseudoval.data.dataset import ImageItem
from pseudoval.data.images import image_shape, read_mask
from pseudoval.detectors import Detector
from pseudoval.metrics.pixel_metrics import PixelMetrics, Regions, label_regions, pixel_metrics
from pseudoval.metrics.score_matrix import PIXEL_METRICS

RENDERED = 16
"""Maps of full size that are in memory together, for each configuration that is measured."""


def measure_pixels(
    detector: Detector, items: Sequence[ImageItem], maps: np.ndarray
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Pixel AUROC, AP and AUPRO ``[configs, categories]`` and, per category, why there are none.

    A defect image without a mask, or with an empty one, is left out: counting its defect as
    normal would charge the detector for finding it.

    Args:
        maps: coarse anomaly maps ``[configs, images, h, w]``.
    """
    names = sorted({item.category for item in items})
    pixel = {metric: np.full((len(maps), len(names)), np.nan) for metric in PIXEL_METRICS}
    reasons = []
    for column, category in enumerate(names):
        rows = [row for row, item in enumerate(items) if item.category == category]
        judge = detector.of(category)
        side = judge.render(maps[0, rows[:1]]).shape[1:]
        masks = {row: mask for row in rows if (mask := _mask(items[row], side)) is not None}
        if not any(items[row].label for row in masks):
            reasons.append("no defect image of this category has a mask")
            continue
        reasons.append("")
        regions = label_regions(np.stack([*masks.values()]))
        with ThreadPoolExecutor(_side_by_side(regions)) as pool:
            measured = pool.map(partial(_measured, judge, regions), maps[:, [*masks]])
            for config, found in enumerate(measured):
                pixel["pixel_auroc"][config, column] = found.auroc
                pixel["pixel_ap"][config, column] = found.ap
                pixel["pixel_aupro"][config, column] = found.aupro
    return pixel, reasons


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
