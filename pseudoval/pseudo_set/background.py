"""Telling an object from a plain background by colour.

Colours are CIE L*a*b*, in which a distance is a difference to the eye; a plane takes uneven light
out; morphology does the rest. Nothing is drawn at random.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

WORKING_SIDE = 256
"""Pixels of the longer side at which the object is sought; finer edges are not needed."""
BLUR = 1.5
"""Standard deviation in pixels, against the noise of sensor and compression."""
REACH = 3
"""Pixels that the foot of an outline reaches out, after that blur."""
FRAME = 0.03
"""Width of the border, as a share of the shorter side, whose pixels tell the background."""
NEAR = 20.0
"""Colour difference (CIE 1976) up to which a border pixel may be unevenly lit background."""
LEAST_NOISE = 0.75
"""Standard deviation of the background, as a colour difference, at the least: four of them are just
beyond the 2.3 that an eye tells apart."""
LOW, HIGH = 4.0, 8.0
"""Standard deviations of the background by which an object differs: everywhere, and somewhere."""
COVERAGE = (0.05, 0.90)
"""Shares of the image that an object plausibly covers."""
LEAST_BORDER = 0.5
"""Least share of the border that is background; an object may reach over an edge."""
LEAST_EDGE = 0.25
"""Least share of the object's difference that lies at its outline; less is uneven light."""
OUTLINE = 0.03
"""Width to either side of an outline that may be blurred, as a share of the longer side."""
LEAST_AGREEING = 0.8
"""Share of the sampled normals on which a plausible object is found."""
FILLED_HOLE = 0.02
"""Holes of up to this share of the object are closed: highlights, not openings."""
SMALLEST_PART = 0.05
"""Parts below this share of the largest one are dust."""


@dataclass(frozen=True, kw_only=True)
class Background:
    """Colour of a plain background.

    Attributes:
        colour: CIE L*a*b*, its commonest colour at the border.
        whitening: 3 x 3; turns a difference from the background into standard deviations of it.
    """

    colour: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]


def to_lab(image: np.ndarray) -> np.ndarray:
    """uint8 RGB to smoothed L*a*b* float32 of at most ``WORKING_SIDE`` pixels a side."""
    height, width = image.shape[:2]
    scale = WORKING_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    return cv2.GaussianBlur(lab, (0, 0), BLUR)


def _frame(shape: tuple[int, ...], wide: int) -> np.ndarray:
    """bool ``[h, w]``, true on the outermost ``wide`` pixels."""
    frame = np.ones(shape[:2], bool)
    frame[wide:-wide, wide:-wide] = False
    return frame


def _border(shape: tuple[int, ...]) -> np.ndarray:
    """bool ``[h, w]``, true where the background is told."""
    return _frame(shape, max(1, round(FRAME * min(shape[:2]))))


def learn(images: Sequence[np.ndarray]) -> Background | None:
    """The background of a category; None if the borders have no common colour."""
    border = np.concatenate([image[_border(image.shape)] for image in images])
    colour = _commonest(border)
    fits = [_plane(image, colour) for image in images]
    residuals = [
        (image - fit[0])[fit[1]] for image, fit in zip(images, fits, strict=True) if fit is not None
    ]
    if len(residuals) < LEAST_AGREEING * len(images):
        return None
    every = np.concatenate(residuals).astype(np.float64)
    values, axes = np.linalg.eigh(every.T @ every / len(every))
    scale = 1 / np.sqrt(np.maximum(values, LEAST_NOISE**2))
    whitening = (axes * scale) @ axes.T
    return Background(colour=_rounded(colour), whitening=tuple(_rounded(row) for row in whitening))


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    """Six decimals: what linear algebra libraries agree on."""
    return tuple(round(float(value), 6) + 0.0 for value in values)


def _commonest(pixels: np.ndarray) -> tuple[float, ...]:
    """The densest colour of ``[N, 3]``: the fullest cell of a grid, then mean shift."""
    cells = np.floor(pixels / 8).astype(np.int64)
    distinct, counts = np.unique(cells, axis=0, return_counts=True)
    centre = (distinct[int(counts.argmax())] + 0.5) * 8
    for _ in range(10):
        near = ((pixels - centre) ** 2).sum(1) < 12**2
        centre = pixels[near].mean(0, dtype=np.float64) if near.any() else centre
    return tuple(float(value) for value in centre)


