"""What a study maximises: named figures of a score matrix, by category, with their bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import mean_over_categories, metric_by_category
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.statistics.bootstrap import REPLICATES, Replicates, averaged, resample
from pseudoval.statistics.intervals import LEVEL, auroc_intervals
from pseudoval.statistics.samples import Sample, draw_samples, samples_by_category
from pseudoval.statistics.weighted import AUROC, AVERAGE_PRECISION, ImageMetric


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A figure to maximise, in [0, 1].

    Attributes:
        summary: what it is, for ``pseudoval studies``.
        metric: of the image scores; None for the pixel figure of the objective's name, which a
            score matrix keeps by category, so that there is nothing to resample.
        pooled: whether the images of all categories are ranked together.
    """

    summary: str
    metric: ImageMetric | None = None
    pooled: bool = False


MACRO, POOLED, IMAGE_AP = "macro_image_auroc", "pooled_image_auroc", "image_ap"

OBJECTIVES = {
    MACRO: Objective(summary="mean over the categories of the image AUROC", metric=AUROC),
    POOLED: Objective(
        summary="image AUROC over the images of all categories at once", metric=AUROC, pooled=True
    ),
    IMAGE_AP: Objective(
        summary="mean over the categories of the average precision of the images",
        metric=AVERAGE_PRECISION,
    ),
    "pixel_auroc": Objective(summary="mean over the categories of the pixel AUROC"),
    "pixel_ap": Objective(
        summary="mean over the categories of the average precision of the pixels"
    ),
    "pixel_aupro": Objective(
        summary="mean over the categories of the per-region overlap up to an FPR of 0.3"
    ),
}
"""Every objective by name; ``A+B`` is the mean of two."""


def parts_of(objective: str) -> list[str]:
    """The one or two names that an objective is made of.

    Raises:
        UserError: a name is not in ``OBJECTIVES``, or there are more than two, or one twice.
    """
    names = [name.strip() for name in objective.split("+")]
    for name in names:
        if name not in OBJECTIVES:
            raise UserError(
                f"There is no objective {name!r}; the objectives are {', '.join(OBJECTIVES)}, or "
                "the mean of two of them, such as macro_image_auroc+pixel_auroc."
            )
    if len(names) > 2 or len(set(names)) < len(names):
        raise UserError(
            f"The objective {objective!r} is neither one figure nor the mean of two different "
            "ones; join two with a +."
        )
    return names


def needs_pixels(objective: str) -> bool:
    """Whether an objective is made of masks, and so has no bootstrap."""
    return any(OBJECTIVES[name].metric is None for name in parts_of(objective))


def by_category(objective: str, matrix: ScoreMatrix) -> np.ndarray:
    """The objective within each category, ``[configs, category_names]``; NaN without a score.

    Within one category the pooled image AUROC is the image AUROC.

    Raises:
        UserError: the matrix lacks the pixel figures of a category.
    """
    tables = [_table(name, matrix) for name in parts_of(objective)]
    return np.asarray(np.mean(tables, axis=0))


def values(objective: str, matrix: ScoreMatrix) -> np.ndarray:
    """The objective of each configuration, ``[configs]``; NaN without a score.

    Sums are rounded once, so that equal sets of values tie exactly. Errors as ``by_category``.
    """
    return mean_over_categories(np.stack([_value(n, matrix) for n in parts_of(objective)], axis=1))


def bootstrap(
    objective: str, matrix: ScoreMatrix, *, replicates: int = REPLICATES, seed: int = 0
) -> Replicates | None:
    """The objective on resamples of the images, as ``bootstrap_auroc``; None with pixel figures.

    All objectives see the same resamples. Where a part is pooled there is one entry, ``all``, for
    the categories together, else one for each.
    """
    if needs_pixels(objective):
        return None
    named = [OBJECTIVES[name] for name in parts_of(objective)]
    samples = samples_by_category(matrix.categories, matrix.labels, matrix.groups)
    counts = draw_samples(samples, replicates, seed)
    pooled = any(one.pooled for one in named)
    parts = []
    for one in named:
        assert one.metric is not None
        if one.pooled:
            drawn = [np.concatenate(counts)]
            parts.append(resample(one.metric, matrix.scores, [_joined(samples)], drawn, seed))
        else:
            part = resample(one.metric, matrix.scores, samples, counts, seed)
            parts.append(_together(part) if pooled else part)
    return averaged(parts)


def objective_intervals(objective: str, replicates: Replicates) -> np.ndarray:
    """95 % interval of each configuration, ``[configs, 2]``; NaN where it has no value.

    Those of an AUROC are ``auroc_intervals``; of anything else quantiles of the replicates.
    """
    if objective in OBJECTIVES and OBJECTIVES[objective].metric is AUROC:
        return auroc_intervals(replicates)
    means = replicates.values.mean(axis=0)  # [C, R]
    bounds = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return np.asarray(np.quantile(means, bounds, axis=1).T)


def _value(name: str, matrix: ScoreMatrix) -> np.ndarray:
    one = OBJECTIVES[name]
    if one.metric is not None and one.pooled:
        return one.metric.value(matrix.scores, matrix.labels)
    return mean_over_categories(_table(name, matrix))


def _table(name: str, matrix: ScoreMatrix) -> np.ndarray:
    metric = OBJECTIVES[name].metric
    if metric is None:
        return _pixel_table(name, matrix)
    return metric_by_category(metric.value, matrix.scores, matrix.categories, matrix.labels)


def _pixel_table(name: str, matrix: ScoreMatrix) -> np.ndarray:
    lacking = [
        f"{category} ({reason})"
        for category, reason in zip(matrix.category_names, matrix.pixel_reason, strict=False)
        if reason
    ]
    if name not in matrix.pixel or lacking:
        where = f" for {', '.join(lacking)}" if lacking else ""
        raise UserError(
            f"The objective {name} is not available{where}; choose one of the image figures with "
            "--objective, or leave these categories out."
        )
    unscored = np.isnan(matrix.scores).any(axis=1)
    return np.where(unscored[:, None], np.nan, matrix.pixel[name])


def _joined(samples: Sequence[Sample]) -> Sample:
    """The images of all categories as one sample; their groups stay apart."""
    sizes = [int(sample.group.max()) + 1 for sample in samples]
    firsts = np.cumsum([0, *sizes[:-1]])
    return Sample(
        name="all",
        inside=np.concatenate([sample.inside for sample in samples]),
        group=np.concatenate([s.group + first for s, first in zip(samples, firsts, strict=True)]),
        anomalous=np.concatenate([sample.anomalous for sample in samples]),
    )


def _together(part: Replicates) -> Replicates:
    """The mean over the categories as a single entry."""
    return replace(
        part,
        names=["all"],
        estimates=part.means[None],
        values=part.values.mean(axis=0)[None],
        freedom=part.freedom.min(axis=0)[None],
        sizes=[(sum(size[0] for size in part.sizes), sum(size[1] for size in part.sizes))],
    )
