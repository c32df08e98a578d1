"""What a model is made of and where it runs: presets, single options, the device."""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from lafite_core.config import SECTIONS, LafiteConfig
from lafite_core.config import preset as named_preset
from lafite_core.uniad_presets import uniad_preset
from pseudoval.detectors import Parameter, Value
from pseudoval.detectors.base import check_values
from pseudoval.errors import UserError

PRESETS = {"uniad": uniad_preset}
"""The presets of a detector that has its own."""

SCORING = ("diffusion.sampling_steps", "diffusion.evaluations", "diffusion.eta")
"""Options, beside those of ``score``, that a trained model can be scored with another value of."""


def configuration(
    preset: str,
    backbone: str | None,
    epochs: int | None,
    settings: Mapping[str, str],
    detector: str = "lafite",
) -> LafiteConfig:
    """The configuration of a preset with single options replaced.

    ``--epochs`` means exactly that many: it switches ``train.min_steps`` off.

    Args:
        detector: whose preset it is.

    Raises:
        UserError: an unknown option or a value of the wrong kind.
        LafiteError: an unknown preset or a value out of range.
    """
    value = PRESETS.get(detector, named_preset)(preset).to_json()
    if backbone is not None:
        value["features"]["backbone"] = backbone
    if epochs is not None:
        value["train"] |= {"epochs": epochs, "min_steps": 0}
    return _replaced(value, settings)


def scoring_configuration(config: LafiteConfig, settings: Mapping[str, str]) -> LafiteConfig:
    """The configuration of a trained model with options replaced that only scoring depends on.

    Raises:
        UserError: an option that is unknown or decides what is trained, or a value of the wrong
            kind.
        LafiteError: a value out of range.
    """
    fixed = [name for name in settings if name not in SCORING and not name.startswith("score.")]
    if fixed:
        raise UserError(
            f"The option {fixed[0]} cannot be set for scoring, only {', '.join(SCORING)} and "
            "score.NAME; what else there is has been decided by 'pseudoval train --set'."
        )
    return _replaced(config.to_json(), settings)


def _replaced(value: dict[str, Any], settings: Mapping[str, str]) -> LafiteConfig:
    """A configuration in its JSON form with single options replaced; errors as above."""
    for name, text in settings.items():
        section, _, option = name.partition(".")
        kinds = typing.get_type_hints(SECTIONS[section]) if section in SECTIONS else {}
        if option not in kinds:
            known = [f"{s}.{f.name}" for s, c in SECTIONS.items() for f in dataclasses.fields(c)]
            raise UserError(f"There is no option {name!r}; the options are {', '.join(known)}.")
        value[section][option] = parse_option(name, text, kinds[option])
    return LafiteConfig.from_json(value)


def parse_option(name: str, text: str, kind: Any) -> Any:
    """Text of the command line as an option of the given type.

    Lists are written ``1,2,3`` (nothing is an empty one) and mappings ``key=value,key=value``.

    Raises:
        UserError: the text is not of that kind.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    try:
        if origin is tuple:
            return [parse_option(name, part, parts[0]) for part in text.split(",") if part]
        if origin is Mapping:
            return dict(pair.split("=", 1) for pair in text.split(","))
        if origin is typing.Literal:
            return text
        if parts:  # an optional value
            return parse_option(name, text, next(p for p in parts if p is not type(None)))
        return kind(text)
    except ValueError:
        raise UserError(f"The option {name} cannot be {text!r}.") from None


def fit_values(
    detector: str, parameters: Sequence[Parameter], settings: Mapping[str, str]
) -> dict[str, Value]:
    """What a detector's parameters that need a fit are set to, from text.

    Raises:
        UserError: there is no such parameter, or it needs no fit, or the value is of another kind.
    """
    known = {p.name: p for p in parameters if p.needs_fit}
    for name in settings:
        if name not in known:
            names = f"only {', '.join(known)}" if known else "for nothing of it needs a fit"
            raise UserError(f"{name} of {detector} cannot be set for a training, {names}.")
    found = {name: known[name].value_of(text) for name, text in settings.items()}
    check_values([known[name] for name in found], found)
    return found


def find_device(name: str) -> str:
    """A device by its name: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``, the GPU where there is one.

    Raises:
        UserError: there is no such device.
    """
    import torch  # takes seconds, and the command line reads options without it

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    if name == "cpu":
        return name
    found = re.fullmatch(r"cuda(?::(\d+))?", name)
    if found is None:
        raise UserError(f"There is no device {name!r}; give auto, cpu, cuda, or cuda:N.")
    if int(found[1] or 0) >= count:
        seen = f"{count} GPUs, numbered from cuda:0" if count else "no GPU; use --device cpu"
        raise UserError(f"--device {name} was asked for, but torch sees {seen}.")
    return name
