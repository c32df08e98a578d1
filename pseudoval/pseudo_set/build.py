"""Build a pseudo set: held-out normals, anomalies made from them, and a manifest of both."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pseudoval import __version__
from pseudoval.data.dataset import list_categories, train_normals
from pseudoval.data.files import (
    FORMAT_VERSION,
    claim_folder,
    clear_folder,
    read_json,
    sha256_file,
    sha256_folder,
    write_json,
)
from pseudoval.data.images import pixel_sha256, read_rgb
from pseudoval.errors import UserError
from pseudoval.generators import DEFAULT_GENERATOR, external, mix, parameters, parse_settings
from pseudoval.progress import ProgressCallback
from pseudoval.pseudo_set.foreground import make_foreground
from pseudoval.pseudo_set.make import Workshop, copy_checked, spread
from pseudoval.pseudo_set.manifest import (
    MANIFEST,
    bank_normals,
    differences,
    load_manifest,
    pseudo_items,
)
from pseudoval.pseudo_set.plan import EXTERNAL, Copy, External, Normal, Pick, Task, plan_category
from pseudoval.pseudo_set.split import check_holdout, split_normals, split_sha256

__all__ = ["bank_normals", "build", "load_manifest", "pseudo_items"]

REQUEST = ".request.json"
"""What an unfinished set is being built from; gone once the manifest says it."""


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
    foreground: str | Path = "none",
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
        foreground: where anomalies may lie: ``auto`` finds the object, ``none`` takes the whole
            image, a folder holds a mask of each normal.

    Returns:
        The manifest, as written to ``out/manifest.json``.

    Raises:
        UserError: an option or an image is at fault, ``out`` is not ours, or holds another set. A
            folder that this call made is removed again. Or a file could not be written: then what
            was written stays, and the same call completes it.
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
    folder, externals = _externals(data, config, normals)
    finders = {
        category: make_foreground(
            foreground, category, [data / normal.name for normal in normals[category]]
        )
        for category in names
    }
    request: dict[str, Any] = {
        "seed": seed,
        "split_seed": split_seed,
        "holdout": holdout,
        "per_normal": per_normal,
        "generator": {"name": generator, "parameters": parameters(config)},
        "foreground": {category: finder.kind for category, finder in finders.items()},
        "categories": names,
    }
    if "given" in request["foreground"].values():
        request["foreground_sha256"] = sha256_folder(Path(foreground))
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

    configs = config.configs if isinstance(config, mix.MixConfig) else {generator: config}
    workshop = Workshop(data=data, out=out, external=folder, configs=configs, foregrounds=finders)
    images, tasks = _plan(names, held, externals, generator, config, per_normal, seed)
    claim_folder(out, "pseudo")
    try:
        if not new and (overwrite or not (out / REQUEST).is_file()):
            # What an unknown request left cannot be told from ours, so none of it is kept.
            clear_folder(out)
        write_json(out / REQUEST, request)
        for leftover in out.rglob(".*.tmp*"):  # of a killed run
            leftover.unlink()
        _write(data, out, images, tasks, workshop, workers, progress)
    except UserError:
        if new:
            shutil.rmtree(out)
        raise
    except OSError as error:
        if new and not (out / REQUEST).is_file():
            shutil.rmtree(out)
            raise UserError(f"The set cannot be written to {out}: {error}.") from None
        raise UserError(
            f"The set in {out} is not finished: {error}. Mend that and give the same command "
            "again, which goes on where it stopped."
        ) from None
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
    hashes = spread(_hashes, every, workers, "reading", progress)
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


def _plan(
    names: Sequence[str],
    held: Mapping[str, list[Normal]],
    externals: Mapping[str, list[External]],
    generator: str,
    config: Any,
    per_normal: int,
    seed: int,
) -> tuple[list[dict[str, Any]], list[Task | Copy]]:
    """The manifest entries and the tasks of all categories."""
    makers, pick = [generator], _only(generator)
    if isinstance(config, mix.MixConfig):
        makers, pick = list(config.weights), partial(mix.pick, config)
    images: list[dict[str, Any]] = []
    tasks: list[Task | Copy] = []
    for category in names:
        entries, todo = plan_category(
            category,
            held[category],
            makers=makers,
            pick=pick,
            per_normal=per_normal,
            seed=seed,
            externals=externals.get(category, ()),
        )
        images += entries
        tasks += todo
    return images, tasks


def _only(generator: str) -> Pick:
    return lambda rng, leave_out: generator


def _externals(
    data: Path, config: Any, normals: Mapping[str, list[Normal]]
) -> tuple[Path | None, dict[str, list[External]]]:
    """The external anomalies of each category, all checked, and the folder they are in."""
    if isinstance(config, mix.MixConfig):
        config = config.configs.get(EXTERNAL)
    if not isinstance(config, external.ExternalConfig):
        return None, {}
    folder = config.folder
    assert folder is not None
    there, here = folder.resolve(), data.resolve()
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise UserError(
            f"The external folder {folder} and the data folder {data} lie one inside the other: a "
            "pseudo set must not take images of the real test set; give a folder of its own."
        )
    found: dict[str, list[External]] = {}
    for category, known in normals.items():
        pictures = {normal.pixel_sha256: normal.name for normal in known}
        found[category] = []
        for pair in external.find_pairs(folder, category, alone=len(normals) == 1):
            image, _ = external.read_pair(pair)
            pixels = pixel_sha256(image)
            if pixels in pictures:
                raise UserError(
                    f"The external image {pair.image} is a copy of the normal {pictures[pixels]}; "
                    "remove it."
                )
            found[category].append(
                External(
                    image=pair.image.relative_to(folder).as_posix(),
                    mask=pair.mask.relative_to(folder).as_posix(),
                    sha256=sha256_file(pair.image),
                    mask_sha256=sha256_file(pair.mask),
                    pixel_sha256=pixels,
                )
            )
    return folder, found


def _write(
    data: Path,
    out: Path,
    entries: list[dict[str, Any]],
    tasks: Sequence[Task | Copy],
    workshop: Workshop,
    workers: int,
    progress: ProgressCallback | None,
) -> None:
    """Copy the normals, make the anomalies, and fill their hashes in."""
    for entry in entries:
        if entry["label"] == 0:
            copy_checked(data / entry["source_files"][0], out / entry["path"], entry["sha256"])
    hashes = iter(spread(workshop, tasks, workers, "writing", progress))
    for entry in entries:
        if entry["label"] == 1:
            entry["sha256"], entry["mask_sha256"] = next(hashes)
