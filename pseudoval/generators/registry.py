"""The generators that are no mixture, by name."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pseudoval.generators import cutpaste, external, lafite, nsa, perlin

Generate = Callable[..., tuple[np.ndarray, np.ndarray]]
"""``(background, source, config, rng, foreground=None) -> (image, mask)``.

``background`` and ``source`` are uint8 ``[H, W, 3]``, ``foreground`` bool ``[H, W]`` of the
background or None for all of it; the result is uint8 ``[H, W, 3]`` and bool ``[H, W]``.
"""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A way to make anomalies.

    Attributes:
        config: frozen dataclass of its options, each with a default, checked on creation.
        generate: makes one anomaly; uses no randomness but its ``rng``.
    """

    config: type
    generate: Generate


SINGLE: dict[str, Generator] = {
    "lafite": Generator(config=lafite.LafiteGeneratorConfig, generate=lafite.generate),
    "cutpaste": Generator(config=cutpaste.CutPasteConfig, generate=cutpaste.generate),
    "cutpaste-scar": Generator(config=cutpaste.CutPasteScarConfig, generate=cutpaste.generate),
    "cutpaste-3way": Generator(config=cutpaste.CutPaste3WayConfig, generate=cutpaste.generate),
    "nsa": Generator(config=nsa.NsaConfig, generate=nsa.generate),
    "perlin": Generator(config=perlin.PerlinConfig, generate=perlin.generate),
    "external": Generator(config=external.ExternalConfig, generate=external.generate),
}
