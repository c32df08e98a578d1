"""Options that every generator which pastes has, and how options are read from texts."""

import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Union, get_args, get_origin

from pseudoval.errors import UserError

BLENDINGS = ("hard", "feather", "alpha", "poisson")


@dataclass(frozen=True, kw_only=True)
class PasteConfig:
    """Options of a generator that pastes fragments.

    Attributes:
        blending: how a fragment meets the background, see ``blending.blend``: ``hard``;
            ``feather``, fading in from the edge over ``blend_px``; ``alpha``, from the edge to the
            deepest point; ``poisson``, its gradients only. Whatever it is, no pixel outside the
            mask changes. ``hard`` leaves no mask over almost unchanged pixels.
        blend_px: width of the feathered edge in pixels.
        opacity: ``low, high``: weight of the fragment against the background, drawn uniformly for
            each; one number stands for both. 1 is the fragment itself.
        scale: factor on every drawn area, so that the size of a whole set has one knob.
        jitter: largest relative change of a fragment's brightness, contrast and saturation; 0 for
            none. 0.1 is CutPaste's (Li et al. 2021).
        flips: probability of mirroring a fragment, in each direction.
        zoom: largest relative change of the size of a fragment's content.
        blur: largest standard deviation in pixels of a Gaussian blur of the fragment.
        elastic: displacement in pixels of an elastic deformation of the fragment's content.
        min_change: visibility floor: mean absolute difference, in grey levels of 0..255 over the
            pixels and channels of a mask, that a fragment must make. 8 is just seen on an even
            surface.
        min_change_contrast: the same floor as a share of the background's standard deviation.
            The lower of the two holds (but not below 1 grey level), so that dark and even images,
            whose whole range is a few levels, are judged by their own contrast.
        min_changed: share of the pixels in the mask that must differ from the background. A
            fragment of white on white is redrawn; the few pixels that agree by chance stay in the
            mask, whose shape is kept whole.
        min_overlap: share of each fragment that must lie on the foreground, where one is given.
            Half, so that chips and burrs across the outline stay possible.
        max_attempts: draws of one fragment before giving up. A set fails with its worst image, so
            that constraints which one draw in a hundred meets still have to build hundreds.
    """

    NAME: ClassVar[str] = ""

    blending: str = "hard"
    blend_px: float = 3.0
    opacity: tuple[float, float] = (1.0, 1.0)
    scale: float = 1.0
    jitter: float = 0.1
    flips: float = 0.0
    zoom: float = 0.0
    blur: float = 0.0
    elastic: float = 0.0
    min_change: float = 8.0
    min_change_contrast: float = 0.4
    min_changed: float = 0.9
    min_overlap: float = 0.5
    max_attempts: int = 500

    def __post_init__(self) -> None:
        for rule, kept in self.rules().items():
            if not kept:
                raise UserError(f"Generator {self.NAME!r}: {rule}.")

    def rules(self) -> dict[str, bool]:
        """What must hold, in words, and whether it does."""
        low, high = self.opacity
        return {
            f"blending must be one of {', '.join(BLENDINGS)}": self.blending in BLENDINGS,
            "blend_px must lie in 0..100": 0 <= self.blend_px <= 100,
            "opacity must be low,high with 0 < low <= high <= 1": 0 < low <= high <= 1,
            "scale must lie in 0.01..100": 0.01 <= self.scale <= 100,
            "jitter must lie in 0..1": 0 <= self.jitter <= 1,
            "flips must lie in 0..1": 0 <= self.flips <= 1,
            "zoom must lie in 0..0.9": 0 <= self.zoom <= 0.9,
            "blur must lie in 0..50": 0 <= self.blur <= 50,
            "elastic must lie in 0..100": 0 <= self.elastic <= 100,
            "min_change must lie in 0..255": 0 <= self.min_change <= 255,
            "min_change_contrast must not be negative": self.min_change_contrast >= 0,
            "min_changed must lie in 0..1": 0 <= self.min_changed <= 1,
            "min_overlap must lie in 0..1": 0 <= self.min_overlap <= 1,
            "max_attempts must be 1 or more": self.max_attempts >= 1,
        }


def parse_options(generator: str, config: type, settings: Mapping[str, str]) -> Any:
    """A configuration from ``name=value`` texts.

    Lists are separated by commas: ``masks=ellipse,scar``; a range may be one number.

    Raises:
        UserError: an unknown name, or a value that does not parse or is out of range.
    """
    known = {field.name: field for field in fields(config)}
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in known:
            raise UserError(
                f"Generator {generator!r} has no option {name!r}; it has {', '.join(known)}."
            )
        values[name] = _parse(generator, name, text, known[name].type)
    return config(**values)


def _parse(generator: str, name: str, text: str, kind: Any) -> Any:
    """Read ``text`` as ``kind``: int, float, str, an optional path, or a tuple of one of them."""
    if get_origin(kind) in (Union, types.UnionType):
        return Path(text)
    if members := get_args(kind):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        values = tuple(_parse(generator, name, part, members[0]) for part in parts)
        if members[-1] is not Ellipsis:
            values = values * 2 if len(values) == 1 else values
            if len(values) != len(members):
                raise UserError(
                    f"Option {name!r} of generator {generator!r} is {text!r}, not one number or "
                    "LOW,HIGH."
                )
        return values
    try:
        value = kind(text.strip())
    except ValueError:
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"Option {name!r} of generator {generator!r} is {text!r}, not {what}.")
    return value
