"""Detectors behind one protocol. To add one: a file beside these, and a row in ``DETECTORS``."""

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pseudoval.detectors.protocol import (
    Block,
    Detector,
    ExplainsTogether,
    ExtractsFeatures,
    FitsBanks,
    OpenRequest,
    Parameter,
    TrainedDetector,
    TrainRequest,
    Value,
)
from pseudoval.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DetectorRow:
    """A detector that ``train --detector`` accepts.

    Attributes:
        where: ``module:Class`` of a ``TrainedDetector``, imported when it is needed.
        summary: one line for a person.
        study: the built-in study that tune takes by default.
    """

    where: str
    summary: str
    study: str


STAGED = "staged"
"""The study of a detector without one of its own: its parameters one after another."""

DETECTORS = {
    "lafite": DetectorRow(
        where="pseudoval.detectors.lafite:LafiteDetector",
        summary="feature editing and diffusion (Yin et al. 2023)",
        study="t_then_k",
    ),
    "uniad": DetectorRow(
        where="pseudoval.detectors.uniad:UniadDetector",
        summary="a transformer that reconstructs features (You et al. 2022), with feature editing",
        study="k",
    ),
    "knn": DetectorRow(
        where="pseudoval.detectors.knn:KnnDetector",
        summary="distance to the nearest patches of normal images",
        study="k",
    ),
    "mvg": DetectorRow(
        where="pseudoval.detectors.mvg:MvgDetector",
        summary="Gaussians on pooled features (Rippel et al. 2020); no anomaly maps",
        study="components_then_levels",
    ),
}


ENTRY_POINTS = "pseudoval.detectors"
"""The group of entry points by which other packages announce detectors: ``name = module:Class``."""


def all_detectors() -> dict[str, DetectorRow]:
    """Every detector by name: those of ``DETECTORS``, then those that other packages announce."""
    announced = {
        point.name: DetectorRow(
            where=point.value,
            summary=f"of the package {point.dist.name}" if point.dist else "of another package",
            study=STAGED,
        )
        for point in entry_points(group=ENTRY_POINTS)
    }
    return {**DETECTORS, **{name: row for name, row in announced.items() if name not in DETECTORS}}


def find_detector(name: str) -> DetectorRow:
    """The row of a detector by its name in ``all_detectors``, or as ``module:Class``.

    Raises:
        UserError: there is no such detector.
    """
    known = all_detectors()
    if name in known:
        return known[name]
    if ":" in name:
        return DetectorRow(where=name, summary="one's own", study=STAGED)
    raise UserError(
        f"There is no detector {name!r}; the detectors are {', '.join(known)}, and one of your own "
        "as MODULE:CLASS."
    )


def detector_class(name: str) -> type[TrainedDetector]:
    """The class of a detector; a simple one (``pseudoval.detectors.own``) behind the protocol.

    Raises:
        UserError: there is no such detector, or its class is none.
    """
    row = find_detector(name)
    found: type[TrainedDetector]
    if row in DETECTORS.values():
        module, _, attribute = row.where.partition(":")
        found = getattr(import_module(module), attribute)
        return found
    from pseudoval.detectors.own import own_detector  # brings torch
    from pseudoval.detectors.own_class import import_class

    own: Any = import_class(row.where)
    keeps_protocol = hasattr(own, "train") and hasattr(own, "open")
    found = own if keeps_protocol else own_detector(name, own)
    return found


__all__ = [
    "DETECTORS", "Block", "Detector", "DetectorRow", "ExplainsTogether", "ExtractsFeatures",
    "FitsBanks", "OpenRequest", "Parameter", "TrainRequest", "TrainedDetector", "Value",
    "all_detectors", "detector_class", "find_detector",
]  # fmt: skip
