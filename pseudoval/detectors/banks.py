"""Memory banks of other backbone levels and sizes, fitted from the features that MODEL keeps."""

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lafite_core.bank import MemoryBank
from lafite_core.coreset import greedy_coreset
from lafite_core.features import Standardiser, standardised_patches
from lafite_core.model import LafiteModel
from lafite_core.train_features import FEATURES
from pseudoval.data.files import read_npz, sha256_json, write_npz
from pseudoval.detectors.levels import levels_of
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
        levels: of the backbone whose features are used, counted from 1, ascending.
        rate: share of the patches that the core set keeps; 1 keeps every patch.
        epoch: whose network reconstructs; 0 is the last. The bank does not depend on it.
    """

    levels: tuple[int, ...]
    rate: float
    epoch: int = 0

    @property
    def of_bank(self) -> "Fit":
        """The same whatever the epoch."""
        return replace(self, epoch=0)


def epoch_parameters(model: LafiteModel) -> list[Parameter]:
    """``epoch``, where earlier ones than the last were kept, or the training stopped at one."""
    last = len(model.info.get("losses", ()))
    if not model.kept and not model.config.train.stop_epoch:
        return []
    return [
        Parameter(
            name="epoch",
            low=1,
            high=last,
            grid=tuple(sorted({*model.kept, last})),
            default=last,
            needs_fit=True,
            meaning="after which epoch of the training the network is taken",
        )
    ]


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


class Banks:
    """A model with other banks than its own.

    A bank is fitted when it is first asked for. Which patches it keeps is remembered in
    ``MODEL/fits`` (written atomically, so that a kill loses one fit at most and several processes
    may fit the same), or in memory alone where nothing can be written there.

    Args:
        folder: MODEL, for the training features.
    """

    def __init__(self, model: LafiteModel, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self.own = Fit(levels=model.config.features.stages, rate=model.config.edit.keep_rate)
        self._members: dict[Fit, Tensor] = {}
        self._banks: dict[Fit, MemoryBank] = {}

    def fit_of(self, config: Config) -> Fit:
        """What a configuration asks for; what it leaves out is the model's own.

        Raises:
            UserError: ``stages`` are not digits of the model's levels, ascending.
        """
        levels = levels_of("stages", config, self.own.levels)
        rate = self.own.rate
        if "keep" in config:
            rate = float(config["keep"]) / 100
        epoch = int(config.get("epoch", 0))
        return Fit(levels=levels, rate=rate, epoch=epoch if epoch in self.model.kept else 0)

    def size(self, fit: Fit) -> int:
        """Members of a bank; fewer only where training patches are equal to each other."""
        if fit.of_bank == self.own:
            return len(self.model.bank)
        return max(1, round(fit.rate * self._patches))

    def model_of(self, fit: Fit) -> LafiteModel:
        """The model with that bank, and with the channels of these levels alone.

        Raises:
            UserError: the training features are not in MODEL.
        """
        model = self.model.at_epoch(fit.epoch) if fit.epoch else self.model
        if fit.of_bank == self.own:
            return model
        return model.with_bank(self.fitted(fit.of_bank), self._channels(fit.levels))

    @property
    def _patches(self) -> int:
        return int(self.model.info["images"]) * self.model.config.features.grid**2

    def _channels(self, levels: tuple[int, ...]) -> Tensor:
        counts = torch.tensor(self.model.backbone.channels)
        used = torch.tensor([level in levels for level in self.own.levels])
        return used.repeat_interleave(counts).nonzero()[:, 0]

    def fitted(self, fit: Fit) -> MemoryBank:
        """A bank fitted with the model's seed, also one like its own.

        A GPU holds one of them at a time, for a study may ask for any number.

        Raises:
            UserError: the training features are not in MODEL.
        """
        if fit not in self._members:
            vectors = self._vectors(fit.levels)
            if fit.rate < 1:
                vectors = vectors[self._picks(fit, vectors).sort().values]
            self._members[fit] = vectors
        if fit not in self._banks:
            if self.model.device != "cpu":
                self._banks.clear()
            self._banks[fit] = MemoryBank(self._members[fit], self.model.device)
        return self._banks[fit]

    def is_kept(self, fit: Fit) -> bool:
        """Whether nothing has to be picked for a bank, or its file is there."""
        return fit.of_bank == self.own or fit.rate == 1 or self._path(fit).exists()

    def _path(self, fit: Fit) -> Path:
        levels = "".join(map(str, fit.levels))
        return self.folder / FITS / f"bank-stages-{levels}-keep-{fit.rate:g}.npz"

    def _picks(self, fit: Fit, vectors: Tensor) -> Tensor:
        """The core set, from the file of this fit or fitted now."""
        keep, path = self.size(fit), self._path(fit)
        key = sha256_json({"model": self.model.sha256(), "stages": list(fit.levels), "keep": keep})
        if path.exists():
            try:
                found = read_npz(path, "A fitted bank")
                if str(found["key"]) == key:
                    return torch.from_numpy(found["picks"])
            except (UserError, KeyError):
                pass  # damaged: fitted again
        picks = greedy_coreset(vectors, keep, seed=self.model.seed, device=self.model.device)
        with suppress(OSError):  # a MODEL that is read only costs the fit again next time
            path.parent.mkdir(exist_ok=True)
            write_npz(path, {"picks": picks.numpy(), "key": np.array(key)})
        return picks

    def _vectors(self, levels: tuple[int, ...]) -> Tensor:
        """Standardised training patches of some levels, ``[N, C]``."""
        channels, scale = self._channels(levels), self.model.standardiser
        first, last = int(channels[0]), int(channels[-1]) + 1
        raw = training_features(self.folder, slice(first, last))
        if math.prod(raw.shape[2:]) * len(raw) != self._patches:
            raise lacking_features(self.folder)
        part = Standardiser(scale.mean[channels], scale.std[channels])
        return standardised_patches(raw[:, channels - first], part)


def training_features(folder: Path, channels: slice = slice(None)) -> Tensor:
    """The features that the model in a folder was trained with, before standardisation.

    Returns:
        ``[N, c, h, w]`` float32; of all channels they are mapped into memory and read when used.

    Raises:
        UserError: they are not there, or damaged.
    """
    try:
        with safe_open(folder / FEATURES, "pt") as file:
            if channels == slice(None):
                whole: Tensor = file.get_tensor("features")
                return whole
            part: Tensor = file.get_slice("features")[:, channels]
            return part  # what is not needed is not read
    except (SafetensorError, OSError):
        raise lacking_features(folder) from None


def lacking_features(folder: Path) -> UserError:
    """What is said where the training features are not in MODEL."""
    return UserError(
        f"{FEATURES} is not in {folder} or is damaged: another bank, and errors in units of those "
        "of normal images, are found with the training features, which belong to the model. Train "
        "it again."
    )
