"""Nearest neighbours with several seeds of the core set, from the features that a MODEL keeps."""

import os
from pathlib import Path

from lafite_core.model import LafiteModel
from lafite_core.train_features import FEATURES
from pseudoval.detectors.banks import Banks
from pseudoval.detectors.knn import KnnDetector
from pseudoval.errors import UserError


def staged_knn(folder: Path, work: Path, *, seed: int) -> KnnDetector:
    """The ``knn`` detector that training with this seed would give, on the features of a MODEL.

    Args:
        folder: a MODEL with its training features.
        work: core sets are kept here and taken up again.
        seed: of the core sets.

    Raises:
        UserError: the model lacks its training features.
    """
    model = LafiteModel.load(folder)
    features = folder / FEATURES
    if not features.is_file():
        raise UserError(f"{folder} lacks {FEATURES}; train the model again.")
    fits = work / f"{model.sha256()[:16]}-{seed}"
    fits.mkdir(parents=True, exist_ok=True)
    if not (fits / FEATURES).exists():
        (fits / FEATURES).symlink_to(os.path.relpath(features, fits))
    model.network, model.seed = None, seed
    banks = Banks(model, fits)
    model.bank = banks.fitted(banks.own)
    return KnnDetector(model, seed, fits)
