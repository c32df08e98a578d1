"""How the values of a parameter are spaced: evenly, or evenly in the logarithm."""

import math
from collections.abc import Sequence
from itertools import pairwise


def geometric(values: Sequence[float | str]) -> bool:
    """Whether ascending numbers are spaced more evenly in the logarithm than as they are.

    At least three positive ones; of fewer one cannot tell.

    Example:
        >>> geometric((1, 2, 4)), geometric((1, 5, 9)), geometric(("2", "2,3", "4"))
        (True, False, False)
    """
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < max(3, len(values)) or min(numbers) <= 0:
        return False
    return _unevenness([math.log(number) for number in numbers]) < _unevenness(numbers)


def _unevenness(numbers: Sequence[float]) -> float:
    """The widest step over the narrowest; 1 is even."""
    steps = [after - before for before, after in pairwise(numbers)]
    return max(steps) / min(steps) if min(steps) > 0 else math.inf
