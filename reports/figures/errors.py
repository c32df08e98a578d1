"""Reconstruction error without and with feature editing, as in Figure 1 of the LafitE paper."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reports.figures.examples import KINDS, Example, value_range
from reports.figures.style import HEAT, INK, MUTED, outline, short, show_image

TILE_INCHES = 1.0
BLOCKS = 2
"""Categories side by side."""
HEADS = ("input", "error without\nediting", "error with\nediting")


def errors_figure(examples: Sequence[Example]) -> Figure | None:
    """A normal and an anomalous image of each category with both errors, on one colour scale.

    The anomalous image is a real defect where there is one, else a pseudo anomaly; among several
    the one with the highest score. None where the detector has no two errors, or where the two
    are the same because the choice does no editing.
    """
    blocks = shown_blocks(examples)
    if not blocks:
        return None
    across = min(BLOCKS, len(blocks))
    down = math.ceil(len(blocks) / across)
    gap, side, bar, head = 0.05, 0.3, 0.75, 0.62
    block_width = side + 3 * (TILE_INCHES + gap) + bar
    block_height = head + 2 * (TILE_INCHES + gap) + 0.12
    size = (across * block_width, down * block_height)
    figure = Figure(figsize=size, facecolor="white")

    def box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Inches from the top left corner as a share of the figure from the bottom left."""
        return x / size[0], 1 - (y + height) / size[1], width / size[0], height / size[1]

    def write(x: float, y: float, text: str, **look: Any) -> None:
        figure.text(x / size[0], 1 - y / size[1], text, color=INK, **look)

    for number, (category, rows) in enumerate(blocks):
        left = (number % across) * block_width
        top = (number // across) * block_height
        limits = value_range([error for one in rows for error in _errors(one)])
        write(left + side, top + 0.2, short(category, 40), fontsize=9.5, weight="bold")
        for column, title in enumerate(HEADS):
            middle = left + side + column * (TILE_INCHES + gap) + TILE_INCHES / 2
            write(middle, top + head - 0.05, title, ha="center", va="bottom", fontsize=7.5)
        for row, example in enumerate(rows):
            upper = top + head + row * (TILE_INCHES + gap)
            beside = (left + side - 0.13, upper + TILE_INCHES / 2)
            write(*beside, example.kind, rotation=90, ha="center", va="center", fontsize=7.5)
            for column in range(3):
                place = left + side + column * (TILE_INCHES + gap)
                axes = figure.add_axes(box(place, upper, TILE_INCHES, TILE_INCHES))
                if column == 0:
                    show_image(axes, example.image)
                    outline(axes, example.mask, 0.9)
                    continue
                axes.set_axis_off()
                # Blocks, not a smooth picture: this is what the detector has, patch by patch.
                drawn = axes.imshow(
                    _errors(example)[column - 1],
                    cmap=HEAT,
                    interpolation="nearest",
                    vmin=limits[0],
                    vmax=limits[1] if limits[1] > limits[0] else limits[0] + 1,
                )
        place = left + side + 3 * (TILE_INCHES + gap) + 0.03
        scale = figure.add_axes(box(place, top + head, 0.09, 2 * TILE_INCHES + gap))
        colours = figure.colorbar(drawn, cax=scale)
        colours.outline.set_visible(False)
        scale.tick_params(labelsize=6.5, length=2, color=MUTED, labelcolor=INK, pad=2)
        scale.set_ylabel("feature error (L2)", fontsize=7, color=INK, labelpad=3)
    return figure


def shown_blocks(examples: Sequence[Example]) -> list[tuple[str, list[Example]]]:
    """By category a normal and an anomalous image; a category without both is left out."""
    blocks = []
    edited = [one for one in examples if _edits(one)]
    for category in dict.fromkeys(one.category for one in edited):
        members = [one for one in edited if one.category == category]
        normal = [one for one in members if one.kind == KINDS[0]]
        real = [one for one in members if one.kind == KINDS[2]]
        anomalous = real or [one for one in members if one.kind == KINDS[1]]
        if normal and anomalous:
            best = max(anomalous, key=lambda one: one.score)
            same = [one for one in normal if one.which == best.which]
            blocks.append((category, [(same or normal)[0], best]))
    return blocks


def _edits(example: Example) -> bool:
    if example.error_plain is None or example.error_edited is None:
        return False
    return not np.array_equal(example.error_plain, example.error_edited)


def _errors(example: Example) -> tuple[np.ndarray, np.ndarray]:
    assert example.error_plain is not None and example.error_edited is not None
    return example.error_plain, example.error_edited
