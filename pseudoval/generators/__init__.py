"""Generators of synthetic anomalies: plain functions and their configurations, by name."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pseudoval.data.files import sha256_folder
from pseudoval.errors import UserError
from pseudoval.generators import mix
from pseudoval.generators.options import parse_options
from pseudoval.generators.registry import SINGLE, Generate, Generator

__all__ = [
    "DEFAULT_GENERATOR", "GENERATORS", "Generate", "Generator", "find_generator", "parameters",
    "parse_settings",
]  # fmt: skip

GENERATORS: dict[str, Generator] = {
    **SINGLE,
    "mix": Generator(config=mix.MixConfig, generate=mix.generate),
}
DEFAULT_GENERATOR = "cutpaste-scar"
"""The one whose sets lead to the better choices, see ``benchmarks/selection_quality.py``. Larger
fragments, such as those of ``lafite``, are found by nearly every configuration, and where AUROCs
tie at 1 a set says nothing."""


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

    Lists are separated by commas: ``masks=ellipse,scar``; a range may be one number. Those of
    ``mix`` are described at ``mix.parse``.

    Raises:
        UserError: an unknown name, or a value that does not parse or is out of range.
    """
    config = find_generator(generator).config
    return mix.parse(settings) if generator == "mix" else parse_options(generator, config, settings)


def parameters(config: Any) -> dict[str, Any]:
    """Every option of a configuration as JSON values; of a folder its name and content's hash.

    A mixture has its ``weights``, and the options of each generator under the generator's name.
    """
    if isinstance(config, mix.MixConfig):
        parts = {name: parameters(one) for name, one in config.configs.items()}
        return {"weights": dict(config.weights), **parts}
    return {
        field.name: _json_value(getattr(config, field.name)) for field in dataclasses.fields(config)
    }


def _json_value(value: Any) -> Any:
    if isinstance(value, Path):
        return {"folder": value.resolve().name, "sha256": sha256_folder(value)}
    return list(value) if isinstance(value, tuple) else value
