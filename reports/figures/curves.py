"""Pseudo and real AUROC over each parameter with their bands, as in the paper's Figure 6."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from pseudoval.metrics.spacing import geometric
from reports.figures.style import INK, MUTED, PSEUDO, TEST, axis_label, numeric, short, styled
from reports.findings.names import digits, points

PANEL_INCHES = (4.7, 3.3)
SMALL_INCHES = 1.3
ALONE_INCHES = (2.15, 1.7)
"""A panel of one category as a picture of its own, for a page that flows."""
LEAST_SPAN = 0.1
"""Height of an AUROC axis at least, so that differences within the noise are no cliffs."""
NAMED_INCHES = (7.0, 4.4)
"""A panel whose axis carries names instead of numbers: they and their legend need room."""
NAMED_TICKS = 16
"""At most this many configuration names on an axis; beyond it every other one, and so on."""
LARGE, SMALL = 5.5, 3.0
"""Sizes of a mark in points, in a panel of its own and in a small one."""
SETS = {"pseudo": ("pseudo set", PSEUDO, -1), "test": ("real test set", TEST, 1)}
"""For each set its name, its look, and the side of the place of a name that it stands on."""
ASIDE = 0.14
"""How far the two values of a name stand from its place, so that no bar covers the other."""


@styled
def curves_figure(correlation: Mapping[str, Any]) -> Figure:
    """One panel per stage with the macro AUROC, and a small one per category under it.

    Args:
        correlation: what ``correlate`` returns.
    """
    stages, categories = correlation["stages"], correlation["per_category"]
    columns = 2 if len(categories) in (2, 4) else 3
    rows = math.ceil(len(categories) / columns) if len(categories) > 1 else 0
    width, height = _panel_inches(stages)
    heights = [height, 0.35 + rows * SMALL_INCHES] if rows else [height]
    figure = Figure(figsize=(width * len(stages), sum(heights)))
    parts = figure.subfigures(len(heights), len(stages), squeeze=False, height_ratios=heights)
    for index, stage in enumerate(stages):
        if len(stages) > 1:
            parts[0, index].suptitle(f"Stage {index + 1} of {len(stages)}")
        _draw_stage(parts[0, index].subplots(), stage)
        if rows:
            of_stage = {name: one["stages"][index] for name, one in categories.items()}
            _draw_categories(parts[1, index], of_stage, rows, columns)
    return figure


@styled
def stage_figure(stage: Mapping[str, Any]) -> Figure:
    """The macro panel of one stage alone.

    Args:
        stage: one of ``correlation["stages"]``.
    """
    figure = Figure(figsize=_panel_inches([stage]))
    _draw_stage(figure.subplots(), stage)
    return figure


@styled
def category_figures(by_category: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """The panel of each category for one stage, all with the same AUROC axis.

    Args:
        by_category: the same stage of each category.
    """
    limits = _limits(by_category.values())
    figures = {name: Figure(figsize=ALONE_INCHES) for name in by_category}
    for name, stage in by_category.items():
        axes = figures[name].subplots()
        _draw_curves(axes, stage, limits, small=True)
        axes.set(xlabel=axis_label(stage["param"]), ylabel="image AUROC")
    return figures


def _panel_inches(stages: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    return PANEL_INCHES if all(numeric(stage["values"]) for stage in stages) else NAMED_INCHES


def _draw_stage(axes: Axes, stage: Mapping[str, Any]) -> None:
    _draw_curves(axes, stage, _limits([stage]), small=False)
    axes.set(xlabel=axis_label(stage["param"]), ylabel="image AUROC")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=2.8)


def _draw_categories(
    part: SubFigure, by_category: Mapping[str, Mapping[str, Any]], rows: int, columns: int
) -> None:
    part.suptitle("by category, for the choice made on all of them", color=MUTED)
    grid = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    limits = _limits(by_category.values())
    for axes in grid[len(by_category) :]:
        axes.set_axis_off()
    for number, (name, stage) in enumerate(by_category.items()):
        axes = grid[number]
        _draw_curves(axes, stage, limits, small=True)
        cost = "" if stage["regret"] is None else f"\ncost {points(stage['regret'])} points"
        axes.set_title(short(name, 20) + cost, fontsize=7.5)
        # The panels share their x axis; the lowest of each column carries its labels.
        axes.tick_params(labelbottom=number + columns >= len(by_category))


def _draw_curves(
    axes: Axes, stage: Mapping[str, Any], limits: tuple[float, float], *, small: bool
) -> None:
    values, size = stage["values"], SMALL if small else LARGE
    joined = numeric(values)  # a line between two names would mean nothing
    xs = np.array(values if joined else range(len(values)), float)
    aside = 0.0 if joined else ASIDE
    for which, (auroc, low, high) in _known(stage).items():
        name, style, side = SETS[which]
        at, color = xs + side * aside, style["color"]
        if joined:
            edge = {"edgecolor": (color, 0.55), "linestyle": style["linestyle"], "linewidth": 0.6}
            axes.fill_between(at, low, high, facecolor=(color, 0.14), zorder=2, **edge)
        else:
            axes.vlines(at, low, high, color=color, alpha=0.6, linewidth=1.2, zorder=2)
            style = {**style, "linestyle": "none"}
        label = f"{name}, 95 % {'band' if joined else 'bars'}"
        look = {"markersize": size, "markeredgewidth": size / 8, "linewidth": size / 3, **style}
        axes.plot(at, auroc, label=label, markeredgecolor="white", zorder=4, clip_on=False, **look)
    _draw_marks(axes, stage, xs, aside, size)
    _scale_x(axes, stage, small)
    if small:
        axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.grid(axis="y")
    axes.margins(x=0.04)
    axes.set_ylim(*limits)


def _draw_marks(
    axes: Axes, stage: Mapping[str, Any], xs: np.ndarray, aside: float, size: float
) -> None:
    values = stage["values"]

    def label(text: str, value: Any) -> str:
        # A name would be longer than its place; it stands on the axis.
        return f"{text}: {digits(value)}" if numeric(values) else text

    chosen, best, default = stage["selected"], stage["oracle"], stage["default"]
    at = xs[values.index(chosen)]
    axes.axvline(at, color=INK, linewidth=size / 5, label=label("chosen", chosen))
    look: dict[str, Any] = {"color": INK, "fillstyle": "none", "linestyle": "none", "zorder": 5}
    if best is not None:
        row, text = values.index(best), label("best on the test set", best)
        look |= {"label": text, "marker": "D", "markersize": 2.1 * size}
        axes.plot(xs[row] + aside, stage["test_auroc"][row], clip_on=False, **look)
    if default is not None:
        # At the foot of the panel, where no curve lies.
        look |= {"label": label("fixed default", default), "marker": "^", "markersize": 1.5 * size}
        foot = axes.get_xaxis_transform()
        axes.plot(xs[values.index(default)], 0, transform=foot, clip_on=False, **look)


def _known(stage: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Of each set with scores its AUROCs and the ends of their intervals, ``[3, values]``."""
    known = {}
    for which in SETS:
        if stage[f"{which}_auroc"] is not None:
            ends = zip(*(pair or (None, None) for pair in stage[f"{which}_interval"]), strict=True)
            known[which] = np.array([stage[f"{which}_auroc"], *ends], float)  # None becomes NaN
    return known


