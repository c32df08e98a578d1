"""How area, visibility and difficulty of pseudo anomalies are spread, by category."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from reports.figures.style import INK, PSEUDO, short, styled

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
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, shown, strict=True):
        label, factor, logarithmic = MEASURES[measure]
        for row, name in enumerate(names):
            found = [one[measure] for one in anomalies if one["category"] == name]
            values = factor * np.array([value for value in found if value is not None], float)
            # Empty and unchanged ones have no logarithm; they are counted in the table.
            _draw_row(axes, np.sort(values[values > 0] if logarithmic else values), row)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(-4, 104)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), [short(name, 20) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label)
        axes.grid(axis="x")
    return figure


def _draw_row(axes: Axes, values: np.ndarray, row: int) -> None:
    if not len(values):
        return
    some = values[:: -(-len(values) // MOST_DOTS)]
    # A fixed pattern instead of chance keeps dots of equal values apart.
    offsets = 0.26 * (((np.arange(len(some)) * 0.618034) % 1.0) * 2 - 1)
    axes.scatter(some, row + offsets, s=6, color=PSEUDO["color"], alpha=0.45, linewidths=0)
    axes.vlines(np.median(values), row - 0.4, row + 0.4, color=INK, linewidth=1.6)
