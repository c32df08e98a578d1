"""Anomalies after LafitE: fragments of other normal images, cut, rotated and pasted elsewhere."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pseudoval.generators.masks import MASK_FAMILIES
from pseudoval.generators.options import PasteConfig
from pseudoval.generators.pasting import (
    Draw,
    Fragment,
    anywhere,
    fit_source,
    fragment_at,
    inside,
    paste,
    spots_of,
)

MIN_FRAGMENT_PX = 12
"""Pixels; smaller fragments are drawn at this size."""
LARGEST_SHARE = 0.4
"""Largest share of a square on the shorter side that a family can still fill with its shape."""


@dataclass(frozen=True, kw_only=True)
class LafiteGeneratorConfig(PasteConfig):
    """Fragments of another normal in six families of shapes, turned, one to several: the paper's.

    Attributes:
        masks: families of shapes to draw from, equally often, see ``masks.MASK_FAMILIES``.
        min_area, max_area: bounds of the anomaly's share of the image, drawn log-uniformly so
            that each size class is as frequent as the next. Defects of industrial sets run from
            a few tenths of a percent (holes, cuts) to several percent (dents, stains), rarely
            beyond. At most 0.25: what is larger is no local defect.
        max_fragments: an anomaly is 1 to this many fragments, which share its area.
        joined: probability that a further fragment touches the earlier ones, as one compound
            shape, instead of lying anywhere.
        min_rotation, max_rotation: range in degrees by which each mask is rotated.
        content_rotation: how the fragment's content turns: ``with_mask`` as one piece,
            ``independent`` by an angle of its own from the same range, or ``none``.
    """

    masks: Annotated[tuple[str, ...], tuple(MASK_FAMILIES)] = tuple(MASK_FAMILIES)
    min_area: Annotated[float, (1e-5, 0.25)] = 0.002
    max_area: Annotated[float, (1e-5, 0.25)] = 0.05
    max_fragments: Annotated[int, (1, 10)] = 3
    joined: Annotated[float, (0, 1)] = 0.5
    min_rotation: Annotated[float, (-360, 360)] = 0.0
    max_rotation: Annotated[float, (-360, 360)] = 360.0
    content_rotation: Annotated[str, ("with_mask", "independent", "none")] = "with_mask"


def generate(
    background: np.ndarray,
    source: np.ndarray,
    config: LafiteGeneratorConfig,
    rng: np.random.Generator,
    foreground: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Paste fragments of ``source`` into ``background``, as ``pasting.paste`` promises.

    The same inputs and state of ``rng`` give the same bytes; nothing else is drawn from.

    Args:
        background: uint8 ``[H, W, 3]``, sides of 16 px or more.
        source: uint8 ``[h, w, 3]``; resized to the background's size if it differs.
        foreground: bool ``[H, W]`` of the background, or None for all of it.

    Returns:
        image uint8 ``[H, W, 3]`` and mask bool ``[H, W]``, never empty.

    Raises:
        UserError: as ``pasting.paste``.
    """
    source = fit_source(source, background)
    spots = spots_of(foreground)
    draws = [_draw(source, area, config, rng, spots) for area in _areas(background, config, rng)]
    return paste(background, draws, config, rng, foreground)


def _areas(
    background: np.ndarray, config: LafiteGeneratorConfig, rng: np.random.Generator
) -> list[int]:
    """Areas in pixels of an anomaly's fragments."""
    height, width = background.shape[:2]
    low, high = math.log(config.min_area), math.log(config.max_area)
    total = math.exp(rng.uniform(low, high)) * config.scale * height * width
    count = int(rng.integers(1, config.max_fragments + 1))
    # Shares between one half and twice each other, roughly: no fragment shrinks to nothing.
    shares = rng.dirichlet(np.full(count, 4.0)).tolist()
    largest = int(LARGEST_SHARE * min(height, width) ** 2)
    return [min(max(round(total * share), MIN_FRAGMENT_PX), largest) for share in shares]


def _draw(
    source: np.ndarray,
    area: int,
    config: LafiteGeneratorConfig,
    rng: np.random.Generator,
    spots: np.ndarray | None,
) -> Draw:
    """Draws of one fragment of ``area`` pixels."""
    height, width = source.shape[:2]
    side = min(height, width)
    low, high = config.min_rotation, config.max_rotation

    def draw(mask: np.ndarray) -> Fragment | str:
        angle = rng.uniform(low, high)
        family = config.masks[int(rng.random() * len(config.masks))]
        shape = MASK_FAMILIES[family](rng, side, area, angle)
        h, w = shape.shape
        on = spots
        if config.joined and rng.random() < config.joined and mask.any():
            on = spots_of(mask)
        top, left = anywhere(rng, (height, width), h, w, on)
        turn = angle if config.content_rotation == "with_mask" else 0.0
        if config.content_rotation == "independent":
            turn = rng.uniform(low, high)
        # The cut keeps its rotated window inside the source where that fits.
        radius = math.hypot(h, w) / 2
        x, y = rng.uniform(*inside(2 * radius, width)), rng.uniform(*inside(2 * radius, height))
        return fragment_at(source, shape, (top, left), (x, y), turn)

    return draw
