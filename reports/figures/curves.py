"""The curves picture: pseudo and real AUROC over each parameter, as in the paper's Figure 6."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from reports.figures.style import HAIR, INK, MUTED, PSEUDO, TEST, axis_label, numeric, short

PANEL_INCHES = (4.7, 3.3)
SMALL_INCHES = 1.3
SMALL_COLUMNS = 3
LEAST_SPAN = 0.1
"""Height of an AUROC axis at least, so that differences within the noise are no cliffs."""
NAME_INCHES = 1.1
"""More height for a panel whose axis carries names instead of numbers."""
NAMED_TICKS = 16
"""At most this many configuration names on an axis; beyond it every other one, and so on."""


def curves_figure(correlation: Mapping[str, Any], stages: Sequence[int] | None = None) -> Figure:
    """One panel per stage with the macro AUROC, and a small one per category under it.

    Args:
        correlation: what ``correlate`` returns.
        stages: indices of the stages to draw, side by side; all of them for None.
    """
    chosen = list(range(len(correlation["stages"]))) if stages is None else list(stages)
    names = list(correlation["per_category"])
    small_rows = math.ceil(len(names) / SMALL_COLUMNS) if len(names) > 1 else 0
    small_inches = small_rows * SMALL_INCHES + (0.35 if small_rows else 0)
    named = not all(numeric(correlation["stages"][index]["values"]) for index in chosen)
    panel_inches = PANEL_INCHES[1] + (NAME_INCHES if named else 0)
    figure = Figure(
        figsize=(PANEL_INCHES[0] * len(chosen), panel_inches + small_inches),
        layout="constrained",
        facecolor="white",
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.05)  # type: ignore[union-attr, call-arg]
    columns = figure.subfigures(1, len(chosen), squeeze=False)[0]
    for column, index in zip(columns, chosen, strict=True):
        if not small_rows:
            _draw_stage(column, correlation["stages"][index], index, len(correlation["stages"]))
            continue
        top, bottom = column.subfigures(2, 1, height_ratios=(panel_inches, small_inches))
        _draw_stage(top, correlation["stages"][index], index, len(correlation["stages"]))
        by_category = {n: correlation["per_category"][n]["stages"][index] for n in names}
        _draw_categories(bottom, by_category, small_rows)
    return figure


def _draw_stage(part: SubFigure, stage: Mapping[str, Any], index: int, count: int) -> None:
    axes = part.subplots()
    _draw_curves(axes, stage, 5.5, _limits([stage]))
    _scale_x(axes, stage, small=False)
    title = f"Stage {index + 1} of {count}: " if count > 1 else ""
    pad = 8 if stage["test_auroc"] is None else 22  # room for one or two rows of the legend
    axes.set_title(
        f"{title}{axis_label(stage['param'])}", loc="left", fontsize=11, color=INK, pad=pad + 18
    )
    axes.set_xlabel(axis_label(stage["param"]), color=INK)
    axes.set_ylabel("image AUROC (macro)", color=INK)
    axes.legend(
        handles=_legend(stage),
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=2,
        fontsize=8.5,
        handletextpad=0.6,
        frameon=False,
        labelcolor=INK,
        columnspacing=1.2,
        handlelength=2.8,
        borderpad=0.2,
    )


def _draw_categories(
    part: SubFigure, by_category: Mapping[str, Mapping[str, Any]], rows: int
) -> None:
    part.suptitle("by category, for the choice made on all of them", fontsize=8.5, color=MUTED)
    grid = part.subplots(rows, SMALL_COLUMNS, sharex=True, sharey=True, squeeze=False)
    cells = grid.ravel().tolist()
    limits = _limits(list(by_category.values()))
    for axes in cells[len(by_category) :]:
        axes.set_axis_off()
    for number, (name, stage) in enumerate(by_category.items()):
        axes = cells[number]
        _draw_curves(axes, stage, 2.4, limits)
        _scale_x(axes, stage, small=True)
        cost = "" if stage["regret"] is None else f"\ncost {stage['regret']:.3f}"
        axes.set_title(short(name, 20) + cost, fontsize=7.5, color=INK, loc="left", pad=3)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        # The panels share their x axis; the lowest of each column carries its labels.
        last = number + SMALL_COLUMNS >= len(by_category)
        axes.tick_params(labelsize=7, length=2, labelbottom=last)


def _draw_curves(
    axes: Axes, stage: Mapping[str, Any], size: float, limits: tuple[float, float]
) -> None:
    xs = _positions(stage["values"])
    joined = numeric(stage["values"])  # a line between two names would mean nothing
    width = 1.2 if size < 4 else 1.8
    selected = xs[stage["values"].index(stage["selected"])]
    axes.axvline(selected, color=INK, linewidth=0.9 if size < 4 else 1.2, zorder=1)
    for style, key in ((TEST, "test_auroc"), (PSEUDO, "pseudo_auroc")):
        if stage[key] is None:
            continue
        values = [math.nan if value is None else value for value in stage[key]]
        axes.plot(
            xs,
            values,
            color=style["color"],
            linestyle=style["linestyle"] if joined else "none",
            marker=style["marker"],
            markersize=size if joined or style is PSEUDO else 1.5 * size,  # seen behind a circle
            markeredgecolor="white",
            markeredgewidth=size / 8,
            linewidth=width,
            zorder=3,
            clip_on=False,
        )
    if stage["oracle"] is not None:
        best = stage["values"].index(stage["oracle"])
        axes.plot(
            [xs[best]],
            [stage["test_auroc"][best]],
            marker="D",
            markersize=size * 2.1,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=width * 0.8,
            linestyle="none",
            zorder=4,
            clip_on=False,
        )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.grid(axis="y", color=HAIR, linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9)
    axes.margins(x=0.04)
    axes.set_ylim(*limits)


def _limits(stages: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """One AUROC axis for some panels: all curves with a margin, at least ``LEAST_SPAN`` high."""
    curves = [curve for s in stages for curve in (s["pseudo_auroc"], s["test_auroc"]) if curve]
    values = [value for curve in curves for value in curve if value is not None]
    low, high = min(values), max(values)
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
        look = {**style, "linestyle": style["linestyle"] if joined else "none"}
        return Line2D([], [], label=label, markersize=5.5, markeredgecolor="white", **look)

    chosen = Line2D(
        [], [], color=INK, marker="|", markersize=11, linestyle="none", markeredgewidth=1.3
    )
    chosen.set_label(f"chosen: {short(str(stage['selected']), 22)}")
    handles = [curve(PSEUDO, "pseudo set"), chosen]
    if stage["test_auroc"] is not None:
        best = Line2D([], [], color=INK, marker="D", markerfacecolor="none", linestyle="none")
        best.set_label(f"best on the test set: {short(str(stage['oracle']), 22)}")
        best.set_markersize(7)
        handles = [curve(PSEUDO, "pseudo set"), curve(TEST, "real test set"), chosen, best]
    return handles


def _positions(values: Sequence[Any]) -> list[float]:
    return [float(v) for v in values] if numeric(values) else [float(i) for i in range(len(values))]
