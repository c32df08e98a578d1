"""Generators of synthetic anomalies: plain functions and their configurations, by name."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from pseudoval.errors import UserError
from pseudoval.generators import lafite

Generate = Callable[
    [np.ndarray, np.ndarray, Any, np.random.Generator], tuple[np.ndarray, np.ndarray]
]
"""``(background, source, config, rng) -> (image uint8 [H, W, 3], mask bool [H, W])``."""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A way to make anomalies.

    Attributes:
        config: frozen dataclass of its options, each with a default, checked on creation.
        generate: makes one anomaly; uses no randomness but its ``rng``.
    """

    config: type
    generate: Generate


GENERATORS: dict[str, Generator] = {
    "lafite": Generator(config=lafite.LafiteGeneratorConfig, generate=lafite.generate),
}
DEFAULT_GENERATOR = "lafite"


def find_generator(name: str) -> Generator:
    """The generator of that name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in GENERATORS:
        raise UserError(
            f"There is no generator {name!r}; choose one of {', '.join(sorted(GENERATORS))}."
        )
    return GENERATORS[name]


def parse_settings(generator: str, settings: Mapping[str, str]) -> Any:
    """The configuration of a generator from ``--set name=value`` texts.

    Lists are separated by commas: ``masks=ellipse,scar``.

    Raises:
        UserError: an unknown name, or a value that does not parse or is out of range.
    """
    config = find_generator(generator).config
    fields = {field.name: field for field in dataclasses.fields(config)}
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in fields:
            raise UserError(
                f"Generator {generator!r} has no option {name!r}; it has {', '.join(fields)}."
            )
        values[name] = _parse(generator, name, text, fields[name].type)
    return config(**values)


def parameters(config: Any) -> dict[str, Any]:
    """Every option of a configuration as JSON values."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }


def _parse(generator: str, name: str, text: str, kind: Any) -> Any:
    """Read ``text`` as ``kind``: int, float, str, or a tuple of one of them."""
    if members := get_args(kind):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return tuple(_parse(generator, name, part, members[0]) for part in parts)
    try:
        value = kind(text.strip())
    except ValueError:
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"Option {name!r} of generator {generator!r} is {text!r}, not {what}.")
    return value
