"""What the detectors over ``lafite_core`` models share."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from torch import Tensor

from lafite_core import sweep
from lafite_core.config import LafiteConfig
from lafite_core.fit import FitRequest, feature_source, fit
from lafite_core.model import LafiteModel
from lafite_core.parallel import on_each_core
from lafite_core.predictor import scoring_precision
from lafite_core.progress import silent
from pseudoval.data.images import read_rgb
from pseudoval.detectors.banks import Banks, Fit, epoch_parameters, keep_parameter
from pseudoval.detectors.base import SingleModel, check_values, read_model_json
from pseudoval.detectors.normal_errors import Errors, NormalErrors
from pseudoval.detectors.protocol import (
    Block,
    Detector,
    OpenRequest,
    Parameter,
    TrainRequest,
    limited,
)
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config

K = Parameter(
    name="k", low=0, high=10_000, log=True, default=5, needs_fit=False,
    grid=(1, 2, 3, 5, 8, 12, 20, 30, 50),
    meaning="neighbours mixed by feature editing; 0 is no editing",
)  # fmt: skip


_OPENED: WeakValueDictionary[Any, LafiteModel] = WeakValueDictionary()


def opened_model(request: OpenRequest) -> LafiteModel:
    """The model of a request; one that is in use already is not loaded again.

    Detectors that differ in the seed of the noise share a model, its features at hand and its
    memory on a GPU. Another one is loaded where a file in MODEL was replaced meanwhile.
    """
    config = request.configure(LafiteConfig.from_json(read_model_json(request.folder)["config"]))
    files = sorted(path for path in request.folder.iterdir() if path.is_file())
    key = (
        request.folder.resolve(),
        *((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files),
        request.device,
        request.cache,
        repr(config),
    )
    model = _OPENED.get(key)
    if model is None:
        _OPENED[key] = model = LafiteModel.load(request.folder, request.device)
        model.use_cache(request.cache)
        model.config = config
    return model


def stream_features(request: TrainRequest, files: Sequence[tuple[Path, str]]) -> Iterator[Tensor]:
    """Raw features ``[C, grid, grid]`` of some images, given as file and SHA-256, in order."""
    source = feature_source(
        request.config.features, request.backbone(), request.device, request.cache
    )
    return source.stream(on_each_core(read_rgb, [path for path, _ in files]))


class FeatureDetector(SingleModel):
    """A detector on the features of a backbone, which it finds in the cache."""

    configurable = True

    @classmethod
    def extract(cls, request: TrainRequest, files: Sequence[tuple[Path, str]]) -> None:
        """See ``ExtractsFeatures``."""
        for _ in stream_features(request, files):
            pass  # they are in the cache


class FeatureModelDetector(FeatureDetector):
    """The model, its banks and its maps; a subclass says what the error of a patch is.

    Args:
        folder: MODEL, for the training features.
    """

    network: str | None
    """The network that is trained, a name in ``lafite_core.learning.LEARNERS``; None is none."""

    def __init__(self, model: LafiteModel, seed: int, folder: Path) -> None:
        side = model.config.features.image_size
        super().__init__(model.info, seed=seed, model_sha256=model.sha256(), map_side=side)
        self.model = model
        self.banks = Banks(model, folder)
        self.normal_errors = NormalErrors(model, folder)
        limits = {"k": len(model.bank), "t": model.config.diffusion.steps}
        self.parameters = (
            *(limited(p, limits[p.name]) for p in self.parameters),
            *self.fitted_parameters(),
        )

    @classmethod
    def train(cls, request: TrainRequest, info: Mapping[str, Any]) -> None:
        """See ``TrainedDetector``."""
        files = request.files()
        wanted = FitRequest(
            keys=[sha256 for _, sha256 in files],
            config=request.config,
            backbone=request.backbone(),
            folder=request.out,
            seed=request.seeds[0],
            network=cls.network,
            device=request.device,
            resume=True,  # what is not to be taken up has been removed
            cache=request.cache,
            group=request.group,
            info=info,
            progress=request.progress,
            notice=request.notice or silent,
        )
        fit(on_each_core(read_rgb, [path for path, _ in files]), wanted)

    @classmethod
    def open(cls, request: OpenRequest) -> Detector:
        """See ``TrainedDetector``."""
        return cls(opened_model(request), request.seed, request.folder)

    def fitted_parameters(self) -> list[Parameter]:
        """The parameters that a configuration may leave out: what another bank or network needs."""
        return [keep_parameter(self.model), *epoch_parameters(self.model)]

    def check(self, config: Config) -> None:
        """See ``Detector``; K goes up to the size of the bank that the configuration asks for."""
        self.check_names(config)
        self._check_epoch(config)
        check_values([p for p in self.parameters if p.needs_fit and p.name != "stages"], config)
        most = min(K.high, self.banks.size(self.banks.fit_of(config)))
        scored = [p for p in self.parameters if not p.needs_fit]
        check_values(
            [dataclasses.replace(p, high=most) if p.name == "k" else p for p in scored], config
        )

    def _check_epoch(self, config: Config) -> None:
        for parameter in self.parameters:
            epoch = config.get("epoch")
            if parameter.name == "epoch" and epoch is not None and epoch not in parameter.grid:
                kept = ", ".join(map(str, parameter.grid))
                raise UserError(f"The model has no network of epoch {epoch}, only of {kept}.")

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """See ``Detector``; scores are made of standardised errors, maps of the errors."""
        self.model.prepare(images)
        fits = [self.banks.fit_of(config) for config in configs]
        grid = self.model.config.features.grid
        errors = np.empty((len(configs), len(images), grid, grid), dtype=np.float32)
        for_scores = np.empty_like(errors)
        for one in dict.fromkeys(fits):  # those of one bank share their work
            rows = [row for row, other in enumerate(fits) if other == one]
            same = [configs[row] for row in rows]
            errors[rows] = self.errors_of(self.banks.model_of(one), images, same)
            for_scores[rows] = self.normal_errors.standardised(
                errors[rows], one, same, self._measure(one)
            )
        return Block(scores=sweep.scores(self.model, for_scores), coarse=errors)

    @property
    def scores_in_maps(self) -> bool:
        """See ``Detector``; scores made of standardised errors are in another unit."""
        return not self.normal_errors.wanted

    def _measure(self, fit: Fit) -> Errors:
        def measure(features: Tensor, configs: Sequence[Config]) -> np.ndarray:
            return self.normal_errors_of(self.banks.model_of(fit), features, configs)

        return measure

    def errors_of(
        self, model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[Config]
    ) -> np.ndarray:
        """Error grids ``[configs, images, h, w]`` float32, with the bank of a model."""
        raise NotImplementedError

    def normal_errors_of(
        self, model: LafiteModel, features: Tensor, configs: Sequence[Config]
    ) -> np.ndarray:
        """``errors_of`` training images, given as raw features ``[n, C, h, w]``, whose own patches
        are left out of the bank.
        """
        raise NotImplementedError

    def provenance(self) -> dict[str, Any]:
        """See ``Detector``; scores of a network in another arithmetic are not mixed with these."""
        if self.network is None:
            return super().provenance()
        precision = scoring_precision(self.model.config.score, self.model.device)
        return {**super().provenance(), "precision": precision}

    def unfitted(self, configs: Sequence[Config]) -> list[Config]:
        """See ``FitsBanks``; others that need a bank which is not there come after the first."""
        found: list[Config] = []
        lacking: set[Fit] = set()
        for config in configs:
            one = self.banks.fit_of(config)
            if self.banks.is_kept(one):
                found += [] if self.normal_errors.is_kept(one, config) else [config]
            elif one.of_bank not in lacking:
                lacking.add(one.of_bank)
                found.append(config)
        return found

    def fit_bank(self, config: Config) -> None:
        """See ``FitsBanks``."""
        one = self.banks.fit_of(config)
        self.banks.model_of(one)
        if self.normal_errors.wanted:
            self.normal_errors.of(one, [config], self._measure(one))

    def render(self, coarse: np.ndarray) -> np.ndarray:
        """See ``Detector``; the side is the model's ``image_size``."""
        return sweep.anomaly_maps(self.model, coarse)
