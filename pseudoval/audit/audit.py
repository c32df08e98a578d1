"""``audit``: what a pseudo set consists of, how hard it is, and what is wrong with it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval import __version__
from pseudoval.audit.duplicates import count_duplicates
from pseudoval.audit.measures import LEVELS, measure, summary
from pseudoval.audit.sheets import Row, contact_sheet
from pseudoval.audit.warnings import warnings
from pseudoval.data.dataset import ImageItem, train_normals
from pseudoval.data.files import FORMAT_VERSION, claim_folder, sha256_file, write_json
from pseudoval.data.images import read_mask, read_rgb, write_png
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import auroc
from pseudoval.progress import ProgressCallback, silent
from pseudoval.pseudo_set.foreground import Foreground, make_foreground
from pseudoval.pseudo_set.manifest import MANIFEST, bank_normals, load_manifest, pseudo_items

SHOWN = 16
"""Anomalies of a category in its sheet, from the least to the most visible."""
AUDIT = "audit.json"


def audit(
    pseudo: Path,
    out: Path,
    *,
    data: Path | None = None,
    model: Path | None = None,
    backbone: str | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> dict[str, Any]:
    """Inspect a pseudo set and write ``audit.json`` and a contact sheet for each category.

    Nothing is written into ``pseudo``, and no ``test`` folder of ``data`` is looked into. The same
    input gives the same bytes.

    Args:
        out: the folder to write.
        data: the DATA that the set was built from: for the sources of fragments, near-duplicates
            between held-out and training normals, and a bank of training normals.
        model: a MODEL that was trained with this set: its backbone and bank say how hard it is.
        backbone, weights: without a model, of a bank built from ``data``; the built-in filter bank
            if neither is given.

    Returns:
        The content of ``audit.json``, see docs/design.md.

    Raises:
        UserError: an unfinished or damaged set, other data or another model than the set's, or
            options that contradict each other.
    """
    _check(pseudo, out, data, model, backbone, weights)
    manifest = load_manifest(pseudo)
    items = pseudo_items(pseudo, manifest)
    bank = None if data is None else bank_normals(data, manifest)
    reference, reason = _reference(manifest, bank, model, backbone, weights, device, progress)
    categories: dict[str, Any] = {}
    images: list[dict[str, Any]] = []
    sheets: dict[str, np.ndarray] = {}
    done = 0
    for category in manifest["categories"]:
        members = [
            (entry, item)
            for entry, item in zip(manifest["images"], items, strict=True)
            if item.category == category
        ]
        foreground = _foreground(category, members, data)
        normals = {item.id: item.path for _, item in members if item.label == 0}
        rows = []
        for entry, item in members:
            below = _background(item, normals)
            rows.append(_row(entry, item, below, manifest, foreground, reference))
            done += 1
            progress("looking at images", done, len(items))
        _rank(rows)
        categories[category] = {
            **_category(rows),
            "foreground": {"kind": foreground.kind, "reason": foreground.reason},
            "near_duplicates": None,
            "sheet": None,
        }
        if categories[category]["anomalies"]:
            categories[category]["sheet"] = f"sheets/{category}.png"
            sheets[category] = _sheet(rows, members, normals, data)
        images += rows
    if data is not None and bank is not None:
        for category, found in categories.items():
            found["near_duplicates"] = count_duplicates(
                data, manifest, bank[category], category, progress
            )
    aurocs = [found["image_auroc"] for found in categories.values()]
    content = {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "manifest_sha256": sha256_file(pseudo / MANIFEST),
        **{key: manifest[key] for key in ("split_sha256", "seed", "split_seed", "generator")},
        "reference": reference.facts if reference is not None else None,
        "reference_reason": reason,
        "near_duplicates_reason": None
        if data is not None
        else "near-duplicates are looked for among the normals of DATA; give it with --data",
        "levels": LEVELS,
        "image_auroc": None if None in aurocs else round(float(np.mean(aurocs)), 6),
        "by_generator": _by_generator(images),
        "categories": categories,
    }
    content["warnings"] = warnings(content)
    content["images"] = images
    claim_folder(out, "audit")
    shutil.rmtree(out / "sheets", ignore_errors=True)  # of an earlier set, perhaps
    for category, sheet in sheets.items():
        write_png(out / categories[category]["sheet"], sheet)
    write_json(out / AUDIT, content)
    return content


def _check(
    pseudo: Path,
    out: Path,
    data: Path | None,
    model: Path | None,
    backbone: str | None,
    weights: Path | None,
) -> None:
    for folder in (pseudo, data, model):
        if folder is not None and out.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"The output folder {out} lies inside {folder}; choose another --out.")
    if model is not None and (backbone or weights):
        raise UserError("--model brings its own backbone; leave --backbone and --weights out.")
    if backbone is not None and data is None:
        raise UserError("A bank for --backbone is built from the normals of DATA; add --data DATA.")
    if weights is not None and backbone is None:
        raise UserError("--weights are those of a backbone; name it with --backbone.")


def _reference(
    manifest: Mapping[str, Any],
    bank: Mapping[str, Sequence[ImageItem]] | None,
    model: Path | None,
    backbone: str | None,
    weights: Path | None,
    device: str,
    progress: ProgressCallback,
) -> tuple[Any, str | None]:
    """A ``NearestNeighbours``, or None and why there is none."""
    if model is None and bank is None:
        return None, (
            "a memory bank takes training normals, which the set does not hold; give --model, or "
            "--data"
        )
    # Imported here, as it brings torch.
    from pseudoval.detectors.reference import (
        FILTER_BANK,
        reference_of_model,
        reference_of_normals,
    )

    if model is not None:
        from pseudoval.models.open import open_detectors

        split, names = manifest["split_sha256"], manifest["categories"]
        detector = next(iter(open_detectors(model, seed=None, device=device).values()))
        return reference_of_model(detector, model, names, split), None
    assert bank is not None
    normals = {
        category: [(item.path, manifest["bank_sha256"].get(item.id, item.id)) for item in found]
        for category, found in bank.items()
    }
    found = reference_of_normals(
        normals,
        backbone=backbone or FILTER_BANK,
        weights=weights,
        device=device,
        progress=progress,
    )
    return found, None


def _foreground(
    category: str, members: Sequence[tuple[Mapping[str, Any], ImageItem]], data: Path | None
) -> Foreground:
    """Where the object is, as the normals of DATA say, else those of the set."""
    if data is not None:
        return make_foreground("auto", category, train_normals(data, category))
    return make_foreground("auto", category, [item.path for _, item in members if item.label == 0])


def _row(
    entry: Mapping[str, Any],
    item: ImageItem,
    below: np.ndarray | None,
    manifest: Mapping[str, Any],
    foreground: Foreground,
    reference: Any,
) -> dict[str, Any]:
    """What ``audit.json`` says of one image."""
    image = read_rgb(item.path)
    score = None
    if reference is not None:
        score = round(float(reference.scores(item.category, [image])[0]), 6)
    row: dict[str, Any] = {
        "path": item.id,
        "category": item.category,
        "label": item.label,
        "generator": None,
        "score": score,
        "score_rank": None,
    }
    if item.label == 0:
        return row
    generator = entry.get("generator") or manifest["generator"]
    shape = (image.shape[0], image.shape[1])
    mask = read_mask(item.mask_path, shape) if item.mask_path else np.zeros(shape, bool)
    # The normal underneath has the object where the anomaly may have covered it.
    where = foreground(image if below is None else below, item.id)
    measures = measure(image, mask, below, where)
    figures = {
        name: None if value is None else round(value, 6) for name, value in asdict(measures).items()
    }
    row["generator"] = generator["name"] if isinstance(generator, Mapping) else generator
    return {**row, **figures, "empty": measures.empty, "invisible": measures.invisible}


def _background(item: ImageItem, normals: Mapping[str, Path]) -> np.ndarray | None:
    """The normal under an anomaly, which the set holds itself; None if it was made elsewhere."""
    path = normals.get(item.group) if item.label == 1 else None
    return None if path is None else _decoded(path)


@lru_cache(maxsize=2)
def _decoded(path: Path) -> np.ndarray:
    """A normal's pixels; the anomalies on one background follow each other."""
    return read_rgb(path)


