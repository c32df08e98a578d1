"""Families of fragment shapes, drawn about the centre of a canvas.

Each is ``(rng, height, width, area_px) -> bool [height, width]``: a shape of about ``area_px``
pixels (up to half as many again where they are few; a blob may keep as little as a third), never
empty, inside the largest disc that the canvas holds, so that it can be rotated without being
clipped.
"""

from collections.abc import Callable

import cv2
import numpy as np

MaskFamily = Callable[[np.random.Generator, int, int, int], np.ndarray]

REACH = 0.48
"""Radius of the disc that shapes stay in, as a share of the canvas's shorter side."""


def ellipse(rng: np.random.Generator, height: int, width: int, area_px: int) -> np.ndarray:
    """An ellipse, axes 1:1 to 3:1: dents, stains, holes."""
    y, x = _off_grid(rng, height, width)
    reach = REACH * min(height, width)
    major, minor = _sides(_log_uniform(rng, 1, 3), area_px / np.pi, reach)
    return _smallest((x / major) ** 2 + (y / minor) ** 2, area_px)


def rectangle(rng: np.random.Generator, height: int, width: int, area_px: int) -> np.ndarray:
    """A rectangle, sides 1:1 to 4:1: the patch of CutPaste (Li et al. 2021)."""
    return _bar(rng, height, width, area_px, _log_uniform(rng, 1, 4))


def scar(rng: np.random.Generator, height: int, width: int, area_px: int) -> np.ndarray:
    """A thin bar, sides 8:1 to 25:1 but at least 2 px wide: CutPaste's scar, scratches."""
    thinnest = max(area_px / 4, 1.0)
    return _bar(rng, height, width, area_px, min(_log_uniform(rng, 8, 25), thinnest))


def polygon(rng: np.random.Generator, height: int, width: int, area_px: int) -> np.ndarray:
    """A star-shaped polygon of 5 to 9 corners: chips, broken-off pieces."""
    corners = int(rng.integers(5, 10))
    angles = (np.arange(corners) + rng.uniform(-0.4, 0.4, corners)) * (2 * np.pi / corners)
    radii = rng.uniform(0.4, 1.0, corners)
    x, y = radii * np.cos(angles), radii * np.sin(angles)
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    scale = min(np.sqrt(area_px / area), REACH * min(height, width) / radii.max())
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    points = np.stack([x, y], axis=1) * scale + centre
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.rint(points * 256).astype(np.int32)], 1, shift=8)
    return canvas.astype(bool)


def brush(rng: np.random.Generator, height: int, width: int, area_px: int) -> np.ndarray:
    """A winding stroke, 4 to 12 times as long as wide: smears, threads, cracks."""
    ratio = min(_log_uniform(rng, 4, 12), max(area_px / 4, 1.0))
    breadth = np.sqrt(area_px / ratio)
    turns = rng.normal(0, 0.45, 8)  # radians from one eighth of the stroke to the next
    heading = np.cumsum(turns)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (ratio * breadth / 8)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    points -= (points.min(axis=0) + points.max(axis=0)) / 2
    room = max(REACH * min(height, width) - breadth / 2, 1.0)
    points *= min(1.0, room / np.hypot(points[:, 0], points[:, 1]).max())
    points += [(width - 1) / 2, (height - 1) / 2]
    paper = np.ones((height, width), np.uint8)
    cv2.polylines(paper, [np.rint(points * 256).astype(np.int32)], False, 0, shift=8)
    return _smallest(squared_distance(paper), area_px)


def blob(rng: np.random.Generator, height: int, width: int, area_px: int) -> np.ndarray:
    """The largest piece of thresholded smooth noise about the centre: spills, corrosion."""
    cells = int(rng.integers(2, 5))
    radius = min(np.sqrt(area_px / np.pi) * 2, REACH * min(height, width))
    # A window twice as wide as the blob's disc holds 2 to 4 bumps each way.
    side = 2 * int(np.ceil(radius)) + 1
    noise = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    smooth = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    y, x = _grid(side, side)
    window = smooth * 0.5 - ((x**2 + y**2) / radius**2).astype(np.float32)
    field = np.full((height, width), -np.inf, np.float32)
    top, left = (height - side) // 2, (width - side) // 2
    inside = window[max(-top, 0) : max(-top, 0) + height, max(-left, 0) : max(-left, 0) + width]
    field[max(top, 0) : max(top, 0) + side, max(left, 0) : max(left, 0) + side] = inside
    pieces = _smallest(-field, area_px)
    count, labels = cv2.connectedComponents(pieces.astype(np.uint8), connectivity=8)
    if count <= 2:
        return pieces
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


MASK_FAMILIES: dict[str, MaskFamily] = {
    "ellipse": ellipse,
    "rectangle": rectangle,
    "polygon": polygon,
    "brush": brush,
    "scar": scar,
    "blob": blob,
}


def squared_distance(paper: np.ndarray) -> np.ndarray:
    """Squared distance in pixels of each pixel of uint8 ``[H, W]`` to the nearest zero, float64.

    OpenCV's distances differ in the last bit from run to run and with its number of threads;
    their squares are whole numbers, and rounded to those the same everywhere.
    """
    distance = cv2.distanceTransform(paper, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.rint(distance.astype(np.float64) ** 2)


def _bar(
    rng: np.random.Generator, height: int, width: int, area_px: int, ratio: float
) -> np.ndarray:
    """A rectangle whose corners stay within reach."""
    y, x = _off_grid(rng, height, width)
    reach = REACH * min(height, width) / np.sqrt(1 + 1 / ratio**2)
    long, short = _sides(ratio, area_px / 4, reach)
    return _smallest(np.maximum(np.abs(x) / long, np.abs(y) / short), area_px)


def _sides(ratio: float, product: float, reach: float) -> tuple[float, float]:
    """Half axes with the given ratio and product; the longer one stays within ``reach``."""
    long = min(np.sqrt(product * ratio), reach)
    return float(long), float(max(product / long, 0.5))


def _smallest(field: np.ndarray, area_px: int) -> np.ndarray:
    """The ``area_px`` pixels of smallest value within reach of the centre, ties included."""
    y, x = _grid(*field.shape)
    reach = max(REACH * min(field.shape), 1.0)
    inside = np.where(x**2 + y**2 <= reach**2, field, np.inf)
    count = min(max(area_px, 1), int(np.isfinite(inside).sum()))
    return inside <= np.partition(inside, count - 1, axis=None)[count - 1]


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """``y`` as ``[height, 1]`` and ``x`` as ``[1, width]``, in pixels from the centre."""
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32((height - 1) / 2)
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32((width - 1) / 2)
    return y, x


def _off_grid(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The grid about a point within half a pixel of the centre.

    About the centre itself small shapes would be symmetric: few in number, and of areas that jump
    by whole pairs of rows.
    """
    y, x = _grid(height, width)
    return y + np.float32(rng.uniform(-0.5, 0.5)), x + np.float32(rng.uniform(-0.5, 0.5))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
