"""Score matrices, block by block: what is computed is kept, and a kill loses what is in flight."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from pseudoval.data.dataset import ImageItem, data_sha256, require_unchanged
from pseudoval.data.files import sha256_file, sha256_json, write_npz
from pseudoval.data.images import read_all
from pseudoval.detectors import Block, Detector
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.models.source import Judges
from pseudoval.progress import ProgressCallback, silent
from pseudoval.tasks import ALONE, SharedFolder, Workers, Written, run_tasks, shared

BLOCK_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class ScoreBlock:
    """The task of scoring some images under some configurations.

    Attributes:
        images: category, absolute path and SHA-256 of each.
        key: hash of all that the result depends on: model, noise, configurations, image files.
            Whoever does the work gets the same block.
        path: where the block is kept.
        place: the folder of the driver, for a worker that sees it to write the block itself.
    """

    judges: Judges
    images: Sequence[tuple[str, Path, str]]
    configs: Sequence[Config]
    key: str
    path: Path
    place: SharedFolder | None = None

    def __str__(self) -> str:
        return f"Scoring {', '.join(str(path) for _, path, _ in self.images)}"

    def run(self) -> Block | Written:
        """See ``Task``."""
        if self.place is not None:  # the driver has just read them
            require_unchanged([(path, sha256) for _, path, sha256 in self.images])
        images = [(category, path) for category, path, _ in self.images]
        block = score_by_category(self.judges.of, images, self.configs)
        if self.place is None or not self.place.is_here():
            return block
        self.keep(block)
        return Written(path=self.path, sha256=sha256_file(self.path))

    def keep(self, result: Block | Written) -> None:
        """Write the finished block, if the worker has not; the same block gives the same bytes."""
        if isinstance(result, Written):
            result.require()
            return
        arrays = {
            "scores": result.scores,
            "coarse": np.empty(0) if result.coarse is None else result.coarse,
            "key": np.array(self.key),
            "configs": np.array(json.dumps([dict(config) for config in self.configs])),
        }
        write_npz(self.path, arrays, compress=False)

    def kept(self, name: str) -> np.ndarray | None:
        """An array of the finished block; None if there is none for exactly this work."""
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                found: np.ndarray = archive[name]
                return found if str(archive["key"]) == self.key else None
        except Exception:  # missing, or damaged in one of many ways: computed again
            return None


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Images that are to be scored under some configurations.

    Attributes:
        name: what is scored, for the progress display and the folder of the blocks.
        store: folder for finished blocks, taken up again by the next call.
    """

    detector: Detector
    items: Sequence[ImageItem]
    configs: Sequence[Config]
    name: str
    store: Path

    def blocks(self, place: SharedFolder | None = None) -> list[ScoreBlock]:
        """What it is made of.

        Raises:
            UserError: a configuration cannot be scored.
        """
        for config in self.configs:
            self.detector.check(config)
        request = {
            **self.detector.provenance(),
            "configs": [dict(config) for config in self.configs],
        }
        works = []
        for start in range(0, len(self.items), BLOCK_IMAGES):
            part = self.items[start : start + BLOCK_IMAGES]
            works.append(
                ScoreBlock(
                    judges=Judges.among(self.detector, [item.category for item in part]),
                    images=[(item.category, item.path.absolute(), item.sha256) for item in part],
                    configs=self.configs,
                    key=sha256_json({**request, "data": [[item.id, item.sha256] for item in part]}),
                    path=self.store.absolute() / self.name / f"block-{start:07d}.npz",
                    place=place,
                )
            )
        return works

    def matrix(self, blocks: Sequence[ScoreBlock]) -> ScoreMatrix:
        """The scores of its blocks, which are finished, without pixel figures."""
        return ScoreMatrix(
            scores=np.concatenate([array_of(block, "scores") for block in blocks], axis=1),
            configs=[dict(config) for config in self.configs],
            images=[item.id for item in self.items],
            categories=[item.category for item in self.items],
            labels=np.array([item.label for item in self.items], dtype=np.int64),
            groups=[item.group for item in self.items],
            header={**self.detector.provenance(), "data_sha256": data_sha256(self.items)},
        )


def score_all(
    wanted: Sequence[Scoring],
    *,
    workers: Workers = ALONE,
    progress: ProgressCallback = silent,
) -> list[ScoreMatrix]:
    """The scores of several sets of images or models, whose blocks are shared out together.

    Raises:
        UserError: an image cannot be read, or a configuration cannot be scored; and as
            ``run_tasks``.
    """
    with ExitStack() as stack:
        parts: list[list[ScoreBlock]] = []
        for one in wanted:
            place = stack.enter_context(shared(one.store)) if workers.executor else None
            parts.append(one.blocks(place))
        blocks = [block for part in parts for block in part]
        missing = [block for block in blocks if block.kept("scores") is None]
        total = sum(len(block.images) for block in blocks)
        # Blocks found on disk take no time; counting them would make the rest look fast.
        done = total - sum(len(block.images) for block in missing)

        def keep(block: ScoreBlock, result: Block | Written) -> None:
            nonlocal done
            block.keep(result)
            done += len(block.images)
            progress(f"scoring {wanted[0].name}", done, total)

        run_tasks(missing, workers.executor, keep, kinds=workers.kinds)
    return [one.matrix(part) for one, part in zip(wanted, parts, strict=True)]


def array_of(block: ScoreBlock, name: str) -> np.ndarray:
    """An array of a block that was scored; one whose file is damaged is scored again, here."""
    found = block.kept(name)
    if found is None:
        block.keep(replace(block, place=None).run())
        found = block.kept(name)
        assert found is not None
    return found


def score_by_category(
    of: Callable[[str], Detector], images: Sequence[tuple[str, Path]], configs: Sequence[Config]
) -> Block:
    """Score images given as (category, file), each by the detector of its category."""
    blocks = [
        judge.score_block(read_all([path for _, path in group]), configs)
        for judge, group in groupby(images, lambda image: of(image[0]))
    ]
    maps = [block.coarse for block in blocks if block.coarse is not None]
    return Block(
        scores=np.concatenate([block.scores for block in blocks], axis=1),
        coarse=np.concatenate(maps, axis=1) if maps else None,
    )


def forget_blocks(store: Path) -> None:
    """Remove the blocks of matrices that are safely written."""
    shutil.rmtree(store, ignore_errors=True)
