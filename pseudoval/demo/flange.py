"""Category `flange`: a turned steel ring with bolt holes, and its scratches, dents and tints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from pseudoval.demo import canvas, defects
from pseudoval.demo.canvas import Field, Surface
from pseudoval.demo.defects import Damage

_BACKGROUND = (0.085, 0.095, 0.11)
_STEEL = np.array([0.34, 0.345, 0.35], np.float32)
_BORE, _HUB, _GROOVE, _BOLTS, _RIM = 0.105, 0.185, 0.232, 0.305, 0.395
_BOLT_RADIUS = 0.030
_BOLT_COUNT = 6
# Radius in units against height in units, from the bore outwards.
_PROFILE = np.array(
    [
        [0.000, 0.000],
        [_BORE - 0.004, 0.000],
        [_BORE, 0.022],
        [_BORE + 0.006, 0.028],
        [_HUB - 0.006, 0.028],
        [_HUB + 0.004, 0.014],
        [_GROOVE - 0.006, 0.014],
        [_GROOVE - 0.003, 0.0115],
        [_GROOVE + 0.003, 0.0115],
        [_GROOVE + 0.006, 0.014],
        [_RIM - 0.010, 0.014],
        [_RIM, 0.007],
        [_RIM + 0.003, 0.000],
        [1.000, 0.000],
    ]
)
_MARK = "DN40 B7"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One part on the belt."""

    centre: tuple[float, float]
    """Centre in units."""
    angle: float
    """Rotation in radians."""
    scale: float
    """Size of the part, a factor around 1."""
    turning: Field
    """Turning marks: relative height by radius, [512]."""
    finish: float
    """Depth of the turning marks in units."""
    patina: Field
    """Slow relative reflectance of the steel, [N, N]."""
    belt: Field
    """Relative reflectance of the background, [N, N]."""


def sample(rng: np.random.Generator, n: int) -> Scene:
    """Draw a defect-free part on an n x n supersampled grid."""
    marks = rng.standard_normal(512)
    marks = np.convolve(marks, [0.25, 0.5, 0.25], mode="same")
    weave = rng.standard_normal((n, n), dtype=np.float32)
    return Scene(
        centre=(rng.uniform(0.492, 0.508), rng.uniform(0.492, 0.508)),
        angle=np.deg2rad(rng.uniform(-1.8, 1.8)),
        scale=rng.uniform(0.988, 1.012),
        turning=np.asarray(marks, np.float32),
        finish=rng.uniform(0.0002, 0.0003),
        patina=1 + np.float32(0.025) * canvas.fractal_noise(rng, n, 6, 3),
        belt=1 + 0.05 * weave + 0.05 * canvas.smooth_noise(rng, n, 5),
    )


def paint(scene: Scene) -> Surface:
    """Machine the part and put it on the belt."""
    n = scene.belt.shape[0]
    surface = canvas.new_surface(n, _BACKGROUND)
    canvas.scale(surface.albedo, scene.belt)
    radius, dx, dy = _polar(scene)
    bolts, chamfer = _bolt_holes(scene)
    steel = _ring(radius) * (1 - bolts)
    height = np.interp(radius, _PROFILE[:, 0], _PROFILE[:, 1]).astype(np.float32)
    height *= 1 - bolts
    height -= np.float32(0.003) * chamfer * (1 - bolts)
    groove = np.interp(radius * 1024, np.arange(512), scene.turning).astype(np.float32)
    height += np.float32(scene.finish) * groove * steel
    height -= np.float32(0.0035) * _stamped(scene) * steel
    surface.height[:] = height
    # Turned steel mirrors the lamp in two opposite sectors, across the cutting direction: the
    # cosine of twice the angle to it.
    towards_lamp = 2 * np.deg2rad(-125)
    sector = (dx * dx - dy * dy) * np.float32(np.cos(towards_lamp))
    sector += 2 * dx * dy * np.float32(np.sin(towards_lamp))
    sector /= np.maximum(radius * radius, np.float32(1e-4))
    shine = (1 + np.float32(0.22) * sector) * (1 + np.float32(0.05) * groove) * scene.patina
    canvas.mix(surface.albedo, _STEEL, steel)
    canvas.scale(surface.albedo, 1 + steel * (shine - 1))
    surface.gloss[:] = 0.14 * steel
    # Little light finds its way out of a bore or a bolt hole.
    well = np.maximum(canvas.smoothstep(_BORE, _BORE - 0.012, radius), bolts)
    canvas.scale(surface.albedo, 1 - np.float32(0.6) * well)
    return surface


def _metal(scene: Scene) -> Field:
    """Return where there is steel, [N, N] in [0, 1]."""
    return _ring(_polar(scene)[0]) * (1 - _bolt_holes(scene)[0])


def _ring(radius: Field) -> Field:
    return canvas.smoothstep(_BORE - 0.004, _BORE, radius) * canvas.smoothstep(
        _RIM + 0.003, _RIM, radius
    )


def _polar(scene: Scene) -> tuple[Field, Field, Field]:
    x, y = canvas.grid(scene.belt.shape[0])
    dx = (x - np.float32(scene.centre[0])) / np.float32(scene.scale)
    dy = (y - np.float32(scene.centre[1])) / np.float32(scene.scale)
    return np.sqrt(dx * dx + dy * dy), dx, dy


