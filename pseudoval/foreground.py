"""Where the object is: from a folder of masks, or nowhere in particular."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from pseudoval.errors import UserError
from pseudoval.images import read_mask


@dataclass(frozen=True, kw_only=True)
class Foreground:
    """Gives the foreground of normals of one category.

    Attributes:
        kind: ``none``, or ``given`` where a folder holds it.
        folder: of the masks, ``CATEGORY/NAME.png`` or ``CATEGORY/NAME_mask.png``.
        category: which the normals are of.
    """

    kind: str
    folder: Path | None
    category: str

    def __call__(self, image: np.ndarray, name: str) -> np.ndarray | None:
        """Bool ``[H, W]`` of an image with this path in DATA, or None for all of it."""
        if self.folder is None:
            return None
        stem = PurePosixPath(name).stem
        for candidate in (f"{stem}.png", f"{stem}_mask.png"):
            path = self.folder / self.category / candidate
            if path.is_file():
                return read_mask(path, (image.shape[0], image.shape[1]))
        raise UserError(f"There is no foreground {self.folder / self.category / stem}.png.")


def make_foreground(mode: str | Path, category: str, paths: Sequence[Path]) -> Foreground:
    """What finds the foreground of a category's normals.

    Args:
        mode: ``none``, or a folder of masks.
        paths: all train normals of the category.
    """
    folder = None if mode == "none" else Path(mode)
    return Foreground(kind="none" if folder is None else "given", folder=folder, category=category)
