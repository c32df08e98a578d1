"""Explained images from ``RUN/examples``: what every picture of a report is drawn from."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import percentileofscore

from pseudoval.data.files import read_npz
from pseudoval.metrics.score_matrix import ScoreMatrix

KINDS = ("normal image", "pseudo anomaly", "real defect")
MOST = 24
"""Pictures on a page at most: five of four categories, and some to spare."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One explained image.

    Attributes:
        id: relative path of the image.
        category: its category.
        which: ``pseudo`` or ``test``, the set that it is from.
        kind: one of ``KINDS``.
        config: the configuration that explains it.
        score: its image score under that configuration, any real scale.
        image: ``[H, W, 3]`` uint8.
        mask: ``[H, W]`` bool, None where no mask is known.
        map: ``[h, w]`` float32, the anomaly map; None if the detector has none.
        errors: ``[2, h, w]`` float32, the error without and with editing; None if the detector has
            none.
        features: ``[2, C, h, w]`` float32, standardised features, and the same noised to step
            ``large_t``; None where they were not kept.
        large_t: that step; None as ``features``.
    """

    id: str
    category: str
    which: str
    kind: str
    config: dict[str, Any]
    score: float
    image: np.ndarray
    mask: np.ndarray | None
    map: np.ndarray | None
    errors: np.ndarray | None = None
    features: np.ndarray | None = None
    large_t: int | None = None


def read_examples(folder: Path) -> list[Example]:
    """All examples in a folder, by category and kind; none if the folder is missing.

    Raises:
        UserError: a file is damaged.
    """
    examples = [_read(path) for path in sorted(folder.glob("*.npz"))]
    return sorted(examples, key=lambda one: (one.category, KINDS.index(one.kind)))


def choose_examples(examples: Sequence[Example], most: int = MOST) -> list[Example]:
    """One normal image and the anomalies of each category, in the order given.

    Where ``most`` does not allow all, the first of every kind and category goes before the second
    of any.
    """
    taken: dict[tuple[str, str], int] = defaultdict(int)
    turns = []
    for place, example in enumerate(examples):
        slot = (example.category, example.kind)
        if taken[slot] == 0 or example.kind != KINDS[0]:  # a second normal would show nothing new
            turns.append((taken[slot], place))
        taken[slot] += 1
    return [examples[place] for place in sorted(place for _, place in sorted(turns)[:most])]


def by_category(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """The examples of each category, both in the order given."""
    found = defaultdict(list)
    for example in examples:
        found[example.category].append(example)
    return found


def value_range(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """Lowest and highest finite value of some maps; (0, 1) if there is none."""
    finite = [array[np.isfinite(array)] for array in arrays]
    values = np.concatenate(finite) if finite else np.empty(0)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def rank_among_normals(example: Example, matrix: ScoreMatrix | None) -> float | None:
    """Share of the normal images of the example's category and set that score lower.

    Args:
        matrix: the scores of the example's set, with its configuration among them.

    Returns:
        A share in [0, 1] where equal scores count one half: the probability that a random normal
        image scores lower. The example itself is not counted. None where it cannot be known.
    """
    if matrix is None or example.config not in matrix.configs or example.id not in matrix.images:
        return None
    scores, own = matrix.scores[matrix.row(example.config)], matrix.images.index(example.id)
    normal = (np.array(matrix.categories) == example.category) & (np.array(matrix.labels) == 0)
    normal[own] = False
    share = percentileofscore(scores[normal], scores[own], kind="mean") / 100
    return None if np.isnan(share) else float(share)


def _read(path: Path) -> Example:
    arrays = read_npz(path, "The example")
    meta = json.loads(str(arrays["meta"]))
    anomaly = KINDS[1] if meta["set"] == "pseudo" else KINDS[2]
    return Example(
        id=meta["id"],
        category=meta["category"],
        which=meta["set"],
        kind=anomaly if meta["label"] else KINDS[0],
        config=meta["config"],
        score=meta["score"],
        image=arrays["image"],
        mask=arrays["mask"].astype(bool) if arrays["has_mask"] else None,
        map=arrays.get("map"),
        errors=_stacked(arrays, "error_plain", "error_edited"),
        features=_stacked(arrays, "features", "features_noised"),
        large_t=int(arrays["large_t"]) if "large_t" in arrays else None,
    )


def _stacked(arrays: Mapping[str, np.ndarray], *names: str) -> np.ndarray | None:
    """Arrays of one shape; None where the detector does not explain an image with them."""
    return np.stack([arrays[name] for name in names]) if names[0] in arrays else None
