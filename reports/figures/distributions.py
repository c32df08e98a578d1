"""How area, visibility and difficulty of pseudo anomalies are spread, by category."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports.figures.style import HAIR, INK, MUTED, PSEUDO, short

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


def distributions_figure(audit: Mapping[str, Any]) -> Figure | None:
    """A panel for each measure with a row of dots per category and the median as a mark.

    Args:
        audit: the content of ``audit.json``.

    Returns:
        None if there is no anomaly.
    """
    rows = [row for row in audit["images"] if row["label"] == 1]
    shown = [name for name in MEASURES if any(row[name] is not None for row in rows)]
    if not shown:
        return None
    names = list(audit["categories"])
    size = (LEFT_INCHES + len(shown) * PANEL_INCHES, 0.75 + ROW_INCHES * len(names))
    figure = Figure(figsize=size, facecolor="white")
    for place, measure in enumerate(shown):
        box = (
            (LEFT_INCHES + place * PANEL_INCHES) / size[0],
            0.55 / size[1],
            (PANEL_INCHES - 0.25) / size[0],
            ROW_INCHES * len(names) / size[1],
        )
        axes = figure.add_axes(box)
        label, factor, logarithmic = MEASURES[measure]
        for height, name in enumerate(names):
            found = [row[measure] for row in rows if row["category"] == name]
            values = factor * np.array([value for value in found if value is not None], float)
            if logarithmic:
                values = values[values > 0]  # empty and unchanged ones are counted in the table
            _dots(axes, np.sort(values), height)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(-4, 104)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), [short(n, 20) for n in names] if place == 0 else [])
        axes.tick_params(labelsize=7.5, colors=MUTED, length=2)
        axes.tick_params(axis="y", labelcolor=INK, labelsize=8, length=0)
        axes.set_xlabel(label, fontsize=8, color=INK)
        axes.grid(axis="x", color=HAIR, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_color(HAIR)
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
