"""The features that a model was trained with, in one file that is written image by image.

``train_features.safetensors`` has the tensor ``features`` ``[N, C, h, w]`` float32, before
standardisation, and as metadata ``key`` (whose features they are) and ``sha256`` (of the values).
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lafite_core.files import replacing

FEATURES = "train_features.safetensors"
ABANDONED = 24 * 3600
"""Seconds after which a temporary file that nobody writes to is that of a process that is gone."""


@contextmanager
def writing_features(
    path: Path, shape: tuple[int, int, int, int], key: str
) -> Iterator[Callable[[Tensor], None]]:
    """Write features of ``shape`` ``[N, C, h, w]``, whole or not at all.

    Yields the function that takes the features of the next image. Memory does not grow with N, and
    the same features give the same bytes.

    Raises:
        OSError: it cannot be written; then there is no file, or the one that was there before.
    """
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            left.unlink(missing_ok=True)
    digest = hashlib.sha256()

    def header() -> bytes:
        size = 4 * int(np.prod(shape))
        tensor = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}
        about = {"key": key, "sha256": digest.hexdigest()}
        text = json.dumps({"__metadata__": about, "features": tensor}).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(header())

        def append(features: Tensor) -> None:
            data = features.contiguous().numpy().tobytes()
            digest.update(data)
            file.write(data)

        yield append
        file.seek(0)
        file.write(header())  # of the same length: every SHA-256 has 64 digits


def read_features(path: Path, key: str) -> Tensor | None:
    """The features, memory-mapped; None where they are of another key, damaged or not there."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key or about.get("sha256") != _values_sha256(path):
                return None
            features: Tensor = file.get_tensor("features")
            return features
    except (SafetensorError, OSError):
        return None


def _values_sha256(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()
