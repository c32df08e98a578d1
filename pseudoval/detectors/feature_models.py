"""The detectors over ``lafite_core`` models: LafitE itself, and plain nearest neighbours."""

import dataclasses
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lafite_core import sweep
from lafite_core.backbones import Backbone
from lafite_core.config import LafiteConfig
from lafite_core.distributed import Group
from lafite_core.fit import fit
from lafite_core.model import LafiteModel
from lafite_core.step import Notice
from pseudoval import __version__
from pseudoval.data.files import require_folder
from pseudoval.detectors.banks import Banks, keep_parameter, stages_parameter
from pseudoval.detectors.per_category import PerCategoryDetector
from pseudoval.detectors.protocol import Arrays, Block, Detector, Parameter, limited
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config
from pseudoval.models.members import cache_folder, read_members
from pseudoval.models.train import scoring_configuration
from pseudoval.progress import ProgressCallback

K_GRID = (1, 2, 3, 5, 8, 12, 20, 30, 50)
T = Parameter(
    name="t", low=1, high=1000, default=200, needs_fit=False,
    grid=(25, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900),
    meaning="corruption step: how far the features are noised, of 1000",
)  # fmt: skip
K_EDIT = Parameter(
    name="k", low=0, high=10_000, default=5, needs_fit=False, grid=K_GRID,
    meaning="neighbours mixed by feature editing; 0 is no editing",
)  # fmt: skip
K_NEAREST = dataclasses.replace(
    K_EDIT, low=1, meaning="nearest members of the memory bank that a patch is compared with"
)


