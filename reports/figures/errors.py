"""Reconstruction error without and with feature editing, as in Figure 1 of the LafitE paper."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from reports.figures.examples import KINDS, Example, by_category, value_range
from reports.figures.style import outline, short, show_image, styled

BLOCK_INCHES = (4.6, 3.2)
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
    figure = Figure(figsize=(across * BLOCK_INCHES[0], down * BLOCK_INCHES[1]))
    parts = figure.subfigures(down, across, squeeze=False)
    for part, (category, rows) in zip(parts.flat, blocks, strict=False):
        part.suptitle(short(category, 40), weight="bold")
        grid = part.subplots(len(rows), len(HEADS))
        errors = [one.errors for one in rows if one.errors is not None]
        low, high = value_range(errors)
        for line, example, maps in zip(grid, rows, errors, strict=True):
            show_image(line[0], example.image)
            outline(line[0], example.mask)
            line[0].set_ylabel(example.kind)
            for axes, values in zip(line[1:], maps, strict=True):
                # Blocks, not a smooth picture: this is what the detector has, patch by patch.
                drawn = show_image(axes, values, interpolation="nearest", vmin=low, vmax=high)
        for axes, head in zip(grid[0], HEADS, strict=True):
            axes.set_title(head, loc="center")
        part.colorbar(drawn, ax=grid, label="feature error (L2)")
    return figure


def shown_blocks(examples: Sequence[Example]) -> list[tuple[str, list[Example]]]:
    """By category a normal and an anomalous image; a category without both is left out."""
    blocks = []
    edited = [one for one in examples if one.errors is not None and not np.array_equal(*one.errors)]
    for category, members in by_category(edited).items():
        normal, pseudo, real = ([one for one in members if one.kind == kind] for kind in KINDS)
        anomalous = real or pseudo
        if normal and anomalous:
            best = max(anomalous, key=lambda one: one.score)
            same = [one for one in normal if one.which == best.which]
            blocks.append((category, [(same or normal)[0], best]))
    return blocks
