"""What the components of the demo board are made of: pads, legs, bodies, markings.

A component is a list of flat pieces, bottom to top, in units relative to its centre and before it
is turned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pseudoval.demo.board_layout import Part, leg_offset
from pseudoval.demo.canvas import Points, disc, rectangle

Colour = tuple[float, float, float]

TIN: Colour = (0.46, 0.46, 0.45)
GOLD: Colour = (0.62, 0.45, 0.16)
_BLACK: Colour = (0.030, 0.030, 0.033)
_CERAMIC: Colour = (0.34, 0.22, 0.12)
_PRINT: Colour = (0.15, 0.15, 0.15)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One flat piece of a component."""

    outline: Points
    """Polygon [K, 2]."""
    colour: Colour
    """Linear RGB in [0, 1]."""
    rise: float = 0.0
    """Thickness in units, added to what lies below."""
    gloss: float = 0.03
    """Strength of the highlight."""
    soldered: bool = False
    """Part of the board: it stays in place, and stays when the component is missing."""


def pieces(part: Part, tone: float) -> list[Piece]:
    """Return the pieces of a component; `tone` is the relative brightness of its body."""
    return list(_SHAPES[part.kind](part, tone))


def _chip(part: Part, tone: float) -> Iterator[Piece]:
    width, height = part.size
    reach = width / 2 + 0.011
    for k in range(part.legs):
        offset = leg_offset(part, k)
        for side in (-reach, reach):
            leg = rectangle((side, offset), (0.026, 0.0105))
            yield Piece(outline=leg, colour=TIN, rise=0.003, gloss=0.35, soldered=True)
            if part.kind == "quad":
                leg = rectangle((offset, side), (0.0105, 0.026))
                yield Piece(outline=leg, colour=TIN, rise=0.003, gloss=0.35, soldered=True)
    body = rectangle((0, 0), part.size)
    yield Piece(outline=body, colour=_dimmed(_BLACK, tone), rise=0.014, gloss=0.04)
    first_leg = disc((-width * 0.36, -height * 0.38), 0.009, 12)
    yield Piece(outline=first_leg, colour=_dimmed(_BLACK, 0.6), rise=-0.002, gloss=0.0)
    for row, length in ((-0.06, 0.56), (0.08, 0.44), (0.22, 0.50)):
        line = rectangle((0, row * height), (length * width, 0.010))
        yield Piece(outline=line, colour=_PRINT)


def _two_ended(part: Part, tone: float) -> Iterator[Piece]:
    """A chip resistor or capacitor: pads, end caps, body."""
    width, height = part.size
    resistor = part.kind == "resistor"
    for side in (-1, 1):
        pad = rectangle((side * width * 0.45, 0), (width * 0.42, height * 1.12))
        yield Piece(outline=pad, colour=TIN, rise=0.001, gloss=0.25, soldered=True)
    thickness = 0.010 if resistor else 0.016
    yield Piece(outline=rectangle((0, 0), part.size), colour=TIN, rise=thickness, gloss=0.3)
    body = rectangle((0, 0), (width * 0.60, height))
    yield Piece(outline=body, colour=_dimmed(_BLACK if resistor else _CERAMIC, tone))
    if resistor:
        value = rectangle((0, 0), (width * 0.30, height * 0.30))
        yield Piece(outline=value, colour=(0.45, 0.45, 0.45))


def _can(part: Part, tone: float) -> Iterator[Piece]:
    """An electrolytic capacitor, seen from above."""
    radius = part.size[0] / 2
    base = rectangle((0, 0), (radius * 1.96, radius * 1.96))
    yield Piece(outline=base, colour=_dimmed(_BLACK, 1.4), rise=0.006)
    side, top = disc((0, 0), radius * 0.93, 40), disc((0, 0), radius * 0.80, 40)
    yield Piece(outline=side, colour=(0.30, 0.30, 0.31), rise=0.022, gloss=0.10)
    yield Piece(outline=top, colour=_dimmed((0.42, 0.42, 0.43), tone), gloss=0.16)
    turn = np.linspace(0.6 * np.pi, 1.4 * np.pi, 16)
    minus = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius * 0.80
    yield Piece(outline=minus, colour=_dimmed(_BLACK, 4.0))


def _crystal(part: Part, tone: float) -> Iterator[Piece]:
    width, height = part.size
    foot = rectangle((0, 0), part.size)
    yield Piece(outline=foot, colour=_dimmed(TIN, 0.8), rise=0.005, gloss=0.20)
    turn = np.linspace(0, np.pi, 12)
    cap = np.stack([np.cos(turn), np.sin(turn)], axis=1) * width * 0.41
    end = np.array([0, height * 0.46 - width * 0.41])
    lid = np.concatenate([cap + end, -cap - end])
    yield Piece(outline=lid, colour=_dimmed(TIN, tone), rise=0.012, gloss=0.28)


def _header(part: Part, tone: float) -> Iterator[Piece]:
    width, height = part.size
    ivory: Colour = (0.52, 0.50, 0.43)
    yield Piece(outline=rectangle((0, 0), part.size), colour=_dimmed(ivory, tone), rise=0.016)
    slot = rectangle((0, 0.1 * height), (width * 0.94, height * 0.6))
    yield Piece(outline=slot, colour=(0.34, 0.32, 0.27), rise=-0.010)
    for k in range(part.legs):
        at = (leg_offset(part, k), 0.1 * height)
        pin = rectangle(at, (0.016, 0.016))
        yield Piece(outline=pin, colour=GOLD, rise=0.012, gloss=0.4)


def _dimmed(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


_SHAPES: Mapping[str, Callable[[Part, float], Iterator[Piece]]] = {
    "can": _can,
    "capacitor": _two_ended,
    "crystal": _crystal,
    "dual": _chip,
    "header": _header,
    "quad": _chip,
    "resistor": _two_ended,
}
