"""``audit``: what a pseudo set consists of, how hard it is, and what is wrong with it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pseudoval import __version__
from pseudoval.audit.category import by_generator, category_figures, image_row, rank, sheet_of
from pseudoval.audit.measures import LEVELS
from pseudoval.audit.near_duplicates import count_duplicates
from pseudoval.audit.warnings import warnings
from pseudoval.data.dataset import ImageItem, train_normals
from pseudoval.data.files import FORMAT_VERSION, claim_folder, sha256_file, write_json
from pseudoval.data.images import write_png
from pseudoval.errors import UserError
from pseudoval.progress import ProgressCallback, silent
from pseudoval.pseudo_set.foreground import make_foreground
from pseudoval.pseudo_set.manifest import (
    MANIFEST,
    Manifest,
    bank_normals,
    load_manifest,
    pseudo_items,
)

if TYPE_CHECKING:
    from pseudoval.audit.reference import NearestNeighbours

AUDIT = "audit.json"
NO_REFERENCE = (
    "a memory bank takes training normals, which the set does not hold; give --model, or --data"
)
Bank = Mapping[str, Sequence[ImageItem]]
"""The normals that were not held out, by category."""


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What ``audit`` is asked for.

    Attributes:
        pseudo: the set to inspect; nothing is written into it.
        out: the folder to write.
        data: the DATA that the set was built from: for the sources of fragments, near-duplicates
            between held-out and training normals, and a bank of training normals.
        model: a MODEL that was trained with this set: its backbone and bank say how hard it is.
        backbone, weights: without a model, of a bank built from ``data``; the built-in filter bank
            if neither is given.
        device: what the reference computes on; see ``pseudoval.models.settings.find_device``.
    """

    pseudo: Path
    out: Path
    data: Path | None = None
    model: Path | None = None
    backbone: str | None = None
    weights: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for folder in (self.pseudo, self.data, self.model):
            if folder is not None and self.out.resolve().is_relative_to(folder.resolve()):
                raise UserError(
                    f"The output folder {self.out} lies inside {folder}; choose another --out."
                )
        if self.model is not None and (self.backbone or self.weights):
            raise UserError("--model brings its own backbone; leave --backbone and --weights out.")
        if self.backbone is not None and self.data is None:
            raise UserError(
                "A bank for --backbone is built from the normals of DATA; add --data DATA."
            )
        if self.weights is not None and self.backbone is None:
            raise UserError("--weights are those of a backbone; name it with --backbone.")


def audit(
    pseudo: Path, out: Path, *, progress: ProgressCallback = silent, **options: Any
) -> dict[str, Any]:
    """Inspect a pseudo set and write ``audit.json`` and a contact sheet for each category.

    No ``test`` folder of ``data`` is looked into. The same input gives the same bytes.

    Args:
        options: the other attributes of ``AuditRequest``.

    Returns:
        The content of ``audit.json``, see docs/design.md.

    Raises:
        UserError: an unfinished or damaged set, other data or another model than the set's, or
            options that contradict each other.
    """
    request = AuditRequest(pseudo=pseudo, out=out, **options)
    manifest = load_manifest(pseudo)
    items = pseudo_items(pseudo, manifest)
    bank = None if request.data is None else bank_normals(request.data, manifest)
    reference = _reference(request, manifest, bank, progress)
    images, sheets, categories = [], {}, {}
    for category in manifest["categories"]:
        members = [item for item in items if item.category == category]
        rows, sheet, found = _inspect(request, manifest, members, reference)
        images += rows
        progress("looking at images", len(images), len(items))
        if sheet is not None:
            sheets[found["sheet"]] = sheet
        if request.data is not None and bank is not None:
            found["near_duplicates"] = count_duplicates(
                request.data, manifest, bank[category], category, progress
            )
        categories[category] = found
    aurocs = [found["image_auroc"] for found in categories.values()]
    content = {
        **_header(request, manifest),
        "reference": None if reference is None else reference.facts,
        "reference_reason": NO_REFERENCE if reference is None else None,
        "image_auroc": None if None in aurocs else round(float(np.mean(aurocs)), 6),
        "by_generator": by_generator(images),
        "categories": categories,
    }
    content["warnings"] = warnings(content)
    content["images"] = images
    claim_folder(out, "audit")
    shutil.rmtree(out / "sheets", ignore_errors=True)  # of an earlier set, perhaps
    for name, sheet in sheets.items():
        write_png(out / name, sheet)
    write_json(out / AUDIT, content)
    return content


def _header(request: AuditRequest, manifest: Manifest) -> dict[str, Any]:
    """What set was inspected, and how."""
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "manifest_sha256": sha256_file(request.pseudo / MANIFEST),
        "split_sha256": manifest["split_sha256"],
        "seed": manifest["seed"],
        "split_seed": manifest["split_seed"],
        "generator": manifest["generator"],
        "levels": LEVELS,
        "near_duplicates_reason": None
        if request.data is not None
        else "near-duplicates are looked for among the normals of DATA; give it with --data",
    }


def _inspect(
    request: AuditRequest, manifest: Manifest, items: Sequence[ImageItem], reference: Any
) -> tuple[list[dict[str, Any]], np.ndarray | None, dict[str, Any]]:
    """The rows, the contact sheet and the figures of the images of one category."""
    category = items[0].category
    entries = {entry["path"]: entry for entry in manifest["images"]}
    normals = {item.id: item.path for item in items if item.label == 0}
    paths = train_normals(request.data, category) if request.data else list(normals.values())
    foreground = make_foreground("auto", category, paths)
    rows = []
    for item in items:
        score = None if reference is None else reference.score(item)
        generator = entries[item.id].get("generator")
        rows.append(image_row(item, generator, normals.get(item.group), foreground, score))
    rank(rows)
    figures = {
        **category_figures(rows),
        "foreground": {"kind": foreground.kind, "reason": foreground.reason},
        "near_duplicates": None,
        "sheet": None,
    }
    if len(normals) == len(items):
        return rows, None, figures
    figures["sheet"] = f"sheets/{category}.png"
    sources = None
    if request.data is not None:
        names = {item.id: entries[item.id]["source_files"][1:] for item in items}
        sources = {one: request.data / name[0] if name else None for one, name in names.items()}
    return rows, sheet_of(rows, items, normals, sources), figures


def _reference(
    request: AuditRequest, manifest: Manifest, bank: Bank | None, progress: ProgressCallback
) -> "NearestNeighbours | None":
    """The detector that says how hard the set is, if there is a bank for it."""
    if request.model is None and bank is None:
        return None
    # Imported here, as they bring torch.
    from pseudoval.audit.reference import FILTER_BANK, reference_of_model, reference_of_normals
    from pseudoval.models.open import open_detectors
    from pseudoval.models.settings import find_device

    if request.model is not None:
        detector, *_ = open_detectors(request.model, seed=None, device=request.device).values()
        split, names = manifest["split_sha256"], manifest["categories"]
        return reference_of_model(detector, request.model, names, split)
    assert bank is not None
    return reference_of_normals(
        bank,
        backbone=request.backbone or FILTER_BANK,
        weights=request.weights,
        device=find_device(request.device),
        progress=progress,
    )
