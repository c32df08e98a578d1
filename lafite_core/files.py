"""Files that appear whole or not at all, also where several machines write into one folder."""

import errno
import hashlib
import json
import os
import platform
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lafite_core.errors import LafiteError


@contextmanager
def replacing(path: Path, *, folder: Path | None = None) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it becomes ``path`` when the block ends well.

    No other writer has the same name: containers on one disk may have process ids in common, and
    even host names. A block that raises leaves neither the temporary file nor a changed ``path``.

    Args:
        folder: where the temporary file lies instead, on the same disk.
    """
    writer = f"{platform.node()}.{os.getpid()}.{uuid.uuid4().hex}"
    temporary = (folder or path.parent) / f".{path.name}.{writer}.tmp"
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def refusing_full_disk(consequence: str) -> Iterator[None]:
    """Turn the end of a disk, a quota or the largest size of a file into a ``LafiteError``."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise LafiteError(f"The disk is full: {consequence}") from None


def json_sha256(value: Any) -> str:
    """Hex SHA-256 of what JSON can hold; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file whole or not at all, with ``about`` as its metadata."""
    # Contiguous in the default layout: channels-last is how they are used, not what they are.
    plain = {
        name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with replacing(path) as temporary:
        save_file(plain, temporary, None if about is None else dict(about))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        LafiteError: it is missing or damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LafiteError(f"The file {path} cannot be read: {error}.") from None
    return tensors
