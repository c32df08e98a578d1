"""What a person should know before choosing anything on a pseudo set."""

from collections.abc import Mapping
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
    found: list[dict[str, Any]] = []

    def warn(code: str, category: str | None, text: str) -> None:
        found.append({"code": code, "category": category, "text": text})

    categories = content["categories"]
    known = {
        name: figures["image_auroc"]
        for name, figures in categories.items()
        if figures["image_auroc"] is not None
    }
    if known and min(known.values()) > SATURATED:
        warn(
            "saturated", None,
            f"Nearest neighbours tell every category apart (AUROC above {SATURATED}): such a set "
            "cannot rank anything. Build one with fainter or smaller anomalies: --set "
            "opacity=0.3,0.7, --set scale=0.5.",
        )  # fmt: skip
    elif content["image_auroc"] is not None and content["image_auroc"] < GUESSING:
        warn(
            "guessing", None,
            f"Nearest neighbours hardly do better than a guess (AUROC "
            f"{content['image_auroc']:.3f}): differences on such a set are mostly chance. Build "
            "one with stronger or larger anomalies: --set opacity=1, --set scale=2.",
        )  # fmt: skip
    else:
        for name, value in known.items():
            if value > SATURATED:
                warn(
                    "saturated", name,
                    f"{name}: nearest neighbours tell all anomalies apart (AUROC {value:.3f}); the "
                    "category hardly takes part in the ranking.",
                )  # fmt: skip
            elif value < GUESSING:
                warn(
                    "guessing", name,
                    f"{name}: nearest neighbours hardly do better than a guess (AUROC "
                    f"{value:.3f}); the category adds mostly chance to the ranking.",
                )  # fmt: skip
    for name, figures in categories.items():
        count = figures["anomalies"]
        if figures["empty"]:
            warn("empty", name, f"{name}: {figures['empty']} of {count} masks are empty.")
        if figures["invisible"]:
            warn(
                "invisible", name,
                f"{name}: {figures['invisible']} of {count} anomalies hardly change their image.",
            )  # fmt: skip
        if figures["changed_outside"]:
            warn(
                "changed_outside", name,
                f"{name}: {figures['changed_outside']} of {count} anomalies change pixels outside "
                "their mask.",
            )  # fmt: skip
        if figures["on_object"] and figures["on_object"]["median"] < ON_OBJECT:
            warn(
                "off_object", name,
                f"{name}: half of the anomalies lie on the object with less than "
                f"{100 * ON_OBJECT:.0f} % of their area; build with --foreground auto.",
            )  # fmt: skip
        near = figures["near_duplicates"]
        if near and near["with_training"]:
            warn(
                "near_duplicates", name,
                f"{name}: near-duplicates among the normals to train on are known of "
                f"{near['with_training']} of {figures['normals']} held-out normals. A repeat in "
                "the memory bank flatters K.",
            )  # fmt: skip
    return found
