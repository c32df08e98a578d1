"""Paired bootstrap of the AUROC: which figures other images of the same kind would have given.

A replicate draws groups with replacement, the same ones for every configuration, so that
differences between configurations keep their pairing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pseudoval.metrics.image_metrics import mean_over_categories
from pseudoval.statistics.samples import Sample, draw_samples, samples_by_category
from pseudoval.statistics.weighted import AUROC, ImageMetric

REPLICATES = 4000


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
        return mean_over_categories(self.estimates.T)

    def select(self, rows: Sequence[int], category: str | None = None) -> "Replicates":
        """A subset of the configurations, in one category or (None) in all of them."""
        places = range(len(self.names)) if category is None else [self.names.index(category)]
        return replace(
            self,
            names=[self.names[place] for place in places],
            estimates=self.estimates[np.ix_(places, rows)],
            values=self.values[np.ix_(places, rows)],
            freedom=self.freedom[np.ix_(places, rows)],
            sizes=[self.sizes[place] for place in places],
        )


def averaged(parts: Sequence[Replicates]) -> Replicates:
    """The mean of several models or figures that were resampled alike.

    Raises:
        ValueError: the parts differ in categories, replicates or seed, so were not paired.
    """
    first = parts[0]
    for part in parts[1:]:
        same = part.values.shape == first.values.shape and part.sizes == first.sizes
        if not same or (part.names, part.seed) != (first.names, first.seed):
            raise ValueError("the replicates were not drawn alike")
    return replace(
        first,
        estimates=np.mean([part.estimates for part in parts], axis=0),
        values=np.mean([part.values for part in parts], axis=0),
        freedom=np.min([part.freedom for part in parts], axis=0),
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
    samples = samples_by_category(categories, labels, groups)
    counts = draw_samples(samples, replicates, seed, stream)
    return resample(AUROC, np.asarray(scores, dtype=np.float64), samples, counts, seed)


def resample(
    metric: ImageMetric,
    scores: np.ndarray,
    samples: Sequence[Sample],
    counts: Sequence[np.ndarray],
    seed: int,
) -> Replicates:
    """A metric of every configuration on resamples of some images.

    Args:
        scores: ``[C, N]``.
        samples: of the N images.
        counts: how often each group of each sample is drawn, see ``draw_samples``.
        seed: that they were drawn with.
    """
    estimates, values, freedom = [], [], []
    for sample, drawn in zip(samples, counts, strict=True):
        inside = scores[:, sample.inside]
        estimates.append(metric.value(inside, sample.anomalous))
        values.append(metric.weighted(inside, sample.anomalous, drawn, sample.group))
        if metric.freedom is None:
            freedom.append(np.full(len(scores), np.nan))
        else:
            freedom.append(metric.freedom(inside, sample.anomalous, sample.group))
    return Replicates(
        names=[sample.name for sample in samples],
        estimates=np.stack(estimates),
        values=np.stack(values),
        freedom=np.stack(freedom),
        sizes=[sample.sizes for sample in samples],
        seed=seed,
    )
