"""The values of a parameter that a stage tries: a list, or a range."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pseudoval.detectors import Parameter, Value
from pseudoval.errors import UserError
from pseudoval.metrics.runs import RangeForm

RANGE_KEYS = ("from", "to", "step", "log")


@dataclass(frozen=True, kw_only=True)
class Range:
    """All values from ``low`` to ``high``, or those at even steps from ``low`` on.

    Attributes:
        low, high: included; integers for a parameter of whole numbers.
        step: None is every whole number, or every number.
        log: whether it is searched evenly in the logarithm; without a step.

    Example:
        >>> from studies import Range
        >>> Range(low=25, high=100, step=25).values()
        (25, 50, 75, 100)
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int)

    @property
    def count(self) -> int | None:
        """How many values there are; None for numbers without a step."""
        step = self.step or (1 if self.whole else None)
        # The last step may end a rounding error beyond ``high``.
        return None if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def values(self) -> tuple[float, ...]:
        """Its values, ascending.

        Raises:
            ValueError: there is no end of them.
        """
        if self.count is None:
            raise ValueError(f"{self} has no step")
        step = self.step or 1
        digits = None if self.whole else 12  # 0.1 + 2 * 0.1 is 0.30000000000000004
        return tuple(round(self.low + place * step, digits) for place in range(self.count))

    def described(self) -> RangeForm:
        """All of it for ``run.json``, as a study file has it."""
        return {"from": self.low, "to": self.high, "step": self.step, "log": self.log}


Values = tuple[Value, ...] | Range
"""What a stage tries of a parameter."""

Given = str | Sequence[Value] | Mapping[str, Any] | Range
"""The same as a caller gives it; a mapping is ``{"from": 25, "to": 900, "step": 25}``, where
``step`` and ``log`` may be missing; a text is what the command line has, see ``read_values``."""


def values_of(parameter: Parameter, given: Given | None, lowest: float | None = None) -> Values:
    """The values of a parameter, numbers ascending and without repeats.

    Args:
        given: None is the detector's own grid.
        lowest: that a whole number may be; None is the parameter's own.

    Raises:
        UserError: nothing in it, of another kind, too low, or from high to low.
    """
    if isinstance(given, str):
        given = read_values(parameter, given)
    if isinstance(given, Range):
        given = {key: value for key, value in given.described().items() if value is not None}
    if isinstance(given, Mapping):
        chosen: Values = _range(parameter, given)
    else:
        chosen = listed(parameter, parameter.grid if given is None else given)
    first = chosen.low if isinstance(chosen, Range) else chosen[0]
    lowest = parameter.low if lowest is None else lowest
    if parameter.kind == "int" and float(first) < lowest:
        raise UserError(
            f"The grid over {parameter.name} starts at {first}; the lowest is {lowest}."
        )
    return chosen


def read_values(parameter: Parameter, text: str) -> list[Value] | dict[str, Any]:
    """``25,50,100`` as a list; ``25..900`` and ``25..900:25`` as a study file has a range.

    Names that have commas in them are parted by semicolons: ``2;2,3``.

    Raises:
        UserError: neither of these.
    """
    if parameter.kind == "categorical":
        whole = text in map(str, parameter.grid)
        parts = [text] if whole else text.split(";" if ";" in text else ",")
        return [parameter.value_of(part) for part in parts]
    try:
        if ".." not in text:
            return [_number(part) for part in text.split(",")]
        ends, _, step = text.partition(":")
        low, _, high = ends.partition("..")
        found = {"from": _number(low), "to": _number(high)}
        return {**found, "step": _number(step)} if step else found
    except ValueError:
        raise UserError(
            f"The values of {parameter.name} cannot be read: {text!r} is neither a list such as "
            "25,50,100 nor a range such as 25..900 or 25..900:25."
        ) from None


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def listed(parameter: Parameter, given: Sequence[Value]) -> tuple[Value, ...]:
    """The same of a list."""
    given = [given] if isinstance(given, str) else given
    if not all(_fits(parameter, value) for value in given):
        raise UserError(
            f"The values of {parameter.name} are {list(given)!r}; give {_KINDS[parameter.kind]}, "
            f"such as values.{parameter.name} = {list(parameter.grid[:3])!r}."
        )
    if not given:
        raise UserError(f"The grid over {parameter.name} is empty; give at least one value.")
    if any(isinstance(value, str) for value in given):
        return tuple(dict.fromkeys(given))
    distinct: set[Value] = {float(v) if parameter.kind == "float" else v for v in given}
    return tuple(sorted(distinct, key=float))


_KINDS = {
    "int": "a list of whole numbers or a range",
    "float": "a list of numbers or a range",
    "categorical": "a list of texts or codes",
}


def _fits(parameter: Parameter, value: Any) -> bool:
    """Whether a value is of the kind of a parameter."""
    if parameter.kind == "categorical":
        return type(value) in (str, int, float)
    whole = type(value) is int
    return whole or (parameter.kind == "float" and type(value) is float and math.isfinite(value))


def _range(parameter: Parameter, given: Mapping[str, Any]) -> Range:
    """A range as a caller gives it, looked through."""
    name = parameter.name
    if parameter.kind == "categorical":
        raise UserError(f"{name} has no order, so that it has no range; list its values.")
    known, numbers = set(given) <= set(RANGE_KEYS), {k: v for k, v in given.items() if k != "log"}
    if not known or not {"from", "to"} <= set(given) or type(given.get("log", True)) is not bool:
        raise UserError(
            f"A range of {name} is {{from = 100, to = 300, step = 50}}, and log = true may take "
            "the place of step."
        )
    wrong = [value for value in numbers.values() if not _fits(parameter, value)]
    if wrong:
        kind = "whole numbers" if parameter.kind == "int" else "numbers"
        raise UserError(f"{name} takes {kind}, and its range has {wrong[0]!r}; give others.")
    if parameter.kind == "float":
        numbers = {key: float(value) for key, value in numbers.items()}
    found = Range(low=numbers["from"], high=numbers["to"], step=numbers.get("step"))
    if found.low > found.high:
        raise UserError(
            f"The range of {name} goes from {found.low} down to {found.high}; give the lower end "
            "first."
        )
    if found.step is not None and found.step <= 0:
        raise UserError(f"The step of {name} is {found.step}; give one above 0.")
    log = bool(given.get("log", parameter.log and found.step is None and found.low > 0))
    if log and (found.step is not None or found.low <= 0):
        raise UserError(
            f"The range of {name} is logarithmic, so that it has no step and begins above 0; "
            "mend that, or give log = false."
        )
    return replace(found, log=log)
