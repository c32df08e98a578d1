"""Which normals are held out: a function of their content and the split seed, nothing else."""

import hashlib
from collections.abc import Iterable, Mapping

from pseudoval.errors import UserError

MIN_HELD_OUT = 2
"""Distinct images: a fragment comes from another held-out normal than its background."""


def split_normals(
    hashes: Mapping[str, str], holdout: float, split_seed: int, *, where: str = "the data"
) -> list[str]:
    """The names of one category's normals to hold out, sorted; the others are trained on.

    Every distinct picture is ranked by SHA-256 of ``"{split_seed}:{pixel hash}"``; whole groups of
    exact duplicates are held out in that order until the share is reached. Neither file names nor
    their order matter, adding an image moves few others, and no picture lies on both sides.

    Args:
        hashes: pixel hash by image name.
        holdout: share of the images to hold out, in (0, 1). At least two distinct pictures are
            held out and at least one is kept.
        where: names the category in errors.

    Raises:
        UserError: the share is out of range, or there are fewer than three distinct pictures.
    """
    check_holdout(holdout)
    copies: dict[str, list[str]] = {}
    for name, pixels in sorted(hashes.items()):
        copies.setdefault(pixels, []).append(name)
    if len(copies) <= MIN_HELD_OUT:
        raise UserError(
            f"{where} has {len(hashes)} normal images, {len(copies)} of them distinct; at least "
            f"{MIN_HELD_OUT + 1} distinct ones are needed ({MIN_HELD_OUT} to hold out, 1 to train "
            "on). Add normal images or leave the category out."
        )
    ranked = sorted(copies, key=lambda pixels: _sha256(f"{split_seed}:{pixels}"))
    held_out: list[str] = []
    for count, pixels in enumerate(ranked[:-1]):
        if count >= MIN_HELD_OUT and len(held_out) >= holdout * len(hashes):
            break
        held_out += copies[pixels]
    return sorted(held_out)


def check_holdout(holdout: float) -> None:
    """Raise ``UserError`` unless the share lies in (0, 1)."""
    if not 0 < holdout < 1:
        raise UserError(f"The held-out share is {holdout:g}; it must lie between 0 and 1.")


def split_sha256(file_hashes: Iterable[str]) -> str:
    """The identity of a split: SHA-256 over the sorted file hashes of the held-out images.

    Each hash is one line, so that a shell can check it:
    ``sha256sum FILES | cut -d ' ' -f 1 | LC_ALL=C sort | sha256sum``.

    Args:
        file_hashes: hex SHA-256 of the bytes of every held-out file.
    """
    return _sha256("".join(f"{h}\n" for h in sorted(file_hashes)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
