"""UniAD (You et al. 2022), with and without the feature editing of LafitE."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor

from lafite_core.model import LafiteModel
from lafite_core.reconstruct import uniad_errors, uniad_normal_errors
from lafite_core.uniad import neighbour_mask
from pseudoval.detectors.features import FeatureModelDetector, K
from pseudoval.detectors.protocol import Arrays, TrainRequest
from pseudoval.metrics.score_matrix import Config

K_EDITED = dataclasses.replace(
    K, grid=(0, *K.grid), default=0,
    meaning="neighbours mixed by feature editing before the reconstruction; 0 is plain UniAD",
)  # fmt: skip


class UniadDetector(FeatureModelDetector):
    """Distance of features to what UniAD makes of them, edited or not.

    A configuration is ``{"k": 5}``, and ``k = 0`` means plain UniAD. ``keep`` may be added: a
    memory bank for editing of so many percent of the training patches.
    """

    name = "uniad"
    network = "uniad"
    parameters = (K_EDITED,)

    @classmethod
    def train(cls, request: TrainRequest, info: Mapping[str, Any]) -> None:
        """See ``TrainedDetector``.

        Raises:
            LafiteError: the grid is not larger than the neighbourhood that tokens do not see.
        """
        neighbour_mask(request.config.features.grid, request.config.uniad.neighbourhood)
        super().train(request, info)

    def errors_of(
        self, model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[Config]
    ) -> np.ndarray:
        """L2 distance of the reconstruction to the original features."""
        return uniad_errors(model, images, [cast(int, config["k"]) for config in configs])

    def normal_errors_of(
        self, model: LafiteModel, features: Tensor, configs: Sequence[Config]
    ) -> np.ndarray:
        """See ``FeatureModelDetector``."""
        return uniad_normal_errors(model, features, [cast(int, one["k"]) for one in configs])

    def explain(self, image: np.ndarray, config: Config) -> Arrays:
        """See ``Detector``."""
        return self.explain_all([image], config)[0]

    def explain_all(self, images: Sequence[np.ndarray], config: Config) -> list[Arrays]:
        """See ``ExplainsTogether``."""
        model = self.banks.model_of(self.banks.fit_of(config))
        plain, edited = self.errors_of(model, images, [{"k": 0}, config])
        return [
            {"map": self.render(with_k[None])[0], "error_plain": without, "error_edited": with_k}
            for without, with_k in zip(plain, edited, strict=True)
        ]
