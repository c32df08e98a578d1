"""Results that a worker writes itself, where it sees the folder that the driver keeps them in."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pseudoval.data.files import sha256_file, write_text, writer
from pseudoval.errors import UserError

SEEN_AFTER = 30.0
"""Seconds that a network's file system may take to show a file that another machine wrote."""


@dataclass(frozen=True, kw_only=True)
class SharedFolder:
    """A folder of the driver, and how it is told from another of the same name.

    Attributes:
        token: in the name of a file there, new each time.
    """

    folder: Path
    token: str

    @property
    def file(self) -> Path:
        """The file, with a name that ``remove_unfinished`` knows if the driver is killed."""
        return self.folder / f".driver.{self.token}.tmp"

    def is_here(self) -> bool:
        """Whether this process sees that very folder."""
        try:
            return self.file.exists()
        except OSError:  # it may not look
            return False


@contextmanager
def shared(folder: Path) -> Iterator[SharedFolder]:
    """Make a folder one that workers can tell from others, during the block."""
    place = SharedFolder(folder=folder.absolute(), token=writer())
    write_text(place.file, "")
    try:
        yield place
    finally:
        place.file.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Written:
    """The result of a task that the worker wrote itself."""

    path: Path
    sha256: str

    def require(self) -> None:
        """Wait until the file is to be seen.

        Raises:
            UserError: it does not appear.
        """
        end = time.monotonic() + SEEN_AFTER
        while not (self.path.exists() and sha256_file(self.path) == self.sha256):
            if time.monotonic() > end:
                raise UserError(
                    f"{self.path} was written by a worker and is not to be seen here; look after "
                    "the disk that they share, and repeat the command, which goes on from here."
                )
            time.sleep(0.1)
