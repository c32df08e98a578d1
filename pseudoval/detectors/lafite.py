"""LafitE (Yin et al. 2023): feature editing and a diffusion model that reconstructs features."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor

from lafite_core import sweep
from lafite_core.model import LafiteModel
from pseudoval.detectors.features import FeatureModelDetector, K
from pseudoval.detectors.protocol import Arrays, Parameter
from pseudoval.metrics.score_matrix import Config

T = Parameter(
    name="t", low=1, high=1000, default=200, needs_fit=False,
    grid=(25, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900),
    meaning="corruption step: how far the features are noised, of 1000",
)  # fmt: skip


class LafiteDetector(FeatureModelDetector):
    """LafitE; a configuration is ``{"t": 200, "k": 5}``, and ``k = 0`` means no editing.

    ``keep`` may be added: a memory bank for editing of so many percent of the training patches.
    """

    name = "lafite"
    network = "unet"
    parameters = (T, K)

    def errors_of(
        self, model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[Config]
    ) -> np.ndarray:
        """L2 distance of the reconstruction to the original features."""
        pairs = [_t_and_k(config) for config in configs]
        return sweep.lafite_errors(model, images, pairs, self.seed)

    def normal_errors_of(
        self, model: LafiteModel, features: Tensor, configs: Sequence[Config]
    ) -> np.ndarray:
        """See ``FeatureModelDetector``."""
        pairs = [_t_and_k(config) for config in configs]
        return sweep.lafite_normal_errors(model, features, pairs)

    def explain(self, image: np.ndarray, config: Config) -> Arrays:
        """See ``Detector``."""
        return self.explain_all([image], config)[0]

    def explain_all(self, images: Sequence[np.ndarray], config: Config) -> list[Arrays]:
        """See ``ExplainsTogether``.

        Also, in standardised features ``[C, h, w]``: ``features``, ``features_noised`` (the same
        at step ``large_t``, the largest of the default grid) and ``reconstruction``.
        """
        t, k = _t_and_k(config)
        model = self.banks.model_of(self.banks.fit_of(config))
        steps = self.parameters[0]
        large = max(cast(tuple[int, ...], steps.grid), default=cast(int, steps.high))
        found = sweep.explain(model, images, t, k, self.seed, noised_t=large)
        return [
            {
                "map": self.render(one.edited[None])[0],
                "error_plain": one.plain,
                "error_edited": one.edited,
                "features": one.features,
                "features_noised": one.noised,
                "large_t": np.array(large),
                "reconstruction": one.reconstruction,
            }
            for one in found
        ]


def _t_and_k(config: Config) -> tuple[int, int]:
    """The two numbers of a configuration, which ``check`` has found to be whole."""
    return cast(int, config["t"]), cast(int, config["k"])
