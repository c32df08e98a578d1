"""What the components of the demo board are made of: pads, legs, bodies, markings.

A component is a list of flat pieces, bottom to top, in units relative to its centre and before it
is turned.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pseudoval.demo.board_layout import Part, leg_offset
from pseudoval.demo.canvas import Points, arc, disc, rectangle

Colour = tuple[float, float, float]

TIN: Colour = (0.46, 0.46, 0.45)
GOLD: Colour = (0.62, 0.45, 0.16)
_BLACK: Colour = (0.030, 0.030, 0.033)
_CERAMIC: Colour = (0.34, 0.22, 0.12)
_PRINT: Colour = (0.15, 0.15, 0.15)
_IVORY: Colour = (0.52, 0.50, 0.43)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a piece looks."""

    colour: Colour
    """Linear RGB in [0, 1]."""
    rise: float = 0.0
    """Thickness in units, added to what lies below."""
    gloss: float = 0.03
    """Strength of the highlight."""
    soldered: bool = False
    """Part of the board: it stays in place, and stays when the component is missing."""


class Piece(NamedTuple):
    """One flat piece of a component: a polygon [K, 2], and how it looks."""

    outline: Points
    look: Look


def _chip(part: Part, tone: float) -> Iterator[Piece]:
    width, height = part.size
    reach = width / 2 + 0.011
    leg = Look(colour=TIN, rise=0.003, gloss=0.35, soldered=True)
    for k in range(part.legs):
        offset = leg_offset(part, k)
        for side in (-reach, reach):
            yield _box(leg, (0.026, 0.0105), (side, offset))
            if part.kind == "quad":
                yield _box(leg, (0.0105, 0.026), (offset, side))
    yield _box(Look(colour=_dimmed(_BLACK, tone), rise=0.014, gloss=0.04), part.size)
    dimple = Look(colour=_dimmed(_BLACK, 0.6), rise=-0.002, gloss=0.0)
    yield Piece(disc((-width * 0.36, -height * 0.38), 0.009, 12), dimple)
    for row, length in ((-0.06, 0.56), (0.08, 0.44), (0.22, 0.50)):
        yield _box(Look(colour=_PRINT), (length * width, 0.010), (0, row * height))


def _two_ended(part: Part, tone: float) -> Iterator[Piece]:
    """A chip resistor or capacitor: pads, end caps, body."""
    width, height = part.size
    resistor = part.kind == "resistor"
    pad = Look(colour=TIN, rise=0.001, gloss=0.25, soldered=True)
    for side in (-1, 1):
        yield _box(pad, (width * 0.42, height * 1.12), (side * width * 0.45, 0))
    yield _box(Look(colour=TIN, rise=0.010 if resistor else 0.016, gloss=0.3), part.size)
    body = Look(colour=_dimmed(_BLACK if resistor else _CERAMIC, tone))
    yield _box(body, (width * 0.60, height))
    if resistor:
        yield _box(Look(colour=(0.45, 0.45, 0.45)), (width * 0.30, height * 0.30))


def _can(part: Part, tone: float) -> Iterator[Piece]:
    """An electrolytic capacitor, seen from above."""
    radius = part.size[0] / 2
    yield _box(Look(colour=_dimmed(_BLACK, 1.4), rise=0.006), (radius * 1.96, radius * 1.96))
    side = Look(colour=(0.30, 0.30, 0.31), rise=0.022, gloss=0.10)
    yield Piece(disc((0, 0), radius * 0.93, 40), side)
    top = Look(colour=_dimmed((0.42, 0.42, 0.43), tone), gloss=0.16)
    yield Piece(disc((0, 0), radius * 0.80, 40), top)
    minus = arc(np.linspace(0.6 * np.pi, 1.4 * np.pi, 16), radius) * 0.80
    yield Piece(minus, Look(colour=_dimmed(_BLACK, 4.0)))


def _crystal(part: Part, tone: float) -> Iterator[Piece]:
    width, height = part.size
    yield _box(Look(colour=_dimmed(TIN, 0.8), rise=0.005, gloss=0.20), part.size)
    cap = arc(np.linspace(0, np.pi, 12), width) * 0.41
    end = np.array([0, height * 0.46 - width * 0.41])
    lid = Look(colour=_dimmed(TIN, tone), rise=0.012, gloss=0.28)
    yield Piece(np.concatenate([cap + end, -cap - end]), lid)


def _header(part: Part, tone: float) -> Iterator[Piece]:
    width, height = part.size
    yield _box(Look(colour=_dimmed(_IVORY, tone), rise=0.016), part.size)
    slot = Look(colour=(0.34, 0.32, 0.27), rise=-0.010)
    yield _box(slot, (width * 0.94, height * 0.6), (0, 0.1 * height))
    for k in range(part.legs):
        pin = Look(colour=GOLD, rise=0.012, gloss=0.4)
        yield _box(pin, (0.016, 0.016), (leg_offset(part, k), 0.1 * height))


def _box(look: Look, size: tuple[float, float], centre: tuple[float, float] = (0, 0)) -> Piece:
    return Piece(rectangle(centre, size), look)


def _dimmed(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


PIECES: Mapping[str, Callable[[Part, float], Iterator[Piece]]] = {
    "can": _can,
    "capacitor": _two_ended,
    "crystal": _crystal,
    "dual": _chip,
    "header": _header,
    "quad": _chip,
    "resistor": _two_ended,
}
"""Kind -> function of a part and the relative brightness of its body, which gives its pieces."""
