"""What all figures share: colours, marks, labels, and how a figure becomes a file."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PSEUDO: dict[str, Any] = {"color": "#0072B2", "linestyle": "-", "marker": "o"}
TEST: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (5, 2)), "marker": "s"}
"""Blue and vermilion of Okabe and Ito; line style and marker tell them apart in grey."""

INK, MUTED, HAIR = "#1f2328", "#5b6470", "#dfe3e8"
OUTLINE = "#ffdd33"
"""Outline of a mask, drawn over black so that it shows on any ground."""

HEAT = "inferno"
"""Lightness rises evenly from low to high, so that a map is read the same in grey."""

LOOK: dict[Any, Any] = {
    "figure.facecolor": "white",
    "text.color": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": HAIR,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    # Letters as outlines, and no other id at each writing.
    "svg.fonttype": "path",
    "svg.hashsalt": "pseudoval",
}

AXIS_LABELS = {"t": "corruption step t", "k": "neighbours K", "configuration": "configuration"}
PRINT_DPI = 300


styled = matplotlib.rc_context(LOOK)
"""Decorates what draws a figure. Ticks are made when it is encoded, which is styled too."""


def png(figure: Figure, dpi: int = PRINT_DPI) -> bytes:
    """Encode a figure; the same figure gives the same bytes (no date, no software version)."""
    return _encode(figure, "png", dpi=dpi, metadata={"Software": None})


def svg(figure: Figure) -> bytes:
    """Encode a figure as vectors with its letters as outlines: the same bytes, the same look."""
    return _encode(figure, "svg", dpi=PRINT_DPI, metadata={"Date": None, "Creator": None})


def jpeg(figure: Figure, dpi: int = 150) -> bytes:
    """Encode a figure of photographs, several times smaller than as PNG."""
    return _encode(figure, "jpeg", dpi=dpi, pil_kwargs={"quality": 88, "optimize": True})


def axis_label(param: str) -> str:
    """What an axis over a parameter is called."""
    return AXIS_LABELS.get(param, param)


def short(text: str, most: int) -> str:
    """A text cut to ``most`` characters, the last of them an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def numeric(values: Sequence[Any]) -> bool:
    """Whether a parameter has numbers to place on an axis, not names."""
    return all(isinstance(value, int | float) for value in values)


def show_image(axes: Axes, image: np.ndarray) -> None:
    """An image ``[H, W, 3]`` without axes, in pixel coordinates."""
    height, width = image.shape[:2]
    axes.set_axis_off()
    axes.imshow(image, extent=(0, width, height, 0), interpolation="antialiased")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def outline(axes: Axes, mask: np.ndarray | None, width: float = 1.2) -> None:
    """The outline of a mask ``[H, W]`` bool over the image that it belongs to, if there is one."""
    if mask is None or not mask.any():
        return
    height, length = mask.shape
    # A border of zeros closes the outline of a mask that reaches the edge.
    edges = np.pad(mask, 1).astype(float)
    xs, ys = np.arange(length + 2) - 0.5, np.arange(height + 2) - 0.5
    axes.contour(xs, ys, edges, levels=[0.5], colors="black", linewidths=2.2 * width)
    axes.contour(xs, ys, edges, levels=[0.5], colors=OUTLINE, linewidths=width)


def tile(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place of a figure, in inches from its top left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )


def write(figure: Figure, x: float, y: float, text: str, **look: Any) -> None:
    """A text at a place of a figure, in inches from its top left corner."""
    across, down = figure.get_size_inches()
    figure.text(x / across, 1 - y / down, text, **look)


def wide(low: float, high: float) -> dict[str, Any]:
    """The ends of a colour scale, which are never the same."""
    return {"vmin": low, "vmax": high if high > low else low + 1}


@styled
def _encode(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
