"""Paired bootstrap of the AUROC: which figures other images of the same kind would have given.

A replicate draws groups with replacement, the same ones for every configuration, so that
differences between configurations keep their pairing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pseudoval.metrics.image_metrics import auroc_by_category

REPLICATES = 4000
CHUNK = 1 << 16
"""Weights held at once, in elements: measured to stay in the cache of a core."""

NOTHING = 1e-20
"""A variance below this is rounding."""


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """AUROC of configurations on a set, and on resamples of it.

    Attributes:
        names: categories, sorted.
        estimates: ``[categories, C]`` AUROC on the set itself; NaN where a score is missing.
        values: ``[categories, C, R]`` AUROC of each replicate.
        freedom: ``[categories, C]`` degrees of freedom of the standard error, see
            ``influence_freedom``; NaN where that is zero or a score is missing.
        sizes: per category the number of groups with a normal and with an anomalous image.
        seed: that the groups were drawn with.
    """

    names: list[str]
    estimates: np.ndarray
    values: np.ndarray
    freedom: np.ndarray
    sizes: list[tuple[int, int]]
    seed: int

    @property
    def means(self) -> np.ndarray:
        """Mean of the estimates over the categories, ``[C]``, rounded once as ``macro_auroc``."""
        return np.array([math.fsum(column) / len(column) for column in self.estimates.T])

    def select(self, rows: Sequence[int], category: str | None = None) -> "Replicates":
        """A subset of the configurations, in one category or (None) in all of them."""
        places = range(len(self.names)) if category is None else [self.names.index(category)]
        return Replicates(
            names=[self.names[place] for place in places],
            estimates=self.estimates[np.ix_(places, rows)],
            values=self.values[np.ix_(places, rows)],
            freedom=self.freedom[np.ix_(places, rows)],
            sizes=[self.sizes[place] for place in places],
            seed=self.seed,
        )


def averaged(parts: Sequence[Replicates]) -> Replicates:
    """The mean over several models that were scored on the same images and resampled alike.

    Raises:
        ValueError: the parts differ in categories, replicates or seed, so were not paired.
    """
    first = parts[0]
    for part in parts[1:]:
        same = part.values.shape == first.values.shape and part.sizes == first.sizes
        if not same or (part.names, part.seed) != (first.names, first.seed):
            raise ValueError("the replicates were not drawn alike")
    return mean_of(parts)


def mean_of(parts: Sequence[Replicates]) -> Replicates:
    """The mean of several figures on the same resamples, named and sized as the first of them."""
    first = parts[0]
    return Replicates(
        names=first.names,
        estimates=np.mean([part.estimates for part in parts], axis=0),
        values=np.mean([part.values for part in parts], axis=0),
        freedom=np.min([part.freedom for part in parts], axis=0),
        sizes=first.sizes,
        seed=first.seed,
    )


def bootstrap_auroc(
    scores: np.ndarray,
    categories: Sequence[str],
    labels: np.ndarray,
    groups: Sequence[str],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    stream: int = 0,
) -> Replicates:
    """AUROC of every configuration on resamples of a set, per category.

    Within a category, groups are drawn with replacement among the groups that hold the same
    classes: only normal images, only anomalous ones, or both. So a normal image and the pseudo
    anomalies made of it are drawn together, each class is there in every replicate, and a set
    whose images are groups of their own is stratified by category and label.

    Args:
        scores: ``[C, N]``, higher is more anomalous. A row with a NaN gets NaN in that category.
        categories, labels, groups: of the N images; a group is looked at within its category.
        replicates: R.
        seed, stream: the draws are a function of both; other streams are independent.

    Raises:
        ValueError: a category has one class only, or R is below 1.
    """
    if replicates < 1:
        raise ValueError(f"{replicates} replicates; at least 1 is needed")
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    names = sorted(set(categories))
    estimates = auroc_by_category(scores, categories, labels).T
    values = np.empty((len(names), len(scores), replicates))
    freedom = np.empty((len(names), len(scores)))
    sizes = []
    of_category = np.asarray(categories)
    of_group = np.asarray(groups)
    for place, name in enumerate(names):
        inside = np.flatnonzero(of_category == name)
        _, group = np.unique(of_group[inside], return_inverse=True)
        anomalous = labels[inside] == 1
        rng = np.random.default_rng([seed, stream, place])
        counts = draw_groups(group, anomalous, replicates, rng)
        values[place] = weighted_auroc(scores[:, inside], anomalous, counts, group)
        freedom[place] = influence_freedom(scores[:, inside], anomalous, group)
        sizes.append((len(set(group[~anomalous])), len(set(group[anomalous]))))
    return Replicates(
        names=names, estimates=estimates, values=values, freedom=freedom, sizes=sizes, seed=seed
    )


def draw_groups(
    group: np.ndarray, anomalous: np.ndarray, replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """How often each group is drawn: ``[groups, replicates]`` int32.

    Args:
        group: ``[N]``, number of the group of each image, from 0 without gaps.
        anomalous: ``[N]`` bool.
    """
    counts = np.zeros((int(group.max()) + 1, replicates), dtype=np.int32)
    for members in group_strata(group, anomalous):
        size = len(members)
        drawn = rng.integers(0, size, (replicates, size))
        drawn += size * np.arange(replicates)[:, None]
        table = np.bincount(drawn.ravel(), minlength=size * replicates)
        counts[members] = table.reshape(replicates, size).T
    return counts


def group_strata(group: np.ndarray, anomalous: np.ndarray) -> list[np.ndarray]:
    """The groups with normal images only, with anomalous ones only, and with both."""
    classes = np.zeros(int(group.max()) + 1, dtype=int)
    np.bitwise_or.at(classes, group, np.where(anomalous, 2, 1))
    strata = (np.flatnonzero(classes == kind) for kind in (1, 2, 3))
    return [members for members in strata if members.size]


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
    positive, negative = group[anomalous], group[~anomalous]
    replicates = counts.shape[1]
    plans = [_plan(row[anomalous], row[~anomalous]) for row in scores]
    doubled = np.zeros((len(scores), replicates), dtype=np.int64)
    pairs = np.empty(replicates, dtype=np.int64)
    step = max(64, CHUNK // max(len(group), 1))
    for start in range(0, replicates, step):
        chunk = counts[:, start : start + step]
        totals = [chunk[part].sum(axis=0, dtype=np.int64) for part in (positive, negative)]
        pairs[start : start + step] = totals[0] * totals[1]
        small = 2 * int((totals[0] * totals[1]).max(initial=0)) < 2**31
        exact = np.int32 if small else np.int64
        chunk = chunk.astype(exact, copy=False)
        weights = chunk[positive]  # [P, r]
        below = np.zeros((len(negative) + 1, chunk.shape[1]), dtype=exact)
        for row, plan in enumerate(plans):
            if plan is None:
                continue
            order, under, upto, tied = plan
            np.cumsum(chunk[negative[order]], axis=0, dtype=exact, out=below[1:])
            found = below[under]  # [P, r], weight of the normal images below
            area = 2 * np.einsum("pr,pr->r", found, weights, dtype=exact)
            if tied.size:
                level = below[upto[tied]] - found[tied]
                area += np.einsum("pr,pr->r", level, weights[tied], dtype=exact)
            doubled[row, start : start + step] = area
    with np.errstate(invalid="ignore", divide="ignore"):
        values = doubled / (2 * pairs)
    values[[plan is None for plan in plans]] = np.nan
    return values


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
    images = np.where(
        anomalous, others / (negatives * positives), (positives - others) / (negatives * positives)
    )
    images -= images[:, anomalous].sum(axis=1, keepdims=True) / np.where(
        anomalous, positives, negatives
    )
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


def _plan(
    positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Order of the normal scores, and how many lie below, and not above, each anomalous one."""
    if np.isnan(positive).any() or np.isnan(negative).any():
        return None
    order = np.argsort(negative, kind="stable")
    ascending = negative[order]
    under = np.searchsorted(ascending, positive, side="left")
    upto = np.searchsorted(ascending, positive, side="right")
    return order, under, upto, np.flatnonzero(under != upto)
