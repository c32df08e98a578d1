"""Pseudo and real AUROC over each parameter with their bands, as in the paper's Figure 6."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from reports.figures.style import INK, MUTED, PSEUDO, TEST, axis_label, numeric, short, styled
from reports.findings.names import points

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
ASIDE = 0.14
"""How far the pseudo and the real value of a name stand from its place on the axis."""
LARGE, SMALL = 5.5, 2.4
"""Sizes of a mark in points, in a panel of its own and in a small one."""


@styled
def curves_figure(correlation: Mapping[str, Any]) -> Figure:
    """One panel per stage with the macro AUROC, and a small one per category under it.

    Args:
        correlation: what ``correlate`` returns.
    """
    stages = correlation["stages"]
    names = list(correlation["per_category"])
    small_columns = 2 if len(names) in (2, 4) else 3
    small_rows = math.ceil(len(names) / small_columns) if len(names) > 1 else 0
    small_inches = small_rows * SMALL_INCHES + (0.35 if small_rows else 0)
    width, panel_inches = _panel_inches(stages)
    figure = _figure(width * len(stages), panel_inches + small_inches)
    columns = figure.subfigures(1, len(stages), squeeze=False)[0]
    for index, (column, stage) in enumerate(zip(columns, stages, strict=True)):
        title = axis_label(stage["param"])
        if len(stages) > 1:
            title = f"Stage {index + 1} of {len(stages)}: {title}"
        if not small_rows:
            _draw_stage(column.subplots(), stage, title)
            continue
        top, bottom = column.subfigures(2, 1, height_ratios=(panel_inches, small_inches))
        _draw_stage(top.subplots(), stage, title)
        by_category = {n: correlation["per_category"][n]["stages"][index] for n in names}
        _draw_categories(bottom, by_category, small_rows, small_columns)
    return figure


@styled
def stage_figure(stage: Mapping[str, Any]) -> Figure:
    """The macro panel of one stage alone.

    Args:
        stage: one of ``correlation["stages"]``.
    """
    figure = _figure(*_panel_inches([stage]))
    _draw_stage(figure.subplots(), stage, "")
    return figure


@styled
def category_figures(by_category: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """The panel of each category for one stage, all with the same AUROC axis.

    Args:
        by_category: the same stage of each category.
    """
    limits = _limits(list(by_category.values()))
    figures = {}
    for name, stage in by_category.items():
        figure = _figure(*ALONE_INCHES)
        axes = figure.subplots()
        _draw_curves(axes, stage, 1.4 * SMALL, limits)
        _scale_x(axes, stage, small=True)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelsize=7.5, length=2)
        axes.set_xlabel(axis_label(stage["param"]), fontsize=8, labelpad=2)
        axes.set_ylabel("image AUROC", fontsize=8, labelpad=3)
        figures[name] = figure
    return figures


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.05)  # type: ignore[union-attr, call-arg]
    return figure


def _panel_inches(stages: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    return PANEL_INCHES if all(numeric(stage["values"]) for stage in stages) else NAMED_INCHES


def _draw_stage(axes: Axes, stage: Mapping[str, Any], title: str) -> None:
    _draw_curves(axes, stage, LARGE, _limits([stage]))
    _scale_x(axes, stage, small=False)
    handles = _legend(stage)
    rows = math.ceil(len(handles) / 2)
    axes.set_title(title, fontsize=11, pad=12 + 14 * rows)
    axes.set_xlabel(axis_label(stage["param"]))
    axes.set_ylabel("image AUROC")
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2, fontsize=8.5,
        handletextpad=0.6, columnspacing=1.2, handlelength=2.8, borderpad=0.2,
    )  # fmt: skip


def _draw_categories(
    part: SubFigure, by_category: Mapping[str, Mapping[str, Any]], rows: int, columns: int
) -> None:
    part.suptitle("by category, for the choice made on all of them", fontsize=8.5, color=MUTED)
    grid = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    cells = grid.ravel().tolist()
    limits = _limits(list(by_category.values()))
    for axes in cells[len(by_category) :]:
        axes.set_axis_off()
    for number, (name, stage) in enumerate(by_category.items()):
        axes = cells[number]
        _draw_curves(axes, stage, SMALL, limits)
        _scale_x(axes, stage, small=True)
        regret = stage["regret"]
        cost = "" if regret is None else f"\ncost {points(regret)} points"
        axes.set_title(short(name, 20) + cost, fontsize=7.5, pad=3)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        # The panels share their x axis; the lowest of each column carries its labels.
        last = number + columns >= len(by_category)
        axes.tick_params(labelsize=7, length=2, labelbottom=last)


def _draw_curves(
    axes: Axes, stage: Mapping[str, Any], size: float, limits: tuple[float, float]
) -> None:
    xs = _positions(stage["values"])
    joined = numeric(stage["values"])
    width = 1.2 if size < 4 else 1.8
    selected = xs[stage["values"].index(stage["selected"])]
    axes.axvline(selected, color=INK, linewidth=0.9 if size < 4 else 1.2, zorder=1)
    for style, which in ((TEST, "test"), (PSEUDO, "pseudo")):
        if stage[f"{which}_auroc"] is None:
            continue
        # Names stand beside each other, so that two bars at one place do not cover each other.
        aside = 0.0 if joined else (ASIDE if style is TEST else -ASIDE)
        places = [x + aside for x in xs]
        _draw_band(axes, places, stage[f"{which}_interval"], style, joined)
        axes.plot(
            places, np.array(stage[f"{which}_auroc"], float), **_joined(style, joined), zorder=4,
            markersize=size, markeredgewidth=size / 8, linewidth=width, clip_on=False,
        )  # fmt: skip
    if stage["oracle"] is not None:
        best = stage["values"].index(stage["oracle"])
        _mark(axes, xs[best] + (0 if joined else ASIDE), stage["test_auroc"][best], "D", 2.1 * size)
    if stage["default"] is not None:
        # At the foot of the panel, where no curve lies.
        foot = axes.get_xaxis_transform()
        at = xs[stage["values"].index(stage["default"])]
        _mark(axes, at, 0.0, "^", 1.5 * size, transform=foot)
    axes.grid(axis="y")
    axes.tick_params(labelsize=9)
    axes.margins(x=0.04)
    axes.set_ylim(*limits)


def _mark(axes: Axes, x: float, y: float, marker: str, size: float, **options: Any) -> None:
    axes.plot(
        x, y, marker=marker, markersize=size, markeredgecolor=INK, linestyle="none",
        markerfacecolor="white" if marker == "^" else "none", zorder=5, clip_on=False,
        markeredgewidth=1.0 if size < 8 else 1.4, **options,
    )  # fmt: skip


def _draw_band(
    axes: Axes,
    xs: Sequence[float],
    intervals: Sequence[Sequence[float] | None] | None,
    style: Mapping[str, Any],
    joined: bool,
) -> None:
    """The bootstrap intervals: a band with thin edges along a curve, bars where there are names."""
    ends = [[math.nan, math.nan] if pair is None else list(pair) for pair in intervals or []]
    if not ends:
        return
    low, high = np.array(ends).T
    look = {"color": style["color"], "zorder": 2}
    if not joined:
        axes.vlines(xs, low, high, linewidth=1.2, alpha=0.6, **look)
        return
    axes.fill_between(xs, low, high, alpha=0.14, linewidth=0, **look)
    for edge in (low, high):
        axes.plot(xs, edge, linewidth=0.6, alpha=0.55, linestyle=style["linestyle"], **look)


def _limits(stages: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """One AUROC axis for some panels: all curves and bands, at least ``LEAST_SPAN`` high."""
    values: list[float] = []
    for stage in stages:
        for which in ("pseudo", "test"):
            pairs = [pair for pair in stage[f"{which}_interval"] or [] if pair is not None]
            values += [*(stage[f"{which}_auroc"] or []), *(end for pair in pairs for end in pair)]
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    span = max(high - low, LEAST_SPAN)
    top = min((low + high + span) / 2, 1.0)
    return top - 1.07 * span, top + 0.07 * span


def _scale_x(axes: Axes, stage: Mapping[str, Any], small: bool) -> None:
    """K spans decades and gets a logarithmic axis; names are evenly spaced; the rest is linear."""
    values = stage["values"]
    if not numeric(values):
        step = math.ceil(len(values) / (1 if small else NAMED_TICKS))
        shown = [] if small else list(range(0, len(values), step))
        labels = [short(str(values[index]), 22) for index in shown]
        axes.set_xticks(shown, labels, rotation=40, ha="right", rotation_mode="anchor")
        return
    if stage["param"] == "k" and min(values) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_spread(values, 4 if small else 12)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    elif small:
        axes.xaxis.set_major_locator(MaxNLocator(3))


def _spread(values: Sequence[float], most: int) -> list[float]:
    """Values far enough apart on a logarithmic axis to be labelled, the last one among them."""
    gap = math.log(values[-1] / values[0]) / most if len(values) > 1 else 0
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        if math.log(kept[-1] / value) >= gap:
            kept.append(value)
    return kept[::-1]


def _legend(stage: Mapping[str, Any]) -> list[Line2D]:
    joined = numeric(stage["values"])

    def curve(style: Mapping[str, Any], label: str) -> Line2D:
        return Line2D([], [], label=label, markersize=5.5, **_joined(style, joined))

    def mark(marker: str, size: float, label: str) -> Line2D:
        look: dict[str, Any] = {"color": INK, "markerfacecolor": "none", "linestyle": "none"}
        return Line2D([], [], label=label, marker=marker, markersize=size, **look)

    def named(label: str, value: Any) -> str:
        # A name would be longer than its place; it stands on the axis.
        return f"{label}: {value}" if joined else label

    # Both short enough for two columns above a panel.
    spread = "95 % band" if joined else "95 % bars"
    handles = [curve(PSEUDO, f"pseudo set, {spread}")]
    if stage["test_auroc"] is not None:
        handles.append(curve(TEST, f"real test set, {spread}"))
    handles.append(mark("|", 11, named("chosen", stage["selected"])))
    if stage["oracle"] is not None:
        handles.append(mark("D", 7, named("best on the test set", stage["oracle"])))
    if stage["default"] is not None:
        handles.append(mark("^", 7.5, named("fixed default", stage["default"])))
    # The legend fills column by column; reordered so that it reads row by row.
    return handles[::2] + handles[1::2]


def _joined(style: Mapping[str, Any], joined: bool) -> dict[str, Any]:
    """The look of a curve; a line between two names would mean nothing."""
    return {**style, "markeredgecolor": "white"} | ({} if joined else {"linestyle": "none"})


def _positions(values: Sequence[Any]) -> list[float]:
    return [float(v) for v in values] if numeric(values) else [float(i) for i in range(len(values))]
