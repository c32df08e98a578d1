"""What a bootstrap says: intervals, comparisons with the best, and what a set can resolve.

Every function takes the ``Replicates`` of the configurations that are compared, of one category
or of several; of several, the figure is the mean of the categories' AUROCs. Categories are
independent samples, so their variances add up. Configurations with a NaN have no figures.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from pseudoval.statistics.bootstrap import Replicates
from pseudoval.statistics.weighted import NOTHING

LEVEL, POWER = 0.95, 0.8
QUANTILE = float(stats.norm.ppf((1 + LEVEL) / 2))
TOO_FEW = 0.25
"""Images of the smaller class ranked wrongly, on average, below which their spread is unknown."""
TIE = 1e-12
"""AUROCs closer than this are equal: sums over categories are rounded."""

METHOD = (
    "Paired bootstrap over {replicates} resamples (seed {seed}). Within a category whole groups "
    "are drawn with replacement, a normal image together with the pseudo anomalies made of it; "
    "other images are drawn within their class; every configuration sees the same resample. The "
    "interval of an AUROC is a t interval of its logit with the bootstrap standard error and "
    "Satterthwaite's degrees of freedom, capped by Newcombe's score interval (2006); where hardly "
    "an image is ranked wrongly the score interval takes its place, which never shrinks to a "
    "point. The interval of a mean over categories joins those of the categories (Zou and Donner "
    "2008). All intervals are at 95 %."
)
P_BEST_MEANING = (
    "P(best) is the share of resamples in which a configuration has the highest AUROC, ties "
    "shared equally. It says how firmly these images put it first. It is not the probability "
    "that it is the best in truth: it knows no other defects than those of this set, and many "
    "configurations that are equally good share the 100 % among them."
)
LEADING_SET_MEANING = (
    "Configurations that cannot be told apart from the leader: the 95 % interval of their paired "
    "difference to it, simultaneous over all configurations compared, holds zero. More images "
    "would make the set smaller; being in it is no proof of being equal."
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One configuration against all.

    Attributes:
        gaps: ``[C]`` AUROC of the one minus that of each, 0 for itself.
        errors: ``[C]`` standard error of each gap, 0 for itself.
        critical: ``[C]``; so many standard errors on either side cover all gaps at once.
    """

    gaps: np.ndarray
    errors: np.ndarray
    critical: np.ndarray

    @property
    def intervals(self) -> np.ndarray:
        """``[C, 2]``, simultaneous over all configurations."""
        reach = self.critical * self.errors
        return np.stack([self.gaps - reach, self.gaps + reach], axis=1)

    @property
    def together(self) -> np.ndarray:
        """``[C]`` bool: cannot be told apart from the one; False where there is no figure."""
        return np.asarray(np.abs(self.gaps) <= self.critical * self.errors + TIE)


def auroc_intervals(replicates: Replicates) -> np.ndarray:
    """Interval of each configuration's AUROC, ``[C, 2]``, NaN where it has none.

    Within a category see ``category_interval``. The plain percentile interval covers less than it
    claims for an AUROC above 0.9 with 50 images a class (``benchmarks/bootstrap.py``). Categories
    are joined by the recovery of variances from intervals (Zou and Donner 2008).
    """
    values = replicates.estimates  # [categories, C]
    errors = replicates.values.std(axis=2)
    smallest = np.array([min(sizes) for sizes in replicates.sizes])[:, None]
    of_each = np.vectorize(category_interval, otypes=[float, float])
    low, high = of_each(values, errors, replicates.freedom, smallest)
    below, above = (np.sqrt((part**2).sum(axis=0)) for part in (values - low, high - values))
    mean, count = values.mean(axis=0), len(values)
    return np.stack([mean - below / count, mean + above / count], axis=1)


def category_interval(value: float, error: float, freedom: float, size: int) -> tuple[float, float]:
    """Interval of one AUROC on one category.

    A t interval on the logit scale, and towards 1 (towards 0 below 0.5) the score interval: it
    caps the t interval, which runs away where few images are ranked wrongly, and it takes its
    place where so few are that they tell nothing of their spread.

    Args:
        error: bootstrap standard error.
        freedom: its degrees of freedom.
        size: groups of the smaller class.
    """
    if value < 0.5:
        low, high = category_interval(1 - value, error, freedom, size)
        return 1 - high, 1 - low
    if math.isnan(value):
        return math.nan, math.nan
    low, high = score_interval(value, size)
    if error**2 < NOTHING or math.isnan(freedom) or not 0 < value < 1:
        return low, high
    reach = stats.t.ppf((1 + LEVEL) / 2, freedom) * error / (value * (1 - value))
    centre = special.logit(value)
    upper = float(special.expit(centre + reach))
    if size * (1 - value) < TOO_FEW:
        return low, upper
    return max(low, float(special.expit(centre - reach))), upper


