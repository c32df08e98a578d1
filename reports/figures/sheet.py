"""A sheet of pseudo anomalies, and the strips of the page: pictures of single examples."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from reports.figures.examples import KINDS, Example
from reports.figures.style import HEAT, outline, short, show_image, styled, tile, wide, write

TILE_INCHES = 1.15
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
    rows: list[tuple[str, list[Example]]] = []
    anomalies = [one for one in examples if one.kind == KINDS[1]]
    for category in dict.fromkeys(one.category for one in anomalies):
        members = [one for one in anomalies if one.category == category]
        for start in range(0, len(members), PAIRS):
            rows.append((category if start == 0 else "", members[start : start + PAIRS]))
    if not rows:
        return None
    columns = 2 * max(len(members) for _, members in rows)
    left, top, gap = 0.3, 0.06, 0.06
    size = (left + columns * (TILE_INCHES + gap), top + len(rows) * (TILE_INCHES + gap))
    figure = Figure(figsize=size)
    for row, (category, members) in enumerate(rows):
        upper = top + row * (TILE_INCHES + gap)
        name = short(category, 18)
        y = upper + TILE_INCHES / 2
        write(figure, 0.14, y, name, rotation=90, ha="center", va="center", fontsize=8.5)
        for place, example in enumerate(members):
            x = left + 2 * place * (TILE_INCHES + gap)
            axes = tile(figure, x, upper, TILE_INCHES, TILE_INCHES)
            show_image(axes, example.image)
            outline(axes, example.mask, 0.9)
            axes = tile(figure, x + TILE_INCHES + 0.3 * gap, upper, TILE_INCHES, TILE_INCHES)
            show_image(axes, example.image)
            x0, x1, y0, y1 = close_up(example)
            axes.set_xlim(x0, x1)
            axes.set_ylim(y1, y0)
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
    """A strip of image | image with the outline of its mask | image under its anomaly map.

    Args:
        limits: map values that are painted darkest and brightest.
    """
    height, width = example.image.shape[:2]
    figure = Figure(figsize=(3 * PANEL_INCHES, PANEL_INCHES * height / width))
    for column in range(3):
        axes = figure.add_axes((column / 3 + 0.004, 0.0, 1 / 3 - 0.008, 1.0))
        show_image(axes, example.image)
        axes.set_aspect("auto")
        if column == 1:
            outline(axes, example.mask)
        if column == 2:
            axes.imshow(
                example.map, extent=(0, width, height, 0), aspect="auto", alpha=0.6,
                interpolation="bilinear", cmap=HEAT, **wide(*limits),
            )  # fmt: skip
    return figure
