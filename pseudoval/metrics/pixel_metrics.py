"""Pixel AUROC, AP and AUPRO: exact over all thresholds.

An AUROC below 0.5 is reported as it is: a detector that ranks backwards is a finding.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

NORMAL_BYTES, ANOMALOUS_BYTES = 4, 110
"""Memory that a normal pixel takes (its score), and an anomalous one (what its thresholds need)."""


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

    @property
    def memory(self) -> int:
        """Bytes that ``pixel_metrics`` needs beside its input."""
        anomalous = self.region.size
        return NORMAL_BYTES * (self.normal.size - anomalous) + ANOMALOUS_BYTES * anomalous


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
    for mask in masks[masks.any(axis=(1, 2))]:
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
        parts.append(labelled[mask].astype(np.int32) - 1 + found)
        found += count
    region = np.concatenate(parts)
    return Regions(normal=~masks, region=region, sizes=np.bincount(region))


def pixel_metrics(
    maps: "np.ndarray | Iterable[np.ndarray]",
    masks: "np.ndarray | Regions",
    *,
    fpr_limit: float = 0.3,
) -> PixelMetrics:
    """Pixel AUROC, AP and AUPRO of a set of anomaly maps, exact over all thresholds.

    AUPRO is the mean over the connected regions of the share of the region above the threshold,
    against the false positive rate over the normal pixels of all images, integrated from 0 to
    ``fpr_limit`` (linear between thresholds, the last segment cut at the limit) and divided by
    ``fpr_limit`` (Bergmann et al. 2021, section 5.2).

    One sort of the normal pixels gives each anomalous threshold its false positives just before
    and at it, and all three figures are sums over those thresholds.

    Args:
        maps: ``[N, H, W]`` float32, any real scale, higher is more anomalous; or consecutive parts
            of that, which are read once.
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
    normal, anomalous = _scores([maps] if isinstance(maps, np.ndarray) else maps, regions)
    normal.sort()  # NaN last
    thresholds, at = np.unique(anomalous, return_inverse=True)  # ascending
    if np.isnan(normal[-1]) or np.isnan(thresholds[-1]):
        return PixelMetrics(auroc=math.nan, ap=math.nan, aupro=math.nan)
    hits = np.bincount(at)  # anomalous pixels at each threshold
    # Each region weighs the same whatever its size, so a pixel weighs one over its region's.
    overlap = np.bincount(at, weights=(1 / regions.sizes)[regions.region])
    fp_above = normal.size - np.searchsorted(normal, thresholds, side="right")
    fp_from = normal.size - np.searchsorted(normal, thresholds, side="left")
    found = np.cumsum(hits[::-1])[::-1]  # true positives at or above each threshold
    return PixelMetrics(
        auroc=_area_left_of(fp_above, fp_from, hits, normal.size) / anomalous.size,
        ap=float(np.dot(hits, found / (found + fp_from))) / anomalous.size,
        aupro=_area_left_of(fp_above, fp_from, overlap, fpr_limit * normal.size)
        / len(regions.sizes),
    )


def _scores(parts: Iterable[np.ndarray], regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all normal and of all anomalous pixels, float32, of which no more is copied."""
    anomalous = np.empty(regions.region.size, dtype=np.float32)
    normal = np.empty(regions.normal.size - anomalous.size, dtype=np.float32)
    images = pixels = found = 0
    for part in parts:
        where = regions.normal[images : images + len(part)]
        if part.shape != where.shape:
            shape = (images + len(part), *part.shape[1:])
            raise ValueError(f"maps have shape {shape}, masks {regions.normal.shape}")
        below, above = part[where], part[~where]
        normal[pixels : pixels + below.size] = below
        anomalous[found : found + above.size] = above
        images += len(part)
        pixels += below.size
        found += above.size
    if images != len(regions.normal):
        raise ValueError(f"there are maps of {images} images, masks of {len(regions.normal)}")
    return normal, anomalous


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
