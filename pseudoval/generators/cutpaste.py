"""CutPaste (Li et al. 2021, "CutPaste: Self-Supervised Learning for Anomaly Detection and
Localization"): a rectangular patch, or a thin scar, pasted at a random place.

The paper cuts from the image that it pastes on. Here, as everywhere in a pseudo set, the patch
comes from another held-out normal: there are more of them, and an anomaly is never made of its
own background.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pseudoval.generators.masks import bar, log_uniform
from pseudoval.generators.options import PasteConfig
from pseudoval.generators.pasting import Fragment, fit_source, paste, place_and_cut, spots_of

PAPER_SIDE = 256
"""Pixels; the paper gives the sizes of scars for images of this side."""
SCAR_SHARE = 0.5
"""Probability of a scar instead of a patch: the paper's three classes (normal, patch, scar) are
equally frequent."""


@dataclass(frozen=True, kw_only=True)
class CutPasteConfig(PasteConfig):
    """A patch of another normal (Li et al. 2021).

    Attributes:
        area: share of the image that the patch takes, drawn uniformly.
        aspect: width over height, drawn log-uniformly.
    """

    NAME: ClassVar[str] = "cutpaste"

    area: tuple[float, float] = (0.02, 0.15)
    aspect: tuple[float, float] = (0.3, 3.3)

    def rules(self) -> dict[str, bool]:
        return super().rules() | {
            "area must be low,high with 0 < low <= high <= 0.5": (
                0 < self.area[0] <= self.area[1] <= 0.5
            ),
            "aspect must be low,high with 0.05 <= low <= high <= 20": (
                0.05 <= self.aspect[0] <= self.aspect[1] <= 20
            ),
        }


@dataclass(frozen=True, kw_only=True)
class CutPasteScarConfig(PasteConfig):
    """A thin turned scar of another normal (Li et al. 2021).

    Attributes:
        width, length: of the scar, drawn uniformly, in pixels of an image whose shorter side is
            256; larger images get larger scars.
        rotation: largest angle in degrees, either way.
    """

    NAME: ClassVar[str] = "cutpaste-scar"

    width: tuple[float, float] = (2.0, 16.0)
    length: tuple[float, float] = (10.0, 25.0)
    rotation: float = 45.0

    def rules(self) -> dict[str, bool]:
        return super().rules() | {
            "width must be low,high with 1 <= low <= high <= 128": (
                1 <= self.width[0] <= self.width[1] <= 128
            ),
            "length must be low,high with 1 <= low <= high <= 128": (
                1 <= self.length[0] <= self.length[1] <= 128
            ),
            "rotation must lie in 0..180": 0 <= self.rotation <= 180,
        }


@dataclass(frozen=True, kw_only=True)
class CutPaste3WayConfig(CutPasteConfig, CutPasteScarConfig):
    """A patch or a scar of another normal (Li et al. 2021); the options of both."""

    NAME: ClassVar[str] = "cutpaste-3way"


def generate(
    background: np.ndarray,
    source: np.ndarray,
    config: CutPasteConfig | CutPasteScarConfig | CutPaste3WayConfig,
    rng: np.random.Generator,
    foreground: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Paste one patch or scar of ``source`` into ``background``; arguments as ``lafite.generate``.

    Raises:
        UserError: as ``pasting.paste``.
    """
    source = fit_source(source, background)
    is_scar = isinstance(config, CutPasteScarConfig)
    if isinstance(config, CutPaste3WayConfig):
        is_scar = bool(rng.random() < SCAR_SHARE)
    size = (background.shape[0], background.shape[1])

    def draw(mask: np.ndarray) -> Fragment | str:
        angle = 0.0
        if is_scar:
            assert isinstance(config, CutPasteScarConfig)
            angle = rng.uniform(-config.rotation, config.rotation)
            shape = _scar(size, angle, config, rng)
        else:
            assert isinstance(config, CutPasteConfig)
            shape = _patch(size, config, rng)
        return place_and_cut(source, shape, angle, rng, spots)

    spots = spots_of(foreground)
    return paste(background, [draw], config, rng, foreground)


def _patch(size: tuple[int, int], config: CutPasteConfig, rng: np.random.Generator) -> np.ndarray:
    """A full rectangle, bool ``[h, w]``."""
    height, width = size
    area = rng.uniform(*config.area) * config.scale * height * width
    aspect = log_uniform(rng, *config.aspect)
    h = min(max(round(math.sqrt(area / aspect)), 2), height)
    w = min(max(round(math.sqrt(area * aspect)), 2), width)
    return np.ones((h, w), bool)


def _scar(
    size: tuple[int, int], angle: float, config: CutPasteScarConfig, rng: np.random.Generator
) -> np.ndarray:
    """A turned thin rectangle, bool ``[h, w]``."""
    side = min(size)
    unit = side / PAPER_SIDE * math.sqrt(config.scale)
    width = max(rng.uniform(*config.width) * unit, 1.0)
    length = max(rng.uniform(*config.length) * unit, 2.0)
    return bar(rng, side, round(width * length), length / width, angle)
