"""Category `board`: an assembled circuit board, its missing parts, bridges, burns and scratches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from pseudoval.demo import canvas, defects
from pseudoval.demo.board_layout import (
    CORNER_HOLE_RADIUS,
    CORNER_HOLES,
    OUTLINE,
    PARTS,
    REMOVABLE,
    Part,
    layers,
    leg_offset,
)
from pseudoval.demo.board_parts import GOLD, PIECES, TIN
from pseudoval.demo.canvas import Field, Points, Surface
from pseudoval.demo.defects import Damage

_TABLE = (0.33, 0.33, 0.32)
_MASK = np.array([0.018, 0.110, 0.058], np.float32)
_MASK_ON_COPPER = np.array([0.040, 0.190, 0.095], np.float32)
_COPPER = (0.62, 0.36, 0.18)
_SILK = (0.70, 0.72, 0.68)
_THICKNESS = 0.012


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How the pick-and-place machine left one component."""

    shift: tuple[float, float]
    """Offset in units from where the drawing has it."""
    angle: float
    """Rotation in radians."""
    tone: float
    """Relative brightness of its body."""
    present: bool = True


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One board on the table."""

    shift: tuple[float, float]
    """Offset of the board centre in units."""
    angle: float
    """Rotation in radians."""
    scale: float
    """Size of the board, a factor around 1."""
    placements: tuple[Placement, ...]
    """One for each of PARTS."""
    lacquer: Field
    """Relative brightness of the solder mask, [N, N]."""
    table: Field
    """Relative reflectance of the table, [N, N]."""


def sample(rng: np.random.Generator, n: int) -> Scene:
    """Draw a defect-free board on an n x n supersampled grid."""
    return Scene(
        shift=(rng.uniform(-0.008, 0.008), rng.uniform(-0.008, 0.008)),
        angle=np.deg2rad(rng.uniform(-1.0, 1.0)),
        scale=rng.uniform(0.99, 1.01),
        placements=tuple(
            Placement(
                shift=(rng.uniform(-0.002, 0.002), rng.uniform(-0.002, 0.002)),
                angle=np.deg2rad(rng.uniform(-1.4, 1.4)),
                tone=rng.uniform(0.9, 1.1),
            )
            for _ in PARTS
        ),
        lacquer=1 + np.float32(0.05) * canvas.fractal_noise(rng, n, 5, 4),
        table=1 + 0.03 * canvas.smooth_noise(rng, n, 90) + 0.03 * canvas.smooth_noise(rng, n, 5),
    )


def paint(scene: Scene) -> Surface:
    """Print and assemble the board."""
    surface = _print_board(scene)
    for part, placement in zip(PARTS, scene.placements, strict=True):
        _mount(scene, surface, part, placement)
    return surface


def _print_board(scene: Scene) -> Surface:
    n = scene.table.shape[0]
    surface = canvas.new_surface(n, _TABLE)
    canvas.scale(surface.albedo, scene.table)
    board, copper, drill, silk = (_moved(scene, layer) for layer in layers(n))
    canvas.mix(surface.albedo, _MASK, board)
    canvas.mix(surface.albedo, _MASK_ON_COPPER, copper * board)
    canvas.scale(surface.albedo, 1 + (scene.lacquer - 1) * board)
    canvas.mix(surface.albedo, (0.02, 0.025, 0.02), drill)
    canvas.mix(surface.albedo, _SILK, np.float32(0.9) * silk)
    surface.gloss[:] = np.float32(0.035) * board
    surface.height[:] = board * np.float32(_THICKNESS) + copper * board * np.float32(0.0012)
    for centre in CORNER_HOLES:
        lug = _placed(scene, canvas.disc(centre, CORNER_HOLE_RADIUS * 1.7))
        hole = _placed(scene, canvas.disc(centre, CORNER_HOLE_RADIUS))
        canvas.lay(surface, lug, colour=GOLD, gloss=0.15)
        canvas.lay(surface, hole, colour=_TABLE, rise=-_THICKNESS)
    return surface


def _mount(scene: Scene, surface: Surface, part: Part, placement: Placement) -> None:
    """Put one component (or, where it is absent, its bare pads) on the board."""
    upright = np.pi / 2 if part.upright else 0.0
    for outline, look in PIECES[part.kind](part, placement.tone):
        if not (look.soldered or placement.present):
            continue
        # Pads and legs are where the board wants them; the body sits as it was placed.
        turn = upright + (0.0 if look.soldered else placement.angle)
        shift = (0.0, 0.0) if look.soldered else placement.shift
        turned = outline @ canvas.rotation(turn).T + np.asarray(part.centre) + shift
        canvas.lay(
            surface, _placed(scene, turned), colour=look.colour, rise=look.rise, gloss=look.gloss
        )


def _placed(scene: Scene, outline: npt.ArrayLike) -> Points:
    """Move points [K, 2] of the drawing to where the camera sees them."""
    centred = (np.asarray(outline, np.float64) - 0.5) * scene.scale
    return centred @ canvas.rotation(scene.angle).T + 0.5 + np.asarray(scene.shift)


def _moved(scene: Scene, layer: Field) -> Field:
    """Move a printed layer [N, N] to where the camera sees it."""
    n = layer.shape[0]
    linear = canvas.rotation(scene.angle) * scene.scale
    # Pixel centres lie half a pixel off the corners that the units count from.
    middle = np.full(2, n / 2 - 0.5)
    offset = middle + np.asarray(scene.shift) * n - linear @ middle
    pose = np.column_stack([linear, offset])
    return cv2.warpAffine(layer, pose, (n, n), flags=cv2.INTER_LINEAR)


def _missing_component(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    lost = int(damage.rng.choice(REMOVABLE))
    placements = list(scene.placements)
    placements[lost] = replace(placements[lost], present=False)
    return paint(replace(scene, placements=tuple(placements)))


def _solder_bridge(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    chip = PARTS[int(rng.integers(2))]
    first = int(rng.integers(chip.legs - 1))
    spanned = 1 + round(2 * damage.extent)
    last = min(first + spanned, chip.legs - 1)
    side = rng.choice((-1, 1)) * (chip.size[0] / 2 + rng.uniform(0.010, 0.018))
    ends = np.array([[side, leg_offset(chip, k)] for k in (first, last)])
    if chip.kind == "quad" and rng.random() < 0.5:
        ends = ends[:, ::-1]
    bulge = rng.normal(0, 0.002, 2)
    path = np.array([ends[0], ends.mean(axis=0) + bulge, ends[1]]) + chip.centre
    # A thin film lets the board shine through.
    fill = 0.75 + 0.25 * damage.severity
    width = rng.uniform(0.014, 0.028)
    bead = canvas.stroke(
        scene.table.shape[0], _placed(scene, path), [fill] * len(path), width=width
    )
    canvas.mix(surface.albedo, TIN, bead)
    surface.height[:] += np.float32(0.006) * bead
    surface.gloss[:] += bead * (np.float32(0.4) - surface.gloss)
    return surface


def _burn(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    n = scene.table.shape[0]
    centre = _on_board(scene, rng)
    radius = 0.022 + 0.045 * damage.extent
    halo = defects.blot(rng, n, centre, radius=radius, ragged=0.25, softness=1.0)
    char = defects.blot(rng, n, centre, radius=radius * 0.5, ragged=0.4, softness=0.9)
    canvas.mix(
        surface.albedo, (0.085, 0.050, 0.022), halo * np.float32(0.15 + 0.7 * damage.severity)
    )
    canvas.mix(surface.albedo, (0.012, 0.010, 0.009), char * np.float32(damage.severity))
    surface.gloss[:] *= 1 - 0.8 * halo
    return surface


def _scratch(scene: Scene, surface: Surface, damage: Damage) -> Surface:
    rng = damage.rng
    # The blade slides over the board: it reaches what is no higher than the traces.
    low = surface.height < _THICKNESS + 0.002
    on_board = canvas.polygon(scene.table.shape[0], _placed(scene, canvas.rectangle(*OUTLINE)))
    defects.scratch(
        surface,
        rng,
        _on_board(scene, rng),
        length=0.10 + 0.26 * damage.extent,
        heading=rng.uniform(0, 2 * np.pi),
        depth=0.0010 + 0.0050 * damage.severity,
        where=low * on_board,
        bare=(0.42, 0.46, 0.34) if rng.random() < 0.6 else _COPPER,
    )
    return surface


def _on_board(scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    x, y = _placed(scene, [(rng.uniform(0.13, 0.87), rng.uniform(0.16, 0.84))])[0]
    return float(x), float(y)


DEFECTS: Mapping[str, Callable[[Scene, Surface, Damage], Surface]] = {
    "burn": _burn,
    "missing_component": _missing_component,
    "scratch": _scratch,
    "solder_bridge": _solder_bridge,
}
"""Kind -> function of the scene, its clean surface, which it may paint on, and what is drawn."""
