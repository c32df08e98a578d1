"""What a pseudo set will consist of, decided from content and seeds before anything is written."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Normal:
    """A train normal.

    Attributes:
        name: POSIX path relative to DATA.
        file_sha256: hash of its bytes, which an outside program can check.
        pixel_sha256: hash of its picture, which tells exact copies apart from others.
    """

    name: str
    file_sha256: str
    pixel_sha256: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One anomaly to make.

    Attributes:
        background: the held-out normal that is pasted on.
        source: another one, from which fragments are cut.
        image, mask: where to write, POSIX paths relative to the set.
        key: whole numbers that key its random stream.
    """

    background: Normal
    source: Normal
    image: str
    mask: str
    key: tuple[int, ...]


def plan_category(
    category: str, held_out: Sequence[Normal], *, generator: str, per_normal: int, seed: int
) -> tuple[list[dict[str, Any]], list[Task]]:
    """Manifest entries of one category, normals first, and the tasks of its anomalies in order.

    The random stream of an anomaly is keyed by (seed, category, picture underneath, which exact
    copy of it, index), and its source drawn by rank of content: neither order nor names matter.
    Exact copies share one group, as resampling must not take them for independent images.

    Args:
        held_out: at least two distinct pictures.

    Returns:
        entries, those of anomalies without the hashes of the files to come; and tasks.
    """
    first: dict[str, Normal] = {}
    for normal in held_out:
        first.setdefault(normal.pixel_sha256, normal)
    contents = sorted(first)
    entries = [
        {
            "path": _good(category, normal),
            "mask": None,
            "label": 0,
            "group": _good(category, first[normal.pixel_sha256]),
            "category": category,
            "source_files": [normal.name],
            "sha256": normal.file_sha256,
            "mask_sha256": None,
        }
        for normal in held_out
    ]
    stems = _stems(normal.name for normal in held_out)
    category_word = int(hashlib.sha256(category.encode()).hexdigest()[:16], 16)
    seen: dict[str, int] = {}
    tasks: list[Task] = []
    for normal in held_out:
        pixels = normal.pixel_sha256
        copy = seen[pixels] = seen.get(pixels, -1) + 1
        others = [content for content in contents if content != pixels]
        for index in range(per_normal):
            key = (seed, category_word, int(pixels[:32], 16), copy, index)
            pick = int(np.random.default_rng([*key, 0]).integers(len(others)))
            stem = f"{stems[normal.name]}_{index}"
            task = Task(
                background=normal,
                source=first[others[pick]],
                image=f"{category}/test/{generator}/{stem}.png",
                mask=f"{category}/ground_truth/{generator}/{stem}_mask.png",
                key=(*key, 1),
            )
            tasks.append(task)
            entries.append(
                {
                    "path": task.image,
                    "mask": task.mask,
                    "label": 1,
                    "group": _good(category, first[pixels]),
                    "category": category,
                    "source_files": [normal.name, task.source.name],
                }
            )
    return entries, tasks


def _good(category: str, normal: Normal) -> str:
    return f"{category}/test/good/{PurePosixPath(normal.name).name}"


def _stems(names: Iterable[str]) -> dict[str, str]:
    """A stem for each file name; ``a.png`` and ``a.jpg`` get different ones."""
    stems: dict[str, str] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        stem, number = path.stem, 2
        while stem in stems.values():
            stem, number = f"{path.stem}-{path.suffix[1:]}{number}", number + 1
        stems[name] = stem
    return stems
