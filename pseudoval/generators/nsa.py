"""Natural synthetic anomalies (Schlueter et al. 2022): resized patches of another normal, blended
seamlessly (Poisson) into the background, so that only their structure is out of place."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from pseudoval.generators.options import BLENDINGS, PasteConfig
from pseudoval.generators.pasting import Draw, Fragment, fit_source, paste, place_and_cut, spots_of

GAMMA_SHAPE, GAMMA_SCALE = 2.0, 0.1
"""Of the gamma distribution from which height and width of a patch are drawn, as shares of the
image's."""
RESIZE_SD = 0.5
"""Standard deviation of the factor by which the content is resized."""


@dataclass(frozen=True, kw_only=True)
class NsaConfig(PasteConfig):
    """Patches of another normal, resized and blended seamlessly (Schlueter et al. 2022).

    Attributes:
        blending: Poisson, the point of the method.
        jitter: none, since Poisson blending takes brightness from the background.
        side: bounds of height and width of a patch as shares of the image's, drawn from a gamma
            distribution.
        resize: bounds of the factor by which the content is resized, drawn from a normal
            distribution about 1.
        max_patches: an anomaly is 1 to this many patches.
    """

    MIN_CHANGED: ClassVar[float] = 0.6
    """Lower than elsewhere: close to a patch's edge the blended values are those of the background,
    which is what makes it seamless."""

    blending: Annotated[str, BLENDINGS] = "poisson"
    jitter: Annotated[float, (0, 1)] = 0.0
    side: Annotated[tuple[float, float], (0.001, 1)] = (0.06, 0.4)
    resize: Annotated[tuple[float, float], (0.1, 10)] = (0.7, 1.3)
    max_patches: Annotated[int, (1, 10)] = 3


def generate(
    background: np.ndarray,
    source: np.ndarray,
    config: NsaConfig,
    rng: np.random.Generator,
    foreground: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Blend patches of ``source`` into ``background``; arguments as ``lafite.generate``.

    Raises:
        UserError: as ``pasting.paste``.
    """
    source = fit_source(source, background)
    spots = spots_of(foreground)

    def draw(mask: np.ndarray) -> Fragment | str:
        h, w = (_side(whole, config, rng) for whole in mask.shape)
        zoom = float(np.clip(rng.normal(1.0, RESIZE_SD), *config.resize))
        return place_and_cut(source, np.ones((h, w), bool), 0.0, rng, spots, zoom)

    draws: list[Draw] = [draw] * int(rng.integers(1, config.max_patches + 1))
    return paste(background, draws, config, rng, foreground)


def _side(whole: int, config: NsaConfig, rng: np.random.Generator) -> int:
    """Height or width of a patch in pixels."""
    share = float(np.clip(rng.gamma(GAMMA_SHAPE, GAMMA_SCALE), *config.side))
    return min(max(round(share * math.sqrt(config.scale) * whole), 3), whole)
