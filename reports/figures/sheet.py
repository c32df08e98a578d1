"""A sheet of pseudo anomalies, and the strips of the page: pictures of single examples."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from reports.figures.examples import KINDS, Example, by_category
from reports.figures.style import outline, short, show_image, styled

TILE_INCHES = 1.25
PAIRS = 3
"""Pseudo anomalies in a row of the sheet; each takes two tiles."""
PANEL_INCHES = 2.1
CLOSE_UP = 1.6
"""Side of a close-up in sides of the box around the mask, so that some of its ground shows."""
LEAST_CLOSE_UP = 0.2
"""Side of a close-up at least, as a share of the image: less shows pixels, not a defect."""


@styled
def sheet_figure(examples: Sequence[Example]) -> Figure | None:
    """Pseudo anomalies by category: the image with the outline of its mask, and a close-up.

    The close-up has no outline, so that one sees what the detector sees. None if there are none.
    """
    rows: list[list[Example]] = []
    for members in by_category([one for one in examples if one.kind == KINDS[1]]).values():
        rows += [members[start : start + PAIRS] for start in range(0, len(members), PAIRS)]
    if not rows:
        return None
    columns = 2 * max(map(len, rows))
    figure = Figure(figsize=(0.2 + columns * TILE_INCHES, len(rows) * TILE_INCHES))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, members in zip(grid, rows, strict=True):
        line[0].set_ylabel(short(members[0].category, 16))
        for whole, close, example in zip(line[::2], line[1::2], members, strict=False):
            show_image(whole, example.image)
            outline(whole, example.mask)
            show_image(close, example.image)
            left, right, top, bottom = close_up(example)
            close.set(xlim=(left, right), ylim=(bottom, top))
        for unused in line[2 * len(members) :]:
            unused.remove()
    return figure


def close_up(example: Example) -> tuple[float, float, float, float]:
    """The square (left, right, top, bottom) in pixels around the largest part of the mask.

    Inside the image; the whole image if there is no mask.
    """
    height, width = example.image.shape[:2]
    if example.mask is None or not example.mask.any():
        return 0.0, float(width), 0.0, float(height)
    parts, _ = ndimage.label(example.mask, np.ones((3, 3)))
    ys, xs = np.nonzero(parts == np.bincount(parts[example.mask]).argmax())
    box = max(np.ptp(xs) + 1, np.ptp(ys) + 1) * CLOSE_UP
    side = float(min(max(box, LEAST_CLOSE_UP * min(height, width)), height, width))
    x0 = float(np.clip((xs.min() + xs.max() + 1) / 2 - side / 2, 0, width - side))
    y0 = float(np.clip((ys.min() + ys.max() + 1) / 2 - side / 2, 0, height - side))
    return x0, x0 + side, y0, y0 + side


@styled
def example_figure(example: Example, limits: tuple[float, float]) -> Figure:
    """A strip of image | image with the outline of its mask | image under its anomaly map, if any.

    Args:
        limits: map values that are painted darkest and brightest.
    """
    height, width = example.image.shape[:2]
    count = 2 if example.map is None else 3
    figure = Figure(figsize=(count * PANEL_INCHES, PANEL_INCHES * height / width))
    panels = figure.subplots(1, count)
    for axes in panels:
        show_image(axes, example.image)
    outline(panels[1], example.mask)
    if example.map is None:
        return figure
    place, look = (0, width, height, 0), {"alpha": 0.6, "interpolation": "bilinear"}
    panels[2].imshow(example.map, extent=place, vmin=limits[0], vmax=limits[1], **look)
    return figure