def _bolt_holes(scene: Scene) -> tuple[Field, Field]:
    """Return the holes and the holes with their chamfer, [N, N] in [0, 1] each."""
    _, dx, dy = _polar(scene)
    nearest = np.full_like(dx, 1.0)
    for k in range(_BOLT_COUNT):
        turn = scene.angle + 2 * np.pi * k / _BOLT_COUNT
        square = (dx - np.float32(_BOLTS * np.cos(turn))) ** 2
        square += (dy - np.float32(_BOLTS * np.sin(turn))) ** 2
        np.minimum(nearest, square, out=nearest)
    distance = np.sqrt(nearest)
    holes = canvas.smoothstep(_BOLT_RADIUS + 0.002, _BOLT_RADIUS - 0.002, distance)
    return holes, canvas.smoothstep(_BOLT_RADIUS + 0.009, _BOLT_RADIUS + 0.002, distance)


def _stamped(scene: Scene) -> Field:
    """Return the stamped lettering, [N, N] in [0, 1]."""
    n = scene.belt.shape[0]
    plate = np.zeros((n, n), np.uint8)
    letter = n / 384 * 0.42
    (width, height), _ = cv2.getTextSize(_MARK, cv2.FONT_HERSHEY_SIMPLEX, letter, 1)
    at = (round((n - width) / 2), round(n / 2 + height / 2))
    cv2.putText(plate, _MARK, at, cv2.FONT_HERSHEY_SIMPLEX, letter, (255,), 1, cv2.LINE_AA)
    # Letters stand upright below the hub, turned with the part.
    pose = cv2.getRotationMatrix2D((n / 2, n / 2), -float(np.rad2deg(scene.angle)), scene.scale)
    below = np.array([-np.sin(scene.angle), np.cos(scene.angle)]) * 0.268 * scene.scale
    pose[:, 2] += (np.asarray(scene.centre) - 0.5 + below) * n
    moved = cv2.warpAffine(plate, pose, (n, n), flags=cv2.INTER_LINEAR)
    return moved.astype(np.float32) / np.float32(255)


def _scratch(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    defects.scratch(
        surface,
        rng,
        _on_face(scene, rng),
        length=0.08 + 0.24 * damage.extent,
        heading=rng.uniform(0, 2 * np.pi),
        depth=0.0028 + 0.0050 * damage.severity,
        where=_metal(scene),
        bare=(0.16, 0.16, 0.17),
    )
    return surface


def _dent(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    """A smooth hollow with a slight rim."""
    radius = 0.026 + 0.050 * damage.extent
    depth = radius * (0.34 + 0.55 * damage.severity)
    centre = _on_face(scene, damage.rng)
    x, y = canvas.grid(scene.belt.shape[0])
    square = ((x - np.float32(centre[0])) ** 2 + (y - np.float32(centre[1])) ** 2) / radius**2
    hollow = (1 - 1.2 * square) * np.exp(-1.6 * square)
    surface.height[:] -= np.float32(depth) * hollow.astype(np.float32) * _metal(scene)
    return surface


def _rust(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    n = scene.belt.shape[0]
    spot = defects.blot(
        rng, n, _on_face(scene, rng), radius=0.025 + 0.06 * damage.extent, ragged=0.45, softness=0.6
    )
    crust = spot * np.clip(0.75 + 0.5 * canvas.fractal_noise(rng, n, 40, 2), 0, 1.5) * _metal(scene)
    defects.tint(surface, crust, (0.62, 0.36, 0.20), strength=0.25 + 1.3 * damage.severity)
    surface.height[:] += crust * np.float32(0.0006)
    surface.gloss[:] *= 1 - 0.8 * np.clip(crust, 0, 1)
    return surface


def _heat_tint(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    n = scene.belt.shape[0]
    centre = _on_face(scene, rng)
    # Oxide colours of overheated steel: straw outside, violet-blue where it was hottest.
    radius = 0.03 + 0.05 * damage.extent
    straw = defects.blot(rng, n, centre, radius=radius, ragged=0.15, softness=1.2) * _metal(scene)
    defects.tint(surface, straw, (0.90, 0.66, 0.38), strength=0.35 + 0.9 * damage.severity)
    blue = defects.blot(rng, n, centre, radius=radius * 0.5, ragged=0.15, softness=1.2)
    defects.tint(
        surface, blue * _metal(scene), (0.42, 0.55, 1.00), strength=0.4 + 0.9 * damage.severity
    )
    return surface


def _on_face(scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    turn, radius = rng.uniform(0, 2 * np.pi), rng.uniform(_BORE + 0.03, _RIM - 0.03)
    return (
        scene.centre[0] + scene.scale * radius * float(np.cos(turn)),
        scene.centre[1] + scene.scale * radius * float(np.sin(turn)),
    )


DEFECTS: Mapping[str, Callable[[Scene, Surface, Damage], Surface]] = {
    "dent": _dent,
    "heat_tint": _heat_tint,
    "rust": _rust,
    "scratch": _scratch,
}
"""Kind -> function of the scene, its clean surface, which it may paint on, and what is drawn."""
