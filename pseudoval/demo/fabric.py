"""Category `fabric`: a 2/2 twill that fills the image, and its stains, pulled threads and holes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pseudoval.demo import canvas, defects
from pseudoval.demo.canvas import Field, Surface
from pseudoval.demo.defects import Damage

_WARP = np.array([0.115, 0.165, 0.235], np.float32)
_WEFT = np.array([0.40, 0.40, 0.36], np.float32)
_THREADS = 40.0
_TONES = 96
_RELIEF = 0.0045


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A weft thread under tension; all values in thread counts."""

    along: float
    across: float
    reach: float
    pinch: float
    lift: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One piece of cloth under the camera."""

    angle: float
    """Rotation of the weave in radians."""
    density: float
    """Threads per image side."""
    phase: tuple[float, float]
    """Offset of warp and weft in thread counts."""
    sway: tuple[Field, Field]
    """Local displacement of warp and weft in thread counts, [N, N] each."""
    tones: tuple[Field, Field]
    """Relative brightness of every warp and weft thread, [_TONES] each."""
    fibre: tuple[Field, Field]
    """Fine relative brightness along warp and weft, [N, N] each."""
    shade: Field
    """Slow relative brightness of the dye, [N, N]."""
    pull: Pull | None = None


def sample(rng: np.random.Generator, n: int) -> Scene:
    """Draw a defect-free cloth on an n x n supersampled grid."""

    def tones() -> Field:
        return np.asarray(1 + 0.05 * rng.standard_normal(_TONES), np.float32)

    def fibre(kernel: tuple[int, int]) -> Field:
        white = rng.standard_normal((n, n), dtype=np.float32)
        streaks = cv2.blur(white, kernel)
        return np.asarray(1 + 0.11 * np.sqrt(kernel[0] * kernel[1]) * streaks, np.float32)

    return Scene(
        angle=np.deg2rad(rng.uniform(-3.0, 3.0)),
        density=_THREADS * rng.uniform(0.97, 1.03),
        phase=(rng.uniform(16, 40), rng.uniform(16, 40)),
        sway=(
            canvas.fractal_noise(rng, n, 3, 3) * np.float32(0.10),
            canvas.fractal_noise(rng, n, 3, 3) * np.float32(0.10),
        ),
        tones=(tones(), tones()),
        fibre=(fibre((1, 9)), fibre((9, 1))),
        shade=1 + np.float32(0.022) * canvas.smooth_noise(rng, n, 4),
    )


def paint(scene: Scene) -> Surface:
    """Weave the cloth."""
    u, v = _thread_coordinates(scene)
    floating = np.zeros_like(u)
    if scene.pull is not None:
        v, floating = _pulled(scene.pull, u, v)
    i, j = np.floor(u), np.floor(v)
    # Each thread is a ridge (first term) that dives under two others and over the next two.
    turn = np.float32(np.pi / 2)
    ridge_u, ridge_v = np.cos(np.pi * (u - i - 0.5)), np.cos(np.pi * (v - j - 0.5))
    wave_u = np.cos(turn * (v - 0.5 + i) + turn / 2)
    wave_v = -np.cos(turn * (u - 0.5 + j) + turn / 2)
    warp = 0.75 * ridge_u + 0.55 * wave_u
    weft = 0.75 * ridge_v + 0.55 * wave_v + floating * ridge_v
    over = canvas.smoothstep(-0.12, 0.12, warp - weft)
    tone_u = scene.tones[0][i.astype(np.intp) % _TONES] * scene.fibre[0]
    tone_v = scene.tones[1][j.astype(np.intp) % _TONES] * scene.fibre[1]
    tone_v *= 1 + np.float32(0.5) * floating
    relief = np.maximum(warp, weft)
    # Less light reaches the gaps between threads.
    seen = scene.shade * canvas.smoothstep(-0.9, 0.9, relief)
    shown_u, shown_v = seen * over * tone_u, seen * (1 - over) * tone_v
    planes = [shown_u * a + shown_v * b for a, b in zip(_WARP, _WEFT, strict=True)]
    return Surface(
        albedo=np.stack(planes, axis=2),
        height=np.float32(_RELIEF) * relief,
        gloss=np.full(u.shape, 0.015, np.float32),
    )


def _thread_coordinates(scene: Scene) -> tuple[Field, Field]:
    x, y = canvas.grid(scene.shade.shape[0])
    cos, sin = np.float32(np.cos(scene.angle)), np.float32(np.sin(scene.angle))
    density = np.float32(scene.density)
    u = density * (cos * x + sin * y) + np.float32(scene.phase[0]) + scene.sway[0]
    v = density * (cos * y - sin * x) + np.float32(scene.phase[1]) + scene.sway[1]
    return u, v


def _pulled(pull: Pull, u: Field, v: Field) -> tuple[Field, Field]:
    """Return the weft coordinate drawn in towards the tight thread, and how far that one floats."""
    line = np.float32(np.floor(pull.across) + 0.5)
    off = v - line
    hold = np.exp(-((np.abs(u - np.float32(pull.along)) / np.float32(pull.reach)) ** 4))
    drawn = v + np.float32(pull.pinch) * hold * off * np.exp(-np.abs(off) / 0.9)
    on_thread = canvas.smoothstep(0.75, 0.4, np.abs(drawn - line)) * hold
    return np.asarray(drawn, np.float32), np.asarray(pull.lift * on_thread, np.float32)


def _stain(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    spot = defects.blot(
        rng, scene.shade.shape[0], _anywhere(rng), radius=0.03 + 0.08 * damage.extent, ragged=0.25
    )
    # Half of the stains are oil (grey-brown), half are coffee or rust water (warm).
    dye = (0.62, 0.60, 0.55) if rng.random() < 0.5 else (0.72, 0.52, 0.34)
    defects.tint(surface, spot, dye, strength=0.22 + 0.9 * damage.severity)
    return surface


def _pulled_thread(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    u, v = _thread_coordinates(scene)
    n = u.shape[0]
    row, column = (rng.integers(round(0.15 * n), round(0.85 * n)) for _ in range(2))
    return paint(
        replace(
            scene,
            pull=Pull(
                along=float(u[row, column]),
                across=float(v[row, column]),
                reach=1.5 + 4.5 * damage.extent,
                pinch=0.15 + 0.35 * damage.severity,
                lift=0.55 + 0.9 * damage.severity,
            ),
        )
    )


def _hole(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    n = scene.shade.shape[0]
    centre = _anywhere(rng)
    radius = 0.012 + 0.040 * damage.extent
    gap = defects.blot(rng, n, centre, radius=radius, ragged=0.4, softness=0.25)
    gap *= np.float32(0.3 + 0.7 * damage.severity)
    canvas.mix(surface.albedo, (0.012, 0.012, 0.014), gap)
    surface.height[:] -= gap * np.float32(0.02)
    for _ in range(rng.integers(5, 11)):
        turn = rng.uniform(0, 2 * np.pi)
        outer = np.asarray(centre) + radius * 1.1 * np.array([np.cos(turn), np.sin(turn)])
        inner = outer + radius * rng.uniform(0.4, 1.2) * np.array(
            [-np.cos(turn + rng.normal(0, 0.6)), -np.sin(turn + rng.normal(0, 0.6))]
        )
        bend = (outer + inner) / 2 + rng.normal(0, 0.25 * radius, 2)
        fray = canvas.stroke(n, [outer, bend, inner], [0.8, 0.8, 0.3], width=0.004)
        canvas.mix(surface.albedo, (_WEFT if rng.random() < 0.6 else _WARP) * 0.9, fray)
        surface.height[:] += fray * np.float32(0.008)
    return surface


def _anywhere(rng: np.random.Generator) -> tuple[float, float]:
    return rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9)


DEFECTS: Mapping[str, Callable[[Scene, Surface, Damage], Surface]] = {
    "hole": _hole,
    "pulled_thread": _pulled_thread,
    "stain": _stain,
}
"""Kind -> function of the scene, its clean surface, which it may paint on, and what is drawn."""
