"""A weighted mixture of the other generators: each anomaly is made by one of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pseudoval.errors import UserError
from pseudoval.generators.options import parse_options

DEFAULT_WEIGHTS = {"lafite": 1.0, "cutpaste-3way": 1.0, "nsa": 1.0, "perlin": 1.0}
"""The families that differ in kind, equally often."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """A weighted mixture of the others, --set weights=lafite:2,perlin:1.

    Attributes:
        weights: how often each generator is drawn, relative to the others; none is 0.
        configs: the configuration of each of them.
    """

    weights: Mapping[str, float]
    configs: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The weights, and the options of each generator under its name."""
        parts = {name: config.to_json() for name, config in self.configs.items()}
        return {"weights": dict(self.weights), **parts}

    def pick(self, rng: np.random.Generator, leave_out: frozenset[str] = frozenset()) -> str:
        """The name of the generator that makes an anomaly, drawn by weight.

        Args:
            leave_out: generators that have nothing more to give.
        """
        names = [name for name in self.weights if name not in leave_out]
        bounds = np.cumsum([self.weights[name] for name in names])
        return names[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def parse(settings: Mapping[str, str], known: Mapping[str, type]) -> MixConfig:
    """A mixture from texts.

    ``weights=lafite:2,perlin:1`` says what is mixed (a name alone has weight 1),
    ``perlin.threshold=0.6`` sets an option of one of them, and ``opacity=0.5,1`` that of all that
    have it.

    Args:
        known: configuration class of every generator that can be mixed, by name.

    Raises:
        UserError: an unknown generator or option, or a value that does not parse.
    """
    weights = _weights(settings["weights"], known) if "weights" in settings else DEFAULT_WEIGHTS
    options = {name: {field.name for field in fields(known[name])} for name in weights}
    own: dict[str, dict[str, str]] = {name: {} for name in weights}
    for setting, text in settings.items():
        if setting == "weights":
            continue
        name, dot, option = setting.partition(".")
        takers = [name] if dot else [n for n in weights if setting in options[n]]
        if not takers or (dot and name not in weights):
            raise UserError(
                f"Generator 'mix' has no option {setting!r}; it has weights, NAME.OPTION with a "
                f"NAME of {', '.join(weights)}, and the options that one of these has."
            )
        for taker in takers:
            # What is said of one generator wins over what is said of all.
            if dot or f"{taker}.{setting}" not in settings:
                own[taker][option or setting] = text
    configs = {name: parse_options(name, known[name], own[name]) for name in weights}
    return MixConfig(weights=weights, configs=configs)


def _weights(text: str, known: Mapping[str, type]) -> dict[str, float]:
    """Read ``lafite:2,perlin:1``."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        try:
            weights[name] = float(number) if colon else 1.0
        except ValueError:
            raise UserError(
                f"Option 'weights' of generator 'mix' is {text!r}, not of the form "
                "lafite:2,perlin:1."
            ) from None
        if name not in known:
            raise UserError(f"Generator 'mix' cannot mix {name!r}; it mixes {', '.join(known)}.")
        if not (math.isfinite(weights[name]) and weights[name] > 0):
            raise UserError(f"Generator 'mix': the weight of {name} must be a positive number.")
    return weights
