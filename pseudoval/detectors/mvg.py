"""Gaussians on pooled features (Rippel et al. 2020, "Modeling the Distribution of Normal Data in
Pre-Trained Deep Features for Anomaly Detection").
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from threadpoolctl import threadpool_limits

from lafite_core.bank import MemoryBank
from lafite_core.features import Standardiser
from lafite_core.model import LafiteModel
from pseudoval.detectors.base import check_values
from pseudoval.detectors.features import FeatureDetector, opened_model, stream_features
from pseudoval.detectors.levels import levels_of, levels_parameter
from pseudoval.detectors.protocol import Block, Detector, OpenRequest, Parameter, TrainRequest
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config

SHARES = {"all": 1.0, "npca-5": 0.05, "npca-1": 0.01}
"""Share of a level's variance that the components of least variance hold, by name. The paper finds
that the ones that vary least among normals tell most (its negated PCA, NPCA)."""

LEAST = 1e-10
"""Components with less than this share of the variance are rounding errors: fewer images than
channels leave the other directions without any variance."""

COMPONENTS = Parameter(
    name="components", kind="categorical", grid=tuple(SHARES), default="all", needs_fit=False,
    meaning="principal components used: all, or those of least variance that hold 5 or 1 % of it",
)  # fmt: skip


class MvgDetector(FeatureDetector):
    """Sum over backbone levels of the Mahalanobis distance of the globally pooled features.

    A configuration is ``{"components": "all", "levels": 1234}``. Covariances are shrunk as by
    Ledoit and Wolf (2004). MODEL keeps the pooled features of the normals, ``[N, C]``, in the place
    of a memory bank, and the Gaussians are fitted when they are first asked for, so that no value
    needs a new training. There are no anomaly maps.
    """

    name = "mvg"

    def __init__(self, model: LafiteModel, seed: int) -> None:
        super().__init__(model.info, seed=seed, model_sha256=model.sha256(), map_side=None)
        self.model = model
        self.levels = model.config.features.stages
        levels = levels_parameter(
            "levels", self.levels, needs_fit=False, meaning="backbone levels that are summed over"
        )
        self.parameters = (COMPONENTS, *([levels] if levels else []))

    @classmethod
    def train(cls, request: TrainRequest, info: Mapping[str, Any]) -> None:
        """See ``TrainedDetector``.

        Raises:
            UserError: all normals look the same to a level of the backbone.
        """
        group = request.group
        if group.leads:
            model = _pooled_model(request, info)
            cls(model, model.seed).gaussians  # noqa: B018 (refuses what has none)
            model.save(request.out)
        group.wait()

    @classmethod
    def open(cls, request: OpenRequest) -> Detector:
        """See ``TrainedDetector``."""
        return cls(opened_model(request), request.seed)

    @cached_property
    def gaussians(self) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:
        """Mean ``[c]`` and whitening matrix ``[r, c]`` by level and ``components``, float64.

        Raises:
            UserError: all normals look the same to a level of the backbone.
        """
        pooled = self.model.bank.vectors.double().numpy()
        found = {}
        with threadpool_limits(1):  # sums over several threads come in another order
            for level, channels in self._channels.items():
                values = pooled[:, channels]
                for name, share in SHARES.items():
                    matrix = whitening(values, share)
                    if matrix is None:
                        raise UserError(
                            f"A Gaussian needs normals that differ, and all {len(values)} look the "
                            f"same to level {level} of the backbone; give more normals, or other "
                            "levels with --set features.stages."
                        )
                    found[level, name] = values.mean(axis=0), matrix
        return found

    @property
    def _channels(self) -> dict[int, slice]:
        """Where the features of each level are."""
        ends = np.cumsum([0, *self.model.backbone.channels]).tolist()
        return {level: slice(*ends[at : at + 2]) for at, level in enumerate(self.levels)}

    def check(self, config: Config) -> None:
        """See ``Detector``; any of the levels may be taken, not only runs of them."""
        self.check_names(config)
        check_values([COMPONENTS], config)
        levels_of("levels", config, self.levels)

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """See ``Detector``; the distances of an image are shared by its configurations."""
        self.model.prepare(images)
        found = [_distances(self.gaussians, self._channels, one) for one in self._pooled(images)]
        scores = [
            [
                sum(one[level, str(config["components"])]
                    for level in levels_of("levels", config, self.levels))
                for one in found
            ]
            for config in configs
        ]  # fmt: skip
        return Block(scores=np.array(scores), coarse=None)

    def _pooled(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Means over the grid, ``[B, C]`` float64."""
        return pool(self.model.features(images).cpu())


def pool(features: torch.Tensor) -> np.ndarray:
    """Features ``[B, C, h, w]`` to their means over the grid, ``[B, C]`` float64."""
    return features.double().numpy().mean(axis=(2, 3))


def whitening(values: np.ndarray, share: float) -> np.ndarray | None:
    """The matrix ``[r, c]`` that turns a Mahalanobis distance into a Euclidean one.

    Args:
        values: ``[N, c]`` float64.
        share: of the variance, in (0, 1]; below 1 the distance is that in the plane of the
            components of least variance that hold no more than it (one at least).

    Returns:
        None where nothing varies.
    """
    centred = values - values.mean(axis=0)
    basis = np.eye(values.shape[1])
    if share < 1:
        variances, axes = np.linalg.eigh(centred.T @ centred / len(values))  # ascending
        real = variances > LEAST * variances.sum()
        held = np.cumsum(variances[real]) / variances.sum()
        basis = axes[:, real][:, : max(1, int((held <= share).sum()))]
    if basis.shape[1] == 0 or not centred.any():
        return None
    covariance = LedoitWolf(assume_centered=True).fit(centred @ basis).covariance_
    variances, axes = np.linalg.eigh(covariance)
    return np.asarray((basis @ axes / np.sqrt(variances)).T)


def _distances(
    gaussians: Mapping[tuple[int, str], tuple[np.ndarray, np.ndarray]],
    channels: Mapping[int, slice],
    pooled: np.ndarray,
) -> dict[tuple[int, str], float]:
    """The Mahalanobis distance of an image ``[C]`` by level and ``components``."""
    found = {}
    for (level, name), (mean, matrix) in gaussians.items():
        # Unlike a product by BLAS, whose sums depend on the number of threads.
        white = np.einsum("rc,c->r", matrix, pooled[channels[level]] - mean)
        found[level, name] = float(np.sqrt((white**2).sum()))
    return found


def _pooled_model(request: TrainRequest, info: Mapping[str, Any]) -> LafiteModel:
    """The model with the pooled features of the normals, on a CPU."""
    files, config = request.files(), request.config
    pooled = []
    for number, features in enumerate(stream_features(request, files), start=1):
        pooled.append(torch.from_numpy(pool(features[None])).float())
        request.progress("features", number, len(files))
    return LafiteModel(
        config=config,
        backbone=request.backbone(),
        standardiser=Standardiser.fit(torch.zeros(1, pooled[0].shape[1], 1, 1), "none"),
        bank=MemoryBank(torch.cat(pooled)),
        network=None,
        seed=request.seeds[0],
        info={**info, "images": len(files)},
    )