def score_interval(value: float, size: int) -> tuple[float, float]:
    """Interval of an AUROC from the size of the classes alone, never of zero width.

    The values whose own standard error, after Hanley and McNeil (1982), does not rule ``value``
    out: the score method of Newcombe, Statistics in Medicine 25:559 (2006), for two classes of
    one size. For a perfect separation of 50 normal and 50 anomalous images it is [0.960, 1].

    Args:
        size: of the smaller class, at least 1; the larger one cannot make up for it where single
            images are ranked wrongly.
    """

    def excess(theta: float) -> float:
        """Squared distance minus what the standard error allows."""
        share = (1 - theta) / (2 - theta) + theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + (size - 1) * share) / size**2
        return (theta - value) ** 2 - QUANTILE**2 * variance

    edge = 1e-9
    low = 0.0 if value <= edge else optimize.brentq(excess, edge, min(value, 1 - edge))
    high = 1.0 if value >= 1 - edge else optimize.brentq(excess, max(value, edge), 1 - edge)
    return float(low), float(high)


def gap_errors(replicates: Replicates, row: int) -> np.ndarray:
    """Standard error of the difference between one configuration and each, ``[C]``.

    Where two configurations differ by the same in all resamples of a category (both separate it
    perfectly, say), the images do not tell how far they may differ on others. By Laplace's rule
    of succession the next of n images is one on which they differ with probability 1 / (n + 2);
    with a difference anywhere in [-1, 1] that is a variance of 1 / (3 n (n + 2)).
    """
    values = replicates.values  # [categories, C, R]
    variance = (values[:, [row]] - values).var(axis=2)
    smallest = np.array([min(sizes) for sizes in replicates.sizes], dtype=np.float64)
    unseen = 1 / (3 * smallest * (smallest + 2))
    variance = np.where(variance < NOTHING, unseen[:, None], variance)
    variance[:, row] = 0.0
    return np.asarray(np.sqrt(variance.sum(axis=0)) / len(values))


def compare(replicates: Replicates, row: int) -> Comparison:
    """Differences between one configuration and all others, paired.

    The intervals hold at once with probability ``LEVEL``, so that picking the largest difference
    afterwards is allowed. They are balanced (Beran 1988): each difference gets the quantile of
    its own studentised deviations over the replicates, at a level that is common to all and just
    high enough. A common critical value would let two configurations close to an AUROC of 1,
    whose difference has long tails, hide what is plain between others.
    """
    means = replicates.values.mean(axis=0)  # [C, R]
    centre = replicates.means
    gaps = centre[row] - centre
    errors = gap_errors(replicates, row)
    critical = np.full(len(gaps), QUANTILE)
    usable = np.flatnonzero(errors > 0)  # NaN and the row itself are not
    if usable.size:
        deviations = np.abs(means[row] - means[usable] - gaps[usable, None])
        deviations /= errors[usable, None]
        ranks = stats.rankdata(deviations, method="ordinal", axis=1)  # from 1
        common = int(np.quantile(ranks.max(axis=0), LEVEL, method="higher"))
        own = np.sort(deviations, axis=1)[:, common - 1]
        critical[usable] = np.maximum(critical[usable], own)
    return Comparison(gaps=gaps, errors=errors, critical=critical)


def best_shares(replicates: Replicates) -> np.ndarray:
    """P(best): share of replicates in which each configuration has the highest AUROC, ``[C]``.

    Configurations that tie in a replicate share it equally, so that the shares add up to 1. See
    ``P_BEST_MEANING`` for how to read it. NaN where a configuration has no figure.
    """
    means = replicates.values.mean(axis=0)
    known = ~np.isnan(means).any(axis=1)
    shares = np.full(len(means), np.nan)
    if known.any():
        first = means[known] >= means[known].max(axis=0) - TIE
        shares[known] = (first / first.sum(axis=0)).mean(axis=1)
    return shares


def regret_interval(replicates: Replicates, row: int) -> tuple[float, float] | None:
    """Interval of the best AUROC minus that of one configuration, at least 0; None without one.

    The configuration must not have been chosen on this set. The bounds are the largest of the
    simultaneous bounds of all differences (the multiple comparison with the best of Hsu 1984,
    with bootstrap critical values), so that the best is not taken for better than it is because
    it was picked.
    """
    comparison = compare(replicates, row)
    bounds = -comparison.intervals[:, ::-1]  # of each minus the one
    if np.isnan(comparison.gaps).all():
        return None
    low, high = np.nanmax(bounds, axis=0)
    return max(0.0, float(low)), max(0.0, float(high))


def paired_interval(replicates: Replicates, row: int, other: int) -> tuple[float, float]:
    """Interval of the AUROC of ``row`` minus that of ``other``, two configurations fixed before."""
    low, high = compare(replicates.select([row, other]), 0).intervals[1]
    return float(low), float(high)


def resolvable_gap(error: float) -> float:
    """The smallest true gap with this standard error that a set finds with 80 % power.

    A paired two-sided test finds a gap of z_level + z_power standard errors; 2.80 of them for
    80 % power at the 5 % level.
    """
    return (QUANTILE + float(stats.norm.ppf(POWER))) * error


def images_needed(images: int, gap: float, error: float) -> int | None:
    """Images that a set like this one of ``images`` needs, to find a gap with 80 % power.

    Standard errors shrink with the square root of the number of images. None for a gap of 0.
    """
    if abs(gap) < TIE:
        return None
    return math.ceil(images * (resolvable_gap(error) / gap) ** 2)
