"""Repeats among the normals of a pseudo set, and between them and the normals to train on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pseudoval.audit.near_duplicates import (
    LEAST_IMAGES,
    THRESHOLD,
    Pair,
    descriptors,
    similar_pairs,
)
from pseudoval.data.dataset import ImageItem
from pseudoval.progress import ProgressCallback


def count_duplicates(
    data: Path,
    manifest: Mapping[str, Any],
    bank: Sequence[ImageItem],
    category: str,
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Near-duplicates of one category; exact copies within the held-out normals are one picture.

    Args:
        bank: the category's normals to train on; none of them is a copy of a held-out one.

    Returns:
        ``threshold``; ``with_training`` and ``within_held_out``: how many held-out pictures have a
        near-duplicate there; ``exact_copies``: files of the held-out normals that repeat another
        of them; ``pairs`` of ``held_out``, ``other``, ``side`` (``training`` or ``held_out``) and
        ``correlation``; ``reason``: why there are no figures (null), else null.
    """
    pixels = {
        name: sha
        for name, sha in manifest["heldout_pixel_sha256"].items()
        if name.split("/", 1)[0] == category
    }
    held = sorted({sha: name for name, sha in reversed(pixels.items())}.values())
    found: dict[str, Any] = {
        "threshold": THRESHOLD,
        "with_training": None,
        "within_held_out": None,
        "exact_copies": len(pixels) - len(held),
        "pairs": [],
        "reason": None,
    }
    if len(held) + len(bank) < LEAST_IMAGES:
        count = len(held) + len(bank)
        found["reason"] = f"{count} distinct normals are too few to tell; {LEAST_IMAGES} are needed"
        return found
    names = [*held, *(item.id for item in bank)]
    rows = descriptors(
        [data / name for name in names],
        lambda done: progress(f"comparing normals of {category}", done, len(names)),
    )
    inside, outside = rows[: len(held)], rows[len(held) :]
    training = list(similar_pairs(inside, outside))
    within = list(similar_pairs(inside))
    trained = [item.id for item in bank]
    found["pairs"] = [
        *(_said(pair, held, trained, "training") for pair in training),
        *(_said(pair, held, held, "held_out") for pair in within),
    ]
    found["with_training"] = len({pair.first for pair in training})
    found["within_held_out"] = len({row for pair in within for row in (pair.first, pair.second)})
    return found


def _said(pair: Pair, first: Sequence[str], second: Sequence[str], side: str) -> dict[str, Any]:
    return {
        "held_out": first[pair.first],
        "other": second[pair.second],
        "side": side,
        "correlation": pair.correlation,
    }
