"""The images of the selection benchmark: one split, shared normals, a pseudo set per generator."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pseudoval.data.dataset import ImageItem, test_items
from pseudoval.data.files import read_json, sha256_file, sha256_json, write_json
from pseudoval.errors import UserError
from pseudoval.generators import DEFAULT_GENERATOR, GENERATORS
from pseudoval.progress import ProgressCallback, silent
from pseudoval.pseudo_set import build as pseudo_set
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items

ANOMALIB = "anomalib-perlin"
PER_NORMAL = 4
"""Anomalies made on each held-out normal by the default generator, to see what more of them buy;
of every other generator one."""

VARIANTS: dict[str, dict[str, Any]] = {"lafite+foreground": {"foreground": "auto"}}
"""The paper's generator with one more option of ``build`` each."""

Items = dict[str, list[ImageItem]]
"""Images by category."""


class NotMeasured(Exception):
    """A set cannot be made here; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the sets come from.

    Attributes:
        data: root in the MVTec layout.
        work: the sets are kept in ``work/sets``.
        images: at most so many normals, and as many anomalies, a category.
        anomalib_python: an interpreter that can import anomalib.
        progress: told how far the making of a set is.
    """

    data: Path
    work: Path
    images: int
    anomalib_python: str
    progress: ProgressCallback = silent


def drawn(items: Sequence[ImageItem], count: int, seed: int) -> list[ImageItem]:
    """At most ``count`` of the images, by a hash of seed and content; their order is kept."""

    def rank(item: ImageItem) -> str:
        return hashlib.sha256(f"{seed}:{sha256_file(item.path)}".encode()).hexdigest()

    chosen = {item.id for item in sorted(items, key=rank)[:count]}
    return [item for item in items if item.id in chosen]


def real_images(source: Source, categories: Sequence[str]) -> Items:
    """The test images: at most so many of either class, whatever kinds of defect there are."""
    found = {}
    for category in categories:
        items = _bare(test_items(source.data, category))
        classes = [[item for item in items if item.label == label] for label in (0, 1)]
        found[category] = [i for part in classes for i in drawn(part, source.images, seed=0)]
    return found


def default_set(source: Source) -> Path:
    """The default generator's set of seed 0, whose held-out normals all sets share."""
    return _built(source, DEFAULT_GENERATOR, 0)


def held_out(source: Source) -> Items:
    """The held-out normals that every set is judged with."""
    folder = default_set(source)
    manifest = load_manifest(folder)
    normals = [item for item in _bare(pseudo_items(folder, manifest)) if item.label == 0]
    return {
        category: drawn([i for i in normals if i.category == category], source.images, seed=0)
        for category in manifest["categories"]
    }


def generators() -> list[str]:
    """The names of all generators and variants, the default generator first."""
    others = [name for name in GENERATORS if name != DEFAULT_GENERATOR]
    return [DEFAULT_GENERATOR, *VARIANTS, *others]


def anomalies(source: Source, generator: str, seed: int, normals: Items) -> list[Items]:
    """The anomalies on the shared normals: the first on each of them, the second, and so on.

    Raises:
        NotMeasured: the generator needs material that is not there, or anomalib is missing.
    """
    if generator == ANOMALIB:
        return [_anomalib(source, seed, normals)]
    try:
        folder = _built(source, generator, seed)
    except UserError as error:
        if generator == DEFAULT_GENERATOR:
            raise
        # A result file says nothing of the folders of the machine it was made on.
        raise NotMeasured(str(error).replace(str(source.data), "DATA")) from None
    manifest = load_manifest(folder)
    wanted = {item.group for items in normals.values() for item in items}
    found: list[Items] = []
    made: dict[str, int] = {}
    for item, entry in zip(_bare(pseudo_items(folder, manifest)), manifest["images"], strict=True):
        if item.label == 0 or item.group not in wanted:
            continue
        below = entry["source_files"][0]
        index = made[below] = made.get(below, -1) + 1
        if index == len(found):
            found.append({category: [] for category in normals})
        found[index][item.category].append(item)
    return found


def _built(source: Source, generator: str, seed: int) -> Path:
    count = PER_NORMAL if generator == DEFAULT_GENERATOR else 1
    # Beside sets of other code: where the pictures are the same, so are their scores' keys.
    folder = source.work / "sets" / f"{generator}-{count}-{seed}-{_code()}"
    pseudo_set.build(
        source.data, folder, generator=generator.partition("+")[0], per_normal=count, seed=seed,
        progress=lambda stage, done, total: source.progress(f"{stage} {folder.name}", done, total),
        **VARIANTS.get(generator, {}),
    )  # fmt: skip
    return folder


@cache
def _code() -> str:
    """A short hash of the code that makes sets, which their manifests do not name."""
    package = Path(pseudo_set.__file__).parents[1]
    parts = ("generators/*.py", "pseudo_set/*.py")
    files = sorted(path for part in parts for path in package.glob(part))
    return sha256_json([sha256_file(path) for path in files])[:8]


def _bare(items: Sequence[ImageItem]) -> list[ImageItem]:
    """Without masks: image scores are all that is judged here, and pixel figures take time."""
    return [replace(item, mask_path=None) for item in items]


def _anomalib(source: Source, seed: int, normals: Items) -> Items:
    folder = source.work / "sets" / f"{ANOMALIB}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    request = {
        "out": str(folder.resolve()),
        "seed": seed,
        "normals": {c: [str(i.path.resolve()) for i in part] for c, part in normals.items()},
    }
    made = folder / "set.json"
    if not made.exists() or read_json(made, "The set")["request"] != request:
        write_json(folder / "request.json", request)
        script = Path(__file__).with_name("anomalib_perlin.py")
        command = [source.anomalib_python, str(script), str(folder / "request.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
            raise NotMeasured(f"anomalib cannot make it: {last[0] if last else 'no message'}")
    return _anomalib_items(folder, read_json(made, "The set")["images"], normals)


def _anomalib_items(folder: Path, rows: Sequence[Mapping[str, Any]], normals: Items) -> Items:
    found: Items = {category: [] for category in normals}
    below = {str(item.path.resolve()): item for part in normals.values() for item in part}
    for row in rows:
        normal = below[row["on"]]
        found[normal.category].append(
            replace(
                normal,
                id=f"{normal.category}/{ANOMALIB}/{Path(row['image']).name}",
                path=folder / row["image"],
                label=1,
                defect=ANOMALIB,
            )
        )
    return found


def this_python() -> str:
    """The interpreter that runs the benchmark."""
    return sys.executable
