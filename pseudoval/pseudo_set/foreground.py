"""Where the object is on an image, so that synthetic anomalies can be placed on it.

Industrial objects are mostly pictured on an even background that reaches the border. Its colour is
learnt from the borders of a category's normals (``background.py``); what differs from it is the
object. The result depends on the pictures alone, not on their names or order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from pseudoval.data.files import sha256_file
from pseudoval.data.images import image_shape, read_mask, read_rgb
from pseudoval.errors import UserError
from pseudoval.pseudo_set.background import (
    LEAST_AGREEING,
    Background,
    learn,
    object_mask,
    plausible_share,
    to_lab,
)

SAMPLE = 32
"""Normals that the background is learnt from; more change the colour by less than its noise."""
LARGEST_SPREAD = 0.5
"""Largest median deviation of the coverage, relative to its median."""


@dataclass(frozen=True, kw_only=True)
class Foreground:
    """The object on images of one category; made by ``make_foreground``, can be pickled.

    Attributes:
        kind: ``object`` (found on a plain background), ``texture`` (none found: the whole image),
            ``given`` (from a folder of masks) or ``none`` (not asked for).
        reason: one line for a person.
        background: of an ``object``.
        folder: ``given`` masks of this category.
    """

    kind: str
    reason: str
    background: Background | None = None
    folder: Path | None = None

    def __call__(self, image: np.ndarray, name: str) -> np.ndarray | None:
        """The object's mask.

        Args:
            image: uint8 RGB ``[H, W, 3]``.
            name: POSIX path relative to DATA; its stem names a given mask.

        Returns:
            bool ``[H, W]`` with at least one pixel; None for the whole image: a texture, no
            foreground asked for, or an image of an object category that shows no object.

        Raises:
            UserError: the given mask is missing, of another size, or empty.
        """
        if self.folder is not None:
            return _given(self.folder, name, image.shape[:2])
        if self.background is None:
            return None
        found = object_mask(image, self.background)
        return found if found is not None and found.any() else None


def make_foreground(mode: str | Path, category: str, paths: Sequence[Path]) -> Foreground:
    """The foreground of a category.

    Args:
        mode: ``auto`` finds the object; ``none`` takes the whole image; anything else is a folder
            with a mask ``CATEGORY/STEM.png`` for every train normal, not zero on the object.
        category: its folder name.
        paths: the files of the category's train normals.

    Raises:
        UserError: there is no such folder, or a given mask is missing, of another size than its
            image, or empty.
    """
    if str(mode) == "none":
        return Foreground(kind="none", reason="none: whole image")
    if str(mode) != "auto":
        return _from_folder(Path(mode), category, paths)
    images = [to_lab(read_rgb(path)) for path in _sample(paths)]
    background = learn(images)
    if background is None:
        return _texture("no plain background")
    shares = [plausible_share(image, background) for image in images]
    found = np.array([share for share in shares if share is not None])
    if len(found) < LEAST_AGREEING * len(images):
        count = f"{len(found)} of {len(images)}"
        return _texture(f"an object stands out from the border on {count} normals")
    middle = float(np.median(found))
    if float(np.median(np.abs(found - middle))) > LARGEST_SPREAD * middle:
        return _texture("what stands out differs too much in size")
    reason = f"object: {100 * middle:.0f} % of the image"
    return Foreground(kind="object", reason=reason, background=background)


def _texture(why: str) -> Foreground:
    return Foreground(kind="texture", reason=f"texture: whole image ({why})")


def _sample(paths: Sequence[Path]) -> list[Path]:
    """Some files, chosen by their content: neither names nor order matter, copies count once."""
    by_content = {sha256_file(path): path for path in sorted(paths)}
    return [by_content[content] for content in sorted(by_content)[:SAMPLE]]


def _from_folder(folder: Path, category: str, paths: Sequence[Path]) -> Foreground:
    masks = folder / category
    if not masks.is_dir():
        raise UserError(
            f"There is no folder {masks} with the foreground masks of category {category!r}; put "
            "CATEGORY/STEM.png there, or use --foreground auto or none."
        )
    for path in paths:
        _given(masks, path.name, image_shape(path))
    return Foreground(kind="given", reason=f"given: {masks}", folder=masks)


def _given(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    path = folder / f"{PurePosixPath(name).stem}.png"
    if not path.is_file():
        raise UserError(
            f"The foreground mask {path} of the normal {name} is missing; every train normal needs "
            "one."
        )
    mask = read_mask(path, (shape[0], shape[1]))
    if not mask.any():
        raise UserError(
            f"The foreground mask {path} is empty (all zero); mark the object with any other value."
        )
    return mask
