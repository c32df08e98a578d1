"""The drawing of the demo board: where its parts sit, and its copper and silk-screen layers.

Everything is in units of the image side, in the frame of an unturned, centred board.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from pseudoval.demo import canvas
from pseudoval.demo.canvas import Field

OUTLINE = (0.5, 0.5), (0.86, 0.80)
CORNER_HOLES = ((0.105, 0.135), (0.895, 0.135), (0.105, 0.865), (0.895, 0.865))
CORNER_HOLE_RADIUS = 0.018


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component of the bill of materials."""

    kind: str
    """`quad` or `dual` (chips), `resistor`, `capacitor`, `can`, `crystal` or `header`."""
    centre: tuple[float, float]
    """Where the drawing has it."""
    size: tuple[float, float]
    """Size of the body before it is turned."""
    upright: bool = False
    """Turned by a quarter."""
    legs: int = 0
    """Legs per side of a chip, pins of a header."""


PARTS = (
    Part(kind="quad", centre=(0.385, 0.415), size=(0.190, 0.190), legs=8),
    Part(kind="dual", centre=(0.700, 0.300), size=(0.090, 0.120), legs=5),
    Part(kind="header", centre=(0.460, 0.815), size=(0.420, 0.080), legs=9),
    Part(kind="can", centre=(0.805, 0.520), size=(0.125, 0.125)),
    Part(kind="can", centre=(0.805, 0.680), size=(0.105, 0.105)),
    Part(kind="crystal", centre=(0.165, 0.415), size=(0.065, 0.135)),
    Part(kind="resistor", centre=(0.265, 0.215), size=(0.054, 0.028)),
    Part(kind="resistor", centre=(0.350, 0.215), size=(0.054, 0.028)),
    Part(kind="resistor", centre=(0.435, 0.215), size=(0.054, 0.028)),
    Part(kind="capacitor", centre=(0.545, 0.330), size=(0.050, 0.030), upright=True),
    Part(kind="capacitor", centre=(0.545, 0.430), size=(0.050, 0.030), upright=True),
    Part(kind="capacitor", centre=(0.165, 0.270), size=(0.050, 0.030)),
    Part(kind="capacitor", centre=(0.165, 0.560), size=(0.050, 0.030)),
    Part(kind="resistor", centre=(0.610, 0.560), size=(0.054, 0.028), upright=True),
    Part(kind="resistor", centre=(0.670, 0.560), size=(0.054, 0.028), upright=True),
    Part(kind="resistor", centre=(0.300, 0.655), size=(0.054, 0.028)),
    Part(kind="resistor", centre=(0.385, 0.655), size=(0.054, 0.028)),
    Part(kind="capacitor", centre=(0.470, 0.655), size=(0.050, 0.030)),
    Part(kind="capacitor", centre=(0.835, 0.265), size=(0.050, 0.030), upright=True),
    Part(kind="resistor", centre=(0.700, 0.175), size=(0.054, 0.028)),
    Part(kind="resistor", centre=(0.165, 0.700), size=(0.054, 0.028), upright=True),
)
REMOVABLE = tuple(k for k, part in enumerate(PARTS) if part.kind in ("resistor", "capacitor"))

# Corners of the hand-routed traces; those that leave the quad chip are added by `_fan_out`.
_ROUTES = (
    ((0.165, 0.480), (0.165, 0.535)),
    ((0.165, 0.345), (0.165, 0.295), (0.190, 0.270), (0.235, 0.270), (0.265, 0.240)),
    ((0.572, 0.330), (0.625, 0.330), (0.645, 0.310)),
    ((0.572, 0.430), (0.600, 0.430), (0.640, 0.390), (0.640, 0.345)),
    ((0.755, 0.280), (0.790, 0.245), (0.835, 0.245)),
    ((0.755, 0.320), (0.800, 0.365), (0.800, 0.455)),
    ((0.755, 0.340), (0.770, 0.355), (0.770, 0.460)),
    ((0.610, 0.590), (0.610, 0.720), (0.560, 0.770)),
    ((0.670, 0.590), (0.670, 0.760), (0.650, 0.780)),
    ((0.610, 0.530), (0.610, 0.480), (0.670, 0.480), (0.670, 0.530)),
    ((0.805, 0.585), (0.805, 0.625)),
    ((0.805, 0.735), (0.805, 0.800), (0.690, 0.800)),
    ((0.725, 0.175), (0.835, 0.175), (0.835, 0.240)),
    ((0.675, 0.175), (0.600, 0.175), (0.560, 0.215), (0.460, 0.215)),
    ((0.165, 0.730), (0.165, 0.790), (0.190, 0.815), (0.245, 0.815)),
    ((0.165, 0.670), (0.165, 0.585)),
    ((0.270, 0.655), (0.215, 0.655), (0.165, 0.610)),
    ((0.110, 0.230), (0.110, 0.760)),
    ((0.130, 0.230), (0.130, 0.330)),
    ((0.880, 0.200), (0.880, 0.440), (0.850, 0.470)),
    ((0.880, 0.600), (0.880, 0.780)),
)
_VIAS = (
    (0.225, 0.330), (0.235, 0.590), (0.500, 0.560), (0.545, 0.250), (0.640, 0.240), (0.590, 0.660),
    (0.735, 0.440), (0.735, 0.620), (0.735, 0.720), (0.860, 0.400), (0.220, 0.735), (0.340, 0.735),
    (0.110, 0.230), (0.130, 0.230), (0.110, 0.760), (0.880, 0.200), (0.880, 0.780), (0.300, 0.155),
    (0.480, 0.155), (0.560, 0.135), (0.800, 0.135), (0.500, 0.600), (0.265, 0.600),
)  # fmt: skip
_LABELS = (
    ("R1", (0.250, 0.190)), ("R2", (0.335, 0.190)), ("R3", (0.420, 0.190)), ("U1", (0.440, 0.300)),
    ("U2", (0.610, 0.225)), ("C5", (0.855, 0.225)), ("J1", (0.215, 0.765)), ("C1", (0.205, 0.255)),
    ("Y1", (0.205, 0.365)), ("C2", (0.575, 0.390)), ("R7", (0.445, 0.700)), ("R4", (0.690, 0.520)),
    ("PV-07", (0.190, 0.150)), ("R9", (0.190, 0.690)),
)  # fmt: skip


