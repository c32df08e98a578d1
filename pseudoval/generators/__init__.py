"""Generators of synthetic anomalies, by name.

A new one is a file with a configuration and ``generate``, and a row of ``GENERATORS``; what
``build --generator`` accepts, its help and the options of ``--set`` follow from that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pseudoval.errors import UserError
from pseudoval.generators import cutpaste, external, lafite, mix, nsa, perlin
from pseudoval.generators.mix import MixConfig
from pseudoval.generators.options import parse_options

__all__ = [
    "DEFAULT_GENERATOR", "GENERATORS", "Generate", "Generator", "MixConfig", "parse_settings",
]  # fmt: skip

Generate = Callable[..., tuple[np.ndarray, np.ndarray]]
"""``(background, source, config, rng, foreground=None) -> (image, mask)``.

``background`` and ``source`` are uint8 ``[H, W, 3]``, ``foreground`` bool ``[H, W]`` of the
background or None for all of it; the result is uint8 ``[H, W, 3]`` and bool ``[H, W]``.
"""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A way to make anomalies.

    Attributes:
        config: frozen dataclass of its options, each with a default, checked on creation; the
            first line of its docstring says what the generator does.
        generate: makes one anomaly; uses no randomness but its ``rng``. None where ``build`` takes
            anomalies as they are, or lets the others make them.
    """

    config: type
    generate: Generate | None = None

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (self.config.__doc__ or "").splitlines()[0]


GENERATORS: dict[str, Generator] = {
    "cutpaste-scar": Generator(config=cutpaste.CutPasteScarConfig, generate=cutpaste.generate),
    "lafite": Generator(config=lafite.LafiteGeneratorConfig, generate=lafite.generate),
    "cutpaste": Generator(config=cutpaste.CutPasteConfig, generate=cutpaste.generate),
    "cutpaste-3way": Generator(config=cutpaste.CutPaste3WayConfig, generate=cutpaste.generate),
    "nsa": Generator(config=nsa.NsaConfig, generate=nsa.generate),
    "perlin": Generator(config=perlin.PerlinConfig, generate=perlin.generate),
    "external": Generator(config=external.ExternalConfig),
    "mix": Generator(config=MixConfig),
}
DEFAULT_GENERATOR = "cutpaste-scar"
"""The one whose sets lead to the better choices, see ``benchmarks/selection_quality.py``. Larger
fragments, such as those of ``lafite``, are found by nearly every configuration, and where AUROCs
tie at 1 a set says nothing."""


def parse_settings(generator: str, settings: Mapping[str, str]) -> Any:
    """The configuration of a generator from ``--set name=value`` texts.

    Lists are separated by commas: ``masks=ellipse,scar``; a range may be one number. Those of
    ``mix`` are described at ``mix.parse``.

    Raises:
        UserError: an unknown name, or a value that does not parse or is out of range.
    """
    if generator not in GENERATORS:
        raise UserError(
            f"There is no generator {generator!r}; choose one of {', '.join(sorted(GENERATORS))}."
        )
    config = GENERATORS[generator].config
    if config is MixConfig:
        others = {name: one.config for name, one in GENERATORS.items() if name != generator}
        return mix.parse(settings, others)
    return parse_options(generator, config, settings)
