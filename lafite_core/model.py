"""The model as a folder: safetensors plus JSON, readable without running code from it."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lafite_core.backbones import Backbone, make_backbone, state_sha256
from lafite_core.bank import MemoryBank
from lafite_core.config import LafiteConfig
from lafite_core.device import to_device
from lafite_core.errors import LafiteError
from lafite_core.feature_cache import FeatureCache, FeatureSource, feature_settings
from lafite_core.features import FeatureExtractor, Standardiser
from lafite_core.files import read_tensors, replacing, write_tensors
from lafite_core.learning import LEARNERS
from lafite_core.predictor import Predictor
from lafite_core.uniad import Uniad

FORMAT_VERSION = 2
EPOCHS = "epochs"
"""Folder in MODEL for the networks of earlier epochs."""


@dataclass(kw_only=True)
class LafiteModel:
    """Backbone, standardisation, memory bank and the network that reconstructs features.

    Attributes:
        network: a U-Net or UniAD; None in a model that only measures distances to the bank.
        kept: the networks of earlier epochs, by epoch.
        info: JSON-able provenance, kept as it is.
        channels: those of the features that are used, ``[c]`` int64 on the device; None is all.
    """

    config: LafiteConfig
    backbone: Backbone
    standardiser: Standardiser
    bank: MemoryBank
    network: nn.Module | None
    seed: int
    info: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    channels: Tensor | None = None
    kept: dict[int, nn.Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        extractor = FeatureExtractor(self.backbone, self.config.features, self.device)
        self._features = FeatureSource(extractor)
        self._scale = self.standardiser.to(self.device)
        self._digests: dict[str, str] = {}
        self.predictor = None if self.network is None else Predictor(self.network, self.device)
        self._earlier = {n: Predictor(one, self.device) for n, one in self.kept.items()}

    def features(self, images: Sequence[np.ndarray]) -> Tensor:
        """uint8 RGB ``[H, W, 3]`` each to standardised features ``[B, C, grid, grid]``, on the
        device.
        """
        return self.standardised(torch.stack(self._features.find_all(images)))

    def standardised(self, raw: Tensor) -> Tensor:
        """Raw features ``[B, C, grid, grid]`` to standardised ones of the channels that are used,
        on the device.
        """
        found = self._scale(to_device(raw, self.device))
        return found if self.channels is None else found[:, self.channels]

    def with_bank(self, bank: MemoryBank, channels: Tensor) -> "LafiteModel":
        """The same with another memory bank, of some channels alone."""
        other = copy.copy(self)
        other.bank, other._digests = bank, {}
        other.channels = to_device(channels, self.device)
        return other

    def at_epoch(self, epoch: int) -> "LafiteModel":
        """The same with the network of a kept epoch."""
        other = copy.copy(self)
        other.network, other.predictor = self.kept[epoch], self._earlier[epoch]
        return other

    def prepare(self, images: Sequence[Any]) -> None:
        """Have the features of a block of images at hand, extracted side by side.

        Raises:
            LafiteError: the disk with the feature cache is full.
        """
        self._features.prepare(images)

    def use_cache(self, folder: Path | None) -> None:
        """Look for features in a cache and add to it; None keeps nothing on disk."""
        self._features.cache = None
        if folder is not None:
            settings = feature_settings(self.config.features, self.backbone, self.device)
            self._features.cache = FeatureCache(folder, settings)

    def sha256(self) -> str:
        """Hash of everything that a score depends on, and of nothing else."""
        return self._sha256(self.header())

    def _sha256(self, header: Mapping[str, Any]) -> str:
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        if not self._digests:  # weights do not change, and are large
            self._digests = {part: state_sha256(found) for part, found in self.parts().items()}
        for part, known in self._digests.items():
            digest.update(f"{part}:{known}".encode())
        return digest.hexdigest()

    def header(self) -> dict[str, Any]:
        """The JSON side of the model, without ``info``."""
        return {
            "format_version": FORMAT_VERSION,
            "config": self.config.to_json(),
            "seed": self.seed,
        }

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The tensor side of the model by file."""
        backbone = getattr(self.backbone, "network", None)
        network = "uniad" if isinstance(self.network, Uniad) else "unet"
        earlier = {
            f"{EPOCHS}/{network}-{n}": dict(one.state_dict()) for n, one in self.kept.items()
        }
        return {
            "backbone": {} if backbone is None else dict(backbone.state_dict()),
            "bank": {
                "vectors": self.bank.vectors,
                "mean": self.standardiser.mean,
                "std": self.standardiser.std,
            },
            network: {} if self.network is None else dict(self.network.state_dict()),
            **earlier,
        }

    def save(self, folder: Path) -> None:
        """Write into ``folder``; ``model.json`` comes last, so that a half-written one is none.

        Networks of earlier epochs are there already; see ``keep_network``.
        """
        for part, tensors in self.parts().items():
            if tensors and not part.startswith(f"{EPOCHS}/"):
                write_tensors(folder / f"{part}.safetensors", tensors)
        text = json.dumps(
            {**self.header(), "model_sha256": self.sha256(), "info": self.info}, indent=2
        )
        with replacing(folder / "model.json") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "LafiteModel":
        """Read what ``save`` wrote and check it against its own hash.

        Raises:
            LafiteError: a file is missing, damaged, of another format, or was changed.
        """
        found = _read_json(folder / "model.json")
        if found.get("format_version") != FORMAT_VERSION:
            raise LafiteError(
                f"The model in {folder} has format {found.get('format_version')}; this version "
                f"reads {FORMAT_VERSION}. Train it again."
            )
        config = LafiteConfig.from_json(found["config"])
        bank = read_tensors(folder / "bank.safetensors")
        fixed = config.features.backbone == "filterbank"
        model = cls(
            config=config,
            backbone=make_backbone(
                config.features, None if fixed else folder / "backbone.safetensors"
            ),
            standardiser=Standardiser(bank["mean"], bank["std"]),
            bank=MemoryBank(bank["vectors"], device),
            network=_saved_network(config, folder, len(bank["mean"]), device),
            kept=kept_networks(config, folder, len(bank["mean"]), device),
            seed=int(found["seed"]),
            info=found["info"],
            device=device,
        )
        # By the options that are written there: a later version has more, with a default.
        header = {name: found[name] for name in model.header()}
        if model._sha256(header) != found.get("model_sha256"):
            raise LafiteError(
                f"The model in {folder} does not match its hash: a file was changed or cut short. "
                "Train it again or restore it."
            )
        return model


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LafiteError(
            f"There is no finished model in {path.parent} (no {path.name}); train one, or go on "
            "with train --resume."
        ) from None
    except ValueError as error:
        raise LafiteError(f"{path} is damaged: {error}. Train the model again.") from None
    return value


