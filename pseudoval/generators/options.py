"""Options that every generator which pastes has, and how options are read from texts."""

import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

from pseudoval.data.files import sha256_folder
from pseudoval.errors import UserError
from pseudoval.generators.augment import default_pipeline, read_pipeline

BLENDINGS = ("hard", "feather", "alpha", "poisson")


@dataclass(frozen=True, kw_only=True)
class PasteConfig:
    """Options of a generator that pastes fragments.

    The annotation of an option says where its number, or both ends of its range, must lie, or which
    names it chooses from; ``min_X`` is at most ``max_X``.

    Attributes:
        blending: how a fragment meets the background, see ``blending.blend``: ``hard``;
            ``feather``, fading in from the edge; ``alpha``, from the edge to the deepest point;
            ``poisson``, its gradients only. Whatever it is, no pixel outside the mask changes.
            ``hard`` leaves no mask over almost unchanged pixels.
        opacity: ``low, high``: weight of the fragment against the background, drawn uniformly for
            each; one number stands for both. 1 is the fragment itself.
        scale: factor on every drawn area, so that the size of a whole set has one knob.
        jitter: largest relative change of a fragment's brightness, contrast and saturation; 0 for
            none. 0.1 is CutPaste's (Li et al. 2021).
        augment: JSON file of an albumentations pipeline that changes fragments, instead of
            ``jitter``; see ``augment``.
        min_change: visibility floor: mean absolute difference, in grey levels of 0..255 over the
            pixels and channels of a mask, that a fragment must make. 8 is just seen on an even
            surface. Dark and even images, whose whole range is a few levels, are judged by their
            own contrast, see ``visibility.visibility_floor``.
        min_overlap: share of each fragment that must lie on the foreground, where one is given.
            Half, so that chips and burrs across the outline stay possible.
    """

    FLIPS: ClassVar[float] = 0.0
    """Probability of mirroring a fragment, in each direction."""
    MIN_CHANGED: ClassVar[float] = 0.9
    """Share of the pixels in the mask that must differ from the background. A fragment of white on
    white is redrawn; the few pixels that agree by chance stay in the mask, whose shape is kept."""

    blending: Annotated[str, BLENDINGS] = "hard"
    opacity: Annotated[tuple[float, float], (0.01, 1)] = (1.0, 1.0)
    scale: Annotated[float, (0.01, 100)] = 1.0
    jitter: Annotated[float, (0, 1)] = 0.1
    augment: Path | None = None
    min_change: Annotated[float, (0, 255)] = 8.0
    min_overlap: Annotated[float, (0.01, 1)] = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            name, found = field.name, getattr(self, field.name)
            if get_origin(field.type) is not Annotated:
                continue
            limits = get_args(field.type)[1]
            values = found if isinstance(found, tuple) else (found,)
            if isinstance(limits[0], str):
                if not values or set(values) - set(limits):
                    known = ", ".join(limits)
                    raise UserError(f"{name} is {found!r}; it must be one or more of {known}.")
                continue
            low, high = limits
            if not low <= values[0] <= values[-1] <= high:
                raise UserError(
                    f"{name} is {found}; it must lie in {low}..{high}, a range from low to high."
                )
            if name.startswith("min_") and found > getattr(self, f"max_{name[4:]}", found):
                raise UserError(f"{name} is above max_{name[4:]}.")
        self.pipeline()  # what is wrong with a file shows before anything is made

    def pipeline(self) -> dict[str, Any]:
        """How fragments are changed, as ``albumentations.to_dict`` has it."""
        if self.augment is not None:
            return read_pipeline(self.augment)
        return default_pipeline(self.jitter, self.FLIPS)

    def to_json(self) -> dict[str, Any]:
        """Every option as JSON values; ``augment`` as the pipeline."""
        return {**options_to_json(self), "augment": self.pipeline()}


def options_to_json(config: Any) -> dict[str, Any]:
    """The fields of a configuration; of a folder its name and the hash of its content."""

    def value(option: Any) -> Any:
        if isinstance(option, Path) and option.is_dir():
            return {"folder": option.resolve().name, "sha256": sha256_folder(option)}
        return list(option) if isinstance(option, tuple) else option

    return {field.name: value(getattr(config, field.name)) for field in fields(config)}


def parse_options(generator: str, config: type, settings: Mapping[str, str]) -> Any:
    """A configuration from ``name=value`` texts.

    Lists are separated by commas: ``masks=ellipse,scar``; a range may be one number.

    Raises:
        UserError: an unknown name, or a value that does not parse or is out of range.
    """
    known, kinds = [field.name for field in fields(config)], get_type_hints(config)
    for name in settings:
        if name not in known:
            raise UserError(
                f"Generator {generator!r} has no option {name!r}; it has {', '.join(known)}."
            )
    try:
        return config(**{name: _parse(name, text, kinds[name]) for name, text in settings.items()})
    except UserError as error:
        raise UserError(f"Generator {generator!r}: {error}") from None


def _parse(name: str, text: str, kind: Any) -> Any:
    """Read ``text`` as ``kind``: int, float, str, an optional path, or a tuple of one of them."""
    if get_origin(kind) in (Union, types.UnionType):
        return Path(text)
    if members := get_args(kind):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        values = tuple(_parse(name, part, members[0]) for part in parts)
        if members[-1] is not Ellipsis:
            values = values * 2 if len(values) == 1 else values
            if len(values) != len(members):
                raise UserError(f"{name} is {text!r}, not one number or LOW,HIGH.")
        return values
    try:
        value = kind(text.strip())
    except ValueError:
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{name} is {text!r}, not {what}.")
    return value
