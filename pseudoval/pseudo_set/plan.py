"""What a pseudo set will consist of, decided from content and seeds before anything is written."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

EXTERNAL = "external"
SOURCE, PICTURE, MAKER, MAKER_AGAIN = range(4)
"""Last number of the key of each random stream of an anomaly."""


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
class External:
    """An anomalous image made elsewhere, with its mask.

    Attributes:
        image, mask: POSIX paths relative to the folder they come from.
        sha256, mask_sha256: hashes of their bytes.
        pixel_sha256: hash of the image's picture.
    """

    image: str
    mask: str
    sha256: str
    mask_sha256: str
    pixel_sha256: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One anomaly to make on a held-out normal.

    Attributes:
        maker: name of the generator that makes it.
        background: the held-out normal that is pasted on.
        source: another one, from which fragments are cut.
        image, mask: where to write, POSIX paths relative to the set.
        key: whole numbers that key its random stream.
    """

    maker: str
    background: Normal
    source: Normal
    image: str
    mask: str
    key: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Copy:
    """An external anomaly to be taken as it is, to POSIX paths relative to the set."""

    external: External
    image: str
    mask: str


Pick = Callable[[np.random.Generator, frozenset[str]], str]
"""Draws the name of the generator that makes an anomaly, none of those to be left out."""


def plan_category(
    category: str,
    held_out: Sequence[Normal],
    *,
    makers: Collection[str],
    pick: Pick,
    per_normal: int,
    seed: int,
    externals: Sequence[External] = (),
) -> tuple[list[dict[str, Any]], list[Task | Copy]]:
    """Manifest entries of one category, normals first, and the tasks of its anomalies in order.

    The random stream of an anomaly is keyed by (seed, category, picture underneath, which exact
    copy of it, index), and its source drawn by rank of content: neither order nor names matter.
    The anomalies on one normal get different sources, as far as there are. Exact copies share one
    group, as resampling must not take them for independent images. Each external anomaly is taken
    at most once, and has a group of its own.

    Args:
        held_out: at least two distinct pictures.
        makers: generators that may be drawn; with ``external`` alone every external anomaly is
            taken and none is made.
        externals: the external anomalies, for ``external``.

    Returns:
        entries, those of anomalies without the hashes of the files to come; and tasks.
    """
    first: dict[str, Normal] = {}
    for normal in held_out:
        first.setdefault(normal.pixel_sha256, normal)
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
    word = int(hashlib.sha256(category.encode()).hexdigest()[:16], 16)
    copies = _copies(category, externals)
    tasks: list[Task | Copy] = []
    if set(makers) == {EXTERNAL}:
        tasks += copies
    else:
        tasks += _tasks(category, word, held_out, first, pick, per_normal, seed)
        asked = [row for row, task in enumerate(tasks) if _maker(task) == EXTERNAL]
        order = np.random.default_rng((seed, word)).permutation(len(copies)).tolist()
        given = dict(zip(sorted(asked, key=lambda row: _key(tasks[row])), order, strict=False))
        for row in asked:
            task = tasks[row]
            assert isinstance(task, Task)
            if row in given:
                tasks[row] = copies[given[row]]
            else:  # more were drawn than there are
                rng = np.random.default_rng((*task.key, MAKER_AGAIN))
                tasks[row] = _made_by(task, category, pick(rng, frozenset([EXTERNAL])))
    groups: dict[str, str] = {}
    for task in tasks:
        entry: dict[str, Any] = {
            "path": task.image,
            "mask": task.mask,
            "label": 1,
            "group": "",
            "category": category,
            "generator": _maker(task),
        }
        if isinstance(task, Task):
            entry["group"] = _good(category, first[task.background.pixel_sha256])
            entry["source_files"] = [task.background.name, task.source.name]
        else:
            entry["group"] = groups.setdefault(task.external.pixel_sha256, task.image)
            entry["source_files"] = []
            entry["external_files"] = [task.external.image, task.external.mask]
        entries.append(entry)
    return entries, tasks


def _tasks(
    category: str,
    word: int,
    held_out: Sequence[Normal],
    first: Mapping[str, Normal],
    pick: Pick,
    per_normal: int,
    seed: int,
) -> list[Task]:
    """One task for each held-out normal and index."""
    contents = sorted(first)
    stems = _stems(normal.name for normal in held_out)
    seen: dict[str, int] = {}
    tasks: list[Task] = []
    for normal in held_out:
        pixels = normal.pixel_sha256
        copy = seen[pixels] = seen.get(pixels, -1) + 1
        left: list[str] = []
        for index in range(per_normal):
            left = left or [content for content in contents if content != pixels]
            key = (seed, word, int(pixels[:32], 16), copy, index)
            source = left.pop(int(np.random.default_rng((*key, SOURCE)).integers(len(left))))
            maker = pick(np.random.default_rng((*key, MAKER)), frozenset())
            stem = f"{stems[normal.name]}_{index}"
            task = Task(
                maker=maker,
                background=normal,
                source=first[source],
                image=f"{stem}.png",
                mask="",
                key=(*key, PICTURE),
            )
            tasks.append(_made_by(task, category, maker))
    return tasks


def _made_by(task: Task, category: str, maker: str) -> Task:
    """The task with another maker, whose folder its files lie in."""
    stem = PurePosixPath(task.image).stem
    return replace(
        task,
        maker=maker,
        image=f"{category}/test/{maker}/{stem}.png",
        mask=f"{category}/ground_truth/{maker}/{stem}_mask.png",
    )


def _maker(task: Task | Copy) -> str:
    return task.maker if isinstance(task, Task) else EXTERNAL


def _key(task: Task | Copy) -> tuple[int, ...]:
    return task.key if isinstance(task, Task) else ()


def _copies(category: str, externals: Sequence[External]) -> list[Copy]:
    """Where the external anomalies go; a defect's folder becomes part of the name."""
    copies: list[Copy] = []
    taken: set[str] = set()
    for one in externals:
        path, mask = PurePosixPath(one.image), PurePosixPath(one.mask)
        base = f"{path.parent.name}_{path.stem}" if path.parts[-3:-2] == ("test",) else path.stem
        stem, number = base, 2
        while stem in taken:
            stem, number = f"{base}-{number}", number + 1
        taken.add(stem)
        copies.append(
            Copy(
                external=one,
                image=f"{category}/test/{EXTERNAL}/{stem}{path.suffix}",
                mask=f"{category}/ground_truth/{EXTERNAL}/{stem}_mask{mask.suffix}",
            )
        )
    return copies


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
