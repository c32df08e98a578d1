"""Natural synthetic anomalies (Schlueter et al. 2022): resized patches of another normal, blended
seamlessly (Poisson) into the background, so that only their structure is out of place."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pseudoval.generators.cutpaste import place_and_cut
from pseudoval.generators.options import PasteConfig
from pseudoval.generators.pasting import Draw, Fragment, check_size, fit_source, paste, spots_of


@dataclass(frozen=True, kw_only=True)
class NsaConfig(PasteConfig):
    """Options of ``nsa``, beside those of ``PasteConfig``, some with other defaults.

    Attributes:
        blending: Poisson, the point of the method.
        jitter: none, since Poisson blending takes brightness from the background.
        min_changed: lower than elsewhere: close to a patch's edge the blended values are those of
            the background, which is what makes it seamless.
        gamma_shape, gamma_scale: of the gamma distribution from which height and width of a
            patch are drawn, as shares of the image's.
        side: bounds that these shares are clipped to.
        resize: bounds of the factor by which the content is resized, drawn from a normal
            distribution about 1 with ``resize_sd``.
        max_patches: an anomaly is 1 to this many patches.
        min_shift: least distance from where a patch is cut to where it is pasted, as a share of
            the shorter side.
    """

    NAME: ClassVar[str] = "nsa"

    blending: str = "poisson"
    jitter: float = 0.0
    min_changed: float = 0.6
    gamma_shape: float = 2.0
    gamma_scale: float = 0.1
    side: tuple[float, float] = (0.06, 0.4)
    resize: tuple[float, float] = (0.7, 1.3)
    resize_sd: float = 0.5
    max_patches: int = 3
    min_shift: float = 0.1

    def rules(self) -> dict[str, bool]:
        return super().rules() | {
            "gamma_shape and gamma_scale must be positive": (
                self.gamma_shape > 0 and self.gamma_scale > 0
            ),
            "side must be low,high with 0 < low <= high <= 1": (
                0 < self.side[0] <= self.side[1] <= 1
            ),
            "resize must be low,high with 0.1 <= low <= high <= 10": (
                0.1 <= self.resize[0] <= self.resize[1] <= 10
            ),
            "resize_sd must not be negative": self.resize_sd >= 0,
            "max_patches must be 1 to 10": 1 <= self.max_patches <= 10,
            "min_shift must lie in 0..0.5": 0 <= self.min_shift <= 0.5,
        }


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
    check_size(background)
    source = fit_source(source, background)
    spots = spots_of(foreground, config)

    def draw(mask: np.ndarray) -> Fragment | str:
        h, w = (_side(whole, config, rng) for whole in mask.shape)
        zoom = float(np.clip(rng.normal(1.0, config.resize_sd), *config.resize))
        return place_and_cut(source, np.ones((h, w), bool), 0.0, config.min_shift, rng, spots, zoom)

    draws: list[Draw] = [draw] * int(rng.integers(1, config.max_patches + 1))
    return paste(background, draws, config, rng, foreground)


def _side(whole: int, config: NsaConfig, rng: np.random.Generator) -> int:
    """Height or width of a patch in pixels."""
    share = float(np.clip(rng.gamma(config.gamma_shape, config.gamma_scale), *config.side))
    return min(max(round(share * math.sqrt(config.scale) * whole), 3), whole)
