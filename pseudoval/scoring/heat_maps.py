"""Heat maps over images: an anomaly map blended in, stronger where it is higher."""

import cv2
import numpy as np

COLOURS = cv2.COLORMAP_INFERNO
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
    colours = cv2.cvtColor(cv2.applyColorMap(step, COLOURS), cv2.COLOR_BGR2RGB)
    weight = np.float32(OPACITY) * level[..., None]
    return np.rint(image * (1 - weight) + colours * weight).astype(np.uint8)
