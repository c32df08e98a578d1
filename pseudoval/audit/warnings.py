"""What a person should know before choosing anything on a pseudo set."""

from collections.abc import Iterator, Mapping
from typing import Any

SATURATED = 0.995
"""Image AUROC above which there is nothing left to rank."""
GUESSING = 0.55
"""Image AUROC below which nearest neighbours do no better than a guess."""
ON_OBJECT = 0.5
"""Median share of the masks on the object, below which most anomalies miss it."""


def warnings(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Warnings of an audit, the weightiest first.

    Args:
        content: ``audit.json`` without them.

    Returns:
        For each ``code``, ``category`` (None for the set) and ``text``.
    """
    found = [*_difficulty(content)]
    for name, figures in content["categories"].items():
        found += [(code, name, text) for code, text in _of_category(figures)]
    return [
        {"code": code, "category": name, "text": text if name is None else f"{name}: {text}"}
        for code, name, text in found
    ]


def _difficulty(content: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str]]:
    """Code, category and sentence where nearest neighbours solve it all, or guess."""
    known = {
        name: figures["image_auroc"]
        for name, figures in content["categories"].items()
        if figures["image_auroc"] is not None
    }
    mean = content["image_auroc"]
    if known and min(known.values()) > SATURATED:
        yield (
            "saturated",
            None,
            f"Nearest neighbours tell every category apart (AUROC above {SATURATED}): such a set "
            "cannot rank anything. Build one with fainter or smaller anomalies: --set "
            "opacity=0.3,0.7, --set scale=0.5.",
        )
    elif mean is not None and mean < GUESSING:
        yield (
            "guessing",
            None,
            f"Nearest neighbours hardly do better than a guess (AUROC {mean:.3f}): differences on "
            "such a set are mostly chance. Build one with stronger or larger anomalies: --set "
            "opacity=1, --set scale=2.",
        )
    else:
        for name, value in known.items():
            if value > SATURATED:
                yield (
                    "saturated",
                    name,
                    f"nearest neighbours tell all anomalies apart (AUROC {value:.3f}); the "
                    "category hardly takes part in the ranking.",
                )
            elif value < GUESSING:
                yield (
                    "guessing",
                    name,
                    f"nearest neighbours hardly do better than a guess (AUROC {value:.3f}); the "
                    "category adds mostly chance to the ranking.",
                )


def _of_category(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Codes and sentences of what is wrong with a category's anomalies and normals."""
    count = figures["anomalies"]
    if figures["empty"]:
        yield "empty", f"{figures['empty']} of {count} masks are empty."
    if figures["invisible"]:
        yield "invisible", f"{figures['invisible']} of {count} anomalies hardly change their image."
    if figures["changed_outside"]:
        changed = figures["changed_outside"]
        yield "changed_outside", f"{changed} of {count} anomalies change pixels outside their mask."
    if figures["on_object"] and figures["on_object"]["median"] < ON_OBJECT:
        yield (
            "off_object",
            f"half of the anomalies lie on the object with less than {100 * ON_OBJECT:.0f} % of "
            "their area; build with --foreground auto.",
        )
    near = figures["near_duplicates"]
    if near and near["with_training"]:
        yield (
            "near_duplicates",
            "near-duplicates among the normals to train on are known of "
            f"{near['with_training']} of {figures['normals']} held-out normals. A repeat in the "
            "memory bank flatters K.",
        )
