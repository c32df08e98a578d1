"""Pictures that show the same thing again: repeats of a part, a frame, a file saved anew.

Normals of an industrial series look alike as a whole, so plain similarity says nothing. What is
compared is that which sets a picture apart from its category: brightness and contrast are taken
out, the picture is laid over the category's mean, and the mean, slow shading and the few main ways
in which the category varies (pose, light, model) are removed. What is left of two different parts
is unrelated; of the same part under another exposure or compression it is nearly the same.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pseudoval.data.dataset import ImageItem
from pseudoval.data.images import read_rgb
from pseudoval.progress import ProgressCallback
from pseudoval.pseudo_set.manifest import Manifest

THRESHOLD = 0.85
"""Correlation from which two pictures count as near-duplicates. That of one part photographed or
saved twice is mostly above 0.9, that of different ones mostly below 0.7."""
LEAST_IMAGES = 8
"""Fewer pictures say too little about what their category has in common."""
SIDE, COMPARED = 128, 64
"""Sides in pixels of the picture that is laid over the mean, and of what is compared."""
LARGEST_SHIFT = 0.05
"""Share of the side by which a picture is moved to fit the mean."""
LEAST_RESPONSE = 0.2
"""Peak of the phase correlation below which a picture has no common layout to be fitted to."""
SHADING = 4.0
"""Standard deviation in compared pixels of what counts as slow shading."""
IMAGES_PER_MODE, MOST_MODES = 20, 10
"""One main way of varying is removed for so many pictures, up to so many in all."""
LEAST_SHARE, LEAST_SHARING = 0.1, 5
"""Share and number of the pictures that must take part in a way of varying for it to be the
category's: that of a few is what makes them repeats."""
MOST_LEARNT = 512
"""Pictures that mean and ways of varying are learnt from."""


def count_duplicates(
    data: Path,
    manifest: Manifest,
    bank: Sequence[ImageItem],
    category: str,
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Near-duplicates of one category; exact copies within the held-out normals are one picture.

    Args:
        bank: the category's normals to train on; none of them is a copy of a held-out one.

    Returns:
        ``threshold``; ``with_training`` and ``within_held_out``: how many held-out pictures have a
        near-duplicate there; ``exact_copies``: files of the held-out normals that repeat another
        of them; ``pairs`` of ``held_out``, ``other``, ``side`` (``training`` or ``held_out``) and
        ``correlation``; ``reason``: why there are no figures (null), else null.
    """
    pixels = {
        name: sha
        for name, sha in manifest["heldout_pixel_sha256"].items()
        if name.split("/", 1)[0] == category
    }
    held = sorted({sha: name for name, sha in reversed(pixels.items())}.values())
    found: dict[str, Any] = {
        "threshold": THRESHOLD,
        "with_training": None,
        "within_held_out": None,
        "exact_copies": len(pixels) - len(held),
        "pairs": [],
        "reason": None,
    }
    if len(held) + len(bank) < LEAST_IMAGES:
        count = len(held) + len(bank)
        found["reason"] = f"{count} distinct normals are too few to tell; {LEAST_IMAGES} are needed"
        return found
    trained = [item.id for item in bank]
    names = [*held, *trained]
    rows = descriptors(
        [data / name for name in names],
        lambda done: progress(f"comparing normals of {category}", done, len(names)),
    )
    inside, outside = rows[: len(held)], rows[len(held) :]
    training = similar_pairs(inside, outside)
    within = similar_pairs(inside)
    found["pairs"] = [
        {"held_out": held[row], "other": others[other], "side": side, "correlation": correlation}
        for pairs, others, side in ((training, trained, "training"), (within, held, "held_out"))
        for row, other, correlation in pairs
    ]
    found["with_training"] = len({row for row, _, _ in training})
    found["within_held_out"] = len({row for *pair, _ in within for row in pair})
    return found


def descriptors(
    paths: Sequence[Path], advance: Callable[[int], None] = lambda done: None
) -> np.ndarray:
    """What sets each picture of one category apart, as unit vectors ``[N, COMPARED ** 2]``.

    The dot product of two rows is their correlation; a picture equal to the mean has a zero row.
    Memory grows by 32 kB a picture.

    Args:
        paths: all pictures of the category that are to be compared, at least ``LEAST_IMAGES``.
        advance: called with the number of pictures read so far.
    """
    small = np.empty((len(paths), SIDE, SIDE), np.uint8)
    for row, path in enumerate(paths):
        grey = cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY)
        small[row] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        advance(row + 1)
    some = np.unique(np.linspace(0, len(small) - 1, MOST_LEARNT).round().astype(int))
    mean = np.asarray(np.mean([_normalised(small[row]) for row in some], axis=0))
    mean = np.asarray(np.mean([_fitted(small[row], mean) for row in some], axis=0))
    rest = np.stack([_rest(_fitted(image, mean), mean).ravel() for image in small])
    rest -= rest[some].mean(0)
    main = _shared_modes(rest[some])
    rest -= (rest @ main.T) @ main
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.asarray(np.where(length > 1e-3, rest / np.maximum(length, 1e-3), 0), np.float32)


def _shared_modes(rest: np.ndarray) -> np.ndarray:
    """The main ways in which the rows ``[N, D]`` vary that many of them share, ``[modes, D]``."""
    modes = min(MOST_MODES, len(rest) // IMAGES_PER_MODE)
    scores, _, axes = np.linalg.svd(rest, full_matrices=False)
    # Participation: N where all rows take an equal part, 2 for a pair.
    sharing = 1 / np.maximum((scores[:, :modes] ** 4).sum(0), 1e-12)
    return axes[:modes][sharing >= max(LEAST_SHARING, LEAST_SHARE * len(rest))]


def similar_pairs(
    first: np.ndarray, second: np.ndarray | None = None
) -> list[tuple[int, int, float]]:
    """Pairs of rows whose correlation reaches ``THRESHOLD``, and that correlation, in order.

    Args:
        first, second: of ``descriptors``; without the second, pairs within the first, each once.
    """
    found = first @ second.T if second is not None else np.triu(first @ first.T, 1)
    return [
        (row, column, min(1.0, round(float(found[row, column]), 4)))
        for row, column in np.argwhere(found >= THRESHOLD).tolist()
    ]


def _normalised(image: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1, so that exposure and contrast do not count."""
    values = image.astype(np.float32)
    values -= values.mean()
    return values / max(float(values.std()), 1.0)


def _fitted(image: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The normalised picture, moved to where the mean is if it has the mean's layout."""
    values = _normalised(image)
    window = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)
    # Copies: some versions of OpenCV apply the window to their arguments.
    (x, y), response = cv2.phaseCorrelate(mean.astype(np.float32), values.copy(), window)
    if response < LEAST_RESPONSE or max(abs(x), abs(y)) > LARGEST_SHIFT * SIDE:
        return values
    move = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    return cv2.warpAffine(values, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)


def _rest(image: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """What differs from the mean, without the margin that a move makes up and without shading."""
    margin = int(LARGEST_SHIFT * SIDE)
    inner = (image - mean.astype(np.float32))[margin:-margin, margin:-margin]
    rest = cv2.resize(inner, (COMPARED, COMPARED), interpolation=cv2.INTER_AREA)
    return rest - cv2.GaussianBlur(rest, (0, 0), SHADING)
