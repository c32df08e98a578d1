"""The files for a paper: every figure as PNG and SVG, every table."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.curves import curves_figure
from reports.figures.errors import errors_figure
from reports.figures.examples import Example
from reports.figures.features import features_figure
from reports.figures.sheet import sheet_figure
from reports.figures.style import png, svg
from reports.findings.source import Source
from reports.tables.tables import table_files


def extra_files(
    source: Source, correlation: Mapping[str, Any], examples: Sequence[Example]
) -> dict[str, bytes]:
    """The figures and tables of a report, by file name relative to its folder.

    Args:
        source: the run; the first of several.
        correlation: what was made of it, of all if there are several.
        examples: of the run; a figure that they do not allow is left out.

    Returns:
        ``figures/NAME.png`` at print resolution and ``figures/NAME.svg``, numbered as in the
        LafitE paper, and ``tables/NAME.md``, ``.csv`` and ``.tex``.
    """
    figures = {
        "figure1_errors": errors_figure(examples),
        "figure4_pseudo_anomalies": sheet_figure(examples),
        "figure5_features": features_figure(examples),
        "figure6_curves": curves_figure(correlation),
    }
    files = {}
    for name, figure in figures.items():
        if figure is not None:
            files[f"figures/{name}.png"] = png(figure)
            files[f"figures/{name}.svg"] = svg(figure)
    return files | table_files(correlation)