def keep_network(folder: Path, name: str, epoch: int, network: nn.Module) -> None:
    """Write the network of an epoch into a MODEL folder, as ``kept_networks`` finds it."""
    path = folder / EPOCHS / f"{name}-{epoch}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_tensors(path, network.state_dict())


def kept_networks(
    config: LafiteConfig, folder: Path, channels: int, device: str = "cpu"
) -> dict[int, nn.Module]:
    """The networks of ``train.keep_epochs`` that are in a MODEL folder, by epoch."""
    found = {}
    for epoch in config.train.keep_epochs:
        for name in LEARNERS:
            path = folder / EPOCHS / f"{name}-{epoch}.safetensors"
            if path.exists():
                found[epoch] = _network(name, path, config, channels, device)
    return found


def _saved_network(
    config: LafiteConfig, folder: Path, channels: int, device: str
) -> nn.Module | None:
    for name in LEARNERS:
        path = folder / f"{name}.safetensors"
        if path.exists():
            return _network(name, path, config, channels, device)
    return None


def _network(name: str, path: Path, config: LafiteConfig, channels: int, device: str) -> nn.Module:
    network = LEARNERS[name].build(channels, config)
    try:
        # For a GPU, which has a copy, the weights stay in the file, mapped into memory.
        network.load_state_dict(read_tensors(path), assign=device != "cpu")
    except RuntimeError as error:
        raise LafiteError(
            f"The network in {path} does not fit its configuration: {error}"
        ) from None
    return network.eval().requires_grad_(False)
