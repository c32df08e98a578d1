"""Anomalies made elsewhere: by a diffusion generator, in a paint program, or a few real defects.

A folder holds, for each category, images and masks in pairs:

    FOLDER/CATEGORY/test/DEFECT/NAME.*   with  FOLDER/CATEGORY/ground_truth/DEFECT/NAME_mask.*
    FOLDER/CATEGORY/NAME.*               with  FOLDER/CATEGORY/NAME_mask.*

The first is the MVTec layout, of which ``good`` images are left out. Without folders of
categories, FOLDER itself holds the pairs, for one category.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.dataset import IMAGE_SUFFIXES
from pseudoval.data.files import sha256_file
from pseudoval.data.images import pixel_sha256, read_mask_values, read_rgb
from pseudoval.errors import UserError
from pseudoval.generators.options import options_to_json

MASK = "_mask"


@dataclass(frozen=True, kw_only=True)
class ExternalConfig:
    """Images and masks made elsewhere, as they are, --set folder=DIR.

    Attributes:
        folder: where the images and masks are.
    """

    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.folder is None:
            raise UserError("it needs a folder: --set folder=DIR.")
        if not self.folder.is_dir():
            raise UserError(f"there is no folder {self.folder}.")

    def to_json(self) -> dict[str, Any]:
        """The folder's name and the hash of its content."""
        return options_to_json(self)


@dataclass(frozen=True, kw_only=True)
class External:
    """An anomalous image made elsewhere, with its mask.

    Attributes:
        image, mask: POSIX paths relative to the folder they come from.
        sha256, mask_sha256: hashes of their bytes.
        pixel_sha256: hash of the image's picture.
    """

    image: str
    mask: str
    sha256: str
    mask_sha256: str
    pixel_sha256: str


def read_externals(folder: Path, category: str, *, alone: bool) -> list[External]:
    """The external anomalies of a category, all checked, sorted by path.

    Args:
        alone: no other category is asked for, so that the folder itself may hold the pairs.

    Raises:
        UserError: there is no folder of the category or no image in it, an image has no mask, one
            of them cannot be read, or the mask is of another size, has more than two values, or is
            empty.
    """
    root = folder / category
    if not root.is_dir():
        if not alone:
            raise UserError(
                f"The external folder {folder} has no folder {category!r}; make one with the "
                "images and masks of that category, or leave the category out with --categories."
            )
        root = folder
    if (root / "test").is_dir():
        defects = sorted(p for p in (root / "test").iterdir() if p.is_dir() and p.name != "good")
        places = [(path, root / "ground_truth" / path.name) for path in defects]
    else:
        places = [(root, root)]
    pairs = [pair for images, masks in places for pair in _pairs(images, masks)]
    if not pairs:
        raise UserError(f"There is no anomalous image in {root}; put images and masks there.")
    return [_read(folder, image, mask) for image, mask in pairs]


def _read(folder: Path, image: Path, mask: Path) -> External:
    pixels = read_rgb(image)
    distinct = np.unique(read_mask_values(mask, pixels.shape[:2]))
    if len(distinct) > 2 or (len(distinct) == 2 and distinct[0] != 0):
        raise UserError(
            f"The mask {mask} is not binary: it has {len(distinct)} values, {distinct[0]} to "
            f"{distinct[-1]}; save it as black (normal) and white (anomalous) in a lossless format."
        )
    if not distinct.any():
        raise UserError(
            f"The mask {mask} is empty: it marks no pixel as anomalous; mend it or remove "
            "the image."
        )
    return External(
        image=image.relative_to(folder).as_posix(),
        mask=mask.relative_to(folder).as_posix(),
        sha256=sha256_file(image),
        mask_sha256=sha256_file(mask),
        pixel_sha256=pixel_sha256(pixels),
    )


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Each image of a folder with the mask of its name in another (or the same) folder."""

    def listed(folder: Path) -> list[Path]:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        return [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."]

    by_stem = {path.stem: path for path in listed(masks)}
    pairs = []
    for path in listed(images):
        if images == masks and path.stem.endswith(MASK):
            continue
        mask = by_stem.get(path.stem + MASK)
        if mask is None and images != masks:
            mask = by_stem.get(path.stem)
        if mask is None:
            raise UserError(
                f"The external image {path} has no mask; expected {masks / (path.stem + MASK)}.png."
            )
        pairs.append((path, mask))
    return pairs