def _limits(stages: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """One AUROC axis for some panels: all curves and bands, at least ``LEAST_SPAN`` high."""
    known = np.concatenate([one.ravel() for stage in stages for one in _known(stage).values()])
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    span = max(high - low, LEAST_SPAN)
    top = min((low + high + span) / 2, 1.0)
    return top - 1.07 * span, top + 0.07 * span


def _scale_x(axes: Axes, stage: Mapping[str, Any], small: bool) -> None:
    """Logarithmic for K and other geometric values; names are evenly spaced; the rest is linear."""
    values = stage["values"]
    if not numeric(values):
        shown = [] if small else range(0, len(values), math.ceil(len(values) / NAMED_TICKS))
        labels = [short(str(values[index]), 22) for index in shown]
        axes.set_xticks(shown, labels, rotation=40, ha="right", rotation_mode="anchor")
    elif geometric(values) or (stage["param"] == "k" and min(values) > 0):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_spread(values, 4 if small else 12)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    elif small:
        axes.xaxis.set_major_locator(MaxNLocator(3))


def _spread(values: Sequence[float], most: int) -> list[float]:
    """Values far enough apart on a logarithmic axis to be labelled, the last one among them."""
    gap = math.log(values[-1] / values[0]) / most
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        if math.log(kept[-1] / value) >= gap:
            kept.append(value)
    return kept
