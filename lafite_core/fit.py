"""From normal images to a model: features, core set, diffusion training; each part resumable."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from lafite_core.backbones import Backbone, state_sha256
from lafite_core.bank import MemoryBank, kept
from lafite_core.config import LafiteConfig
from lafite_core.coreset import sharded_coreset, sharded_picks, shards_needed
from lafite_core.distributed import ALONE, Group
from lafite_core.errors import LafiteError
from lafite_core.feature_cache import FeatureCache, feature_settings
from lafite_core.feature_source import FeatureSource
from lafite_core.features import FeatureExtractor, Standardiser, standardised_patches
from lafite_core.files import is_full
from lafite_core.model import LafiteModel, Progress
from lafite_core.step import Notice
from lafite_core.train import train_unet
from lafite_core.train_features import FEATURES, read_features, writing_features
from lafite_core.unet import UNet

CHECKPOINT = "checkpoint.safetensors"
LOSSES = "losses.csv"

# Options that change how the work is done and not what comes out: a training may go on with others.
WORKING = ("checkpoint_seconds", "micro_batch", "compile")


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
    notice: Notice | None = None,
    group: Group = ALONE,
    info: dict[str, Any] | None = None,
    cache: Path | None = None,
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
        notice: told what a user should know, such as a smaller micro-batch.
        group: the processes that train together. The first one extracts, picks and writes; the
            others train along, and return the same model.
        info: provenance written to the model as it is.
        cache: folder of a ``FeatureCache``; None keeps no features but those in ``folder``.

    Raises:
        LafiteError: there are no images; see ``train_unet`` for the rest.
    """
    if not keys:
        raise LafiteError("There are no normal images to train on.")
    report = progress or _silent
    if group.leads:
        raw = _features(images, keys, config, backbone, folder, device, resume, report, cache)
        bank = _bank(raw, config, seed, device, report, notice or _silent)
    group.wait()
    if not group.leads:
        raw = _features((), keys, config, backbone, folder, device, True, report)
    standardiser = Standardiser.fit(raw, config.features.normalise)
    unet: UNet | None = None
    facts: dict[str, Any] = {"losses": []}
    if diffusion:
        trained = train_unet(
            standardiser(raw),
            config,
            seed=seed,
            device=device,
            checkpoint=folder / CHECKPOINT,
            key=_training_key(config, keys, seed),
            resume=resume,
            hook=lambda done, total, loss: report(f"training, loss {loss:.4f}", done, total),
            log=folder / LOSSES,
            group=group,
            notice=notice,
        )
        unet, facts = trained.unet, {"losses": trained.losses, "training": trained.how}
    if not group.leads:
        group.wait()
        return LafiteModel.load(folder, device)
    model = LafiteModel(
        config=config,
        backbone=backbone,
        standardiser=standardiser,
        bank=bank,
        unet=unet,
        seed=seed,
        info={**(info or {}), "images": len(keys), **facts},
        device=device,
    )
    model.save(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    group.wait()
    return model


def _bank(
    raw: Tensor, config: LafiteConfig, seed: int, device: str, report: Progress, notice: Notice
) -> MemoryBank:
    standardiser = Standardiser.fit(raw, config.features.normalise)
    cells = raw.shape[2] * raw.shape[3]
    count = len(raw) * cells
    keep = kept(count, config.edit)
    shards = min(len(raw), shards_needed(count, keep, raw.shape[1], device))
    if shards == 1 or keep == count:
        vectors = standardised_patches(raw, standardiser)
        step = _counter(report, "core set", keep)
        return MemoryBank.build(vectors, config.edit, seed=seed, device=device, advance=step)
    notice(
        f"An exact core set of {keep} of {count} patches would take more than an hour or half of "
        f"the memory; it is picked in {shards} parts, with a slightly larger radius."
    )
    sizes = [len(raw[first::shards]) * cells for first in range(shards)]
    found, numbers = sharded_coreset(
        [partial(_shard, raw, standardiser, first, shards) for first in range(shards)],
        count,
        keep,
        seed=seed,
        device=device,
        advance=_counter(report, "core set", sharded_picks(sizes, keep)),
    )
    return MemoryBank(found[numbers.argsort()], device)


def _shard(
    raw: Tensor, standardiser: Standardiser, first: int, shards: int
) -> tuple[Tensor, Tensor]:
    """Every ``shards``-th image from ``first`` on: patches and their numbers among all."""
    cells = raw.shape[2] * raw.shape[3]
    images = torch.arange(first, len(raw), shards)
    numbers = images[:, None] * cells + torch.arange(cells)
    return standardised_patches(raw[first::shards], standardiser), numbers.reshape(-1)


def _training_key(config: LafiteConfig, keys: Sequence[str], seed: int) -> str:
    """What a checkpoint belongs to."""
    options = config.to_json()
    for name in WORKING:
        del options["train"][name]
    return _digest({"config": options, "keys": list(keys), "seed": seed})


def _features(
    images: Iterable[np.ndarray],
    keys: Sequence[str],
    config: LafiteConfig,
    backbone: Backbone,
    folder: Path,
    device: str,
    resume: bool,
    report: Progress,
    cache: Path | None = None,
) -> Tensor:
    """Raw features ``[N, C, grid, grid]``, from the folder if they are these images' features.

    They are memory-mapped from the file, and written to it image by image.
    """
    path = folder / FEATURES
    key = _digest(
        {
            "features": config.to_json()["features"],
            "weights": state_sha256(backbone.state_dict()),
            "keys": list(keys),
        }
    )
    if resume and (found := read_features(path, key)) is not None:
        return found
    extractor = FeatureExtractor(backbone, config.features, device)
    source = FeatureSource(extractor)
    if cache is not None:
        source.cache = FeatureCache(cache, feature_settings(config.features, backbone, device))
    step = _counter(report, "features", len(keys))
    grid = config.features.grid
    try:
        with writing_features(path, (len(keys), extractor.channels, grid, grid), key) as append:
            for features in source.stream(images):
                append(features)
                step(1)
    except OSError as error:
        if not is_full(error):
            raise
        raise LafiteError(
            f"The disk is full: {path} cannot be written. Free some space and go on with --resume."
        ) from None
    with safe_open(path, "pt") as file:
        return file.get_tensor("features")


def _counter(report: Progress, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(name, done, total)

    return advance


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _silent(*_: object) -> None:
    pass
