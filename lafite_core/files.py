"""Files that appear whole or not at all, also where several machines write into one folder."""

import errno
import os
import platform
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it becomes ``path`` when the block ends well.

    No other writer has the same name: containers on one disk may have process ids in common, and
    even host names. A block that raises leaves neither the temporary file nor a changed ``path``.
    """
    writer = f"{platform.node()}.{os.getpid()}.{uuid.uuid4().hex}"
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Whether a disk, a quota or the largest size of a file is what stopped a write."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
