"""The model as a folder: safetensors plus JSON, readable without running code from it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lafite_core.backbones import Backbone, make_backbone, state_sha256
from lafite_core.bank import MemoryBank
from lafite_core.config import LafiteConfig
from lafite_core.errors import LafiteError
from lafite_core.feature_cache import FeatureCache, FeatureSource, feature_settings
from lafite_core.features import FeatureExtractor, Standardiser
from lafite_core.files import replacing
from lafite_core.unet import UNet

FORMAT_VERSION = 2


@dataclass(kw_only=True)
class LafiteModel:
    """Backbone, standardisation, memory bank and noise predictor.

    Attributes:
        unet: None in a model that only measures distances to the bank.
        info: JSON-able provenance, kept as it is.
        piece: trajectories that a GPU's memory was found to hold at once; None is a whole batch.
    """

    config: LafiteConfig
    backbone: Backbone
    standardiser: Standardiser
    bank: MemoryBank
    unet: UNet | None
    seed: int
    info: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    piece: int | None = None

    def __post_init__(self) -> None:
        extractor = FeatureExtractor(self.backbone, self.config.features, self.device)
        self._features = FeatureSource(extractor)
        if self.unet is not None:
            self.unet.to(self.device)

    def features(self, image: Any) -> Tensor:
        """uint8 RGB ``[H, W, 3]`` to standardised features ``[C, grid, grid]`` on the CPU."""
        return self.standardiser(self._features(image))

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
        digest = hashlib.sha256(json.dumps(self.header(), sort_keys=True).encode())
        for part, tensors in self.parts().items():
            digest.update(f"{part}:{state_sha256(tensors)}".encode())
        return digest.hexdigest()

    def header(self) -> dict[str, Any]:
        """The JSON side of the model, without ``info``."""
        return {
            "format_version": FORMAT_VERSION,
            "config": json.loads(json.dumps(self.config.to_json())),
            "seed": self.seed,
        }

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The tensor side of the model by file."""
        network = getattr(self.backbone, "network", None)
        return {
            "backbone": {} if network is None else dict(network.state_dict()),
            "bank": {
                "vectors": self.bank.vectors,
                "mean": self.standardiser.mean,
                "std": self.standardiser.std,
            },
            "unet": {} if self.unet is None else dict(self.unet.state_dict()),
        }

    def save(self, folder: Path) -> None:
        """Write into ``folder``; ``model.json`` comes last, so that a half-written one is none."""
        for part, tensors in self.parts().items():
            if tensors:
                save_tensors(folder / f"{part}.safetensors", tensors)
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
        bank = _load_tensors(folder / "bank.safetensors")
        fixed = config.features.backbone == "filterbank"
        model = cls(
            config=config,
            backbone=make_backbone(
                config.features, None if fixed else folder / "backbone.safetensors"
            ),
            standardiser=Standardiser(bank["mean"], bank["std"]),
            bank=MemoryBank(bank["vectors"], device),
            unet=_saved_unet(config, folder, len(bank["mean"])),
            seed=int(found["seed"]),
            info=found["info"],
            device=device,
        )
        if model.sha256() != found.get("model_sha256"):
            raise LafiteError(
                f"The model in {folder} does not match its hash: a file was changed or cut short. "
                "Train it again or restore it."
            )
        return model


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    # Contiguous in the default layout: channels-last is how they are used, not what they are.
    plain = {
        name: t.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, t in tensors.items()
    }
    with replacing(path) as temporary:
        save_file(plain, temporary)


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


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LafiteError(f"The model file {path} cannot be read: {error}.") from None
    return tensors


def _saved_unet(config: LafiteConfig, folder: Path, channels: int) -> UNet | None:
    path = folder / "unet.safetensors"
    if not path.exists():
        return None
    unet = UNet(channels, config.unet)
    try:
        unet.load_state_dict(_load_tensors(path))
    except RuntimeError as error:
        raise LafiteError(
            f"The network in {path} does not fit its configuration: {error}"
        ) from None
    return unet.eval().requires_grad_(False)
