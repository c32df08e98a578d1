"""Image metrics: exact with ties, vectorised over configurations, never flipped.

An AUROC below 0.5 is reported as it is: a detector that ranks backwards is a finding.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from pseudoval.errors import UserError


def auroc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each row, as the Mann-Whitney statistic: ties count one half.

    Args:
        scores: ``[..., N]``, any real scale, higher is more anomalous; infinities are ordered.
        labels: ``[N]``, 0 normal and 1 anomalous.

    Returns:
        ``[...]`` float64 in [0, 1]; NaN for a row that holds a NaN.

    Raises:
        ValueError: the shapes differ, a label is neither 0 nor 1, or one class is missing.
    """
    scores, anomalous = checked(scores, labels)
    positives = int(anomalous.sum())
    negatives = anomalous.size - positives
    ranks = stats.rankdata(scores, axis=-1)  # [..., N], average ranks, NaN rows stay NaN
    rank_sum = ranks[..., anomalous].sum(axis=-1)  # multiples of one half: exact in float64
    return np.asarray((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each row: the step-wise sum of (R_i - R_{i-1}) P_i over thresholds.

    Equal scores are one threshold, so the order within a tie does not matter. Arguments, NaN and
    errors as in ``auroc``; returns ``[...]`` float64 in (0, 1].
    """
    scores, anomalous = checked(scores, labels)
    rows = scores.reshape(-1, scores.shape[-1])
    values = [_step_average_precision(row[anomalous], np.sort(row[~anomalous])) for row in rows]
    return np.array(values, dtype=np.float64).reshape(scores.shape[:-1])


def auroc_by_category(
    scores: np.ndarray, categories: Sequence[str], labels: np.ndarray
) -> np.ndarray:
    """``metric_by_category`` of the AUROC."""
    return metric_by_category(auroc, scores, categories, labels)


def metric_by_category(
    metric: Callable[[np.ndarray, np.ndarray], np.ndarray],
    scores: np.ndarray,
    categories: Sequence[str],
    labels: np.ndarray,
) -> np.ndarray:
    """A metric of each configuration within each category.

    Args:
        metric: of scores ``[C, N]`` and labels ``[N]``.
        scores: ``[C, N]``.
        categories: category of each of the N images.
        labels: ``[N]``, 0 normal and 1 anomalous.

    Returns:
        ``[C, n_categories]`` float64, columns in the order of the sorted category names.

    Raises:
        ValueError: a category has one class only; see ``require_both_classes``.
    """
    names, scores, labels = np.asarray(categories), np.asarray(scores), np.asarray(labels)
    columns = []
    for name in sorted(set(categories)):
        inside = names == name
        try:
            columns.append(metric(scores[:, inside], labels[inside]))
        except ValueError as error:
            raise ValueError(f"category {name!r}: {error}") from None
    return np.stack(columns, axis=1)


def macro_auroc(scores: np.ndarray, categories: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Mean of the per-category AUROCs, ``[C]``: the figure that the literature reports.

    Arguments and errors as in ``metric_by_category``.
    """
    return mean_over_categories(auroc_by_category(scores, categories, labels))


def mean_over_categories(table: np.ndarray) -> np.ndarray:
    """Mean of each row of ``[C, n_categories]``.

    The sum is rounded once, so that two configurations whose values are permutations of each
    other tie exactly.
    """
    return np.array([math.fsum(row) / len(row) for row in table])


def require_both_classes(categories: Sequence[str], labels: np.ndarray, where: str) -> None:
    """Check that every category has normal and anomalous images.

    Args:
        where: the file or folder that the labels come from, for the error.

    Raises:
        UserError: a category has one class only, or there are no images at all.
    """
    names = np.asarray(categories)
    labels = np.asarray(labels)
    if not names.size:
        raise UserError(f"{where} holds no images; AUROC needs normal and anomalous ones.")
    for name in sorted(set(categories)):
        present = set(labels[names == name].tolist())
        if present != {0, 1}:
            has, lacks = ("normal", "anomalous") if present == {0} else ("anomalous", "normal")
            raise UserError(
                f"Category {name!r} in {where} has {has} images only, and AUROC needs both "
                f"classes; add {lacks} images or leave the category out."
            )


def _step_average_precision(positive: np.ndarray, normal: np.ndarray) -> float:
    """Average precision from the positive scores and the ascending normal scores."""
    thresholds, hits = np.unique(positive, return_counts=True)
    if np.isnan(normal[-1]) or np.isnan(thresholds[-1]):
        return math.nan
    found = np.cumsum(hits[::-1])[::-1]  # true positives at or above each threshold
    false = normal.size - np.searchsorted(normal, thresholds, side="left")
    return float(np.dot(hits, found / (found + false)) / found[0])


def checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float and labels as bool, after the checks that ``auroc`` documents."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if labels.ndim != 1 or scores.shape[-1:] != labels.shape:
        raise ValueError(f"scores have shape {scores.shape}, labels {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("a label is neither 0 nor 1")
    anomalous = labels.astype(bool)
    if not anomalous.any() or anomalous.all():
        raise ValueError("one class only; AUROC and AP need normal and anomalous images")
    return scores, anomalous
