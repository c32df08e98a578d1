"""Score matrices, block by block: what is computed is kept, and a kill loses one block."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.dataset import ImageItem, data_sha256
from pseudoval.data.files import read_npz, sha256_json, write_npz
from pseudoval.data.images import image_shape, read_all, read_mask
from pseudoval.detectors.protocol import Block, Detector
from pseudoval.errors import UserError
from pseudoval.metrics.pixel_metrics import PixelMetrics, Regions, label_regions, pixel_metrics
from pseudoval.metrics.score_matrix import PIXEL_METRICS, Config, ScoreMatrix
from pseudoval.progress import ProgressCallback

BLOCK_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class BlockWork:
    """The unit of scoring: some images under some configurations.

    Attributes:
        key: hash of all that the result depends on: model, noise, configurations, image files.
            Whoever does the work gets the same block.
        path: where the block is kept; None keeps it nowhere.
    """

    detector: Detector
    items: Sequence[ImageItem]
    configs: Sequence[Config]
    key: str
    path: Path | None

    def score(self) -> Block:
        """Do the work."""
        images = [(item.category, item.path) for item in self.items]
        return score_by_category(self.detector, images, self.configs)

    def stored(self) -> Block | None:
        """The finished block, or None if there is none for exactly this work."""
        if self.path is None or not self.path.exists():
            return None
        try:
            arrays = read_npz(self.path, "A block of scores")
            if json.loads(str(arrays["key"])) != self.key:
                return None
            return Block(scores=arrays["scores"], coarse=arrays["coarse"])
        except (UserError, KeyError, ValueError):
            return None  # damaged: computed again

    def is_kept(self) -> bool:
        """Whether there is a block for exactly this work, by its key alone."""
        try:
            with np.load(self.path or "", allow_pickle=False) as archive:
                return bool(json.loads(str(archive["key"])) == self.key)
        except Exception:  # missing, or damaged in one of many ways
            return False

    def keep(self, block: Block) -> None:
        """Write the finished block, unless it has no place; the same block gives the same bytes."""
        if self.path is not None:
            key = np.array(json.dumps(self.key))
            arrays = {"scores": block.scores, "coarse": block.coarse, "key": key}
            write_npz(self.path, arrays, compress=False)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The blocks of a score matrix, and the header that it will have."""

    works: list[BlockWork]
    header: dict[str, Any]


def plan_blocks(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    *,
    name: str,
    store: Path | None = None,
) -> Plan:
    """The blocks that a score matrix is made of; arguments and errors as in ``score_images``."""
    for config in configs:
        detector.check(config)
    data = [[item.id, item.sha256] for item in items]
    request = {**detector.provenance(), "configs": [dict(config) for config in configs]}
    works = []
    for start in range(0, len(items), BLOCK_IMAGES):
        part = slice(start, start + BLOCK_IMAGES)
        works.append(
            BlockWork(
                detector=detector,
                items=items[part],
                configs=configs,
                key=sha256_json({**request, "data": data[part]}),
                path=store / name / f"block-{start:07d}.npz" if store else None,
            )
        )
    return Plan(works=works, header={**detector.provenance(), "data_sha256": data_sha256(items)})


def score_images(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    *,
    name: str,
    store: Path | None = None,
    progress: ProgressCallback | None = None,
    pixels: bool = True,
    share: Callable[[Sequence[BlockWork]], None] | None = None,
) -> ScoreMatrix:
    """Scores and pixel figures of every image under every configuration.

    Args:
        name: what is being scored, for the progress display and the folder of the blocks.
        store: folder for finished blocks, taken up again by the next call; None keeps nothing.
        pixels: False leaves the pixel figures out.
        share: is given the blocks before they are looked for in ``store``, so that others can
            score some of them; what is missing afterwards is scored here.

    Raises:
        UserError: an image cannot be read, or a configuration cannot be scored.
    """
    plan = plan_blocks(detector, items, configs, name=name, store=store)
    if share is not None:
        share(plan.works)
    blocks = []
    done = 0
    for work in plan.works:
        block = work.stored()
        if block is None and share is not None:
            share([work])  # it was there a moment ago; whoever put it away has finished
            block = work.stored()
        scored = block is None
        if block is None:
            block = work.score()
            work.keep(block)
        blocks.append(block)
        done += len(work.items)
        # Blocks found on disk take no time; counting them would make the rest look fast.
        if progress is not None and (scored or done == len(items)):
            progress(f"scoring {name}", done, len(items))
    pixel: dict[str, np.ndarray] = {}
    reasons: list[str] = []
    if pixels:
        pixel, reasons = _pixel_figures(detector, items, [block.coarse for block in blocks])
    return ScoreMatrix(
        scores=np.concatenate([block.scores for block in blocks], axis=1),
        configs=[dict(config) for config in configs],
        images=[item.id for item in items],
        categories=[item.category for item in items],
        labels=np.array([item.label for item in items], dtype=np.int64),
        groups=[item.group for item in items],
        pixel=pixel,
        pixel_reason=reasons,
        header=plan.header,
    )