class Layers(NamedTuple):
    """The printed layers of the bare board, coverage [N, N] in [0, 1] each."""

    board: Field
    copper: Field
    """Traces and vias under the solder mask."""
    drill: Field
    """Open vias."""
    silk: Field


@lru_cache(maxsize=2)
def layers(n: int) -> Layers:
    """Return the printed layers drawn for an n x n grid (do not write to them)."""
    copper = np.zeros((n, n), np.float32)
    for route in (*_ROUTES, *_fan_out(PARTS[0])):
        np.maximum(copper, canvas.stroke(n, route, [1.0] * len(route), width=0.006), out=copper)
    drill = np.zeros((n, n), np.float32)
    for via in _VIAS:
        np.maximum(copper, canvas.polygon(n, canvas.disc(via, 0.0095, 16)), out=copper)
        np.maximum(drill, canvas.polygon(n, canvas.disc(via, 0.0042, 16)), out=drill)
    silk = np.zeros((n, n), np.uint8)
    for text, (x, y) in _LABELS:
        at = (round(x * n), round(y * n))
        cv2.putText(
            silk, text, at, cv2.FONT_HERSHEY_SIMPLEX, n / 384 * 0.26, (210,), 1, cv2.LINE_AA
        )
    printed = silk.astype(np.float32) / np.float32(255)
    for part in PARTS:
        np.maximum(printed, _frame(n, part), out=printed)
    return Layers(
        board=canvas.polygon(n, canvas.rectangle(*OUTLINE)),
        copper=copper,
        drill=drill,
        silk=printed,
    )


def _fan_out(chip: Part) -> list[tuple[tuple[float, float], ...]]:
    """Return one trace per leg of a quad chip: straight out, then away at 45 degrees."""
    routes = []
    (x, y), half = chip.centre, chip.size[0] / 2 + 0.02
    for k in range(chip.legs):
        offset = leg_offset(chip, k)
        spread = np.sign(offset) * (0.012 + 0.25 * abs(offset))
        length = 0.030 + 0.25 * abs(offset)
        for side in ((0, -1), (0, 1), (1, 0), (-1, 0)):
            out, along = np.array(side, float), np.abs(np.array(side[::-1], float))
            start = (x, y) + out * half + along * offset
            bend = start + out * length * 0.5
            end = bend + out * abs(spread) + along * spread
            far = end + out * 0.012
            routes.append(tuple((float(a), float(b)) for a, b in (start, bend, end, far)))
    return routes


def leg_offset(chip: Part, k: int) -> float:
    """Return the distance in units of leg k from the middle of its side."""
    span = chip.size[1] if chip.kind == "dual" else chip.size[0]
    return (k - (chip.legs - 1) / 2) * span * 0.94 / chip.legs


def _frame(n: int, part: Part) -> Field:
    """Return the silk-screen outline around a part, [N, N]."""
    if part.kind == "can":
        ring = canvas.arc(np.linspace(0, 2 * np.pi, 33), part.size[0] / 2 + 0.008)
        return canvas.stroke(n, ring + part.centre, [0.75] * 33, width=0.004)
    margin = {"quad": 0.062, "dual": 0.052}.get(part.kind, 0.016)
    width, height = part.size[::-1] if part.upright else part.size
    corners = canvas.rectangle(part.centre, (width + margin, height + margin))
    if part.kind in ("quad", "dual"):
        # Only a tick at the first leg: the frame would run across the legs.
        tick = corners[0] + np.array([[-0.006, 0.010], [-0.006, -0.006], [0.010, -0.006]])
        return canvas.stroke(n, tick, [0.8] * 3, width=0.004)
    return canvas.stroke(n, [*corners, corners[0]], [0.7] * 5, width=0.003)
