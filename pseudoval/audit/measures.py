"""What can be measured of one synthetic anomaly, and how a set of such figures is summed up."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pseudoval.generators.options import PasteConfig
from pseudoval.generators.visibility import visibility_floor

LEVELS = {"low": 0.05, "median": 0.5, "high": 0.95}


def measure(
    image: np.ndarray,
    mask: np.ndarray,
    background: np.ndarray | None,
    foreground: np.ndarray | None,
) -> dict[str, Any]:
    """Measure an anomaly.

    Args:
        image: uint8 ``[H, W, 3]``.
        mask: bool ``[H, W]``.
        background: the normal underneath, of the same shape; None if it is not known.
        foreground: bool ``[H, W]``, the object; None for the whole image.

    Returns:
        ``area``: share of the image that the mask covers; ``visibility``: mean absolute change
        inside the mask, in grey levels over the channels; ``floor``: visibility below which the
        anomaly counts as invisible on its background, the default of the generators, whatever the
        set was built with; ``outside``: share of the pixels outside the mask that changed;
        ``on_object``: share of the mask that lies on the object. None where the background or the
        object is not known. ``empty``: whether no pixel is anomalous; ``invisible``: whether the
        change stays below the floor, not so for an empty mask.
    """
    visibility = floor = outside = on_object = None
    if background is not None and background.shape == image.shape:
        change = np.abs(image.astype(np.int16) - background.astype(np.int16))
        floor = visibility_floor(background, PasteConfig.min_change)
        if mask.any():
            visibility = float(change[mask].mean())
        if not mask.all():
            outside = float((change[~mask] > 0).any(axis=1).mean())
    if foreground is not None and mask.any():
        on_object = float(foreground[mask].mean())
    figures = {
        "area": float(mask.mean()),
        "visibility": visibility,
        "floor": floor,
        "outside": outside,
        "on_object": on_object,
    }
    return {
        **{name: None if value is None else round(value, 6) for name, value in figures.items()},
        "empty": not mask.any(),
        "invisible": visibility is not None and floor is not None and visibility < floor,
    }


def summary(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean, extremes and the quantiles of ``LEVELS`` of what is known; None if nothing is."""
    known = np.array([value for value in values if value is not None], np.float64)
    if not known.size:
        return None
    figures: Mapping[str, float] = {
        "mean": float(known.mean()),
        "min": float(known.min()),
        **{name: float(np.quantile(known, level)) for name, level in LEVELS.items()},
        "max": float(known.max()),
    }
    return {**{name: round(value, 6) for name, value in figures.items()}, "count": int(known.size)}
