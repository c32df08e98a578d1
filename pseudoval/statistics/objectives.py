"""What a study maximises: named figures of a score matrix, by category, with their bootstrap."""

import math
from collections.abc import Sequence

import numpy as np

from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import auroc_by_category, average_precision, pooled_auroc
from pseudoval.metrics.score_matrix import PIXEL_METRICS, ScoreMatrix
from pseudoval.statistics.bootstrap import (
    REPLICATES,
    Replicates,
    bootstrap_auroc,
    draw_groups,
    influence_freedom,
    mean_of,
    weighted_auroc,
)
from pseudoval.statistics.intervals import LEVEL, auroc_intervals

MACRO, POOLED, IMAGE_AP = "macro_image_auroc", "pooled_image_auroc", "image_ap"

OBJECTIVES = {
    MACRO: "mean over the categories of the image AUROC",
    POOLED: "image AUROC over the images of all categories at once",
    IMAGE_AP: "mean over the categories of the average precision of the images",
    "pixel_auroc": "mean over the categories of the pixel AUROC",
    "pixel_ap": "mean over the categories of the average precision of the pixels",
    "pixel_aupro": "mean over the categories of the per-region overlap up to an FPR of 0.3",
}
"""Every objective by name, all in [0, 1]; ``A+B`` is the mean of two."""


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
    """Whether an objective is made of masks, and so has no bootstrap.

    A score matrix keeps the pixel figures of a category, not those of its images, so that there
    is nothing to resample.
    """
    return any(name in PIXEL_METRICS for name in parts_of(objective))


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
    columns = []
    for name in parts_of(objective):
        if name == POOLED:
            columns.append(pooled_auroc(matrix.scores, matrix.labels))
        else:
            table = _table(name, matrix)
            columns.append(np.array([math.fsum(row) / len(row) for row in table]))
    return np.array([math.fsum(row) / len(row) for row in zip(*columns, strict=True)])


def bootstrap(
    objective: str, matrix: ScoreMatrix, *, replicates: int = REPLICATES, seed: int = 0
) -> Replicates | None:
    """The objective on resamples of the images, as ``bootstrap_auroc``; None with pixel figures.

    All objectives see the same resamples. Where a part is pooled there is one entry, ``all``, for
    the categories together, else one for each.
    """
    names = parts_of(objective)
    if needs_pixels(objective):
        return None
    made = [_replicates(name, matrix, replicates, seed) for name in names]
    if any(len(part.names) != len(made[0].names) for part in made):
        made = [_together(part) for part in made]
    return mean_of(made)


def objective_intervals(objective: str, replicates: Replicates) -> np.ndarray:
    """95 % interval of each configuration, ``[configs, 2]``; NaN where it has no value.

    Those of an AUROC are ``auroc_intervals``; of anything else quantiles of the replicates.
    """
    if objective in (MACRO, POOLED):
        return auroc_intervals(replicates)
    means = replicates.values.mean(axis=0)  # [C, R]
    bounds = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return np.asarray(np.quantile(means, bounds, axis=1).T)


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


def _table(name: str, matrix: ScoreMatrix) -> np.ndarray:
    if name in PIXEL_METRICS:
        return _pixel_table(name, matrix)
    if name == IMAGE_AP:
        categories = np.asarray(matrix.categories)
        columns = []
        for category in matrix.category_names:
            inside = categories == category
            columns.append(average_precision(matrix.scores[:, inside], matrix.labels[inside]))
        return np.stack(columns, axis=1)
    return auroc_by_category(matrix.scores, matrix.categories, matrix.labels)


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


def _replicates(name: str, matrix: ScoreMatrix, replicates: int, seed: int) -> Replicates:
    if name == MACRO:
        return bootstrap_auroc(
            matrix.scores, matrix.categories, matrix.labels, matrix.groups,
            replicates=replicates, seed=seed,
        )  # fmt: skip
    drawn = _drawn(matrix, replicates, seed)
    if name == POOLED:
        return _pooled(matrix, drawn, seed)
    table = _table(name, matrix).T
    found = [
        weighted_ap(matrix.scores[:, inside], matrix.labels[inside] == 1, counts, group)
        for inside, group, counts in drawn
    ]
    return Replicates(
        names=matrix.category_names,
        estimates=table,
        values=np.stack(found),
        freedom=np.full(table.shape, np.nan),
        sizes=[_sizes(group, matrix.labels[inside]) for inside, group, _ in drawn],
        seed=seed,
    )


Drawn = list[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Of each category: its images, the group of each, and the counts ``[groups, R]``."""


def _drawn(matrix: ScoreMatrix, replicates: int, seed: int) -> Drawn:
    """The same draws as ``bootstrap_auroc`` makes in its stream 0."""
    categories, groups = np.asarray(matrix.categories), np.asarray(matrix.groups)
    drawn = []
    for place, category in enumerate(matrix.category_names):
        inside = np.flatnonzero(categories == category)
        _, group = np.unique(groups[inside], return_inverse=True)
        rng = np.random.default_rng([seed, 0, place])
        counts = draw_groups(group, matrix.labels[inside] == 1, replicates, rng)
        drawn.append((inside, group, counts))
    return drawn


def _pooled(matrix: ScoreMatrix, drawn: Drawn, seed: int) -> Replicates:
    """Groups are drawn within each category, and ranked all together."""
    group = np.empty(len(matrix.images), dtype=np.int64)
    first = 0
    for inside, own, counts in drawn:
        group[inside] = own + first
        first += len(counts)
    anomalous = matrix.labels == 1
    counts = np.concatenate([part for _, _, part in drawn])
    return Replicates(
        names=["all"],
        estimates=pooled_auroc(matrix.scores, matrix.labels)[None],
        values=weighted_auroc(matrix.scores, anomalous, counts, group)[None],
        freedom=influence_freedom(matrix.scores, anomalous, group)[None],
        sizes=[_sizes(group, matrix.labels)],
        seed=seed,
    )


def _together(part: Replicates) -> Replicates:
    """The mean over the categories as a single entry."""
    sizes: Sequence[tuple[int, int]] = part.sizes
    return Replicates(
        names=["all"],
        estimates=part.means[None],
        values=part.values.mean(axis=0)[None],
        freedom=part.freedom.min(axis=0)[None],
        sizes=[(sum(normal for normal, _ in sizes), sum(anomalous for _, anomalous in sizes))],
        seed=part.seed,
    )


def _sizes(group: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    return len(set(group[labels == 0].tolist())), len(set(group[labels == 1].tolist()))
