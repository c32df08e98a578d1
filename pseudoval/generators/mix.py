"""A weighted mixture of the other generators: each anomaly is made by one of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from pseudoval.errors import UserError
from pseudoval.generators.options import parse_options
from pseudoval.generators.registry import SINGLE

DEFAULT_WEIGHTS = {"lafite": 1.0, "cutpaste-3way": 1.0, "nsa": 1.0, "perlin": 1.0}
"""The families that differ in kind, equally often."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Options of ``mix``.

    Attributes:
        weights: how often each generator is drawn, relative to the others; none is 0.
        configs: the configuration of each of them.
    """

    NAME: ClassVar[str] = "mix"

    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    configs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.weights)
        complete = {
            name: self.configs[name] if name in self.configs else SINGLE[name].config()
            for name in self.weights
        }
        object.__setattr__(self, "configs", complete)


def parse(settings: Mapping[str, str]) -> MixConfig:
    """A mixture from texts.

    ``weights=lafite:2,perlin:1`` says what is mixed (a name alone has weight 1),
    ``perlin.threshold=0.6`` sets an option of one of them, and ``opacity=0.5,1`` that of all that
    have it.

    Raises:
        UserError: an unknown generator or option, or a value that does not parse.
    """
    weights = dict(DEFAULT_WEIGHTS)
    if "weights" in settings:
        weights = _weights(settings["weights"])
        _check(weights)
    own: dict[str, dict[str, str]] = {name: {} for name in weights}
    for setting, text in settings.items():
        if setting == "weights":
            continue
        name, dot, option = setting.partition(".")
        takers = [name] if dot else [n for n in weights if setting in _options(n)]
        if not takers or (dot and name not in weights):
            raise UserError(
                f"Generator 'mix' has no option {setting!r}; it has weights, NAME.OPTION with a "
                f"NAME of {', '.join(weights)}, and the options that one of these has."
            )
        for taker in takers:
            # What is said of one generator wins over what is said of all.
            if dot or f"{taker}.{setting}" not in settings:
                own[taker][option or setting] = text
    configs = {name: parse_options(name, SINGLE[name].config, own[name]) for name in weights}
    return MixConfig(weights=weights, configs=configs)


def pick(config: MixConfig, rng: np.random.Generator, leave_out: frozenset[str]) -> str:
    """The name of the generator that makes an anomaly, drawn by weight.

    Args:
        leave_out: generators that have nothing more to give.
    """
    names = [name for name in config.weights if name not in leave_out]
    bounds = np.cumsum([config.weights[name] for name in names])
    return names[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def generate(
    background: np.ndarray,
    source: np.ndarray,
    config: MixConfig,
    rng: np.random.Generator,
    foreground: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """An anomaly by one of the generators; arguments as ``lafite.generate``.

    Raises:
        UserError: as the generator that was drawn.
    """
    name = pick(config, rng, frozenset())
    return SINGLE[name].generate(background, source, config.configs[name], rng, foreground)


def _weights(text: str) -> dict[str, float]:
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
    return weights


def _check(weights: Mapping[str, float]) -> None:
    """Raise ``UserError`` unless there is something to mix, of known names."""
    known = ", ".join(SINGLE)
    if not weights:
        raise UserError(f"Generator 'mix' has nothing to mix; give weights of {known}.")
    for name, weight in weights.items():
        if name not in SINGLE:
            raise UserError(f"Generator 'mix' cannot mix {name!r}; it mixes {known}.")
        if not (math.isfinite(weight) and weight > 0):
            raise UserError(f"Generator 'mix': the weight of {name} must be a positive number.")


def _options(name: str) -> set[str]:
    return {one.name for one in fields(SINGLE[name].config)}
