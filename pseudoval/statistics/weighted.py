"""AUROC and average precision with whole-number weights, for many weightings at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pseudoval.metrics.image_metrics import auroc, average_precision
from pseudoval.statistics.samples import group_strata

NOTHING = 1e-20
"""A variance below this is rounding."""


def weighted_auroc(
    scores: np.ndarray, anomalous: np.ndarray, counts: np.ndarray, group: np.ndarray | None = None
) -> np.ndarray:
    """AUROC with whole-number weights, for many weightings at once; ties count one half.

    The normal images of a configuration are sorted once. Their weights, summed along that order,
    give each anomalous image the weight of the normal images below it, for all weightings
    together: O(N) a weighting, in whole numbers, so the only rounding is the last division.

    Args:
        scores: ``[C, N]``.
        anomalous: ``[N]`` bool.
        counts: ``[groups, R]`` weight of each group, not negative.
        group: ``[N]`` group of each image; None if each image is its own.

    Returns:
        ``[C, R]`` float64; NaN for a configuration with a NaN, and for a weighting that leaves a
        class without weight.
    """
    group = np.arange(scores.shape[1]) if group is None else group
    positive = counts[group[anomalous]].astype(np.int64)  # [P, R]
    negative = counts[group[~anomalous]].astype(np.int64)  # [M, R]
    pairs = positive.sum(axis=0) * negative.sum(axis=0)
    below = np.zeros((len(negative) + 1, counts.shape[1]), dtype=np.int64)
    values = np.full((len(scores), counts.shape[1]), np.nan)
    for row, line in enumerate(scores):
        if np.isnan(line).any():
            continue
        normal = line[~anomalous]
        order = normal.argsort(kind="stable")
        np.cumsum(negative[order], axis=0, out=below[1:])
        under, upto = (
            normal[order].searchsorted(line[anomalous], side) for side in ("left", "right")
        )
        # Half of a tied normal image is below: counted twice, all numbers stay whole.
        doubled = np.einsum("pr,pr->r", below[under] + below[upto], positive)
        with np.errstate(invalid="ignore", divide="ignore"):
            values[row] = doubled / (2 * pairs)
    return values


def weighted_ap(
    scores: np.ndarray, anomalous: np.ndarray, counts: np.ndarray, group: np.ndarray
) -> np.ndarray:
    """Average precision with whole-number weights, for many weightings at once.

    Args:
        scores: ``[C, N]``; a row with a NaN gets NaN.
        anomalous: ``[N]`` bool.
        counts: ``[groups, R]``, weight of each group in each replicate.
        group: ``[N]``, number of the group of each image.

    Returns:
        ``[C, R]`` float64 in (0, 1].
    """
    found = np.full((len(scores), counts.shape[1]), np.nan)
    for row, line in enumerate(scores):
        if np.isnan(line).any():
            continue
        order = np.argsort(-line, kind="stable")
        ascending = -line[order]
        starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])  # of equal scores
        weights = counts[group[order]].astype(np.float64)  # [N, R]
        everything = np.add.reduceat(weights, starts, axis=0)
        hits = np.add.reduceat(weights * anomalous[order, None], starts, axis=0)
        above, hit = everything.cumsum(axis=0), hits.cumsum(axis=0)
        precision = hit / np.maximum(above, 1)
        found[row] = (hits * precision).sum(axis=0) / hit[-1]
    return found


def influence_freedom(scores: np.ndarray, anomalous: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Degrees of freedom of the standard error of each configuration's AUROC.

    Close to 1 the AUROC hangs on the few images that are ranked wrongly, and its standard error
    is itself a guess. Satterthwaite's approximation turns the spread of the groups' influences
    (their shares of DeLong's variance, summed over the images of a group as Obuchowski 1997 does
    for clusters) into the degrees of freedom of a t distribution: 2 V^2 / var(V).

    Returns:
        ``[C]`` float64, at least 2; NaN where no group has an influence, or a score is NaN.
    """
    positives, negatives = int(anomalous.sum()), int((~anomalous).sum())
    ranks = stats.rankdata(scores, axis=1)
    inner = np.empty_like(ranks)
    inner[:, anomalous] = stats.rankdata(scores[:, anomalous], axis=1)
    inner[:, ~anomalous] = stats.rankdata(scores[:, ~anomalous], axis=1)
    others = ranks - inner  # images of the other class below each one, ties one half
    images = np.where(anomalous, others, positives - others) / (negatives * positives)
    sizes = np.where(anomalous, positives, negatives)
    images -= images[:, anomalous].sum(axis=1, keepdims=True) / sizes
    influence = np.zeros((len(scores), int(group.max()) + 1))
    np.add.at(influence.T, group, images.T)
    variance = np.zeros(len(scores))
    spread = np.zeros(len(scores))
    for members in group_strata(group, anomalous):
        squares = influence[:, members] ** 2
        variance += squares.sum(axis=1)
        spread += len(members) * squares.var(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(variance > NOTHING, 2 * variance**2 / spread, np.nan)
    return np.maximum(freedom, 2.0)


@dataclass(frozen=True, kw_only=True)
class ImageMetric:
    """A metric of image scores, and what resampling it needs.

    Attributes:
        value: of scores ``[C, N]`` and labels ``[N]`` the metric ``[C]``.
        weighted: the same for R weightings at once, ``[C, R]``; see ``weighted_auroc``.
        freedom: degrees of freedom of its standard error; None where they are not known.
    """

    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    weighted: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    freedom: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None


AUROC = ImageMetric(value=auroc, weighted=weighted_auroc, freedom=influence_freedom)
AVERAGE_PRECISION = ImageMetric(value=average_precision, weighted=weighted_ap)
