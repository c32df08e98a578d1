"""Which configuration wins, and how well two curves agree."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

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


def spearman(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float | None:
    """Spearman's rank correlation in [-1, 1].

    Pairs with a NaN are dropped. None if fewer than three pairs are left or one side is constant.
    """
    pair = _varying_pairs(a, b)
    return None if pair is None else float(stats.spearmanr(*pair).statistic)


def kendall(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float | None:
    """Kendall's tau-b in [-1, 1], which allows for ties; None as in ``spearman``."""
    pair = _varying_pairs(a, b)
    return None if pair is None else float(stats.kendalltau(*pair).statistic)


def pearson(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float | None:
    """Pearson's linear correlation in [-1, 1]; None as in ``spearman``."""
    pair = _varying_pairs(a, b)
    return None if pair is None else float(stats.pearsonr(*pair).statistic)


def _varying_pairs(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"two curves of shapes {first.shape} and {second.shape}")
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    if first.size < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return first, second


def _sortable(value: float | str | None) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, str):
        return 2, 0.0, value
    return 1, float(value), ""
