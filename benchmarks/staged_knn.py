"""Nearest neighbours on subsets of a model's feature stages, all of them from one extraction."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from lafite_core import sweep
from lafite_core.backbones import Backbone
from lafite_core.bank import MemoryBank
from lafite_core.features import Standardiser, patches
from lafite_core.fit import FEATURES
from lafite_core.model import LafiteModel, save_tensors
from pseudoval.detectors.feature_models import K_NEAREST, FeatureModelDetector
from pseudoval.detectors.protocol import Parameter, limited
from pseudoval.errors import UserError
from pseudoval.files import sha256_json
from pseudoval.progress import ProgressCallback
from pseudoval.scores import Config
from pseudoval.sweep import BLOCK_IMAGES

REMEMBERED = 2 * BLOCK_IMAGES
"""Images whose maps are kept, 2 MB each: those of a block are asked for once for each fit."""


def stage_subsets(stages: Sequence[int]) -> list[int]:
    """Every run of consecutive stages, written by its digits, ascending: 1, 2, 3, 12, 23, 123.

    Fewer stages come before more, and earlier before later: that is what 'cheapest' means of
    them, since a network is cut after the last stage that is used.
    """
    starts = range(len(stages))
    runs = [stages[i : j + 1] for i in starts for j in starts if j >= i]
    return sorted(int("".join(map(str, run))) for run in runs)


class StagedKnn(FeatureModelDetector):
    """``knn`` with a second parameter, ``stages``, whose fits share one extraction.

    A score is that of a ``knn`` model trained with ``features.stages`` of those stages and the
    same seed.

    Args:
        fits: model by stages, written by their digits; the largest number is all stages.
        seed: of the core sets.
    """

    name = "knn"

    def __init__(self, fits: Mapping[int, LafiteModel], seed: int) -> None:
        self.fits = dict(sorted(fits.items()))
        every = max(self.fits)
        self.model = self.fits[every]
        self.seed = seed
        self.categories = list(self.model.info["categories"])
        self.split_sha256 = self.model.info["split_sha256"]
        self.refit = None
        self.model_sha256 = sha256_json([fit.sha256() for fit in self.fits.values()])
        stages = Parameter(
            name="stages",
            low=min(self.fits),
            high=every,
            grid=tuple(self.fits),
            default=every,
            needs_fit=True,
            meaning="stages of the backbone whose features are compared, by their digits",
        )
        members = min(len(fit.bank) for fit in self.fits.values())
        self.parameters = (limited(K_NEAREST, members), stages)

    def errors(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> np.ndarray:
        """Mean distance to the K nearest members of the bank of the configuration's stages."""
        wanted: dict[int, list[int]] = {}
        for row, config in enumerate(configs):
            wanted.setdefault(int(config["stages"]), []).append(row)
        grid = self.model.config.features.grid
        errors = np.empty((len(configs), len(images), grid, grid), dtype=np.float32)
        for stages, rows in wanted.items():
            depths = [int(configs[row]["k"]) for row in rows]
            errors[rows] = sweep.knn_errors(self.fits[stages], images, depths)
        return errors


def staged_knn(
    folder: Path, work: Path, *, seed: int, progress: ProgressCallback | None = None
) -> StagedKnn:
    """Fit nearest neighbours on every run of consecutive stages of the model in ``folder``.

    Args:
        folder: a MODEL with its training features.
        work: core sets are kept here and taken up again.
        seed: of the core sets.

    Raises:
        UserError: the model lacks its training features.
    """
    base = LafiteModel.load(folder)
    path = folder / FEATURES
    if not path.is_file():
        raise UserError(f"{folder} lacks {FEATURES}; train the model again.")
    raw = load_file(path)["features"]  # [N, C, grid, grid]
    identity = base.sha256()[:16]
    shared = _KnownMaps(base.backbone)
    all_stages = list(base.config.features.stages)
    ends = np.cumsum(base.backbone.channels).tolist()
    subsets = stage_subsets(all_stages)
    fits: dict[int, LafiteModel] = {}
    for count, subset in enumerate(subsets):
        places = [all_stages.index(int(digit)) for digit in str(subset)]
        first = ends[places[0]] - base.backbone.channels[places[0]]
        part = raw[:, first : ends[places[-1]]]
        standardiser = Standardiser.fit(part, base.config.features.normalise)
        kept = work / f"{identity}-{seed}-{subset}.safetensors"
        if not kept.is_file():
            bank = MemoryBank.build(patches(standardiser(part)), base.config.edit, seed=seed)
            kept.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(kept, {"vectors": bank.vectors})
        features = replace(base.config.features, stages=tuple(all_stages[i] for i in places))
        fits[subset] = LafiteModel(
            config=replace(base.config, features=features),
            backbone=_SomeStages(shared, places),
            standardiser=standardiser,
            bank=MemoryBank(load_file(kept)["vectors"]),
            unet=None,
            seed=seed,
            info=base.info,
        )
        if progress is not None:
            progress(f"core sets of seed {seed}", count + 1, len(subsets))
    return StagedKnn(fits, seed)


class _KnownMaps:
    """A backbone that remembers the maps of the last images, for several models in turn."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._maps: dict[bytes, list[Tensor]] = {}
        self._lock = threading.Lock()

    def __call__(self, images: Tensor) -> list[Tensor]:
        key = hashlib.sha256(images.contiguous().numpy().tobytes()).digest()
        found = self._maps.get(key)
        if found is None:
            found = self.backbone(images)
            with self._lock:
                self._maps[key] = found
                while len(self._maps) > REMEMBERED:
                    del self._maps[next(iter(self._maps))]
        return found


class _SomeStages:
    """Some of the stages of a shared backbone; see ``lafite_core.backbones.Backbone``."""

    def __init__(self, shared: _KnownMaps, places: Sequence[int]) -> None:
        self._shared, self._places = shared, list(places)
        self.channels = [shared.backbone.channels[place] for place in places]
        self.mean, self.std = shared.backbone.mean, shared.backbone.std
        self.network = getattr(shared.backbone, "network", None)

    def __call__(self, images: Tensor) -> list[Tensor]:
        maps = self._shared(images)
        return [maps[place] for place in self._places]

    def state_dict(self) -> dict[str, Tensor]:
        return self._shared.backbone.state_dict()