class FeatureModelDetector:
    """What both detectors share: the model, its provenance and its maps."""

    name: str
    parameters: tuple[Parameter, ...]
    of_all = True

    def __init__(self, model: LafiteModel, seed: int, folder: Path | None = None) -> None:
        self.model = model
        self.banks = Banks(model, folder)
        self.seed = seed
        self.categories: list[str] = list(model.info["categories"])
        self.split_sha256: str | None = model.info["split_sha256"]
        self.refit: Mapping[str, Any] | None = model.info.get("refit")
        self.model_sha256 = model.sha256()
        limits = {"k": len(model.bank), "t": model.config.diffusion.steps}
        self.parameters = (
            *(limited(p, limits[p.name]) for p in self.parameters),
            *self.fitted_parameters(),
        )

    def of(self, category: str) -> Detector:
        """See ``Detector``; all categories share the model."""
        return self

    def fitted_parameters(self) -> list[Parameter]:
        """The parameters whose other values need a new memory bank."""
        return [keep_parameter(self.model)]

    def check(self, config: Config) -> None:
        """See ``Detector``."""
        needed = [p.name for p in self.parameters if not p.needs_fit]
        optional = [p.name for p in self.parameters if p.needs_fit]
        if not set(needed) <= set(config) <= {*needed, *optional}:
            raise UserError(
                f"A configuration of {self.name} has {' and '.join(needed)}, and may have "
                f"{' and '.join(optional)}; not {', '.join(config) or 'nothing'}."
            )
        for parameter in sorted(self.parameters, key=lambda p: not p.needs_fit):
            if parameter.name not in config:
                continue
            value, high = config[parameter.name], parameter.high
            if parameter.name == "k" and set(config) & set(optional):
                high = min(K_EDIT.high, self.banks.size(self.banks.fit_of(config)))
            if not isinstance(value, int) or not parameter.low <= value <= high:
                raise UserError(
                    f"{parameter.name} = {value} cannot be scored; it must be a whole number "
                    f"from {parameter.low} to {high}."
                )

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """See ``Detector``."""
        self.model.prepare(images)
        errors = self.errors(images, configs)
        return Block(scores=sweep.scores(self.model, errors), coarse=errors)

    def errors(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> np.ndarray:
        """Error grids ``[configs, images, h, w]`` float32; those of one bank share their work."""
        fits = [self.banks.fit_of(config) for config in configs]
        if set(fits) == {self.banks.own}:
            return self.errors_of(self.model, images, configs)
        grid = self.model.config.features.grid
        errors = np.empty((len(configs), len(images), grid, grid), dtype=np.float32)
        for one in dict.fromkeys(fits):
            rows = [row for row, other in enumerate(fits) if other == one]
            model = self.banks.model_of(one, self.model.features)
            errors[rows] = self.errors_of(model, images, [configs[row] for row in rows])
        return errors

    def errors_of(
        self, model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[Config]
    ) -> np.ndarray:
        """``errors`` with the bank of a model."""
        raise NotImplementedError

    def fitted(self, config: Config) -> LafiteModel:
        """The model with the memory bank that a configuration asks for."""
        return self.banks.model_of(self.banks.fit_of(config), self.model.features)

    def explain(self, image: np.ndarray, config: Config) -> Arrays:
        """See ``Detector``."""
        return self.explain_all([image], config)[0]

    def explain_all(self, images: Sequence[np.ndarray], config: Config) -> list[Arrays]:
        """See ``ExplainsTogether``."""
        raise NotImplementedError

    def render(self, coarse: np.ndarray) -> np.ndarray:
        """See ``Detector``; the side is the model's ``image_size``."""
        return sweep.anomaly_maps(self.model, coarse)

    def provenance(self) -> dict[str, Any]:
        """See ``Detector``."""
        return {
            "detector": self.name,
            "model_sha256": self.model_sha256,
            "split_sha256": self.split_sha256,
            "seed": self.seed,
            "map_side": self.model.config.features.image_size,
        }


class LafiteDetector(FeatureModelDetector):
    """LafitE; a configuration is ``{"t": 200, "k": 5}``, and ``k = 0`` means no editing.

    ``keep`` may be added: a memory bank for editing of so many percent of the training patches.
    """

    name = "lafite"
    parameters = (T, K_EDIT)

    def errors_of(
        self, model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[Config]
    ) -> np.ndarray:
        """L2 distance of the reconstruction to the original features."""
        pairs = [(int(config["t"]), int(config["k"])) for config in configs]
        return sweep.lafite_errors(model, images, pairs, self.seed)

    def explain_all(self, images: Sequence[np.ndarray], config: Config) -> list[Arrays]:
        """See ``ExplainsTogether``.

        Also, in standardised features ``[C, h, w]``: ``features``, ``features_noised`` (the same
        at step ``large_t``, the largest of the default grid) and ``reconstruction``.
        """
        t, k = int(config["t"]), int(config["k"])
        large = max(self.parameters[0].grid, default=self.parameters[0].high)
        found = sweep.explain(self.fitted(config), images, t, k, self.seed, noised_t=large)
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


class KnnDetector(FeatureModelDetector):
    """Mean distance of each patch to its K nearest memory-bank members; no diffusion.

    A configuration is ``{"k": 5}``. ``stages`` may be added, to use the channels of these feature
    stages alone, and ``keep``, the core set in percent of the training patches.
    """

    name = "knn"
    parameters = (K_NEAREST,)

    def fitted_parameters(self) -> list[Parameter]:
        """See ``FeatureModelDetector``."""
        stages = stages_parameter(self.model)
        return [keep_parameter(self.model), *([stages] if stages else [])]

    def errors_of(
        self, model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[Config]
    ) -> np.ndarray:
        """Mean distance to the K nearest members."""
        return sweep.knn_errors(model, images, [int(config["k"]) for config in configs])

    def explain_all(self, images: Sequence[np.ndarray], config: Config) -> list[Arrays]:
        """See ``ExplainsTogether``; without editing there is one error map, under both names."""
        return [
            {"map": self.render(error[None])[0], "error_plain": error, "error_edited": error}
            for error in self.errors(images, [config])[0]
        ]


DETECTORS = {"lafite": LafiteDetector, "knn": KnnDetector}


def fit_detector(
    detector: str,
    images: Iterable[np.ndarray],
    keys: Sequence[str],
    config: LafiteConfig,
    backbone: Backbone,
    folder: Path,
    *,
    categories: Sequence[str],
    split_sha256: str | None,
    seed: int,
    device: str,
    resume: bool,
    progress: ProgressCallback,
    notice: Notice | None,
    group: Group,
    info: Mapping[str, Any],
    cache: Path | None = None,
) -> LafiteModel:
    """Fit a detector on normal images and write its MODEL folder; see ``lafite_core.fit.fit``."""
    return fit(
        images,
        keys,
        config,
        backbone,
        folder,
        seed=seed,
        diffusion=detector == "lafite",
        device=device,
        resume=resume,
        progress=progress,
        notice=notice,
        group=group,
        info={
            "detector": detector,
            "categories": list(categories),
            "split_sha256": split_sha256,
            "package_version": __version__,
            "python": platform.python_version(),
            **info,
        },
        cache=cache,
    )


def open_detector(
    folder: Path,
    *,
    seed: int | None,
    device: str = "cpu",
    cache: Path | bool = True,
    settings: Mapping[str, str] | None = None,
) -> Detector:
    """The detector in a MODEL folder: one model, or one model per category.

    Args:
        seed: of the noise that scoring draws; None is that of the run that a refitted model was
            chosen by, else the model's own.
        settings: options to score with instead of the model's own; see
            ``pseudoval.models.train.scoring_configuration``.
        cache: folder of the feature cache; True is that of the MODEL, False is none.

    Raises:
        UserError: not a MODEL folder, of an unknown detector, or models of several seeds; or an
            option that is not one of scoring.
        LafiteError: a model in it is unfinished, damaged or of another format.
    """
    require_folder(folder, "model", "pseudoval train")
    members = read_members(folder)
    place = cache_folder(folder, cache)
    if members is None:
        return _open_single(folder, seed, device, place, settings)
    if members.kind == "seeds":
        places = ", ".join(str(folder / place) for place in members.folders.values())
        raise UserError(f"{folder} holds models of several seeds; name one of them: {places}.")
    return PerCategoryDetector(
        {
            c: _open_single(folder / f, seed, device, place, settings)
            for c, f in members.folders.items()
        }
    )


def open_detectors(
    folder: Path,
    *,
    seed: int | None,
    device: str = "cpu",
    cache: Path | bool = True,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Detector]:
    """The detectors of every seed in a MODEL folder by name, such as ``seed-0``.

    A MODEL of one seed has the name ``""``. Arguments and errors as in ``open_detector``.
    """
    require_folder(folder, "model", "pseudoval train")
    members = read_members(folder)
    if members is None or members.kind != "seeds":
        own = open_detector(folder, seed=seed, device=device, cache=cache, settings=settings)
        return {"": own}
    return {
        name: open_detector(
            folder / place, seed=seed, device=device, cache=cache, settings=settings
        )
        for name, place in members.folders.items()
    }


def _open_single(
    folder: Path,
    seed: int | None,
    device: str,
    cache: Path | None,
    settings: Mapping[str, str] | None,
) -> Detector:
    model = LafiteModel.load(folder, device)
    model.use_cache(cache)
    if settings:
        model.config = scoring_configuration(model.config, settings)
    name = model.info.get("detector")
    if name not in DETECTORS:
        raise UserError(f"{folder} holds a model of an unknown detector {name!r}; train it again.")
    if seed is None:
        seed = int((model.info.get("refit") or {}).get("seed", model.seed))
    return DETECTORS[name](model, seed, folder)
