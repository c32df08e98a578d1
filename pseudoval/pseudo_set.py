"""Build a pseudo set: held-out normals, anomalies made from them, and a manifest of both."""

import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from pseudoval import __version__
from pseudoval.dataset import list_categories, train_normals
from pseudoval.errors import UserError
from pseudoval.files import (
    FORMAT_VERSION,
    atomic_path,
    claim_folder,
    clear_folder,
    read_json,
    sha256_file,
    write_json,
)
from pseudoval.generators import DEFAULT_GENERATOR, GENERATORS, parameters, parse_settings
from pseudoval.images import pixel_sha256, read_rgb, write_png
from pseudoval.manifest import MANIFEST, bank_normals, differences, load_manifest, pseudo_items
from pseudoval.progress import ProgressCallback
from pseudoval.pseudo_plan import Normal, Task, plan_category
from pseudoval.split import check_holdout, split_normals, split_sha256

__all__ = ["bank_normals", "build", "load_manifest", "pseudo_items"]

REQUEST = ".request.json"
"""What an unfinished set is being built from; gone once the manifest says it."""


Item = TypeVar("Item")
Result = TypeVar("Result")


def build(
    data: Path,
    out: Path,
    *,
    categories: Sequence[str] | None = None,
    generator: str = DEFAULT_GENERATOR,
    settings: Mapping[str, str] | None = None,
    holdout: float = 0.25,
    split_seed: int = 0,
    per_normal: int = 2,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Build a pseudo set in the MVTec layout from the normals of ``data``.

    Every normal is read once before anything is written, so that bad input leaves nothing behind.
    The bytes of every file depend on the content of the train normals, their names and the
    options, and neither on ``workers`` nor on order. Test folders of ``data`` are never looked
    into.

    Args:
        data: data root with ``CATEGORY/train/good``.
        out: the folder to make. A finished set of the same request is returned as it is; an
            unfinished one is completed.
        categories: which to take; None takes all.
        settings: options of the generator as texts, see its configuration class.
        holdout: share of each category's normals to hold out, in (0, 1). A quarter leaves the
            memory bank most of the normals and still gives tens of images a category.
        split_seed: the only seed that decides which normals are held out.
        per_normal: anomalies made on each held-out normal.
        seed: seed of the anomalies, not negative.
        workers: processes; 1 works in this one.
        overwrite: replace a set of another request.

    Returns:
        The manifest, as written to ``out/manifest.json``.

    Raises:
        UserError: an option or an image is at fault, ``out`` is not ours, or holds another set. A
            folder that this call made is removed again.
    """
    check_holdout(holdout)
    for name, value, least in (
        ("per_normal", per_normal, 1),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise UserError(f"The option {name} is {value}; it must be {least} or more.")
    config = parse_settings(generator, settings or {})
    names = list_categories(data, categories)
    new = _check_out(data, out)
    normals = _read_normals(data, names, workers, progress)
    request: dict[str, Any] = {
        "seed": seed,
        "split_seed": split_seed,
        "holdout": holdout,
        "per_normal": per_normal,
        "generator": {"name": generator, "parameters": parameters(config)},
        "categories": names,
    }
    held: dict[str, list[Normal]] = {}
    for category in names:
        pixels = {normal.name: normal.pixel_sha256 for normal in normals[category]}
        where = f"Category {category!r}"
        chosen = set(split_normals(pixels, holdout, split_seed, where=where).held_out)
        held[category] = [normal for normal in normals[category] if normal.name in chosen]
    held_out = [normal for category in names for normal in held[category]]
    request["heldout_sha256"] = {normal.name: normal.file_sha256 for normal in held_out}
    request["bank_sha256"] = {
        normal.name: normal.file_sha256
        for category in names
        for normal in normals[category]
        if normal.name not in request["heldout_sha256"]
    }
    if not new and not overwrite:
        finished = _compare(out, request)
        if finished is not None:
            return finished
    claim_folder(out, "pseudo")
    try:
        if not new and (overwrite or not (out / REQUEST).is_file()):
            # What an unknown request left cannot be told from ours, so none of it is kept.
            clear_folder(out)
        write_json(out / REQUEST, request)
        for leftover in out.rglob(".*.tmp*"):  # of a killed run
            leftover.unlink()
        images: list[dict[str, Any]] = []
        tasks: list[Task] = []
        for category in names:
            entries, todo = plan_category(
                category, held[category], generator=generator, per_normal=per_normal, seed=seed
            )
            images += entries
            tasks += todo
        _write(data, out, images, tasks, generator, config, workers, progress)
    except (UserError, OSError) as error:
        if new:
            shutil.rmtree(out)
        if isinstance(error, OSError):
            raise UserError(f"The set cannot be written to {out}: {error}.") from None
        raise
    manifest = {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        **request,
        "split_sha256": split_sha256(normal.file_sha256 for normal in held_out),
        "category_split_sha256": {
            category: split_sha256(normal.file_sha256 for normal in held[category])
            for category in names
        },
        "heldout_train": [normal.name for normal in held_out],
        "heldout_pixel_sha256": {normal.name: normal.pixel_sha256 for normal in held_out},
        "images": images,
    }
    write_json(out / MANIFEST, manifest)
    (out / REQUEST).unlink()
    return manifest


def _check_out(data: Path, out: Path) -> bool:
    """Whether the output folder is new (missing or empty); refuse one that cannot be used."""
    there, here = out.resolve(), data.resolve()
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise UserError(
            f"The output folder {out} and the data folder {data} lie one inside the other; choose "
            "another --out."
        )
    new = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not new:
        claim_folder(out, "pseudo")  # changes nothing in a folder that has content
    return new


def _read_normals(
    data: Path, categories: Sequence[str], workers: int, progress: ProgressCallback | None
) -> dict[str, list[Normal]]:
    """Decode and hash every train normal."""
    paths = {category: train_normals(data, category) for category in categories}
    every = [path for category in categories for path in paths[category]]
    hashes = _map(_hashes, every, workers, "reading", progress)
    found = {
        path: Normal(
            name=path.relative_to(data).as_posix(), file_sha256=of_file, pixel_sha256=of_pixels
        )
        for path, (of_file, of_pixels) in zip(every, hashes, strict=True)
    }
    return {category: [found[path] for path in paths[category]] for category in categories}


def _hashes(path: Path) -> tuple[str, str]:
    return sha256_file(path), pixel_sha256(read_rgb(path))


def _compare(out: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of a finished set of this request; None if there is one to finish.

    Raises:
        UserError: the folder holds a set of another request.
    """
    finished = (out / MANIFEST).is_file()
    if not finished and not (out / REQUEST).is_file():
        return None
    known = load_manifest(out) if finished else read_json(out / REQUEST, "The unfinished set")
    if found := differences(known, request):
        raise UserError(
            f"{out} holds a set of another request ({'; '.join(found)}); choose another --out, or "
            "replace it with --overwrite."
        )
    if not finished:
        return None
    files = [name for entry in known["images"] for name in (entry["path"], entry["mask"]) if name]
    if all((out / name).is_file() for name in files):
        (out / REQUEST).unlink(missing_ok=True)  # of a run killed at its very last step
        return known
    # Files were taken away: finish the set again rather than trust the rest.
    (out / MANIFEST).unlink()
    return None


def _write(
    data: Path,
    out: Path,
    entries: list[dict[str, Any]],
    tasks: list[Task],
    generator: str,
    config: Any,
    workers: int,
    progress: ProgressCallback | None,
) -> None:
    """Copy the normals, make the anomalies, and fill their hashes in."""
    for entry in entries:
        if entry["label"] == 0:
            source = data / entry["source_files"][0]
            with atomic_path(out / entry["path"]) as temporary:
                shutil.copyfile(source, temporary)
                if sha256_file(temporary) != entry["sha256"]:
                    raise _changed(source)
    make = partial(_make, data, out, generator, config)
    hashes = iter(_map(make, tasks, workers, "writing", progress))
    for entry in entries:
        if entry["label"] == 1:
            entry["sha256"], entry["mask_sha256"] = next(hashes)


def _make(data: Path, out: Path, generator: str, config: Any, task: Task) -> tuple[str, str]:
    """Make one anomaly unless it is there; return the hashes of image and mask."""
    image_path, mask_path = out / task.image, out / task.mask
    if not (image_path.is_file() and mask_path.is_file()):
        background = _decoded(data / task.background.name, task.background.file_sha256)
        source = _decoded(data / task.source.name, task.source.file_sha256)
        rng = np.random.default_rng(task.key)
        try:
            image, mask = GENERATORS[generator].generate(background, source, config, rng)
        except UserError as error:
            where = data / task.background.name
            raise UserError(f"No anomaly can be made on {where}: {error}") from None
        write_png(mask_path, mask)
        write_png(image_path, image)
    return sha256_file(image_path), sha256_file(mask_path)


@lru_cache(maxsize=8)
def _decoded(path: Path, sha256: str) -> np.ndarray:
    """A normal's pixels; the anomalies on one background follow each other."""
    if sha256_file(path) != sha256:
        raise _changed(path)
    image = read_rgb(path)
    image.flags.writeable = False
    return image


def _changed(path: Path) -> UserError:
    return UserError(f"{path} changed while the set was being built; build it again.")


def _map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    stage: str,
    progress: ProgressCallback | None,
) -> list[Result]:
    """``function`` of every item, in order; in other processes if there is more than one worker."""
    results: list[Result] = []

    def collect(outcomes: Iterable[Result]) -> list[Result]:
        for outcome in outcomes:
            results.append(outcome)
            if progress is not None:
                progress(stage, len(results), len(items))
        return results

    workers = min(workers, len(items))
    if workers <= 1:
        return collect(map(function, items))
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads may hang
    try:
        with ProcessPoolExecutor(workers, spawn, initializer=_start_worker) as pool:
            return collect(pool.map(function, items, chunksize=4))
    except BrokenProcessPool:
        raise UserError(
            f"A worker process died while {stage} images, perhaps for want of memory; run again "
            "with fewer --workers."
        ) from None


def _start_worker() -> None:
    """One thread per worker, and an interrupt left to the parent to handle."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
