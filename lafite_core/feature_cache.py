"""Features on disk: computed once per image content, shared between commands and processes.

A cache is a folder with a sub-folder for each set of everything that features depend on. In it
are segments, safetensors files of a few images each, which appear whole or not at all and never
change: any number of processes may read and add at the same time. Nothing in a cache is trusted:
a segment of another version, another key or another length is passed over, and every image has a
checksum. The folder may be removed at any time.
"""

import errno
import hashlib
import json
import logging
import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import timm
import torch
from torch import Tensor

from lafite_core.backbones import Backbone, state_sha256
from lafite_core.config import FeatureConfig
from lafite_core.errors import LafiteError

FORMAT_VERSION = 1
"""Of the segments, and of the features themselves: raised when the same settings give others."""
SEGMENT_IMAGES = 16
"""Images of a segment; a kill loses the work on less than one."""
DIGITS = 32
"""Hexadecimal digits, 128 bits, of the digest of an image and of a checksum."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOG = logging.getLogger(__name__)


def pixel_digest(image: np.ndarray) -> str:
    """128 bits in hex over shape and pixels of a uint8 image: equal for the same picture."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:DIGITS]


def feature_settings(config: FeatureConfig, backbone: Backbone, device: str) -> dict[str, Any]:
    """Everything that the bits of unstandardised features depend on, beside the image."""
    on_gpu = device.startswith("cuda")
    options = {name: value for name, value in vars(config).items() if name != "normalise"}
    return {
        "format_version": FORMAT_VERSION,
        "features": {**options, "backbone_args": dict(config.backbone_args)},
        "weights": state_sha256(backbone.state_dict()),
        "processor": torch.cuda.get_device_name(device)
        if on_gpu
        else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "versions": [torch.__version__, timm.__version__],
    }


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the features of an image lie."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    checksum: str


