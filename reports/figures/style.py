"""What all figures share: colours, marks, labels, and how a figure becomes a file."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

PSEUDO: dict[str, Any] = {"color": "#0072B2", "linestyle": "-", "marker": "o"}
TEST: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (5, 2)), "marker": "s"}
"""Blue and vermilion of Okabe and Ito; line style and marker tell them apart in grey."""

INK, MUTED, HAIR = "#1f2328", "#5b6470", "#dfe3e8"
OUTLINE = "#ffdd33"
"""Outline of a mask, drawn over black so that it shows on any ground."""

LOOK: dict[Any, Any] = {
    "figure.facecolor": "white",
    "figure.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
    "font.size": 9,
    "text.color": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
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
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": "small",
    "legend.columnspacing": 1.2,
    # Lightness rises evenly from low to high, so that a map is read the same in grey.
    "image.cmap": "inferno",
    # Letters as outlines, and no other id at each writing.
    "svg.fonttype": "path",
    "svg.hashsalt": "pseudoval",
}

AXIS_LABELS = {"t": "corruption step t", "k": "neighbours K"}

styled = matplotlib.rc_context(LOOK)
"""Decorates what draws a figure. Ticks are made when it is encoded, which is styled too."""


def png(figure: Figure) -> bytes:
    """Encode a figure; the same figure gives the same bytes (no date, no software version)."""
    return _encode(figure, "png", metadata={"Software": None})


def svg(figure: Figure) -> bytes:
    """Encode a figure as vectors with its letters as outlines: the same bytes, the same look."""
    return _encode(figure, "svg", metadata={"Date": None, "Creator": None})


def jpeg(figure: Figure) -> bytes:
    """Encode a figure of photographs for the page, several times smaller than as PNG."""
    return _encode(figure, "jpeg", dpi=150, pil_kwargs={"quality": 88, "optimize": True})


def axis_label(param: str) -> str:
    """What an axis over a parameter is called."""
    return AXIS_LABELS.get(param, param)


def short(text: str, most: int) -> str:
    """A text cut to ``most`` characters, the last of them an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def numeric(values: Sequence[Any]) -> bool:
    """Whether a parameter has numbers to place on an axis, not names."""
    return all(isinstance(value, int | float) for value in values)


def show_image(axes: Axes, image: np.ndarray, **look: Any) -> AxesImage:
    """An image ``[H, W, 3]`` or a map ``[H, W]`` without ticks, in pixel coordinates."""
    height, width = image.shape[:2]
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    drawn = axes.imshow(image, extent=(0, width, height, 0), **look)
    axes.autoscale(enable=False)
    return drawn


def outline(axes: Axes, mask: np.ndarray | None) -> None:
    """The outline of a mask ``[H, W]`` bool over the image that it belongs to, if there is one."""
    if mask is None or not mask.any():
        return
    height, width = mask.shape
    # A border of zeros closes the outline of a mask that reaches the edge.
    edges, extent = np.pad(mask, 1), (-0.5, width + 0.5, -0.5, height + 0.5)
    for color, thickness in (("black", 2.2), (OUTLINE, 1.0)):
        axes.contour(edges, levels=[0.5], extent=extent, colors=color, linewidths=thickness)


@styled
def _encode(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
