"""Features on disk: computed once per image content, shared between commands and processes.

A cache is a folder with a sub-folder for each set of everything that features depend on, and in it
a safetensors file for each image. Files appear whole or not at all and never change: any number of
processes may read and add at the same time. Nothing in a cache is trusted: every file has a
checksum. The folder may be removed at any time.
"""

import hashlib
import logging
import platform
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lafite_core.backbones import Backbone, state_sha256
from lafite_core.config import FeatureConfig
from lafite_core.features import GPU_BATCH, FeatureExtractor
from lafite_core.files import json_sha256, refusing_full_disk, replacing
from lafite_core.parallel import on_each_core

FORMAT_VERSION = 2
"""Of the files, and of the features themselves: raised when the same settings give others."""
LOG = logging.getLogger(__name__)


def pixel_digest(image: np.ndarray) -> str:
    """128 bits in hex over shape and pixels of a uint8 image: equal for the same picture."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:32]


def feature_settings(config: FeatureConfig, backbone: Backbone, device: str) -> dict[str, Any]:
    """Everything that the bits of unstandardised features depend on, beside the image."""
    on_gpu = device.startswith("cuda")
    options = {name: value for name, value in vars(config).items() if name != "normalise"}
    return {
        "format_version": FORMAT_VERSION,
        "features": {**options, "backbone_args": dict(config.backbone_args)},
        "weights": state_sha256(backbone.state_dict()),
        "processor": f"{torch.cuda.get_device_name(device)}, batches of {GPU_BATCH}"
        if on_gpu
        else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "versions": [torch.__version__, version("timm")],
    }


class FeatureCache:
    """The features of one set of settings below ``folder``.

    Args:
        folder: of the cache; made when something is added.
        settings: of ``feature_settings``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.key = json_sha256(settings)
        self.root = folder
        self._writable = True
        self._lock = threading.Lock()

    def path(self, digest: str) -> Path:
        """Where the features of the image with a ``pixel_digest`` lie, if they are there."""
        return self.root / self.key[:16] / f"{digest}.safetensors"

    def find(self, digest: str) -> Tensor | None:
        """Features ``[C, h, w]`` float32 of an image; None where there are none, or damaged."""
        try:
            found = load(self.path(digest).read_bytes())
            features, checksum = found["features"], found["checksum"]
        except (OSError, SafetensorError, KeyError):
            return None
        return features if torch.equal(checksum, self._checksum(digest, features)) else None

    def add(self, digest: str, features: Tensor) -> None:
        """Write the features of an image. Where nothing may be written that is said once.

        Raises:
            LafiteError: the disk is full; what was there stays as it was.
        """
        if not self._writable:
            return
        data = save({"features": features, "checksum": self._checksum(digest, features)})
        unkept = (
            f"the features of images cannot be kept in {self.root}. Free some space and repeat the "
            "command, which goes on from here; or keep them elsewhere with --cache DIR, or nowhere "
            "with --no-cache."
        )
        try:
            with refusing_full_disk(unkept):
                self.path(digest).parent.mkdir(parents=True, exist_ok=True)
                # In the root, where a process that is killed leaves it to be found among few.
                with replacing(self.path(digest), folder=self.root) as temporary:
                    temporary.write_bytes(data)
        except OSError as error:
            with self._lock:
                first, self._writable = self._writable, False
            if first:
                LOG.warning(
                    "Features are not kept: %s cannot be written to (%s).",
                    self.root,
                    error.strerror,
                )

    def _checksum(self, digest: str, features: Tensor) -> Tensor:
        """SHA-256 over the values, and over whose they are: ``[32]`` uint8."""
        checksum = state_sha256({self.key + digest: features})
        return torch.tensor(list(bytes.fromhex(checksum)), dtype=torch.uint8)


class FeatureSource:
    """Unstandardised features of any image, the same bits wherever they come from.

    Args:
        cache: None keeps nothing on disk.
    """

    def __init__(self, extractor: FeatureExtractor, cache: FeatureCache | None = None) -> None:
        self.extractor = extractor
        self.cache = cache
        self._at_hand: dict[str, Tensor] = {}

    def __call__(self, image: np.ndarray) -> Tensor:
        """uint8 RGB ``[H, W, 3]`` to ``[C, grid, grid]`` float32 on the CPU.

        What was not in the cache is added to it.

        Raises:
            LafiteError: the disk with the cache is full.
        """
        return self._find(image)[1]

    def find_all(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """Features of each image; those that are new are extracted side by side, or in batches."""
        return [features for _, features in self._find_all(images)]

    def prepare(self, images: Sequence[np.ndarray]) -> None:
        """Extract a block of images together, and have them at hand until the next block."""
        self._at_hand = dict(self._find_all(images))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Features of each image, in order, found or extracted on all cores, or in batches.

        Images are taken as they are needed, so that reading them goes on beside the network.
        """
        if self.extractor.device == "cpu":
            yield from on_each_core(self, images)
            return
        waiting = iter(images)
        while batch := list(islice(waiting, GPU_BATCH)):
            yield from self.find_all(batch)

    def _find_all(self, images: Sequence[np.ndarray]) -> list[tuple[str, Tensor]]:
        """Digest and features of each image."""
        if self.extractor.device == "cpu":
            return list(on_each_core(self._find, images))
        known = list(on_each_core(self._look_up, images))
        missing = [number for number, (_, features) in enumerate(known) if features is None]
        extracted = iter(self.extractor.extract_all([images[number] for number in missing]))
        return [
            (digest, features) if features is not None else self._added(digest, next(extracted))
            for digest, features in known
        ]

    def _find(self, image: np.ndarray) -> tuple[str, Tensor]:
        """Digest and features."""
        digest, found = self._look_up(image)
        return (
            self._added(digest, self.extractor.extract(image)) if found is None else (digest, found)
        )

    def _added(self, digest: str, features: Tensor) -> tuple[str, Tensor]:
        """What was extracted, added to the cache."""
        if self.cache is not None:
            self.cache.add(digest, features)
        return digest, features

    def _look_up(self, image: np.ndarray) -> tuple[str, Tensor | None]:
        """Digest, and features if they are at hand or in the cache."""
        digest = pixel_digest(image)
        found = self._at_hand.get(digest)
        if found is None and self.cache is not None:
            found = self.cache.find(digest)
        return digest, found
