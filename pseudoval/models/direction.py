"""A few normals and the anomalies made of them: whether scores rise with anomaly."""

from collections.abc import Sequence
from pathlib import Path

from pseudoval.data.dataset import ImageItem

MOST = 16
"""Pairs that are looked at, spread over the categories."""


def pairs_of(items: Sequence[ImageItem]) -> dict[str, list[tuple[Path, Path]]]:
    """A few normals of each category of a pseudo set with an anomaly that was made of them."""
    anomalies = {(item.category, item.group): item for item in items if item.label}
    found: dict[str, list[tuple[Path, Path]]] = {item.category: [] for item in items}
    for item in items:
        made = anomalies.get((item.category, item.group))
        if not item.label and made is not None:
            found[item.category].append((item.path, made.path))
    each = -(-MOST // len(found))
    return {category: pairs[:each] for category, pairs in found.items()}
