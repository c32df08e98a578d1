"""Reconstruction error without and with feature editing, as in Figure 1 of the LafitE paper."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from reports.figures.examples import KINDS, Example, value_range
from reports.figures.style import HEAT, outline, short, show_image, styled, tile, wide, write

TILE_INCHES = 1.0
BLOCKS = 2
"""Categories side by side."""
HEADS = ("input", "error without\nediting", "error with\nediting")


@styled
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
    figure = Figure(figsize=size)
    for number, (category, rows) in enumerate(blocks):
        left, top = number % across * block_width, number // across * block_height
        limits = wide(*value_range([error for one in rows for error in _errors(one)]))
        write(figure, left + side, top + 0.2, short(category, 40), fontsize=9.5, weight="bold")
        for column, title in enumerate(HEADS):
            middle = left + side + column * (TILE_INCHES + gap) + TILE_INCHES / 2
            write(figure, middle, top + head - 0.05, title, ha="center", va="bottom", fontsize=7.5)
        for row, example in enumerate(rows):
            upper = top + head + row * (TILE_INCHES + gap)
            x, y = left + side - 0.13, upper + TILE_INCHES / 2
            write(figure, x, y, example.kind, rotation=90, ha="center", va="center", fontsize=7.5)
            places = [left + side + column * (TILE_INCHES + gap) for column in range(3)]
            axes = tile(figure, places[0], upper, TILE_INCHES, TILE_INCHES)
            show_image(axes, example.image)
            outline(axes, example.mask, 0.9)
            for place, error in zip(places[1:], _errors(example), strict=True):
                axes = tile(figure, place, upper, TILE_INCHES, TILE_INCHES)
                axes.set_axis_off()
                # Blocks, not a smooth picture: this is what the detector has, patch by patch.
                drawn = axes.imshow(error, cmap=HEAT, interpolation="nearest", **limits)
        place = left + side + 3 * (TILE_INCHES + gap) + 0.03
        scale = tile(figure, place, top + head, 0.09, 2 * TILE_INCHES + gap)
        figure.colorbar(drawn, cax=scale).outline.set_visible(False)
        scale.tick_params(labelsize=6.5, length=2, pad=2)
        scale.set_ylabel("feature error (L2)", fontsize=7, labelpad=3)
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
