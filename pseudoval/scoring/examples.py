"""A few explained images in ``RUN/examples``: what the pictures of a report are drawn from."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.dataset import ImageItem
from pseudoval.data.files import write_npz
from pseudoval.data.images import read_all, read_mask, read_rgb
from pseudoval.detectors import Detector, ExplainsTogether
from pseudoval.detectors.protocol import Arrays
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.models.source import Judges
from pseudoval.progress import ProgressCallback
from pseudoval.tasks import ALONE, Workers, run_tasks

CATEGORIES = 6
PLACES = {"pseudo": (0.5, 0.0, 0.25, 0.75, 1.0), "test": (0.5, 0.0)}
"""Which anomalies of a category are explained, by rank from the lowest score (0) to the highest
(1): a typical one, the lowest, and of the pseudo set a few more to judge the set by."""


def write_examples(
    folder: Path,
    which: str,
    detector: Detector,
    items: Sequence[ImageItem],
    matrix: ScoreMatrix,
    config: Config,
    progress: ProgressCallback,
    workers: Workers = ALONE,
) -> None:
    """Explain a normal image and a few anomalies (``PLACES``) of each category.

    Args:
        which: ``pseudo`` or ``test``.
        items: the images of the matrix, in its order.
        config: the configuration to explain.
    """
    scores = matrix.scores[matrix.row(config)]
    shown = {
        category: _rows(matrix, scores, category, PLACES[which])
        for category in matrix.category_names[:CATEGORIES]
    }
    done, total = 0, sum(map(len, shown.values()))
    firsts = dict(zip(shown, np.cumsum([0, *map(len, shown.values())]).tolist(), strict=False))

    def keep(task: Explain, explained: list[Arrays]) -> None:
        nonlocal done
        rows, first = shown[task.category], firsts[task.category]
        paths = [folder / f"{which}-{first + number:03d}.npz" for number in range(len(rows))]
        about = [{"set": which, "config": dict(config), "score": float(scores[r])} for r in rows]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_write, paths, [items[row] for row in rows], about, explained))
        done += len(rows)
        progress("examples", done, total)

    tasks = [
        Explain(
            judges=Judges.among(detector, [category]),
            category=category,
            paths=[items[row].path.absolute() for row in rows],
            config=config,
        )
        for category, rows in shown.items()
    ]
    run_tasks(tasks, workers.executor, keep, kinds=workers.kinds)


@dataclass(frozen=True, kw_only=True)
class Explain:
    """The task of explaining some images of a category."""

    judges: Judges
    category: str
    paths: Sequence[Path]
    config: Config

    def __str__(self) -> str:
        return f"Explaining {', '.join(map(str, self.paths))}"

    def run(self) -> list[Arrays]:
        """See ``Detector.explain``."""
        judge, images = self.judges.of(self.category), read_all(self.paths)
        if isinstance(judge, ExplainsTogether):
            return judge.explain_all(images, self.config)
        return [judge.explain(image, self.config) for image in images]


def _write(
    path: Path,
    item: ImageItem,
    about: Mapping[str, Any],
    explained: Mapping[str, np.ndarray],
) -> None:
    """One file, of an image and what is said about it."""
    image = read_rgb(item.path)
    mask = np.zeros(image.shape[:2], dtype=np.uint8)
    if item.mask_path is not None:
        mask = read_mask(item.mask_path, image.shape[:2]).astype(np.uint8)
    meta = {"id": item.id, "category": item.category, "label": item.label, **about}
    write_npz(
        path,
        {
            "image": image,
            "mask": mask,
            "has_mask": np.array(item.label == 0 or item.mask_path is not None),
            "meta": np.array(json.dumps(meta)),
            **explained,
        },
    )


def _rows(
    matrix: ScoreMatrix, scores: np.ndarray, category: str, places: Sequence[float]
) -> list[int]:
    """The median normal, then the anomalies at the given ranks; each image once."""
    names, chosen = np.array(matrix.categories), []
    for label, ranks in ((0, (0.5,)), (1, places)):
        rows = np.flatnonzero((names == category) & (matrix.labels == label))
        ranked = rows[np.argsort(scores[rows], kind="stable")].tolist()
        chosen += [ranked[int(place * (len(ranked) - 1))] for place in ranks]
    return list(dict.fromkeys(chosen))
