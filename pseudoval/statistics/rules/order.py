"""The order of configurations by a value, and which of equals comes first."""

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


def _sortable(value: float | str | None) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, str):
        return 2, 0.0, value
    return 1, float(value), ""
