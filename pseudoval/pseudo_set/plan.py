"""What a pseudo set will consist of, decided from content and seeds before anything is written."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from pseudoval.generators import MixConfig
from pseudoval.generators.external import External
from pseudoval.pseudo_set.manifest import ImageEntry

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
class _Anomaly:
    """One anomaly of a set.

    Attributes:
        category: its folder name.
        maker: name of the generator that makes it.
        stem: name of its file without the suffix.
        image_suffix, mask_suffix: of its files.
    """

    category: str
    maker: str
    stem: str
    image_suffix: str = ".png"
    mask_suffix: str = ".png"

    @property
    def image(self) -> str:
        """Where the image goes, POSIX path relative to the set."""
        return f"{self.category}/test/{self.maker}/{self.stem}{self.image_suffix}"

    @property
    def mask(self) -> str:
        """Where the mask goes."""
        return f"{self.category}/ground_truth/{self.maker}/{self.stem}_mask{self.mask_suffix}"


@dataclass(frozen=True, kw_only=True)
class Task(_Anomaly):
    """An anomaly to make on a held-out normal.

    Attributes:
        background: the held-out normal that is pasted on.
        source: another one, from which fragments are cut.
        key: whole numbers that key its random stream.
    """

    background: Normal
    source: Normal
    key: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Copy(_Anomaly):
    """An external anomaly to be taken as it is."""

    external: External


def plan_category(
    category: str,
    held_out: Sequence[Normal],
    *,
    mixture: MixConfig,
    per_normal: int,
    seed: int,
    externals: Sequence[External] = (),
) -> tuple[list[ImageEntry], list[Task | Copy]]:
    """Manifest entries of one category, normals first, and the tasks of its anomalies in order.

    The random stream of an anomaly is keyed by (seed, category, picture underneath, which exact
    copy of it, index), and its source drawn by rank of content: neither order nor names matter.
    The anomalies on one normal get different sources, as far as there are. Exact copies share one
    group, as resampling must not take them for independent images. Each external anomaly is taken
    at most once, and has a group of its own.

    Args:
        held_out: at least two distinct pictures.
        mixture: the generators to draw from; with ``external`` alone every external anomaly is
            taken and none is made.
        externals: the external anomalies, for ``external``.

    Returns:
        entries, those of anomalies without the hashes of the files to come; and tasks.
    """
    copies = _copies(category, externals)
    tasks: list[Task | Copy] = [*copies]
    if set(mixture.weights) != {EXTERNAL}:
        word = int(hashlib.sha256(category.encode()).hexdigest()[:16], 16)
        made = _made(category, held_out, mixture, per_normal, (seed, word))
        tasks = _with_copies(made, copies, mixture, (seed, word))
    groups: dict[str, str] = {}
    entries = []
    for normal in held_out:
        path = f"{category}/test/good/{PurePosixPath(normal.name).name}"
        entries.append(
            ImageEntry(
                path=path,
                mask=None,
                label=0,
                group=groups.setdefault(normal.pixel_sha256, path),
                category=category,
                source_files=[normal.name],
                sha256=normal.file_sha256,
                mask_sha256=None,
            )
        )
    return entries + [_entry(task, groups) for task in tasks], tasks


def _entry(task: Task | Copy, groups: dict[str, str]) -> ImageEntry:
    """The entry of an anomaly.

    Args:
        groups: by hash of a picture; that of an external one is added.
    """
    entry = ImageEntry(
        path=task.image,
        mask=task.mask,
        label=1,
        group="",
        category=task.category,
        source_files=[],
        sha256="",
        mask_sha256=None,
        generator=task.maker,
    )
    if isinstance(task, Task):
        entry["group"] = groups[task.background.pixel_sha256]
        entry["source_files"] = [task.background.name, task.source.name]
    else:
        entry["group"] = groups.setdefault(task.external.pixel_sha256, task.image)
        entry["external_files"] = [task.external.image, task.external.mask]
    return entry


def _made(
    category: str,
    held_out: Sequence[Normal],
    mixture: MixConfig,
    per_normal: int,
    key: tuple[int, int],
) -> list[Task]:
    """One task for each held-out normal and index; the streams are keyed by ``key`` and content."""
    first: dict[str, Normal] = {}
    for normal in held_out:
        first.setdefault(normal.pixel_sha256, normal)
    contents = sorted(first)
    stems = _stems(held_out)
    seen: dict[str, int] = {}
    tasks: list[Task] = []
    for normal in held_out:
        pixels = normal.pixel_sha256
        copy = seen[pixels] = seen.get(pixels, -1) + 1
        left: list[str] = []
        for index in range(per_normal):
            left = left or [content for content in contents if content != pixels]
            own = (*key, int(pixels[:32], 16), copy, index)
            source = left.pop(int(np.random.default_rng((*own, SOURCE)).integers(len(left))))
            tasks.append(
                Task(
                    category=category,
                    maker=mixture.pick(np.random.default_rng((*own, MAKER))),
                    stem=f"{stems[normal.name]}_{index}",
                    background=normal,
                    source=first[source],
                    key=(*own, PICTURE),
                )
            )
    return tasks


def _with_copies(
    made: Sequence[Task], copies: Sequence[Copy], mixture: MixConfig, key: tuple[int, int]
) -> list[Task | Copy]:
    """The tasks with external anomalies where ``external`` was drawn, as far as there are."""
    tasks: list[Task | Copy] = [*made]
    drawn = [row for row, task in enumerate(made) if task.maker == EXTERNAL]
    order = np.random.default_rng(key).permutation(len(copies)).tolist()
    given = dict(zip(sorted(drawn, key=lambda row: made[row].key), order, strict=False))
    for row in drawn:
        if row in given:
            tasks[row] = copies[given[row]]
        else:
            rng = np.random.default_rng((*made[row].key, MAKER_AGAIN))
            tasks[row] = replace(made[row], maker=mixture.pick(rng, frozenset([EXTERNAL])))
    return tasks


def _copies(category: str, externals: Sequence[External]) -> list[Copy]:
    """Where the external anomalies go; a defect's folder becomes part of the name."""
    copies: list[Copy] = []
    taken: set[str] = set()
    for one in externals:
        path = PurePosixPath(one.image)
        stem = f"{path.parent.name}_{path.stem}" if path.parts[-3:-2] == ("test",) else path.stem
        copies.append(
            Copy(
                category=category,
                maker=EXTERNAL,
                stem=_free(stem, taken),
                image_suffix=path.suffix,
                mask_suffix=PurePosixPath(one.mask).suffix,
                external=one,
            )
        )
    return copies


def _stems(normals: Sequence[Normal]) -> dict[str, str]:
    """A stem for each normal; ``a.png`` and ``a.jpg`` get different ones."""
    taken: set[str] = set()
    paths = {name: PurePosixPath(name) for name in sorted(normal.name for normal in normals)}
    return {name: _free(path.stem, taken, path.suffix[1:]) for name, path in paths.items()}


def _free(stem: str, taken: set[str], ending: str = "") -> str:
    """The stem, or with the first number that is not taken yet; it is taken then."""
    found, number = stem, 2
    while found in taken:
        found, number = f"{stem}-{ending}{number}", number + 1
    taken.add(found)
    return found
