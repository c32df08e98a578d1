"""The photograph: light on a surface, supersampling to pixels, grain."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pseudoval.demo.canvas import SUPERSAMPLE, Field, Surface, blur, grid

Image = npt.NDArray[np.uint8]

_SHINE = 24.0
_SHADOW_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Light:
    """One lamp, the room around it and the exposure."""

    azimuth: float
    """Direction the light comes from, in radians in the image plane (0 is right, pi/2 is down)."""
    elevation: float
    """Angle of the lamp above the surface, in radians."""
    ambient: float
    """Share of the light that comes from all sides, in [0, 1]."""
    gain: float
    """Exposure, a factor around 1."""
    falloff: float
    """Relative loss of light over one image side, away from the lamp."""
    warmth: float
    """Colour temperature: red is multiplied by 1 + warmth, blue by 1 - warmth."""
    defocus: float
    """Deviation of the lens blur in output pixels."""
    grain: float
    """Deviation of the sensor noise in grey levels."""


def sample_light(rng: np.random.Generator) -> Light:
    """Draw the light of one photograph: a fixed station whose lamp drifts."""
    return Light(
        azimuth=np.deg2rad(rng.uniform(-133, -117)),
        elevation=np.deg2rad(rng.uniform(49, 55)),
        ambient=rng.uniform(0.40, 0.46),
        gain=rng.uniform(0.94, 1.06),
        falloff=rng.uniform(0.08, 0.2),
        warmth=rng.uniform(-0.018, 0.018),
        defocus=rng.uniform(0.35, 0.5),
        grain=rng.uniform(1.2, 2.0),
    )


def develop(surface: Surface, light: Light) -> Field:
    """Photograph a surface without grain: [size, size, 3] float32, nominally 0 to 255 (gamma 2.2).

    Values may exceed 255: the sensor clips in `expose`.
    """
    n = surface.height.shape[0]
    diffuse, highlight = _shading(surface, light)
    x, y = grid(n)
    towards = np.cos(light.azimuth) * (x - 0.5) + np.sin(light.azimuth) * (y - 0.5)
    level = np.float32(light.gain) * (1 + np.float32(light.falloff) * towards.astype(np.float32))
    radiance = np.empty_like(surface.albedo)
    for channel, balance in enumerate((1 + light.warmth, 1.0, 1 - light.warmth)):
        shade = surface.albedo[..., channel] * diffuse + highlight
        radiance[..., channel] = np.float32(balance) * level * shade
    side = n // SUPERSAMPLE
    pixels = cv2.resize(radiance, (side, side), interpolation=cv2.INTER_AREA)
    pixels = blur(pixels, light.defocus / side)
    return 255 * np.maximum(pixels, 0) ** np.float32(1 / 2.2)


def sample_grain(rng: np.random.Generator, light: Light, size: int) -> Field:
    """Draw sensor noise [size, size, 3] in grey levels, partly shared by the colour channels."""
    shared = rng.standard_normal((size, size, 1), dtype=np.float32)
    own = rng.standard_normal((size, size, 3), dtype=np.float32)
    return np.float32(light.grain) * (0.8 * shared + 0.6 * own)


def expose(picture: Field, grain: Field) -> Image:
    """Add grain and quantise: uint8 [size, size, 3], RGB."""
    return np.asarray(np.clip(np.rint(picture + grain), 0, 255), np.uint8)


def _shading(surface: Surface, light: Light) -> tuple[Field, Field]:
    """Return the diffuse factor (1 on a flat, unshadowed spot) and the highlight, [N, N] each."""
    n = surface.height.shape[0]
    # Half an output pixel of rounding: no real edge is a mathematical step.
    height = blur(surface.height, 0.5 * SUPERSAMPLE / n)
    slope = n / 8  # a 3 x 3 Sobel filter sums eight unit steps
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) * np.float32(slope)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) * np.float32(slope)
    norm = 1 / np.sqrt(1 + dx * dx + dy * dy)
    across = np.cos(light.elevation) * np.array([np.cos(light.azimuth), np.sin(light.azimuth)])
    lamp = np.array([*across, np.sin(light.elevation)])
    lit = 1 - _cast_shadow(height, light)

    def towards(direction: npt.NDArray[np.float64]) -> Field:
        a, b, c = direction.astype(np.float32)
        return np.maximum((c - a * dx - b * dy) * norm, 0)

    direct = towards(lamp) / np.float32(lamp[2])
    diffuse = np.float32(light.ambient) * norm + np.float32(1 - light.ambient) * direct * lit
    halfway = lamp + np.array([0.0, 0.0, 1.0])
    halfway /= np.linalg.norm(halfway)
    highlight = surface.gloss * towards(halfway) ** np.float32(_SHINE) * (0.25 + 0.75 * lit)
    return diffuse, highlight


def _cast_shadow(height: Field, light: Light) -> Field:
    """Return how deep each pixel lies in the shadow of higher ones, [N, N] in [0, 1]."""
    n = height.shape[0]
    # Half resolution: a lamp of finite size throws soft shadows anyway.
    small = cv2.resize(height, (n // 2, n // 2), interpolation=cv2.INTER_AREA)
    reach = max(float(small.max() - small.min()), 1e-6) / np.tan(light.elevation)
    ray = np.array([np.cos(light.azimuth), np.sin(light.azimuth)])
    horizon = np.full_like(small, -np.inf)
    for step in range(1, _SHADOW_STEPS + 1):
        distance = reach * step / _SHADOW_STEPS
        shift = -ray * distance * (n // 2)
        moved = cv2.warpAffine(
            small,
            np.array([[1, 0, shift[0]], [0, 1, shift[1]]]),
            (n // 2, n // 2),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        np.maximum(horizon, moved - np.float32(distance * np.tan(light.elevation)), out=horizon)
    depth = np.clip((horizon - small) / np.float32(0.006), 0, 1).astype(np.float32)
    return cv2.resize(depth, (n, n), interpolation=cv2.INTER_LINEAR)
