"""Families of fragment shapes.

Each is ``(rng, side, area_px, angle) -> bool [h, w]``: a shape of about ``area_px`` pixels (a few
more where they are few; a blob may keep as little as a third), never empty, turned anticlockwise
by ``angle`` degrees, cropped to its bounding box, and small enough to fit into an image whose
shorter side is ``side`` pixels, however it is turned.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

MaskFamily = Callable[[np.random.Generator, int, int, float], np.ndarray]

REACH = 0.48
"""Largest distance of a shape's pixels from its centre, as a share of the image's shorter side."""


def ellipse(rng: np.random.Generator, side: int, area_px: int, angle: float) -> np.ndarray:
    """An ellipse, axes 1:1 to 3:1: dents, stains, holes."""
    major, minor = _sides(log_uniform(rng, 1, 3), area_px / math.pi, REACH * side)
    cos, sin = _direction(angle)
    y, x = _grid(rng, math.hypot(major * sin, minor * cos), math.hypot(major * cos, minor * sin))
    along, across = (x * cos - y * sin) / major, (x * sin + y * cos) / minor
    return crop(_smallest(along * along + across * across, area_px))


def rectangle(rng: np.random.Generator, side: int, area_px: int, angle: float) -> np.ndarray:
    """A rectangle, sides 1:1 to 4:1: the patch of CutPaste (Li et al. 2021)."""
    return bar(rng, side, area_px, log_uniform(rng, 1, 4), angle)


def scar(rng: np.random.Generator, side: int, area_px: int, angle: float) -> np.ndarray:
    """A thin bar, sides 8:1 to 25:1 but at least 2 px wide: CutPaste's scar, scratches."""
    thinnest = max(area_px / 4, 1.0)
    return bar(rng, side, area_px, min(log_uniform(rng, 8, 25), thinnest), angle)


def polygon(rng: np.random.Generator, side: int, area_px: int, angle: float) -> np.ndarray:
    """A star-shaped polygon of 5 to 9 corners: chips, broken-off pieces."""
    corners = int(rng.integers(5, 10))
    angles = (np.arange(corners) + rng.uniform(-0.4, 0.4, corners)) * (2 * np.pi / corners)
    radii = rng.uniform(0.4, 1.0, corners)
    points = np.empty((corners, 2))
    points[:, 0] = x = radii * np.cos(angles - math.radians(angle))
    points[:, 1] = y = radii * np.sin(angles - math.radians(angle))
    area = 0.5 * abs(float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]))
    points *= min(math.sqrt(area_px / area), (REACH * side - 1) / float(radii.max()))
    points -= points.min(axis=0) - 1
    width, height = points.max(axis=0).astype(int) + 3
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.rint(points * 256).astype(np.int32)], 1, shift=8)
    return crop(canvas.view(bool))


def brush(rng: np.random.Generator, side: int, area_px: int, angle: float) -> np.ndarray:
    """A winding stroke, 4 to 12 times as long as wide: smears, threads, cracks."""
    ratio = min(log_uniform(rng, 4, 12), max(area_px / 4, 1.0))
    breadth = math.sqrt(area_px / ratio)
    turns = rng.normal(0, 0.45, 8)  # radians from one eighth of the stroke to the next
    heading = np.cumsum(turns) - math.radians(angle)
    points = np.zeros((9, 2))
    points[1:, 0] = np.cumsum(np.cos(heading))
    points[1:, 1] = np.cumsum(np.sin(heading))
    points *= ratio * breadth / 8
    points -= (points.min(axis=0) + points.max(axis=0)) / 2
    margin = breadth / 2 + 2
    room = max(REACH * side - margin, 1.0)
    points *= min(1.0, room / float(np.hypot(points[:, 0], points[:, 1]).max()))
    # A stroke that had to be shortened is broader than planned; so is one that crosses itself.
    margin = math.ceil(min(max(margin, math.sqrt(area_px) / 2 + 2), REACH * side))
    points -= points.min(axis=0) - margin
    width, height = np.minimum(points.max(axis=0).astype(int) + margin + 1, side)
    paper = np.ones((height, width), np.uint8)
    cv2.polylines(paper, [np.rint(points * 256).astype(np.int32)], False, 0, shift=8)
    return crop(_smallest(squared_distance(paper), area_px))


