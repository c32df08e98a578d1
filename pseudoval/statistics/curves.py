"""What a choice costs on a curve, and how well two curves agree."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


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
