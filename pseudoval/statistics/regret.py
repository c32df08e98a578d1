"""Regret: what a choice costs."""

import math
from collections.abc import Sequence

import numpy as np


def regret(values: Sequence[float] | np.ndarray, selected: int) -> float:
    """Best value minus that of the selected row: 0 is the best choice, NaN if it has no value."""
    numbers = np.asarray(values, dtype=np.float64)
    if np.isnan(numbers).all():
        return math.nan
    return float(np.nanmax(numbers) - numbers[selected])


def random_regret(values: Sequence[float] | np.ndarray) -> float:
    """What a choice at random costs on average: best minus mean over the rows with a value.

    NaN if no row has one. Exactly 0 for constant values.
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if not numbers.size:
        return math.nan
    return math.fsum(numbers.max() - numbers) / numbers.size