def score_by_category(
    detector: Detector, images: Sequence[tuple[str, Path]], configs: Sequence[Config]
) -> Block:
    """Score images given as (category, file), each by the detector of its category."""
    blocks = [
        judge.score_block(read_all([path for _, path in group]), configs)
        for judge, group in groupby(images, lambda image: detector.of(image[0]))
    ]
    return Block(
        scores=np.concatenate([block.scores for block in blocks], axis=1),
        coarse=np.concatenate([block.coarse for block in blocks], axis=1),
    )


def score_further(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    *,
    known: Path,
    name: str,
    store: Path | None = None,
    progress: ProgressCallback | None = None,
) -> ScoreMatrix:
    """``score_images``, but for the configurations that the matrix at ``known`` holds already.

    They are taken over if that matrix is of the same images and the same detector; scores do not
    depend on what else is scored. Other arguments and errors as in ``score_images``.
    """
    earlier = _earlier(detector, items, known)
    if earlier is None:
        return score_images(detector, items, configs, name=name, store=store, progress=progress)
    missing = [config for config in configs if config not in earlier.configs]
    parts = [earlier]
    if missing:
        parts.append(
            score_images(detector, items, missing, name=name, store=store, progress=progress)
        )
    whole = ScoreMatrix.joined(parts)
    return whole.select([whole.row(config) for config in configs])


def _earlier(detector: Detector, items: Sequence[ImageItem], known: Path) -> ScoreMatrix | None:
    """The matrix at ``known``, unless it is missing, damaged or of something else."""
    if not known.exists():
        return None
    try:
        matrix = ScoreMatrix.load(known)
    except UserError:
        return None
    header = {**detector.provenance(), "data_sha256": data_sha256(items)}
    return matrix if matrix.header == header else None


def forget_blocks(store: Path) -> None:
    """Remove the blocks of matrices that are safely written."""
    shutil.rmtree(store, ignore_errors=True)


def _pixel_figures(
    detector: Detector, items: Sequence[ImageItem], coarse: Sequence[np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Pixel AUROC, AP and AUPRO ``[configs, categories]`` and, per category, why there are none.

    A defect image without a mask, or with an empty one, is left out: counting its defect as
    normal would charge the detector for finding it.
    """
    names = sorted({item.category for item in items})
    count = len(coarse[0])
    pixel = {metric: np.full((count, len(names)), np.nan) for metric in PIXEL_METRICS}
    reasons = []
    maps = np.concatenate(list(coarse), axis=1)  # [configs, images, h, w]
    for column, category in enumerate(names):
        rows = [row for row, item in enumerate(items) if item.category == category]
        judge = detector.of(category)
        side = judge.render(maps[0, rows[:1]]).shape[1:]
        masks = {row: _mask(items[row], side) for row in rows}
        usable = [row for row in rows if masks[row] is not None]
        if not any(items[row].label for row in usable):
            reasons.append("no defect image of this category has a mask")
            continue
        reasons.append("")
        regions = label_regions(np.stack([m for r in usable if (m := masks[r]) is not None]))
        with ThreadPoolExecutor(_side_by_side(regions)) as pool:
            measure = partial(_measured, judge, regions)
            for config, figures in enumerate(pool.map(measure, maps[:, usable])):
                pixel["pixel_auroc"][config, column] = figures.auroc
                pixel["pixel_ap"][config, column] = figures.ap
                pixel["pixel_aupro"][config, column] = figures.aupro
    return pixel, reasons


def _measured(judge: Detector, regions: Regions, grids: np.ndarray) -> PixelMetrics:
    """The figures of one configuration from its coarse maps, which are drawn a few at a time."""
    parts = (
        judge.render(grids[start : start + BLOCK_IMAGES])
        for start in range(0, len(grids), BLOCK_IMAGES)
    )
    return pixel_metrics(parts, regions)


def _side_by_side(regions: Regions) -> int:
    """How many configurations are measured at once: one a core, if half the memory holds them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return max(1, min(os.cpu_count() or 1, memory // regions.memory))


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
