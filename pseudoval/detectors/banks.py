"""Memory banks of other stages and sizes, fitted from the features that MODEL keeps."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lafite_core.bank import MemoryBank
from lafite_core.coreset import greedy_coreset
from lafite_core.features import patches
from lafite_core.model import LafiteModel
from lafite_core.train_features import FEATURES
from pseudoval.data.files import read_npz, sha256_json, write_npz
from pseudoval.detectors.protocol import Parameter
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config

FITS = "fits"
"""Folder in MODEL for what is fitted there later. Its files belong to the model's hash."""

KEEPS = (1, 5, 10, 25, 100)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a bank is fitted with.

    Attributes:
        stages: of the features, counted from 1, ascending.
        rate: share of the patches that the core set keeps; 1 keeps every patch.
    """

    stages: tuple[int, ...]
    rate: float


def keep_parameter(model: LafiteModel) -> Parameter:
    """``keep``: the core set in percent of the training patches."""
    own = round(100 * model.config.edit.keep_rate)
    return Parameter(
        name="keep",
        low=1,
        high=100,
        grid=KEEPS,
        default=min(max(own, 1), 100),
        needs_fit=True,
        meaning="core set kept in the memory bank, in percent of the training patches",
    )


def stages_parameter(model: LafiteModel) -> Parameter | None:
    """``stages``: the digits of the feature stages used; None where a stage has two digits.

    The default grid is every run of neighbouring stages.
    """
    stages = model.config.features.stages
    if max(stages) > 9 or list(stages) != sorted(set(stages)):
        return None
    runs = [stages[i:j] for i in range(len(stages)) for j in range(i + 1, len(stages) + 1)]
    grid = tuple(sorted(int("".join(map(str, run))) for run in runs))
    return Parameter(
        name="stages",
        low=grid[0],
        high=grid[-1],
        grid=grid,
        default=grid[-1],
        needs_fit=True,
        meaning=f"feature stages used, their digits in a row: {grid[-1]} is all of them",
        ordered=False,
    )


class Banks:
    """A model with other banks than its own.

    A bank is fitted when it is first asked for. Which patches it keeps is remembered in
    ``MODEL/fits`` (written atomically, so that a kill loses one fit at most and several processes
    may fit the same), or in memory alone where nothing can be written there.

    Args:
        folder: MODEL, for the training features; None if they are not at hand.
    """

    def __init__(self, model: LafiteModel, folder: Path | None) -> None:
        self.model = model
        self.folder = folder
        self.own = Fit(stages=model.config.features.stages, rate=model.config.edit.keep_rate)
        self._banks: dict[Fit, MemoryBank] = {}

    def fit_of(self, config: Config) -> Fit:
        """What a configuration asks for; what it leaves out is the model's own.

        Raises:
            UserError: ``stages`` are not digits of the model's stages, ascending.
        """
        stages, rate = self.own.stages, self.own.rate
        if "stages" in config:
            stages = tuple(int(digit) for digit in str(int(config["stages"])))
            if not set(stages) <= set(self.own.stages) or list(stages) != sorted(set(stages)):
                known = ", ".join(map(str, self.own.stages))
                raise UserError(
                    f"stages = {config['stages']} cannot be scored; it must be digits of the "
                    f"model's stages ({known}) in rising order, such as {self.own.stages[0]}."
                )
        if "keep" in config:
            rate = int(config["keep"]) / 100
        return Fit(stages=stages, rate=rate)

    def size(self, fit: Fit) -> int:
        """Members of a bank; fewer only where training patches are equal to each other."""
        if fit == self.own:
            return len(self.model.bank)
        return max(1, round(fit.rate * self._patches))

    def model_of(self, fit: Fit, features: Callable[[np.ndarray], Tensor]) -> LafiteModel:
        """The model with that bank, and with the channels of these stages alone.

        Args:
            features: image to the standardised features of all stages, as the model's own.

        Raises:
            UserError: the training features are not in MODEL.
        """
        part = copy.copy(self.model)
        part.bank = self.model.bank if fit == self.own else self.fitted(fit)
        channels = self._channels(fit.stages)
        part.features = lambda image: features(image)[channels]  # type: ignore[method-assign]
        return part

    @property
    def _patches(self) -> int:
        return int(self.model.info["images"]) * self.model.config.features.grid**2

    def _channels(self, stages: tuple[int, ...]) -> Tensor:
        parts, first = [], 0
        for stage, count in zip(self.own.stages, self.model.backbone.channels, strict=True):
            if stage in stages:
                parts.append(torch.arange(first, first + count))
            first += count
        return torch.cat(parts)

    def fitted(self, fit: Fit) -> MemoryBank:
        """A bank fitted with the model's seed, also one like its own.

        Raises:
            UserError: the training features are not in MODEL.
        """
        if fit not in self._banks:
            vectors = self._vectors(fit.stages)
            if fit.rate < 1:
                vectors = vectors[self._picks(fit, vectors).sort().values]
            self._banks[fit] = MemoryBank(vectors, self.model.device)
        return self._banks[fit]

    def _picks(self, fit: Fit, vectors: Tensor) -> Tensor:
        """The core set, from the file of this fit or fitted now."""
        keep = self.size(fit)
        name = f"bank-stages-{''.join(map(str, fit.stages))}-keep-{fit.rate:g}.npz"
        path = self.folder / FITS / name if self.folder else None
        key = sha256_json({"model": self.model.sha256(), "stages": list(fit.stages), "keep": keep})
        if path is not None and path.exists():
            try:
                found = read_npz(path, "A fitted bank")
                if str(found["key"]) == key:
                    return torch.from_numpy(found["picks"])
            except (UserError, KeyError):
                pass  # damaged: fitted again
        device = self.model.device
        picks = greedy_coreset(vectors.to(device), keep, seed=self.model.seed).cpu()
        if path is not None:
            try:
                path.parent.mkdir(exist_ok=True)
                write_npz(path, {"picks": picks.numpy(), "key": np.array(key)})
            except OSError:
                pass  # a MODEL that is read only costs the fit again next time
        return picks

    def _vectors(self, stages: tuple[int, ...]) -> Tensor:
        """Standardised training patches of some stages, ``[N, C]``."""
        where = "in it" if self.folder is None else f"in {self.folder}"
        lacking = UserError(
            f"Other stages or another keep need a new memory bank, and {FEATURES} is not {where} "
            "or is damaged: the training features belong to the model. Train it again."
        )
        if self.folder is None:
            raise lacking
        channels = self._channels(stages)
        first, last = int(channels[0]), int(channels[-1]) + 1
        try:
            with safe_open(self.folder / FEATURES, "pt") as file:
                raw = file.get_slice("features")[:, first:last]  # what is not needed is not read
        except (SafetensorError, OSError):
            raise lacking from None
        if math.prod(raw.shape[2:]) * len(raw) != self._patches:
            raise lacking
        scale = self.model.standardiser
        raw = raw.sub_(scale.mean[first:last, None, None]).div_(scale.std[first:last, None, None])
        return patches(raw[:, channels - first])
