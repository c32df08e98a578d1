"""Image and pixel metrics: exact with ties, vectorised over configurations, never flipped.

An AUROC below 0.5 is reported as it is: a detector that ranks backwards is a finding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

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
    scores, anomalous = _checked(scores, labels)
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
    scores, anomalous = _checked(scores, labels)
    rows = scores.reshape(-1, scores.shape[-1])
    values = [_step_average_precision(row[anomalous], np.sort(row[~anomalous])) for row in rows]
    return np.array(values, dtype=np.float64).reshape(scores.shape[:-1])


def auroc_by_category(
    scores: np.ndarray, categories: Sequence[str], labels: np.ndarray
) -> np.ndarray:
    """AUROC of each configuration within each category.

    Args:
        scores: ``[C, N]``.
        categories: category of each of the N images.
        labels: ``[N]``, 0 normal and 1 anomalous.

    Returns:
        ``[C, n_categories]`` float64, columns in the order of the sorted category names.

    Raises:
        ValueError: a category has one class only; see ``require_both_classes``.
    """
    names = np.asarray(categories)
    labels = np.asarray(labels)
    columns = []
    for name in sorted(set(categories)):
        inside = names == name
        try:
            columns.append(auroc(np.asarray(scores)[:, inside], labels[inside]))
        except ValueError as error:
            raise ValueError(f"category {name!r}: {error}") from None
    return np.stack(columns, axis=1)


def macro_auroc(scores: np.ndarray, categories: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Mean of the per-category AUROCs, ``[C]``: the figure that the literature reports.

    The sum is rounded once, so that two configurations whose per-category values are permutations
    of each other tie exactly. Arguments and errors as in ``auroc_by_category``.
    """
    per_category = auroc_by_category(scores, categories, labels)
    return np.array([math.fsum(row) / len(row) for row in per_category])


def pooled_auroc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """AUROC over the images of all categories at once, ``[C]``; not the mean over categories."""
    return auroc(scores, labels)


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


