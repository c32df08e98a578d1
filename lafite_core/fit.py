"""From normal images to a model: features, core set, a network; each part resumable."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from lafite_core.backbones import Backbone, state_sha256
from lafite_core.bank import MemoryBank, kept
from lafite_core.config import FeatureConfig, LafiteConfig
from lafite_core.coreset import sharded_coreset, sharded_picks, shards_needed
from lafite_core.distributed import ALONE, Group
from lafite_core.errors import LafiteError
from lafite_core.feature_cache import FeatureCache, FeatureSource, feature_settings
from lafite_core.features import FeatureExtractor, Standardiser, standardised_patches
from lafite_core.files import json_sha256, refusing_full_disk
from lafite_core.model import LafiteModel, keep_network, kept_networks
from lafite_core.parallel import single_threaded
from lafite_core.progress import Notice, Progress, silent
from lafite_core.train import train_network
from lafite_core.train_features import FEATURES, read_features, writing_features

CHECKPOINT = "checkpoint.safetensors"
LOSSES = "losses.csv"

# Options that change how the work is done and not what comes out: a training may go on with others.
WORKING = ("checkpoint_seconds", "micro_batch", "compile")


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What a model is fitted with, and where it is written.

    Attributes:
        keys: one content hash per image, in the order of the images.
        backbone: of ``make_backbone`` for ``config.features``.
        folder: gets the model, and the training features, so that another bank or head can be
            fitted without the images.
        network: what is trained on the features, a name in ``LEARNERS``; None is nothing.
        resume: go on from the features and the checkpoint in the folder.
        cache: folder of a ``FeatureCache``; None keeps no features but those in ``folder``.
        group: the processes that train together. The first one extracts, picks and writes; the
            others train along, and return the same model.
        info: provenance written to the model as it is.
    """

    keys: Sequence[str]
    config: LafiteConfig
    backbone: Backbone
    folder: Path
    seed: int
    network: str | None = "unet"
    device: str = "cpu"
    resume: bool = False
    cache: Path | None = None
    group: Group = ALONE
    info: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = silent
    notice: Notice = silent


def fit(images: Iterable[np.ndarray], request: FitRequest) -> LafiteModel:
    """Fit a model on normal images and write it to a folder.

    Args:
        images: uint8 RGB ``[H, W, 3]`` each; read only if the features are not there yet.

    Raises:
        LafiteError: there are no images; see ``train_network`` for the rest.
    """
    if not request.keys:
        raise LafiteError("There are no normal images to train on.")
    config, folder, group = request.config, request.folder, request.group
    if group.leads:
        raw = _features(images, request)
        standardiser = _standardiser(raw, request)
        bank = _bank(raw, standardiser, request)
    group.wait()
    if not group.leads:
        raw = _features((), dataclasses.replace(request, resume=True))
        standardiser = _standardiser(raw, request)
    network: nn.Module | None = None
    facts: dict[str, Any] = {"losses": []}
    if request.network is not None:
        trained = train_network(
            standardiser(raw),
            config,
            network=request.network,
            seed=request.seed,
            device=request.device,
            checkpoint=folder / CHECKPOINT,
            key=_training_key(request),
            resume=request.resume,
            hook=lambda n, total, loss: request.progress(f"training, loss {loss:.4f}", n, total),
            keep=partial(keep_network, folder, request.network),
            log=folder / LOSSES,
            group=group,
            notice=request.notice,
        )
        network, facts = trained.network, {"losses": trained.losses, "training": trained.how}
    if not group.leads:
        group.wait()
        return LafiteModel.load(folder, request.device)
    model = LafiteModel(
        config=config,
        backbone=request.backbone,
        standardiser=standardiser,
        bank=bank,
        network=network,
        kept=kept_networks(config, folder, raw.shape[1]),
        seed=request.seed,
        info={**request.info, "images": len(request.keys), **facts},
        device=request.device,
    )
    model.save(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    group.wait()
    return model


def _features(images: Iterable[np.ndarray], request: FitRequest) -> Tensor:
    """Raw features ``[N, C, grid, grid]``, from the folder if they are these images' features.

    They are memory-mapped from the file, and written to it image by image.
    """
    config, path = request.config.features, request.folder / FEATURES
    weights = state_sha256(request.backbone.state_dict())
    key = json_sha256({"features": vars(config), "weights": weights, "keys": list(request.keys)})
    if request.resume and (found := read_features(path, key)) is not None:
        return found
    source = feature_source(config, request.backbone, request.device, request.cache)
    step = _counter(request.progress, "features", len(request.keys))
    shape = (len(request.keys), source.extractor.channels, config.grid, config.grid)
    unwritten = f"{path} cannot be written. Free some space and go on with --resume."
    with refusing_full_disk(unwritten), writing_features(path, shape, key) as append:
        for features in source.stream(images):
            append(features)
            step(1)
    with safe_open(path, "pt") as file:
        return file.get_tensor("features")


def _standardiser(raw: Tensor, request: FitRequest) -> Standardiser:
    with single_threaded():
        return Standardiser.fit(raw, request.config.features.normalise)


def feature_source(
    config: FeatureConfig, backbone: Backbone, device: str, cache: Path | None
) -> FeatureSource:
    """What gives the features of images, from the cache at ``cache`` if there is one."""
    source = FeatureSource(FeatureExtractor(backbone, config, device))
    if cache is not None:
        source.cache = FeatureCache(cache, feature_settings(config, backbone, device))
    return source


def _bank(raw: Tensor, standardiser: Standardiser, request: FitRequest) -> MemoryBank:
    """The core set of all patches; of so many that it takes too long or too much, in shards."""
    options: dict[str, Any] = {"seed": request.seed, "device": request.device}
    cells = raw.shape[2] * raw.shape[3]
    count = len(raw) * cells
    keep = kept(count, request.config.edit)
    shards = min(len(raw), shards_needed(count, keep, raw.shape[1], request.device))
    if shards == 1 or keep == count:
        vectors = standardised_patches(raw, standardiser)
        advance = _counter(request.progress, "core set", keep)
        return MemoryBank.build(vectors, request.config.edit, advance=advance, **options)
    request.notice(
        f"An exact core set of {keep} of {count} patches would take more than an hour or half of "
        f"the memory; it is picked in {shards} parts, with a slightly larger radius."
    )
    sizes = [len(raw[first::shards]) * cells for first in range(shards)]
    found, numbers = sharded_coreset(
        [partial(_shard, raw, standardiser, first, shards) for first in range(shards)],
        count,
        keep,
        advance=_counter(request.progress, "core set", sharded_picks(sizes, keep)),
        **options,
    )
    return MemoryBank(found[numbers.argsort()], request.device)


def _shard(
    raw: Tensor, standardiser: Standardiser, first: int, shards: int
) -> tuple[Tensor, Tensor]:
    """Every ``shards``-th image from ``first`` on: patches and their numbers among all."""
    cells = raw.shape[2] * raw.shape[3]
    images = torch.arange(first, len(raw), shards)
    numbers = images[:, None] * cells + torch.arange(cells)
    return standardised_patches(raw[first::shards], standardiser), numbers.reshape(-1)


def _training_key(request: FitRequest) -> str:
    """What a checkpoint belongs to."""
    options = request.config.to_json()
    for name in WORKING:
        del options["train"][name]
    about = {"config": options, "network": request.network, "seed": request.seed}
    return json_sha256({**about, "keys": list(request.keys)})


def _counter(report: Progress, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(name, done, total)

    return advance
