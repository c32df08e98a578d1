"""CutPaste (Li et al. 2021, "CutPaste: Self-Supervised Learning for Anomaly Detection and
Localization"): a rectangular patch, or a thin scar, pasted at a random place.

The paper cuts from the image that it pastes on. Here, as everywhere in a pseudo set, the patch
comes from another held-out normal: there are more of them, and an anomaly is never made of its
own background.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pseudoval.generators.masks import bar, log_uniform
from pseudoval.generators.options import PasteConfig
from pseudoval.generators.pasting import Fragment, fit_source, paste, place_and_cut, spots_of

PAPER_SIDE = 256
"""Pixels; the paper gives the sizes of scars for images of this side."""
SCAR_SHARE = 0.5
"""Probability of a scar instead of a patch: the paper's three classes (normal, patch, scar) are
equally frequent."""

DrawShape = Callable[[tuple[int, int], np.random.Generator], tuple[np.ndarray, float]]
"""``(height and width of the image, rng) -> shape bool [h, w], degrees it is turned by``."""


@dataclass(frozen=True, kw_only=True)
class CutPasteConfig(PasteConfig):
    """A patch of another normal (Li et al. 2021).

    Attributes:
        area: share of the image that the patch takes, drawn uniformly.
        aspect: width over height, drawn log-uniformly.
    """

    area: Annotated[tuple[float, float], (1e-5, 0.5)] = (0.02, 0.15)
    aspect: Annotated[tuple[float, float], (0.05, 20)] = (0.3, 3.3)

    def shapes(self, rng: np.random.Generator) -> DrawShape:
        """What draws the shape of one anomaly."""
        return self._patch

    def _patch(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """A full rectangle, bool ``[h, w]``, not turned."""
        height, width = size
        area = rng.uniform(*self.area) * self.scale * height * width
        aspect = log_uniform(rng, *self.aspect)
        h = min(max(round(math.sqrt(area / aspect)), 2), height)
        w = min(max(round(math.sqrt(area * aspect)), 2), width)
        return np.ones((h, w), bool), 0.0


@dataclass(frozen=True, kw_only=True)
class CutPasteScarConfig(PasteConfig):
    """A thin turned scar of another normal (Li et al. 2021).

    Attributes:
        width, length: of the scar, drawn uniformly, in pixels of an image whose shorter side is
            256; larger images get larger scars.
        rotation: largest angle in degrees, either way.
    """

    width: Annotated[tuple[float, float], (1, 128)] = (2.0, 16.0)
    length: Annotated[tuple[float, float], (1, 128)] = (10.0, 25.0)
    rotation: Annotated[float, (0, 180)] = 45.0

    def shapes(self, rng: np.random.Generator) -> DrawShape:
        """What draws the shape of one anomaly."""
        return self._scar

    def _scar(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """A turned thin rectangle, bool ``[h, w]``, and its angle."""
        angle = rng.uniform(-self.rotation, self.rotation)
        side = min(size)
        unit = side / PAPER_SIDE * math.sqrt(self.scale)
        width = max(rng.uniform(*self.width) * unit, 1.0)
        length = max(rng.uniform(*self.length) * unit, 2.0)
        return bar(rng, side, round(width * length), length / width, angle), angle


@dataclass(frozen=True, kw_only=True)
class CutPaste3WayConfig(CutPasteConfig, CutPasteScarConfig):
    """A patch or a scar of another normal (Li et al. 2021); the options of both."""

    def shapes(self, rng: np.random.Generator) -> DrawShape:
        """What draws the shape of one anomaly."""
        return self._scar if rng.random() < SCAR_SHARE else self._patch


def generate(
    background: np.ndarray,
    source: np.ndarray,
    config: CutPasteConfig | CutPasteScarConfig,
    rng: np.random.Generator,
    foreground: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Paste one patch or scar of ``source`` into ``background``; arguments as ``lafite.generate``.

    Raises:
        UserError: as ``pasting.paste``.
    """
    source = fit_source(source, background)
    draw_shape, spots = config.shapes(rng), spots_of(foreground)

    def draw(mask: np.ndarray) -> Fragment | str:
        shape, angle = draw_shape((mask.shape[0], mask.shape[1]), rng)
        return place_and_cut(source, shape, angle, rng, spots)

    return paste(background, [draw], config, rng, foreground)