@dataclass(frozen=True, kw_only=True)
class PixelMetrics:
    """Pixel metrics of one configuration on one category, each in [0, 1].

    Attributes:
        auroc: area under the pixel ROC curve.
        ap: step-wise average precision of the pixels.
        aupro: per-region overlap, integrated over the false positive rate and normalised.
    """

    auroc: float
    ap: float
    aupro: float


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The connected anomalous regions of a set of masks, labelled once for many score maps.

    Attributes:
        normal: ``[N, H, W]`` bool, True where a pixel is normal.
        region: ``[P]`` int32, region of each anomalous pixel in the order of ``maps[~normal]``.
        sizes: ``[R]`` int64, pixels in each region.
    """

    normal: np.ndarray
    region: np.ndarray
    sizes: np.ndarray


def label_regions(masks: np.ndarray) -> Regions:
    """Label the 8-connected regions of ``masks`` ``[N, H, W]`` (bool, True is anomalous).

    Raises:
        ValueError: not three axes, no anomalous pixel, or no normal pixel.
    """
    masks = np.asarray(masks, dtype=bool)
    if masks.ndim != 3:
        raise ValueError(f"masks have shape {masks.shape}, expected [N, H, W]")
    if not masks.any() or masks.all():
        raise ValueError("pixel metrics need anomalous and normal pixels")
    found = 0
    parts = []
    for mask in masks:
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
        parts.append(labelled[mask].astype(np.int32) - 1 + found)
        found += count
    region = np.concatenate(parts)
    return Regions(normal=~masks, region=region, sizes=np.bincount(region))


def pixel_metrics(
    maps: np.ndarray, masks: "np.ndarray | Regions", *, fpr_limit: float = 0.3
) -> PixelMetrics:
    """Pixel AUROC, AP and AUPRO of a set of anomaly maps, exact over all thresholds.

    AUPRO is the mean over the connected regions of the share of the region above the threshold,
    against the false positive rate over the normal pixels of all images, integrated from 0 to
    ``fpr_limit`` (linear between thresholds, the last segment cut at the limit) and divided by
    ``fpr_limit`` (Bergmann et al. 2021, section 5.2).

    One sort of the normal pixels gives each anomalous threshold its false positives just before
    and at it, and all three figures are sums over those thresholds. Beside its input it needs
    about 4 bytes per normal pixel and 60 bytes per anomalous pixel.

    Args:
        maps: ``[N, H, W]`` float32, any real scale, higher is more anomalous.
        masks: ``[N, H, W]`` bool, or what ``label_regions`` made of it.
        fpr_limit: in (0, 1].

    Returns:
        The three figures, all NaN if a map holds a NaN.

    Raises:
        ValueError: the shapes differ, or there is no anomalous or no normal pixel.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit is {fpr_limit}, expected a value in (0, 1]")
    regions = masks if isinstance(masks, Regions) else label_regions(masks)
    maps = np.asarray(maps)
    if maps.shape != regions.normal.shape:
        raise ValueError(f"maps have shape {maps.shape}, masks {regions.normal.shape}")
    normal = np.sort(maps[regions.normal])  # NaN goes last
    thresholds, at = np.unique(maps[~regions.normal], return_inverse=True)  # ascending
    if np.isnan(normal[-1]) or np.isnan(thresholds[-1]):
        return PixelMetrics(auroc=math.nan, ap=math.nan, aupro=math.nan)
    hits = np.bincount(at)  # anomalous pixels at each threshold
    fp_above, fp_from = _false_positives(thresholds, normal)
    # Each region weighs the same whatever its size, so a pixel weighs one over its region's.
    overlap = np.bincount(at, weights=(1 / regions.sizes)[regions.region]) / len(regions.sizes)
    return PixelMetrics(
        auroc=_area_left_of(fp_above, fp_from, hits, normal.size) / int(hits.sum()),
        ap=_precision_sum(hits, fp_from),
        aupro=_area_left_of(fp_above, fp_from, overlap, fpr_limit * normal.size),
    )


def _false_positives(thresholds: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores above, and at or above, each threshold; ``normal`` is ascending."""
    above = normal.size - np.searchsorted(normal, thresholds, side="right")
    return above, normal.size - np.searchsorted(normal, thresholds, side="left")


def _area_left_of(
    fp_above: np.ndarray, fp_from: np.ndarray, rise: np.ndarray, limit: float
) -> float:
    """Integral of a ROC-like curve over false positives in [0, limit], divided by ``limit``.

    At each threshold the curve climbs by ``rise`` along a straight line from ``fp_above`` to
    ``fp_from``; elsewhere it is level. So each threshold adds its rise times the width between
    the middle of its ramp and the limit, less what lies beyond the limit.
    """
    width = limit - (fp_above + fp_from) / 2
    cut = (fp_above < limit) & (fp_from > limit)
    ramp = np.where(cut, fp_from - fp_above, 1)
    width = np.where(cut, (limit - fp_above) ** 2 / (2 * ramp), np.maximum(width, 0))
    return float(np.dot(rise, width) / limit)


def _step_average_precision(positive: np.ndarray, normal: np.ndarray) -> float:
    """Average precision from the positive scores and the ascending normal scores."""
    thresholds, hits = np.unique(positive, return_counts=True)
    if np.isnan(normal[-1]) or np.isnan(thresholds[-1]):
        return math.nan
    return _precision_sum(hits, _false_positives(thresholds, normal)[1])


def _precision_sum(hits: np.ndarray, fp_from: np.ndarray) -> float:
    """Sum of precision times recall gained; ``hits`` and ``fp_from`` by ascending threshold."""
    found = np.cumsum(hits[::-1])[::-1]  # true positives at or above each threshold
    return float(np.dot(hits, found / (found + fp_from)) / found[0])


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
