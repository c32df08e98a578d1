"""How area, visibility and difficulty of pseudo anomalies are spread, by category."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from reports.figures.style import INK, PSEUDO, short, styled, tile

ROW_INCHES, LEFT_INCHES, PANEL_INCHES = 0.34, 1.35, 2.15
MOST_DOTS = 400
"""Dots of a category; beyond it every other one is left out, and so on."""
MEASURES = {
    "area": ("area, % of the image", 100.0, True),
    "visibility": ("change in the mask, grey levels", 1.0, True),
    "on_object": ("on the object, % of the mask", 100.0, False),
    "score_rank": ("scores above % of the normals", 100.0, False),
}
"""For each: the label of its axis, the factor to its unit, and whether the axis is logarithmic."""


@styled
def distributions_figure(audit: Mapping[str, Any]) -> Figure | None:
    """A panel for each measure with a row of dots per category and the median as a mark.

    Args:
        audit: the content of ``audit.json``.

    Returns:
        None if there is no anomaly.
    """
    anomalies = [one for one in audit["images"] if one["label"] == 1]
    shown = [name for name in MEASURES if any(one[name] is not None for one in anomalies)]
    if not shown:
        return None
    names = list(audit["categories"])
    size = (LEFT_INCHES + len(shown) * PANEL_INCHES, 0.75 + ROW_INCHES * len(names))
    figure = Figure(figsize=size)
    for place, measure in enumerate(shown):
        left, height = LEFT_INCHES + place * PANEL_INCHES, ROW_INCHES * len(names)
        axes = tile(figure, left, 0.2, PANEL_INCHES - 0.25, height)
        label, factor, logarithmic = MEASURES[measure]
        for row, name in enumerate(names):
            found = [one[measure] for one in anomalies if one["category"] == name]
            values = factor * np.array([value for value in found if value is not None], float)
            if logarithmic:
                values = values[values > 0]  # empty and unchanged ones are counted in the table
            _dots(axes, np.sort(values), row)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(-4, 104)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), [short(n, 20) for n in names] if place == 0 else [])
        axes.tick_params(labelsize=7.5, length=2)
        axes.tick_params(axis="y", labelsize=8, length=0)
        axes.set_xlabel(label, fontsize=8)
        axes.grid(axis="x")
    return figure


def _dots(axes: Any, values: Sequence[float] | np.ndarray, height: int) -> None:
    if not len(values):
        return
    some = values[:: -(-len(values) // MOST_DOTS)]
    # A fixed pattern instead of chance keeps dots of equal values apart.
    offsets = 0.26 * (((np.arange(len(some)) * 0.618034) % 1.0) * 2 - 1)
    axes.plot(
        some, height + offsets, ".", color=PSEUDO["color"], alpha=0.45, markersize=3.5,
        markeredgewidth=0,
    )  # fmt: skip
    middle = float(np.median(values))
    axes.plot([middle, middle], [height - 0.4, height + 0.4], color=INK, linewidth=1.6)