def _rank(rows: list[dict[str, Any]]) -> None:
    """Say of each anomaly which share of the normals it scores above; ties count one half."""
    normal = np.array([row["score"] for row in rows if row["label"] == 0], np.float64)
    for row in rows:
        if row["label"] == 1 and row["score"] is not None:
            above = (row["score"] > normal).mean() + (row["score"] == normal).mean() / 2
            row["score_rank"] = round(float(above), 6)


def _category(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    anomalies = [row for row in rows if row["label"] == 1]
    known = all(row["score"] is not None for row in rows) and 0 < len(anomalies) < len(rows)
    return {
        "normals": len(rows) - len(anomalies),
        "anomalies": len(anomalies),
        "image_auroc": _auroc(rows) if known else None,
        **{
            name: summary([row[name] for row in anomalies])
            for name in ("area", "visibility", "on_object")
        },
        "empty": sum(row["empty"] for row in anomalies),
        "invisible": sum(row["invisible"] for row in anomalies),
        "changed_outside": sum(bool(row["outside"]) for row in anomalies),
    }


def _auroc(rows: Sequence[Mapping[str, Any]]) -> float:
    scores = np.array([row["score"] for row in rows])
    labels = np.array([row["label"] for row in rows])
    return round(float(auroc(scores, labels)), 6)


def _by_generator(images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and mean figures of each generator, which tell the parts of a mixture apart."""
    found: dict[str, Any] = {}
    for name in sorted({row["generator"] for row in images if row["label"] == 1}):
        rows = [row for row in images if row["generator"] == name]
        ranks = [
            np.mean([row["score_rank"] for row in rows if row["category"] == category])
            for category in sorted({row["category"] for row in rows})
            if all(row["score_rank"] is not None for row in rows)
        ]
        found[name] = {
            "anomalies": len(rows),
            # The mean rank among the normals is the AUROC of these anomalies against them.
            "image_auroc": round(float(np.mean(ranks)), 6) if ranks else None,
            "area": summary([row["area"] for row in rows]),
            "visibility": summary([row["visibility"] for row in rows]),
        }
    return found


def _sheet(
    rows: Sequence[Mapping[str, Any]],
    members: Sequence[tuple[Mapping[str, Any], ImageItem]],
    normals: Mapping[str, Path],
    data: Path | None,
) -> np.ndarray:
    """Anomalies of a category from the least to the most visible, evenly spaced."""
    anomalies = [
        (row, entry, item)
        for row, (entry, item) in zip(rows, members, strict=True)
        if item.label == 1
    ]
    anomalies.sort(key=lambda one: (one[0]["visibility"] or 0.0, one[0]["path"]))
    places = np.unique(np.linspace(0, len(anomalies) - 1, SHOWN).round().astype(int))
    shown = []
    for row, entry, item in (anomalies[place] for place in places):
        image = read_rgb(item.path)
        shape = (image.shape[0], image.shape[1])
        names = [name for name in entry["source_files"][1:] if name]
        source = data / names[0] if data is not None and names else None
        pictures: dict[str, np.ndarray | None] = {"normal": _background(item, normals)}
        if data is not None:
            pictures["source"] = read_rgb(source) if source and source.is_file() else None
        pictures["result"] = image
        pictures["mask"] = read_mask(item.mask_path, shape) if item.mask_path else None
        shown.append(Row(caption=_caption(row), pictures=pictures))
    return contact_sheet(shown)


def _caption(row: Mapping[str, Any]) -> str:
    said = [row["path"].split("/", 2)[-1], f"area {100 * row['area']:.2g} %"]
    if row["visibility"] is not None:
        said.append(f"change {row['visibility']:.0f}")
    if row["on_object"] is not None:
        said.append(f"on object {100 * row['on_object']:.0f} %")
    if row["score_rank"] is not None:
        said.append(f"above {100 * row['score_rank']:.0f} % of normals")
    return "   ".join(said)