def _plane(image: np.ndarray, colour: Sequence[float]) -> tuple[np.ndarray, np.ndarray] | None:
    """The background's colour at every pixel: a plane through its border pixels.

    Uneven light makes one side of an even background brighter.

    Returns:
        colours ``[h, w, 3]``, and which pixels of the border ``[h, w]`` they were fitted to. None
        if less than ``LEAST_BORDER`` of the border may be background.
    """
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y], axis=-1)
    border = _border(image.shape)
    near = border & (_difference(image, np.asarray(colour, np.float32)) < NEAR)
    if near.sum() < LEAST_BORDER * border.sum():
        return None
    for _ in range(3):
        fit = np.linalg.lstsq(terms[near], image[near].astype(np.float64), rcond=None)[0]
        plane = (terms @ fit).astype(np.float32)
        off = _difference(image, plane)
        limit = max(LOW * LEAST_NOISE, 3 * 1.4826 * float(np.median(off[near])))
        near = border & (off < limit)
    return plane, near


def _difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sqrt(((image - other) ** 2).sum(-1))


def object_mask(image: np.ndarray, background: Background) -> np.ndarray | None:
    """The object's mask at the size of the image; None where the border is not background."""
    lab = to_lab(image)
    found = _cut(lab, background)
    if found is None:
        return None
    height, width = image.shape[:2]
    smooth = cv2.resize(
        found[0].astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(smooth > 0.5)


def _cut(lab: np.ndarray, background: Background) -> tuple[np.ndarray, np.ndarray] | None:
    """Mask ``[h, w]`` at the working size, and the colour differences it was cut from."""
    fit = _plane(lab, background.colour)
    if fit is None:
        return None
    whitening = np.asarray(background.whitening, np.float32)
    difference = np.sqrt((((lab - fit[0]) @ whitening) ** 2).sum(-1))
    mask = _above(difference, LOW, HIGH).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel)
    return _sharp(_tidy(opened), difference), difference


def _sharp(mask: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """The mask without the foot of its blurred outline: from half of the difference beside it."""
    near = _square(REACH)
    outline = cv2.dilate((~mask).astype(np.uint8), near, borderValue=0) == 1
    foot = difference < cv2.dilate(np.where(mask, difference, np.float32(0)), near) / 2
    return mask & ~(outline & foot)


def _square(reach: int) -> np.ndarray:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def _above(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """bool ``[h, w]``: parts above ``low`` that reach ``high`` somewhere."""
    found = ndimage.binary_propagation(values > high, np.ones((3, 3)), mask=values > low)
    return np.asarray(found)


def _tidy(mask: np.ndarray) -> np.ndarray:
    """Without dust, and with small holes filled; uint8 to bool."""
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(parts[parts > 0], minlength=2)
    found = (areas >= max(SMALLEST_PART * areas.max(), 1))[parts]
    gaps, _ = ndimage.label(~found)
    areas = np.bincount(gaps.ravel())
    areas[np.unique(gaps[_frame(mask.shape, 1)])] = mask.size  # outside, not in a hole
    return np.asarray(found | (areas <= FILLED_HOLE * found.sum())[gaps])


def plausible_share(lab: np.ndarray, background: Background) -> float | None:
    """The share that the object covers on a picture of ``to_lab``; None if it is not plausible."""
    cut = _cut(lab, background)
    if cut is None:
        return None
    mask, difference = cut
    share = float(mask.mean())
    if not COVERAGE[0] <= share <= COVERAGE[1]:
        return None
    border = _border(lab.shape)
    if (~mask)[border].mean() < LEAST_BORDER:
        return None
    kernel = _square(max(1, round(OUTLINE * max(mask.shape))))
    inner = mask & (cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) == 0)
    outer = ~mask & (cv2.dilate(mask.astype(np.uint8), kernel, borderValue=0) == 1)
    if not outer.any() or not inner.any():
        return None
    step = float(np.median(difference[inner])) - float(np.median(difference[outer]))
    return share if step >= LEAST_EDGE * float(np.median(difference[mask])) else None