class FeatureCache:
    """The segments of one set of settings below ``folder``.

    Args:
        folder: of the cache; made when something is added.
        settings: of ``feature_settings``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True)
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self.root = folder
        self.folder = folder / self.key[:16]
        self._places: dict[str, Place] = {}
        self._read: set[str] = set()
        self._seen = -1
        self._writable = True
        self._lock = threading.Lock()

    def find(self, digest: str) -> Tensor | None:
        """Features ``[C, h, w]`` float32 of the image with a ``pixel_digest``, or None."""
        place = self._places.get(digest)
        if place is None:
            self._look()
            place = self._places.get(digest)
        if place is None:
            return None
        features = _load(place)
        if features is None:
            self._forget(place.path)
        return features

    def add(self, digests: Sequence[str], features: Sequence[Tensor]) -> None:
        """Write a segment. Where nothing may be written that is said once, and no error.

        Raises:
            LafiteError: the disk is full; what was there stays as it was.
        """
        if not self._writable:
            return
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:24]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shape = tuple(features[0].shape)
            target = self.folder / f"{name}.safetensors"
            with feature_file(target, len(digests), shape, self.key) as append:
                for digest, one in zip(digests, features, strict=True):
                    append(digest, one)
        except OSError as error:
            if error.errno in FULL:
                raise LafiteError(
                    f"The disk is full: the features of images cannot be kept in {self.root}. Free "
                    "some space and repeat the command, which goes on from here; or keep them "
                    "elsewhere with --cache DIR, or nowhere with --no-cache."
                ) from None
            self._writable = False
            LOG.warning(
                "Features are not kept: %s cannot be written to (%s).", self.root, error.strerror
            )

    def adopt(self, path: Path) -> None:
        """Take a ``feature_file`` that lies elsewhere as a segment, without a copy.

        Smaller segments with nothing else in them are removed; where the disk has no hard links,
        all stays as it is.
        """
        entries = _entries(path, self.key)
        if entries is None or not self._writable:
            return
        name = hashlib.sha256("".join(entries).encode()).hexdigest()[:24] + ".safetensors"
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            os.link(path, temporary)
            temporary.replace(self.folder / name)
            for other in self.folder.glob("*.safetensors"):
                held = _entries(other, self.key)
                if other.name != name and held is not None and held.keys() <= entries.keys():
                    other.unlink(missing_ok=True)
        except OSError:
            return
        finally:
            temporary.unlink(missing_ok=True)
        with self._lock:
            self._places, self._read, self._seen = {}, set(), -1

    def _forget(self, path: Path) -> None:
        """Remove a damaged segment; its images are computed again."""
        with self._lock, suppress(OSError):
            self._places = {d: p for d, p in self._places.items() if p.path != path}
            path.unlink(missing_ok=True)

    def _look(self) -> None:
        """Read the headers of segments that appeared since the last time."""
        with self._lock:
            try:
                changed = self.folder.stat().st_mtime_ns
                if changed == self._seen:
                    return
                for path in sorted(self.folder.glob("*.safetensors")):
                    if path.name not in self._read:
                        self._read.add(path.name)
                        self._places.update(_entries(path, self.key) or {})
                self._seen = changed
            except OSError:
                return


@contextmanager
def feature_file(
    path: Path, count: int, shape: tuple[int, ...], cache_key: str, **more: str
) -> Iterator[Callable[[str, Tensor], None]]:
    """Write a safetensors file image by image, whole or not at all.

    Yields the function that takes the digest and the features of the next image. The tensor
    ``features`` is ``[N, C, h, w]`` float32; the metadata has format version, key, the digest and
    a checksum of every image, and ``more``. Memory does not grow with N, and the same features
    give the same bytes.

    Raises:
        OSError: it cannot be written; then there is no file, or the one that was there before.
        ValueError: there were more or fewer than ``count`` images.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digests, sums = ["0" * DIGITS] * count, ["0" * DIGITS] * count
    size = 4 * int(np.prod(shape))
    done = 0

    def header() -> bytes:
        about = {
            "format_version": str(FORMAT_VERSION),
            "cache_key": cache_key,
            "images": " ".join(digests),
            "checksums": " ".join(sums),
            **more,
        }
        tensor = {"dtype": "F32", "shape": [count, *shape], "data_offsets": [0, size * count]}
        text = json.dumps({"__metadata__": about, "features": tensor}).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    try:
        with temporary.open("wb") as file:
            # All digests are of one length: the header that is written last fits over the first.
            file.write(header())

            def append(digest: str, features: Tensor) -> None:
                nonlocal done
                data = features.contiguous().numpy().tobytes()
                digests[done], sums[done] = digest, _checksum(data)
                file.write(data)
                done += 1

            yield append
            if done != count:
                raise ValueError(f"{done} images instead of {count}")
            file.seek(0)
            file.write(header())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_intact(path: Path) -> bool:
    """Whether a ``feature_file`` is whole and every image in it has its checksum."""
    entries = _entries(path)
    return entries is not None and all(_load(place) is not None for place in entries.values())


def _entries(path: Path, key: str | None = None) -> dict[str, Place] | None:
    """Where the images of a segment lie; None for one of another key, or not to be trusted."""
    try:
        with path.open("rb") as file:
            header, start = _header(file)
            length = os.fstat(file.fileno()).st_size
        about, tensor = header["__metadata__"], header["features"]
        digests, sums = about["images"].split(), about["checksums"].split()
        count, *shape = tensor["shape"]
        size = 4 * int(np.prod(shape))
        good = (
            about["format_version"] == str(FORMAT_VERSION)
            and key in (None, about["cache_key"])
            and tensor["dtype"] == "F32"
            and count == len(digests) == len(sums)
            and length == start + count * size
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not good:
        return None
    return {
        digest: Place(path=path, offset=start + row * size, shape=tuple(shape), checksum=checksum)
        for row, (digest, checksum) in enumerate(zip(digests, sums, strict=True))
    }


def _header(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data begins."""
    length = int.from_bytes(file.read(8), "little")
    if length > 100_000_000:  # the limit of the format
        raise ValueError("no safetensors file")
    return json.loads(file.read(length)), 8 + length


def _load(place: Place) -> Tensor | None:
    """One image, mapped, copied and checked; None if it is damaged or gone."""
    try:
        mapped = np.memmap(place.path, np.float32, "r", place.offset, place.shape)
    except (OSError, ValueError):
        return None
    features = np.array(mapped)
    return torch.from_numpy(features) if _checksum(features.data) == place.checksum else None


def _checksum(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGITS]
