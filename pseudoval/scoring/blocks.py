"""Score matrices, block by block: what is computed is kept, and a kill loses one block."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.dataset import ImageItem, data_sha256
from pseudoval.data.files import read_npz, sha256_json, write_npz
from pseudoval.data.images import read_all
from pseudoval.detectors import Block, Detector
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback, silent
from pseudoval.scoring.pixels import measure_pixels

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
        if self.path is None or not self.is_kept():
            return None
        try:
            arrays = read_npz(self.path, "A block of scores")
        except UserError:
            return None  # damaged: computed again
        return Block(scores=arrays["scores"], coarse=arrays["coarse"])

    def is_kept(self) -> bool:
        """Whether there is a block for exactly this work, by its key alone."""
        try:
            with np.load(self.path or "", allow_pickle=False) as archive:
                return str(archive["key"]) == self.key
        except Exception:  # missing, or damaged in one of many ways
            return False

    def keep(self, block: Block) -> None:
        """Write the finished block, unless it has no place; the same block gives the same bytes."""
        if self.path is not None:
            arrays = {"scores": block.scores, "coarse": block.coarse, "key": np.array(self.key)}
            write_npz(self.path, arrays, compress=False)


def plan_blocks(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    *,
    name: str,
    store: Path | None = None,
) -> list[BlockWork]:
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
    return works


def matrix_header(detector: Detector, items: Sequence[ImageItem]) -> dict[str, Any]:
    """The header of a score matrix: where its scores come from."""
    return {**detector.provenance(), "data_sha256": data_sha256(items)}


def score_images(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    *,
    name: str,
    store: Path | None = None,
    progress: ProgressCallback = silent,
    pixels: bool = True,
    share: Callable[[Sequence[BlockWork]], None] | None = None,
) -> ScoreMatrix:
    """Scores of every image, and pixel metrics of every category, under every configuration.

    Args:
        name: what is being scored, for the progress display and the folder of the blocks.
        store: folder for finished blocks, taken up again by the next call; None keeps nothing.
        pixels: False leaves the pixel metrics out.
        share: is given the blocks before they are looked for in ``store``, so that others can
            score some of them; what is missing afterwards is scored here.

    Raises:
        UserError: an image cannot be read, or a configuration cannot be scored.
    """
    works = plan_blocks(detector, items, configs, name=name, store=store)
    blocks = _blocks(works, f"scoring {name}", progress, share)
    pixel: dict[str, np.ndarray] = {}
    reasons: list[str] = []
    if pixels:
        maps = np.concatenate([block.coarse for block in blocks], axis=1)
        pixel, reasons = measure_pixels(detector, items, maps)
    return ScoreMatrix(
        scores=np.concatenate([block.scores for block in blocks], axis=1),
        configs=[dict(config) for config in configs],
        images=[item.id for item in items],
        categories=[item.category for item in items],
        labels=np.array([item.label for item in items], dtype=np.int64),
        groups=[item.group for item in items],
        pixel=pixel,
        pixel_reason=reasons,
        header=matrix_header(detector, items),
    )


def _blocks(
    works: Sequence[BlockWork],
    name: str,
    progress: ProgressCallback,
    share: Callable[[Sequence[BlockWork]], None] | None,
) -> list[Block]:
    """Every block, from its file or scored now."""
    if share is not None:
        share(works)
    blocks, done, total = [], 0, sum(len(work.items) for work in works)
    for work in works:
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
        if scored or done == total:
            progress(name, done, total)
    return blocks


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


def score_missing(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    known: ScoreMatrix | None,
    **options: Any,
) -> ScoreMatrix:
    """``score_images``, but for the configurations that are known already.

    Args:
        known: scores of the same images by the same detector, as ``known_scores`` finds them.
        options: of ``score_images``.
    """
    missing = [config for config in configs if known is None or config not in known.configs]
    parts = [] if known is None else [known]
    if missing:
        parts.append(score_images(detector, items, missing, **options))
    joined = ScoreMatrix.joined(parts)
    return joined.select([joined.row(config) for config in configs])


def known_scores(
    path: Path, items: Sequence[ImageItem], model_sha256: str, seed: int
) -> ScoreMatrix | None:
    """The matrix at ``path`` if it is of these images, this model and the noise of this seed."""
    try:
        header = (matrix := ScoreMatrix.load(path)).header
    except UserError:
        return None  # missing, or damaged: scored again
    wanted = {"data_sha256": data_sha256(items), "model_sha256": model_sha256, "seed": seed}
    return matrix if {name: header.get(name) for name in wanted} == wanted else None


def forget_blocks(store: Path) -> None:
    """Remove the blocks of matrices that are safely written."""
    shutil.rmtree(store, ignore_errors=True)
