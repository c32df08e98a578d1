"""Whether an anomaly can be seen: how much it changes its background."""

import math
from typing import NamedTuple

import cv2
import numpy as np

FAINTEST = 1.0
"""Grey levels; the floor for an image without contrast, where a pasted fragment is only noise."""
CONTRAST_SHARE = 0.4
"""The floor as a share of the background's standard deviation, where that is lower: dark and even
images, whose whole range is a few levels, are judged by their own contrast."""
CONTRAST_SIDE = 64
"""Pixels of the shorter side that the contrast is taken from; more would hardly change it."""
MIN_VISIBLE = 0.5
"""Share of the pixels in a mask that must change visibly, by at least half of the floor in one
channel: a few glaring pixels are no anomaly of the mask's size."""


class Change(NamedTuple):
    """What pasting changed inside a mask; changes of disjoint parts add up.

    Attributes:
        levels: sum of the absolute differences, over pixels and channels.
        changed: number of pixels that differ in any channel.
        visible: number of pixels that differ by at least half of the visibility floor in one.
        pixels: number of pixels in the mask.
    """

    levels: int = 0
    changed: int = 0
    visible: int = 0
    pixels: int = 0

    def plus(self, other: "Change") -> "Change":
        return Change(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: "Change") -> "Change":
        return Change(*(a - b for a, b in zip(self, other, strict=True)))

    def objection(self, floor: float, min_changed: float) -> str | None:
        """Why a change will not do, or None."""
        if self.levels < 3 * floor * self.pixels:
            return f"the change was below {floor:.1f} grey levels"
        if self.changed < min_changed * self.pixels:
            return f"less than {min_changed:.0%} of the pixels changed"
        if self.visible < MIN_VISIBLE * self.pixels:
            return f"less than {MIN_VISIBLE:.0%} of the pixels changed visibly"
        return None


def visibility_floor(background: np.ndarray, min_change: float) -> float:
    """The mean absolute change, in grey levels, that an anomaly must make on this background.

    Args:
        background: uint8 ``[H, W, 3]``.
        min_change: the floor on an image with contrast.
    """
    step = max(min(background.shape[:2]) // CONTRAST_SIDE, 1)
    few = background[::step, ::step]
    total = np.add(few[..., 0], few[..., 1], dtype=np.int32)
    total += few[..., 2]
    own = max(CONTRAST_SHARE * float(total.std()) / 3, FAINTEST)
    return min(min_change, own)


def measure(before: np.ndarray, after: np.ndarray, mask: np.ndarray, floor: float) -> Change:
    """How much ``after`` differs from ``before`` inside ``mask``, by the floor's standard."""
    change = cv2.absdiff(before, after)
    where = mask.view(np.uint8) if mask.flags.c_contiguous else mask.astype(np.uint8)
    pixels = cv2.countNonZero(where)
    same, faint = (
        cv2.countNonZero(cv2.bitwise_and(cv2.inRange(change, (0, 0, 0), (most,) * 3), where))
        for most in (0, max(math.ceil(floor / 2) - 1, 0))
    )
    return Change(
        round(sum(cv2.mean(change, where)) * pixels), pixels - same, pixels - faint, pixels
    )
