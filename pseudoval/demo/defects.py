"""Damage shared by the categories: blots, tints, scratches.

Each acts on the surface (reflectance, height, gloss), so that the light of the scene falls on it as
on everything else. None of them copies pixels, and that is the point: a detector tuned on pasted
fragments meets something else here.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pseudoval.demo import canvas
from pseudoval.demo.canvas import Field, Surface


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is drawn of a defect before its kind is looked at."""

    rng: np.random.Generator
    """For everything else."""
    severity: float
    """How bad it is, in [0, 1]."""
    extent: float
    """How large it is, in [0, 1]."""


def blot(
    rng: np.random.Generator,
    n: int,
    centre: tuple[float, float],
    *,
    radius: float,
    ragged: float,
    softness: float = 0.5,
) -> Field:
    """Return an irregular spot [n, n] in [0, 1].

    `centre` and `radius` are in units; `ragged` is the deviation of the outline and `softness` the
    width of the edge, both relative to the radius.
    """
    x, y = canvas.grid(n)
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(0.7, 1.0)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along, across = cos * dx + sin * dy, (cos * dy - sin * dx) / np.float32(squeeze)
    distance = np.sqrt(along * along + across * across) / np.float32(radius)
    cells = max(2, round(0.8 / radius))
    distance += (
        np.float32(ragged) * np.minimum(distance, 1) * canvas.fractal_noise(rng, n, cells, 2)
    )
    return canvas.smoothstep(1 + softness / 2, 1 - softness / 2, distance)


def tint(surface: Surface, spot: Field, dye: npt.ArrayLike, *, strength: float) -> None:
    """Let a `dye` (linear RGB transmission in [0, 1]) soak into `surface`, in place.

    `spot` [N, N] in [0, 1] is where; `strength` is the thickness of the dye in Beer-Lambert layers.
    """
    for channel, transmission in enumerate(np.asarray(dye, np.float32)):
        surface.albedo[..., channel] *= transmission ** (np.float32(strength) * spot)


def scratch(
    surface: Surface,
    rng: np.random.Generator,
    start: tuple[float, float],
    *,
    length: float,
    heading: float,
    depth: float,
    where: Field,
    bare: tuple[float, float, float],
) -> None:
    """Cut a line into `surface`, in place: a groove that lays open what is below, and its burr.

    `start`, `length` and `depth` are in units, `heading` in radians; `where` [N, N] in [0, 1] is
    the material that can be cut, `bare` the linear RGB colour below it.
    """
    n = surface.height.shape[0]
    # A slightly bent path [K, 2] from `start`, and its depth [K] in [0, 1].
    steps = 12
    turns = heading + np.cumsum(rng.normal(0, 0.06, steps))
    turns += np.linspace(0, rng.normal(0, 0.3), steps)
    moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * length / steps
    path = np.concatenate([[start], np.asarray(start) + np.cumsum(moves, axis=0)])
    taper = np.sin(np.linspace(0.25, np.pi - 0.1, steps + 1))
    strengths = taper * rng.uniform(0.65, 1.0, steps + 1)
    cut = canvas.stroke(n, path, strengths, width=0.006) * where
    # The burr lies on one side: the metal pushed out of the groove.
    aside = canvas.rotation(heading + np.pi / 2) @ (0.007, 0)
    burr = canvas.stroke(n, path + aside, strengths, width=0.004) * where
    weight = np.float32(min(1.0, depth / 0.004))
    surface.height[:] += np.float32(depth) * (
        0.6 * canvas.blur(burr, 0.002) - canvas.blur(cut, 0.002)
    )
    canvas.mix(surface.albedo, bare, weight * cut)
    surface.gloss[:] += weight * np.float32(0.35) * burr
