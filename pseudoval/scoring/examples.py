"""A few explained images in ``RUN/examples``: what the pictures of a report are drawn from."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, groupby
from pathlib import Path

import numpy as np

from pseudoval.data.dataset import ImageItem
from pseudoval.data.files import write_npz
from pseudoval.data.images import read_all, read_mask
from pseudoval.detectors import Detector, ExplainsTogether
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback

CATEGORIES = 6
PLACES = {"pseudo": (0.5, 0.0, 0.25, 0.75, 1.0), "test": (0.5, 0.0)}
"""Which anomalies of a category are explained, by rank from the lowest score (0) to the highest
(1): a typical one, the lowest, and of the pseudo set a few more to judge the set by."""

TOGETHER = 16
"""Images that are in memory, and are explained, together."""


def write_examples(
    folder: Path,
    which: str,
    detector: Detector,
    items: list[ImageItem],
    matrix: ScoreMatrix,
    config: Config,
    progress: ProgressCallback,
) -> None:
    """Explain a normal image and a few anomalies (``PLACES``) of each category.

    Args:
        which: ``pseudo`` or ``test``.
        items: the images of the matrix, in its order.
        config: the configuration to explain.
    """
    scores = matrix.scores[matrix.row(config)]
    rows = [
        row
        for category in matrix.category_names[:CATEGORIES]
        for row in _rows(matrix, scores, category, PLACES[which])
    ]
    done = 0
    for judge, group in groupby(rows, lambda row: detector.of(items[row].category)):
        whole = list(group)
        for start in range(0, len(whole), TOGETHER):
            part = whole[start : start + TOGETHER]
            images = read_all([items[row].path for row in part])
            explained = _explained(judge, images, config)
            shown = [(items[row], float(scores[row])) for row in part]
            write = partial(_write, folder, which, config)
            with ThreadPoolExecutor() as pool:
                for _ in pool.map(write, count(done), shown, images, explained):
                    done += 1
                    progress("examples", done, len(rows))


def _explained(
    judge: Detector, images: Sequence[np.ndarray], config: Config
) -> list[dict[str, np.ndarray]]:
    if isinstance(judge, ExplainsTogether):
        return judge.explain_all(images, config)
    return [judge.explain(image, config) for image in images]


def _write(
    folder: Path,
    which: str,
    config: Config,
    number: int,
    shown: tuple[ImageItem, float],
    image: np.ndarray,
    explained: Mapping[str, np.ndarray],
) -> None:
    """One file, of an image and its score."""
    item, score = shown
    mask = np.zeros(image.shape[:2], dtype=np.uint8)
    if item.mask_path is not None:
        mask = read_mask(item.mask_path, image.shape[:2]).astype(np.uint8)
    meta = {
        "id": item.id,
        "category": item.category,
        "label": item.label,
        "set": which,
        "config": dict(config),
        "score": score,
    }
    write_npz(
        folder / f"{which}-{number:03d}.npz",
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
    chosen = []
    for label, ranks in ((0, (0.5,)), (1, places)):
        rows = [
            row
            for row, name in enumerate(matrix.categories)
            if name == category and matrix.labels[row] == label
        ]
        ranked = sorted(rows, key=lambda row: (scores[row], row))
        chosen += [ranked[int(place * (len(ranked) - 1))] for place in ranks]
    return list(dict.fromkeys(chosen))
