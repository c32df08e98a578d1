"""Reading a pseudo set: its manifest, its images, and the normals that it leaves to train on."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired, TypedDict, cast

from pseudoval.data.dataset import ImageItem, image_item, train_normals
from pseudoval.data.files import read_versioned, sha256_file, write_json
from pseudoval.data.images import pixel_sha256, read_rgb
from pseudoval.errors import UserError

MANIFEST = "manifest.json"


class GeneratorEntry(TypedDict):
    """The generator by name, and every option of it."""

    name: str
    parameters: dict[str, Any]


class ImageEntry(TypedDict):
    """One image; paths are POSIX paths relative to the set."""

    path: str
    mask: str | None
    label: int
    group: str
    category: str
    source_files: list[str]
    """Of DATA: the normal itself, or the one underneath and the one that fragments are cut from."""
    sha256: str
    mask_sha256: str | None
    generator: NotRequired[str]
    """What made an anomaly."""
    external_files: NotRequired[list[str]]
    """Image and mask in the folder of external anomalies."""


class Request(TypedDict):
    """What a set is built from; hashes are SHA-256 by POSIX path relative to DATA."""

    seed: int
    split_seed: int
    holdout: float
    per_normal: int
    generator: GeneratorEntry
    foreground: dict[str, str]
    """By category ``object``, ``texture``, ``given`` or ``none``."""
    foreground_sha256: NotRequired[str]
    """Of the folder of given masks."""
    categories: list[str]
    heldout_sha256: dict[str, str]
    bank_sha256: dict[str, str]


class Manifest(Request):
    """The content of ``manifest.json``."""

    format_version: int
    package_version: str
    split_sha256: str
    heldout_train: list[str]
    heldout_pixel_sha256: dict[str, str]
    images: list[ImageEntry]


def write_manifest(pseudo: Path, manifest: Manifest) -> None:
    """Write ``PSEUDO/manifest.json``, which makes a set a finished one."""
    write_json(pseudo / MANIFEST, manifest)


def load_manifest(pseudo: Path) -> Manifest:
    """Read and check ``PSEUDO/manifest.json``.

    Raises:
        UserError: there is no finished set, or its manifest is damaged or of another format.
    """
    path = pseudo / MANIFEST
    if not pseudo.is_dir():
        raise UserError(f"There is no pseudo set at {pseudo}; make one with 'pseudoval build'.")
    if not path.is_file():
        raise UserError(
            f"{pseudo} has no {MANIFEST}: it is not a pseudo set, or an unfinished one; finish it "
            "with the same 'pseudoval build' again."
        )
    manifest = read_versioned(path, "The manifest")
    missing = _missing(Manifest, manifest) or [
        f"images[{row}].{key}"
        for row, entry in enumerate(manifest["images"])
        for key in _missing(ImageEntry, entry)
    ]
    if missing:
        raise UserError(f"{path} lacks {missing[0]!r}; build the set again.")
    return cast(Manifest, manifest)


def _missing(form: Any, found: Mapping[str, Any]) -> list[str]:
    """The required keys of a TypedDict that a mapping lacks, in order."""
    return [k for k in form.__annotations__ if k in form.__required_keys__ and k not in found]


def pseudo_items(pseudo: Path, manifest: Manifest | None = None) -> list[ImageItem]:
    """The images of a pseudo set in the manifest's order.

    Raises:
        UserError: the set is unfinished or damaged, or a file of it is missing.
    """
    if manifest is None:
        manifest = load_manifest(pseudo)
    items = [
        ImageItem(
            id=entry["path"],
            path=pseudo / entry["path"],
            category=entry["category"],
            label=entry["label"],
            group=entry["group"],
            mask_path=pseudo / entry["mask"] if entry["mask"] else None,
            defect=PurePosixPath(entry["path"]).parent.name,
        )
        for entry in manifest["images"]
    ]
    for item in items:
        for path in (item.path, item.mask_path):
            if path is not None and not path.is_file():
                raise UserError(
                    f"{path} of the pseudo set is missing; finish the set with the same "
                    "'pseudoval build' again."
                )
    return items


def bank_normals(data: Path, manifest: Manifest) -> dict[str, list[ImageItem]]:
    """The train normals of the manifest's categories that it did not hold out, by category.

    They are told apart by content: every held-out file must still be what it was, and no other
    may be a copy of one, in bytes or in pixels.

    Raises:
        UserError: the data changed since the set was built, in one of these ways.
    """
    again = "the data changed since the pseudo set was built; build it again"
    held_files = {sha: name for name, sha in manifest["heldout_sha256"].items()}
    held_pixels = {sha: name for name, sha in manifest["heldout_pixel_sha256"].items()}
    for name, sha in manifest["heldout_sha256"].items():
        path = data / name
        if not path.is_file():
            raise UserError(f"The held-out normal {path} is missing: {again}.")
        if sha256_file(path) != sha:
            raise UserError(f"The held-out normal {path} has other content now: {again}.")
    bank: dict[str, list[ImageItem]] = {}
    for category in manifest["categories"]:
        bank[category] = []
        for path in train_normals(data, category):
            name = path.relative_to(data).as_posix()
            if name in manifest["heldout_sha256"]:
                continue
            item = image_item(data, path, category)
            copied = held_files.get(item.sha256)
            # Files known to the build were compared by pixels then.
            if copied is None and manifest["bank_sha256"].get(name) != item.sha256:
                copied = held_pixels.get(pixel_sha256(read_rgb(path)))
            if copied is not None:
                raise UserError(
                    f"{path} is a copy of the held-out normal {copied}: {again} or remove the copy."
                )
            bank[category].append(item)
        if not bank[category]:
            raise UserError(f"Category {category!r} has no normal left to train on: {again}.")
    return bank


def differences(known: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """What sets a request apart from that of a known set, one phrase each."""
    hashes = ("heldout_sha256", "bank_sha256")
    before, after = known["generator"], request["generator"]
    old = {**{name: known.get(name) for name in request}, "generator": before["name"]}
    new = {**request, "generator": after["name"]}
    if before["name"] == after["name"]:
        old |= _flat(before["parameters"])
        new |= _flat(after["parameters"])
    found = [
        f"{name} was {old.get(name)!r}, now {new.get(name)!r}"
        for name in new | old
        if name not in hashes and old.get(name) != new.get(name)
    ]
    # With other options the split differs as well; that need not be said.
    if not found and any(known.get(name) != request[name] for name in hashes):
        found = ["the train normals of the data have changed"]
    return found


def _flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the generators in a mixture as ``GENERATOR.OPTION``."""
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": one for inner, one in _flat(value).items()}
        else:
            flat[name] = value
    return flat
