"""Detectors behind one protocol. To add one: a file beside these, and a row in ``DETECTORS``."""

from dataclasses import dataclass
from importlib import import_module

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
        study: the built-in study that tune takes by default; "" if it needs a study file.
    """

    where: str
    summary: str
    study: str


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


def detector_class(name: str) -> type[TrainedDetector]:
    """The class of a detector by its name in ``DETECTORS``.

    Raises:
        UserError: there is no such detector.
    """
    if name not in DETECTORS:
        raise UserError(f"There is no detector {name!r}; the detectors are {', '.join(DETECTORS)}.")
    module, _, attribute = DETECTORS[name].where.partition(":")
    found: type[TrainedDetector] = getattr(import_module(module), attribute)
    return found


__all__ = [
    "DETECTORS", "Block", "Detector", "DetectorRow", "ExplainsTogether", "ExtractsFeatures",
    "FitsBanks", "OpenRequest", "Parameter", "TrainRequest", "TrainedDetector", "Value",
    "detector_class",
]  # fmt: skip
