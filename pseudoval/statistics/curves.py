"""Which configuration wins, and what a choice costs."""

import math
from collections.abc import Sequence

import numpy as np

from pseudoval.metrics.score_matrix import Config

TIE_ORDER = ("t", "k")


def selection_order(configs: Sequence[Config], values: Sequence[float] | np.ndarray) -> list[int]:
    """Rows from best to worst: the highest value first, NaN last.

    Equal values are ordered by the configuration: the smallest t, then the smallest k, then the
    other keys by name, ascending. A key that a configuration lacks sorts before any value, and
    numbers before text.

    Raises:
        ValueError: configs and values differ in length.
    """
    if len(configs) != len(values):
        raise ValueError(f"{len(configs)} configurations and {len(values)} values")

    names = {name for config in configs for name in config}
    keys = [*(k for k in TIE_ORDER if k in names), *sorted(names.difference(TIE_ORDER))]

    def rank(row: int) -> tuple[bool, float, list[tuple[int, float, str]]]:
        value = float(values[row])
        nan = math.isnan(value)
        return nan, 0.0 if nan else -value, [_sortable(configs[row].get(key)) for key in keys]

    return sorted(range(len(configs)), key=rank)


def select_best(configs: Sequence[Config], values: Sequence[float] | np.ndarray) -> int:
    """Row of the highest value, ties as in ``selection_order``; NaN never wins.

    Raises:
        ValueError: there is no value, or all are NaN.
    """
    order = selection_order(configs, values)
    if not order or math.isnan(float(values[order[0]])):
        raise ValueError("no configuration has a value")
    return order[0]


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


def _sortable(value: float | str | None) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, str):
        return 2, 0.0, value
    return 1, float(value), ""
