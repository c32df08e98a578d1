"""Drawing primitives shared by the demo categories: a surface, noise fields, polygons, strokes.

Lengths are *units*: fractions of the image side, x to the right and y downwards, so that a scene
looks the same at every `size`. Fields are float32 of shape [N, N] with N the supersampled side.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Field = np.ndarray
"""float32."""
Points = npt.NDArray[np.float64]

SUPERSAMPLE = 2
_SUBPIXEL_BITS = 6


@dataclass(frozen=True, kw_only=True)
class Surface:
    """What the camera looks at, before any light falls on it. The arrays are painted in place."""

    albedo: Field
    """[N, N, 3] linear diffuse reflectance in [0, 1], RGB."""
    height: Field
    """[N, N] elevation in units."""
    gloss: Field
    """[N, N] strength of the mirror-like highlight, 0 is matte."""


def new_surface(n: int, colour: tuple[float, float, float]) -> Surface:
    """Return a flat, matte [n, n] surface of one linear RGB colour in [0, 1]."""
    return Surface(
        albedo=np.tile(np.array(colour, np.float32), (n, n, 1)),
        height=np.zeros((n, n), np.float32),
        gloss=np.zeros((n, n), np.float32),
    )


def grid(n: int) -> tuple[Field, Field]:
    """Return the x and y coordinate in units of every pixel centre, each [n, n]."""
    axis = (np.arange(n, dtype=np.float32) + np.float32(0.5)) / np.float32(n)
    x, y = np.meshgrid(axis, axis)
    return x, y


def smooth_noise(rng: np.random.Generator, n: int, cells: int) -> Field:
    """Return smooth noise [n, n] of roughly unit deviation with `cells` bumps along a side."""
    coarse = rng.standard_normal((cells + 2, cells + 2)).astype(np.float32)
    # The bicubic kernel averages neighbours: 1.5 restores about unit deviation.
    fine = cv2.resize(coarse, (n, n), interpolation=cv2.INTER_CUBIC)
    return fine * np.float32(1.5)


def fractal_noise(rng: np.random.Generator, n: int, cells: int, octaves: int) -> Field:
    """Return the sum of `octaves` smooth noises [n, n], each twice as fine and half as strong."""
    total = np.zeros((n, n), np.float32)
    for octave in range(octaves):
        total += smooth_noise(rng, n, cells * 2**octave) * np.float32(0.5**octave)
    return total


def smoothstep(low: float, high: float, values: Field) -> Field:
    """Return the cubic ramp that is 0 where `values` <= low and 1 where they are >= high.

    A `low` above `high` gives the falling ramp.
    """
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def blur(field: Field, sigma: float) -> Field:
    """Return `field` ([N, N] or [N, N, 3]) blurred by a Gaussian of `sigma` units."""
    pixels = sigma * field.shape[0]
    return cv2.GaussianBlur(field, (0, 0), pixels)


def mix(albedo: Field, colour: npt.ArrayLike, weight: Field) -> None:
    """Move `albedo` [h, w, 3] in place towards a linear RGB `colour` by `weight` [h, w], 0 to 1."""
    # Channel by channel: broadcasting over an innermost axis of three is several times slower.
    for channel, value in enumerate(np.asarray(colour, np.float32)):
        plane = albedo[..., channel]
        plane += weight * (value - plane)


def scale(albedo: Field, factor: Field) -> None:
    """Multiply every channel of `albedo` [h, w, 3] in place by `factor` [h, w]."""
    for channel in range(3):
        albedo[..., channel] *= factor


def polygon(n: int, outline: npt.ArrayLike) -> Field:
    """Return the anti-aliased coverage [n, n] in [0, 1] of a polygon, `outline` [K, 2] in units."""
    return _filled((n, n), _fixed_point(outline, n))


def _filled(shape: tuple[int, int], corners: npt.NDArray[np.int32]) -> Field:
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [corners], (255,), cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas.astype(np.float32) / np.float32(255)


def stroke(n: int, path: npt.ArrayLike, strengths: npt.ArrayLike, *, width: float) -> Field:
    """Return a polyline [n, n] in [0, 1] of `width` units.

    `path` [K, 2] is in units; `strengths` [K] in [0, 1] is the opacity at each of its points, which
    lets a line taper off.
    """
    points, levels = _fixed_point(path, n), np.asarray(strengths, np.float64) * 255
    thickness = max(1, round(width * n))
    canvas = np.zeros((n, n), np.uint8)
    piece = np.zeros_like(canvas)
    for start, end, level in zip(points, points[1:], (levels[1:] + levels[:-1]) / 2, strict=False):
        piece[:] = 0
        ends = (int(start[0]), int(start[1])), (int(end[0]), int(end[1]))
        cv2.line(piece, *ends, (round(level),), thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        np.maximum(canvas, piece, out=canvas)
    return canvas.astype(np.float32) / np.float32(255)


def lay(
    surface: Surface,
    outline: npt.ArrayLike,
    *,
    colour: npt.ArrayLike,
    rise: float = 0.0,
    gloss: float = 0.0,
) -> None:
    """Lay a flat polygonal piece on `surface`, in place.

    `outline` [K, 2] is in units, `colour` linear RGB in [0, 1], `rise` the thickness in units.
    """
    n = surface.height.shape[0]
    pixels = np.asarray(outline, np.float64) * n
    # Only the bounding box is touched: a board is made of about a hundred small pieces.
    left, top = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 2, 0)
    right, bottom = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 3, n)
    if right <= left or bottom <= top:
        return
    local = np.round((pixels - (left, top) - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cover = _filled((bottom - top, right - left), local)
    box = np.s_[top:bottom, left:right]
    mix(surface.albedo[box], colour, cover)
    surface.height[box] += cover * np.float32(rise)
    surface.gloss[box] += cover * (np.float32(gloss) - surface.gloss[box])


def rectangle(centre: tuple[float, float], size: tuple[float, float]) -> Points:
    """Return the corners [4, 2] of a rectangle (units)."""
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.asarray(size) / 2
    return np.asarray(half + np.asarray(centre), np.float64)


def arc(turn: Points, radius: float) -> Points:
    """Return points [K, 2] on a circle about the origin at the angles `turn` [K] in radians."""
    return np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius


def disc(centre: tuple[float, float], radius: float, corners: int = 24) -> Points:
    """Return a circle (units) as a polygon [corners, 2]."""
    ring = arc(np.linspace(0, 2 * np.pi, corners, endpoint=False), radius)
    return np.asarray(ring + np.asarray(centre), np.float64)


def rotation(angle: float) -> npt.NDArray[np.float64]:
    """Return the 2 x 2 matrix that turns a column vector by `angle` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _fixed_point(points: npt.ArrayLike, n: int) -> npt.NDArray[np.int32]:
    # OpenCV puts integer coordinates on pixel centres; ours put them on pixel corners.
    pixels = np.asarray(points, np.float64) * n - 0.5
    return np.asarray(np.round(pixels * 2**_SUBPIXEL_BITS), np.int32)
