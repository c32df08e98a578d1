"""Nearest neighbours: how far the patches of an image are from those of normal images."""

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor

from lafite_core import sweep
from lafite_core.model import LafiteModel
from pseudoval.detectors.banks import keep_parameter
from pseudoval.detectors.features import FeatureModelDetector, K
from pseudoval.detectors.levels import levels_parameter
from pseudoval.detectors.protocol import Parameter
from pseudoval.metrics.score_matrix import Config

K_NEAREST = dataclasses.replace(
    K, low=1, meaning="nearest members of the memory bank that a patch is compared with"
)


class KnnDetector(FeatureModelDetector):
    """Mean distance of each patch to its K nearest memory-bank members; no diffusion.

    A configuration is ``{"k": 5}``. ``stages`` may be added, to use the channels of these feature
    stages alone, and ``keep``, the core set in percent of the training patches.
    """

    name = "knn"
    network = None
    parameters = (K_NEAREST,)

    def fitted_parameters(self) -> list[Parameter]:
        """See ``FeatureModelDetector``."""
        levels = levels_parameter(
            "stages",
            self.model.config.features.stages,
            needs_fit=True,
            meaning="feature stages used",
        )
        return [keep_parameter(self.model), *([levels] if levels else [])]

    def errors_of(
        self, model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[Config]
    ) -> np.ndarray:
        """Mean distance to the K nearest members."""
        return sweep.knn_errors(model, images, [cast(int, config["k"]) for config in configs])

    def normal_errors_of(
        self, model: LafiteModel, features: Tensor, configs: Sequence[Config]
    ) -> np.ndarray:
        """See ``FeatureModelDetector``."""
        ks = [cast(int, config["k"]) for config in configs]
        return sweep.knn_normal_errors(model, features, ks)
