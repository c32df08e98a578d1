"""Build a pseudo set: held-out normals, anomalies made from them, and a manifest of both."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

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
from pseudoval.generators import DEFAULT_GENERATOR, MixConfig, parse_settings
from pseudoval.generators.external import External, read_externals
from pseudoval.progress import ProgressCallback, silent
from pseudoval.pseudo_set.foreground import make_foreground
from pseudoval.pseudo_set.make import AnomalyMaker, copy_checked, spread
from pseudoval.pseudo_set.manifest import (
    MANIFEST,
    Manifest,
    Request,
    differences,
    load_manifest,
    write_manifest,
)
from pseudoval.pseudo_set.plan import EXTERNAL, Copy, Normal, Task, plan_category
from pseudoval.pseudo_set.split import check_holdout, split_normals, split_sha256

REQUEST = ".request.json"
"""What an unfinished set is being built from; gone once the manifest says it."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What ``build`` is asked for.

    Attributes:
        data: data root with ``CATEGORY/train/good``.
        out: the folder to make. A finished set of the same request is returned as it is; an
            unfinished one is completed.
        categories: which to take; None takes all.
        generator: its name, see ``generators.GENERATORS``.
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
    """

    data: Path
    out: Path
    categories: Sequence[str] | None = None
    generator: str = DEFAULT_GENERATOR
    settings: Mapping[str, str] = field(default_factory=dict)
    holdout: float = 0.25
    split_seed: int = 0
    per_normal: int = 2
    seed: int = 0
    workers: int = 1
    overwrite: bool = False
    foreground: str | Path = "none"

    def __post_init__(self) -> None:
        check_holdout(self.holdout)
        for name, least in (("per_normal", 1), ("seed", 0), ("workers", 1)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"The option {name} is {value}; it must be {least} or more.")


def build(
    data: Path, out: Path, *, progress: ProgressCallback = silent, **options: Any
) -> Manifest:
    """Build a pseudo set in the MVTec layout from the normals of ``data``.

    Every normal is read once before anything is written, so that bad input leaves nothing behind.
    The bytes of every file depend on the content of the train normals, their names and the
    options, and neither on ``workers`` nor on order. Test folders of ``data`` are never looked
    into.

    Args:
        options: the other attributes of ``BuildRequest``.

    Returns:
        The manifest, as written to ``out/manifest.json``.

    Raises:
        UserError: an option or an image is at fault, ``out`` is not ours, or holds another set. A
            folder that this call made is removed again. Or a file could not be written: then what
            was written stays, and the same call completes it.
    """
    request = BuildRequest(data=data, out=out, **options)
    config = parse_settings(request.generator, request.settings)
    names = list_categories(data, request.categories)
    new = _check_out(data, out)
    manifest, tasks, maker = _plan(request, config, _read_normals(request, names, progress))
    known = {key: value for key, value in manifest.items() if key in Request.__annotations__}
    if not new and not request.overwrite:
        finished = _compare(out, known)
        if finished is not None:
            return finished
    claim_folder(out, "pseudo")
    with _unfinished(out, new):
        if not new and (request.overwrite or not (out / REQUEST).is_file()):
            # What an unknown request left cannot be told from ours, so none of it is kept.
            clear_folder(out)
        write_json(out / REQUEST, known)
        for leftover in out.rglob(".*.tmp*"):  # of a killed run
            leftover.unlink()
        for entry in manifest["images"]:
            if entry["label"] == 0:
                normal = data / entry["source_files"][0]
                copy_checked(normal, out / entry["path"], entry["sha256"])
        hashes = spread(maker, tasks, request.workers, "writing", progress)
        anomalies = [entry for entry in manifest["images"] if entry["label"] == 1]
        for entry, (image, mask) in zip(anomalies, hashes, strict=True):
            entry["sha256"], entry["mask_sha256"] = image, mask
    write_manifest(out, manifest)
    (out / REQUEST).unlink()
    return manifest


@contextmanager
def _unfinished(out: Path, new: bool) -> Iterator[None]:
    """Leave nothing of bad input behind; keep what was written where a disk is full."""
    try:
        yield
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


def _apart(folder: Path, other: Path) -> bool:
    there, here = folder.resolve(), other.resolve()
    return not (there.is_relative_to(here) or here.is_relative_to(there))


def _check_out(data: Path, out: Path) -> bool:
    """Whether the output folder is new (missing or empty); refuse one that cannot be used."""
    if not _apart(out, data):
        raise UserError(
            f"The output folder {out} and the data folder {data} lie one inside the other; choose "
            "another --out."
        )
    new = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not new:
        claim_folder(out, "pseudo")  # changes nothing in a folder that has content
    return new


def _read_normals(
    request: BuildRequest, categories: Sequence[str], progress: ProgressCallback
) -> dict[str, list[Normal]]:
    """Decode and hash every train normal."""
    paths = {category: train_normals(request.data, category) for category in categories}
    every = [path for found in paths.values() for path in found]
    read = partial(_read_normal, request.data)
    normals = iter(spread(read, every, request.workers, "reading", progress))
    return {category: list(islice(normals, len(found))) for category, found in paths.items()}


def _read_normal(data: Path, path: Path) -> Normal:
    return Normal(
        name=path.relative_to(data).as_posix(),
        file_sha256=sha256_file(path),
        pixel_sha256=pixel_sha256(read_rgb(path)),
    )


def _compare(out: Path, request: Mapping[str, Any]) -> Manifest | None:
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
        return cast(Manifest, known)
    # Files were taken away: finish the set again rather than trust the rest.
    (out / MANIFEST).unlink()
    return None


def _plan(
    request: BuildRequest, config: Any, normals: Mapping[str, list[Normal]]
) -> tuple[Manifest, list[Task | Copy], AnomalyMaker]:
    """Everything that is decided before anything is written; all input is checked.

    Returns:
        the manifest without the hashes of anomalies, the anomalies to make, and what makes them.
    """
    mixture = config
    if not isinstance(config, MixConfig):
        mixture = MixConfig(weights={request.generator: 1.0}, configs={request.generator: config})
    externals = _externals(request.data, mixture, normals)
    foregrounds = {
        category: make_foreground(
            request.foreground, category, [request.data / normal.name for normal in found]
        )
        for category, found in normals.items()
    }
    manifest, held_out = _header(request, config, normals)
    manifest["foreground"] = {name: found.kind for name, found in foregrounds.items()}
    if "given" in manifest["foreground"].values():
        manifest["foreground_sha256"] = sha256_folder(Path(request.foreground))
    tasks: list[Task | Copy] = []
    for category in normals:
        entries, todo = plan_category(
            category,
            held_out[category],
            mixture=mixture,
            per_normal=request.per_normal,
            seed=request.seed,
            externals=externals.get(category, ()),
        )
        manifest["images"] += entries
        tasks += todo
    maker = AnomalyMaker(
        data=request.data,
        out=request.out,
        configs=mixture.configs,
        foregrounds=foregrounds,
    )
    return manifest, tasks, maker


def _header(
    request: BuildRequest, config: Any, normals: Mapping[str, list[Normal]]
) -> tuple[Manifest, dict[str, list[Normal]]]:
    """The manifest without foregrounds and images, and the held-out normals of each category."""
    held: dict[str, list[Normal]] = {}
    for category, found in normals.items():
        pixels = {normal.name: normal.pixel_sha256 for normal in found}
        where = f"Category {category!r}"
        chosen = set(split_normals(pixels, request.holdout, request.split_seed, where=where))
        held[category] = [normal for normal in found if normal.name in chosen]
    held_out = {normal.name: normal for found in held.values() for normal in found}
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        package_version=__version__,
        seed=request.seed,
        split_seed=request.split_seed,
        holdout=request.holdout,
        per_normal=request.per_normal,
        generator={"name": request.generator, "parameters": config.to_json()},
        foreground={},
        categories=list(normals),
        heldout_sha256={name: normal.file_sha256 for name, normal in held_out.items()},
        bank_sha256={
            normal.name: normal.file_sha256
            for found in normals.values()
            for normal in found
            if normal.name not in held_out
        },
        split_sha256=split_sha256(normal.file_sha256 for normal in held_out.values()),
        heldout_train=list(held_out),
        heldout_pixel_sha256={name: normal.pixel_sha256 for name, normal in held_out.items()},
        images=[],
    )
    return manifest, held


def _externals(
    data: Path, mixture: MixConfig, normals: Mapping[str, list[Normal]]
) -> dict[str, list[External]]:
    """The external anomalies of each category, all checked."""
    if EXTERNAL not in mixture.configs:
        return {}
    folder = mixture.configs[EXTERNAL].folder
    if not _apart(folder, data):
        raise UserError(
            f"The external folder {folder} and the data folder {data} lie one inside the other: a "
            "pseudo set must not take images of the real test set; give a folder of its own."
        )
    found: dict[str, list[External]] = {}
    for category, known in normals.items():
        pictures = {normal.pixel_sha256: normal.name for normal in known}
        found[category] = read_externals(folder, category, alone=len(normals) == 1)
        for one in found[category]:
            if copied := pictures.get(one.pixel_sha256):
                raise UserError(
                    f"The external image {folder / one.image} is a copy of the normal {copied}; "
                    "remove it."
                )
    return found
