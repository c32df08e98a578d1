"""How far two curves agree, with what the images and the few points leave open."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pseudoval.statistics.intervals import LEVEL

PERMUTATIONS = 9999
CORRELATION_MEANING = (
    "The interval of a correlation comes from resampling the images of both sets; p comes from "
    "permuting the values of the one curve, two-sided. A correlation is called different from "
    "zero if both say so: many images cannot make up for a curve of three points. Neighbouring "
    "values of a parameter resemble each other, so p is rather too small."
)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One correlation of two curves.

    Attributes:
        value: in [-1, 1]; None for fewer than three points or a constant curve.
        interval: percentile interval over the replicates; None if fewer than half have a value.
        p: of the permutation test.
        differs_from_zero: by interval and test; None without a value.
    """

    value: float | None
    interval: list[float] | None
    p: float | None
    differs_from_zero: bool | None


def agreements(
    first: np.ndarray,
    second: np.ndarray,
    first_replicates: np.ndarray,
    second_replicates: np.ndarray,
    *,
    seed: int = 0,
) -> dict[str, Agreement]:
    """Spearman, Kendall (tau-b) and Pearson of two curves; points with a NaN are left out.

    Args:
        first, second: ``[V]`` a value for each of V points.
        first_replicates, second_replicates: ``[V, R]`` the same on independent resamples.
        seed: of the permutations, where there are too many for all of them.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    values = correlations(first[:, None], second[:, None])
    if np.isnan(values["spearman"][0]):
        none = Agreement(value=None, interval=None, p=None, differs_from_zero=None)
        return dict.fromkeys(values, none)
    of_replicates = correlations(first_replicates[known], second_replicates[known])
    orders = permutations(len(first), seed)
    shuffled = second[orders]  # [V, permutations]
    of_permutations = correlations(np.broadcast_to(first[:, None], shuffled.shape), shuffled)
    found = {}
    for name, column in values.items():
        value = float(column[0])
        interval = _interval(value, of_replicates[name])
        extreme = np.abs(of_permutations[name]) >= abs(value) - 1e-9
        p = float(extreme.mean())
        apart = interval is not None and not interval[0] <= 0 <= interval[1]
        differs = apart and p < 0.05
        found[name] = Agreement(value=value, interval=interval, p=p, differs_from_zero=differs)
    return found


def correlations(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Spearman, Kendall (tau-b) and Pearson of each column of ``[V, R]``, ``[R]`` each.

    NaN where a column is constant, and for fewer than three points.
    """
    if len(first) < 3:
        nothing = np.full(first.shape[1], np.nan)
        return {"spearman": nothing, "kendall": nothing, "pearson": nothing}
    return {
        "spearman": _pearson(stats.rankdata(first, axis=0), stats.rankdata(second, axis=0)),
        "kendall": _kendall(first, second),
        "pearson": _pearson(first, second),
    }


def permutations(count: int, seed: int) -> np.ndarray:
    """Orders of ``count`` points, ``[count, n]``: all of them up to 7 points, else a sample.

    The sample starts with the order as it is, so that a p of it is never 0.
    """
    if math.factorial(count) <= PERMUTATIONS:
        return np.array(list(itertools.permutations(range(count)))).T
    rng = np.random.default_rng([seed, count])
    drawn = rng.permuted(np.tile(np.arange(count), (PERMUTATIONS, 1)), axis=1)
    return np.concatenate([np.arange(count)[None], drawn]).T


def _interval(value: float, replicates: np.ndarray) -> list[float] | None:
    """Percentile interval, widened to the value itself: noise of the resamples pulls it inwards."""
    known = replicates[~np.isnan(replicates)]
    if 2 * known.size < replicates.size:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [min(float(low), value), max(float(high), value)]


def _pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Normalised last, unlike SciPy's: of ranks that do not correlate it is exactly 0."""
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    constant = (np.ptp(first, axis=0) == 0) | (np.ptp(second, axis=0) == 0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, np.nan, np.clip((a * b).sum(axis=0) / scale, -1, 1))


def _kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Tau-b: concordant minus discordant pairs, over the pairs that neither side ties."""
    agree, one, other = np.zeros((3, first.shape[1]))
    for point in range(len(first) - 1):
        a, b = (np.sign(of[point] - of[point + 1 :]) for of in (first, second))
        agree += (a * b).sum(axis=0)
        one += (a**2).sum(axis=0)
        other += (b**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(agree / np.sqrt(one * other))