def blob(rng: np.random.Generator, side: int, area_px: int, angle: float) -> np.ndarray:
    """The largest piece of thresholded smooth noise about a centre: spills, corrosion.

    The noise has no direction of its own, so ``angle`` is not used.
    """
    cells = int(rng.integers(2, 5))
    radius = min(math.sqrt(area_px / math.pi) * 2, REACH * side)
    # A window twice as wide as the blob's disc holds 2 to 4 bumps each way.
    extent = 2 * math.ceil(radius) + 1
    noise = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    field = cv2.resize(noise, (extent, extent), interpolation=cv2.INTER_CUBIC)
    field = field * np.float32(-0.5)
    steps = (np.arange(extent, dtype=np.float32) - np.float32((extent - 1) / 2)) / radius
    squares = steps * steps
    field += squares[:, None]
    field += squares[None, :]
    field = field[:side, :side]
    pieces = _smallest(field, area_px).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(pieces, connectivity=8)
    if count > 2:
        return crop(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))
    return crop(pieces.view(bool))


MASK_FAMILIES: dict[str, MaskFamily] = {
    "ellipse": ellipse,
    "rectangle": rectangle,
    "polygon": polygon,
    "brush": brush,
    "scar": scar,
    "blob": blob,
}


def bar(
    rng: np.random.Generator, side: int, area_px: int, ratio: float, angle: float
) -> np.ndarray:
    """A turned rectangle with sides ``ratio``:1, less where its corners would be out of reach."""
    reach, product = (REACH * side) ** 2, area_px / 4
    longest = math.sqrt((reach + math.sqrt(max(reach * reach - 4 * product * product, 0.0))) / 2)
    long, short = _sides(ratio, product, longest)
    cos, sin = _direction(angle)
    wide, tall = long * abs(cos) + short * abs(sin), long * abs(sin) + short * abs(cos)
    y, x = _grid(rng, tall, wide)
    along, across = np.abs(x * cos - y * sin) / long, np.abs(x * sin + y * cos) / short
    return crop(_smallest(np.maximum(along, across), area_px))


def squared_distance(paper: np.ndarray) -> np.ndarray:
    """Squared distance in pixels of each pixel of uint8 ``[H, W]`` to the nearest zero, float32.

    OpenCV's distances differ in the last bit from run to run and with its number of threads;
    their squares are whole numbers, and rounded to those the same everywhere.
    """
    distance = cv2.distanceTransform(paper, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.rint(distance * distance)


def crop(mask: np.ndarray) -> np.ndarray:
    """A mask without the empty rows and columns about it."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return mask[top : top + height, left : left + width]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between ``low`` and ``high`` whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _sides(ratio: float, product: float, reach: float) -> tuple[float, float]:
    """Half axes with the given ratio and product; the longer one stays within ``reach``."""
    long = min(math.sqrt(product * ratio), reach)
    return long, min(max(product / long, 0.5), reach)


def _smallest(field: np.ndarray, area_px: int) -> np.ndarray:
    """The ``area_px`` pixels of smallest value, ties included."""
    count = min(max(area_px, 1), field.size)
    return field <= np.partition(field, count - 1, axis=None)[count - 1]


def _direction(angle: float) -> tuple[float, float]:
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))


def _grid(rng: np.random.Generator, tall: float, wide: float) -> tuple[np.ndarray, np.ndarray]:
    """``y`` as ``[h, 1]`` and ``x`` as ``[1, w]`` about a point off the centre, in pixels.

    About the centre itself small shapes would be symmetric: few in number, and of areas that jump
    by whole pairs of rows.

    Args:
        tall, wide: half the height and width of what is to lie on it.
    """
    off_y, off_x = rng.random(2) - 0.5
    rows, columns = math.ceil(tall) + 1, math.ceil(wide) + 1
    y = np.arange(-rows, rows + 1, dtype=np.float32)[:, None] + np.float32(off_y)
    x = np.arange(-columns, columns + 1, dtype=np.float32)[None, :] + np.float32(off_x)
    return y, x
