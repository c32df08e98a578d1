"""One ranking out of several: Borda's."""

import numpy as np
from scipy import stats


def rank_rows(values: np.ndarray) -> np.ndarray:
    """Rank of each row within each column of ``[C, rankings]``: 1 is the highest, ties average."""
    return np.asarray(stats.rankdata(-np.asarray(values, dtype=np.float64), axis=0))


def borda(ranks: np.ndarray) -> np.ndarray:
    """Mean rank of each row of ``[C, rankings]``; the lowest is the best."""
    return np.asarray(np.asarray(ranks).mean(axis=1))
