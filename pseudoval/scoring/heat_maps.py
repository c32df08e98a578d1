"""Heat maps over images: an anomaly map blended in, stronger where it is higher."""

from functools import cache

import cv2
import numpy as np

COLOURS = "inferno"
OPACITY = 0.65
"""At the upper end of the scale; at the lower end the image is untouched."""


def overlay(image: np.ndarray, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Blend an anomaly map over an image.

    Args:
        image: uint8 RGB ``[H, W, 3]``.
        values: ``[h, w]`` float32, resized to the image.
        low, high: the ends of the scale; values beyond them are cut off. Equal ends are a scale
            without a top: everything is at its lower end.

    Returns:
        uint8 RGB ``[H, W, 3]``.
    """
    span = high - low if high > low else np.inf
    level = np.clip((values.astype(np.float32) - low) / span, 0, 1)
    level = cv2.resize(level, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    step = np.rint(level * 255).astype(np.uint8)  # [H, W]
    colours, weights = _tables()
    weight = weights[step][..., None]  # of 256; 16 bits hold 255 * 256
    return ((image * (256 - weight) + colours[step] * weight) >> 8).astype(np.uint8)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Colour ``[256, 3]`` and weight ``[256]`` of each step of the scale, both uint16."""
    # matplotlib takes half a second to import, and most commands draw nothing.
    from matplotlib import colormaps

    steps = np.arange(256)
    colours = np.rint(colormaps[COLOURS](steps)[:, :3] * 255).astype(np.uint16)
    return colours, np.rint(steps / 255 * OPACITY * 256).astype(np.uint16)
