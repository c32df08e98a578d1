"""What ``audit.json`` says of the images of a category, and its contact sheet."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.audit.measures import measure, summary
from pseudoval.audit.sheets import contact_sheet
from pseudoval.data.dataset import ImageItem
from pseudoval.data.images import image_shape, read_mask, read_rgb
from pseudoval.metrics.image_metrics import auroc
from pseudoval.pseudo_set.foreground import Foreground

SHOWN = 16
"""Anomalies of a category in its sheet, from the least to the most visible."""


def image_row(
    item: ImageItem,
    generator: str | None,
    below: Path | None,
    foreground: Foreground,
    score: float | None,
) -> dict[str, Any]:
    """What ``audit.json`` says of one image.

    Args:
        generator: what made an anomaly.
        below: the normal under an anomaly, which the set holds itself; None if it was made
            elsewhere.
        foreground: where the object is.
        score: of the reference, None without one.
    """
    row: dict[str, Any] = {
        "path": item.id,
        "category": item.category,
        "label": item.label,
        "generator": generator,
        "score": None if score is None else round(score, 6),
        "score_rank": None,
    }
    if item.label == 0:
        return row
    image, mask = read_rgb(item.path), _mask(item)
    background = None if below is None else _decoded(below)
    # The normal underneath has the object where the anomaly may have covered it.
    where = foreground(image if background is None else background, item.id)
    return {**row, **measure(image, mask, background, where)}


def _mask(item: ImageItem) -> np.ndarray:
    assert item.mask_path is not None
    return read_mask(item.mask_path, image_shape(item.path))


@lru_cache(maxsize=2)
def _decoded(path: Path) -> np.ndarray:
    """A normal's pixels; the anomalies on one background follow each other."""
    return read_rgb(path)


def rank(rows: Sequence[dict[str, Any]]) -> None:
    """Say of each anomaly which share of the normals it scores above; ties count one half."""
    normal = np.array([row["score"] for row in rows if row["label"] == 0], np.float64)
    for row in rows:
        if row["label"] == 1 and row["score"] is not None:
            above = (row["score"] > normal).mean() + (row["score"] == normal).mean() / 2
            row["score_rank"] = round(float(above), 6)


def category_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts, difficulty and distributions of a category."""
    anomalies = [row for row in rows if row["label"] == 1]
    scores, labels = [row["score"] for row in rows], [row["label"] for row in rows]
    known = None not in scores and 0 < len(anomalies) < len(rows)
    return {
        "normals": len(rows) - len(anomalies),
        "anomalies": len(anomalies),
        "image_auroc": round(float(auroc(np.array(scores), np.array(labels))), 6)
        if known
        else None,
        **{
            name: summary([row[name] for row in anomalies])
            for name in ("area", "visibility", "on_object")
        },
        "empty": sum(row["empty"] for row in anomalies),
        "invisible": sum(row["invisible"] for row in anomalies),
        "changed_outside": sum(bool(row["outside"]) for row in anomalies),
    }


def by_generator(images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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


def sheet_of(
    rows: Sequence[Mapping[str, Any]],
    items: Sequence[ImageItem],
    normals: Mapping[str, Path],
    sources: Mapping[str, Path | None] | None,
) -> np.ndarray:
    """Anomalies of a category from the least to the most visible, evenly spaced.

    Args:
        rows, items: of the category, in the same order.
        normals: the set's normals by id.
        sources: the file that each anomaly was cut from, by its id; None for no such column.
    """
    anomalies = [pair for pair in zip(rows, items, strict=True) if pair[1].label == 1]
    anomalies.sort(key=lambda pair: (pair[0]["visibility"] or 0.0, pair[0]["path"]))
    places = np.unique(np.linspace(0, len(anomalies) - 1, SHOWN).round().astype(int))
    shown = []
    for row, item in (anomalies[place] for place in places):
        paths = {"normal": normals.get(item.group)}
        if sources is not None:
            paths["source"] = sources[item.id]
        paths["result"] = item.path
        pictures = {name: read_rgb(path) if path else None for name, path in paths.items()}
        shown.append((_caption(row), {**pictures, "mask": _mask(item)}))
    return contact_sheet(shown)


def _caption(row: Mapping[str, Any]) -> str:
    parts = [row["path"].split("/", 2)[-1], f"area {100 * row['area']:.2g} %"]
    if row["visibility"] is not None:
        parts.append(f"change {row['visibility']:.0f}")
    if row["on_object"] is not None:
        parts.append(f"on object {100 * row['on_object']:.0f} %")
    if row["score_rank"] is not None:
        parts.append(f"above {100 * row['score_rank']:.0f} % of normals")
    return "   ".join(parts)
