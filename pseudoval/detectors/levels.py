"""Levels of a backbone as the value of a parameter: their digits in a row, such as 234."""

from collections.abc import Sequence

from pseudoval.detectors.protocol import Parameter
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config


def levels_parameter(
    name: str, levels: Sequence[int], *, needs_fit: bool, meaning: str
) -> Parameter | None:
    """The levels used; None where they are not in rising order or one has two digits.

    The default grid is every run of neighbouring levels, the default all of them.
    """
    if max(levels) > 9 or list(levels) != sorted(set(levels)):
        return None
    runs = [levels[i:j] for i in range(len(levels)) for j in range(i + 1, len(levels) + 1)]
    grid = tuple(sorted(int("".join(map(str, run))) for run in runs))
    return Parameter(
        name=name,
        kind="categorical",
        grid=grid,
        default=grid[-1],
        needs_fit=needs_fit,
        meaning=f"{meaning}, their digits in a row: {grid[-1]} is all of them",
    )


def levels_of(name: str, config: Config, levels: Sequence[int]) -> tuple[int, ...]:
    """The levels that a configuration names; all of them if it names none.

    Args:
        levels: those that the model has.

    Raises:
        UserError: the value is not made of digits of the model's levels, ascending.
    """
    if name not in config:
        return tuple(levels)
    digits = {str(level): level for level in levels}
    found = [digits.get(digit) for digit in str(config[name])]
    used = tuple(level for level in found if level is not None)
    if len(used) < len(found) or list(used) != sorted(set(used)):
        raise UserError(
            f"{name} = {config[name]} cannot be scored; it must be digits of the model's stages "
            f"({', '.join(map(str, levels))}) in rising order, such as {levels[0]}."
        )
    return used
