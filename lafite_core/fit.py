"""From normal images to a model: features, core set, diffusion training; each part resumable."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lafite_core.backbones import Backbone, state_sha256
from lafite_core.bank import MemoryBank
from lafite_core.config import LafiteConfig
from lafite_core.errors import LafiteError
from lafite_core.features import FeatureExtractor, Standardiser, patches
from lafite_core.model import LafiteModel, Progress
from lafite_core.train import train_unet
from lafite_core.unet import UNet

FEATURES = "train_features.safetensors"
CHECKPOINT = "checkpoint.safetensors"


def fit(
    images: Iterable[np.ndarray],
    keys: Sequence[str],
    config: LafiteConfig,
    backbone: Backbone,
    folder: Path,
    *,
    seed: int,
    diffusion: bool = True,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
    info: dict[str, Any] | None = None,
) -> LafiteModel:
    """Fit a model on normal images and write it to ``folder``.

    The standardised training features stay in the folder, so that another bank or head can be
    fitted without the images.

    Args:
        images: uint8 RGB ``[H, W, 3]`` each; read only if the features are not there yet.
        keys: one content hash per image, in the same order.
        backbone: of ``make_backbone`` for ``config.features``.
        diffusion: False leaves the noise predictor out.
        resume: go on from the features and the checkpoint in the folder.
        info: provenance written to the model as it is.

    Raises:
        LafiteError: there are no images; see ``train_unet`` for the rest.
    """
    if not keys:
        raise LafiteError("There are no normal images to train on.")
    report = progress or _silent
    raw = _features(images, keys, config, backbone, folder, device, resume, report)
    standardiser = Standardiser.fit(raw)
    features = standardiser(raw)
    vectors = patches(features)
    keep = max(1, round(config.edit.keep_rate * len(vectors)))
    bank = MemoryBank.build(
        vectors, config.edit, seed=seed, advance=_counter(report, "core set", keep)
    )
    unet: UNet | None = None
    losses: list[float] = []
    if diffusion:
        unet, losses = train_unet(
            features,
            config,
            seed=seed,
            device=device,
            checkpoint=folder / CHECKPOINT,
            key=_digest({"config": config.to_json(), "keys": list(keys), "seed": seed}),
            resume=resume,
            hook=lambda done, total, loss: report(f"training, loss {loss:.4f}", done, total),
        )
    model = LafiteModel(
        config=config,
        backbone=backbone,
        standardiser=standardiser,
        bank=bank,
        unet=unet,
        seed=seed,
        info={**(info or {}), "images": len(keys), "losses": losses},
        device=device,
    )
    model.save(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return model


def _features(
    images: Iterable[np.ndarray],
    keys: Sequence[str],
    config: LafiteConfig,
    backbone: Backbone,
    folder: Path,
    device: str,
    resume: bool,
    report: Progress,
) -> Tensor:
    """Raw features ``[N, C, grid, grid]``, from the folder if they are these images' features."""
    path = folder / FEATURES
    key = _digest(
        {
            "features": config.to_json()["features"],
            "weights": state_sha256(backbone.state_dict()),
            "keys": list(keys),
        }
    )
    if resume and path.exists():
        try:
            with safe_open(path, "pt") as file:
                if (file.metadata() or {}).get("key") == key:
                    return file.get_tensor("features")
        except (SafetensorError, OSError):
            pass  # cut short: computed again below
    extractor = FeatureExtractor(backbone, config.features, device)
    step = _counter(report, "features", len(keys))
    features = extractor.extract_all(images, len(keys), lambda: step(1))
    temporary = path.with_suffix(".tmp")
    save_file({"features": features}, temporary, {"key": key})
    temporary.replace(path)
    return features


def _counter(report: Progress, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(name, done, total)

    return advance


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _silent(name: str, done: int, total: int) -> None:
    pass
