"""Pixel AUROC, AP and AUPRO: exact over all thresholds, within a stated memory.

An AUROC below 0.5 is reported as it is: a detector that ranks backwards is a finding.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from pseudoval.metrics.sorted_runs import Window, sorted_windows

MEMORY = 2**30
"""Bytes beside the input that the scores of one set of maps may take; more of them go to disk."""
PART_IMAGES = 16
"""Most maps that are taken apart at once."""


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
    memory: int = MEMORY,
    folder: Path | None = None,
) -> PixelMetrics:
    """Pixel AUROC, AP and AUPRO of a set of anomaly maps, exact over all thresholds.

    AUPRO is the mean over the connected regions of the share of the region above the threshold,
    against the false positive rate over the normal pixels of all images, integrated from 0 to
    ``fpr_limit`` (linear between thresholds, the last segment cut at the limit) and divided by
    ``fpr_limit`` (Bergmann et al. 2021, section 5.2).

    One sort of the normal pixels gives each anomalous threshold its false positives just before
    and at it, and all three figures are sums over those thresholds. Beside its input that needs
    4 bytes per normal pixel and 60 bytes per anomalous pixel. Where this is more than ``memory``,
    sorted runs are written to temporary files and read together, a range of scores at a time; the
    figures are the same up to the rounding of their sums.

    Args:
        maps: ``[N, H, W]`` float32, any real scale, higher is more anomalous; or consecutive parts
            of that, which are read once.
        masks: ``[N, H, W]`` bool, or what ``label_regions`` made of it.
        fpr_limit: in (0, 1].
        memory: in bytes; the masks are not counted, at least 1 MiB is used.
        folder: for the temporary files, which are removed at the end; None is that of ``TMPDIR``.

    Returns:
        The three figures, all NaN if a map holds a NaN.

    Raises:
        ValueError: the shapes differ, or there is no anomalous or no normal pixel.
        UserError: the disk is full.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit is {fpr_limit}, expected a value in (0, 1]")
    regions = masks if isinstance(masks, Regions) else label_regions(masks)
    parts = _split(maps, memory // 16) if isinstance(maps, np.ndarray) else maps
    anomalous = regions.region.size
    normal = regions.normal.size - anomalous
    sums = _Sums(anomalous=anomalous, normal=normal, limit=fpr_limit)
    pixels = _pixels(parts, regions)
    with sorted_windows(pixels, normal, anomalous, memory=memory, folder=folder) as windows:
        for window in windows:
            if not sums.add(window):
                return PixelMetrics(auroc=math.nan, ap=math.nan, aupro=math.nan)
    return PixelMetrics(
        auroc=sums.roc / anomalous, ap=sums.ap / anomalous, aupro=sums.pro / len(regions.sizes)
    )


def _split(maps: np.ndarray, room: int) -> Iterator[np.ndarray]:
    """A few maps at a time, of which a copy takes ``room`` bytes, so that little is held twice."""
    count = max(1, min(PART_IMAGES, room * len(maps) // max(1, maps.nbytes)))
    for start in range(0, len(maps), count):
        yield maps[start : start + count]


def _pixels(
    parts: Iterable[np.ndarray], regions: Regions
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each part the normal scores, the anomalous ones, and one over their region's size."""
    images = found = 0
    share = 1 / regions.sizes
    for part in parts:
        normal = regions.normal[images : images + len(part)]
        if part.shape != normal.shape:
            shape = (images + len(part), *part.shape[1:])
            raise ValueError(f"maps have shape {shape}, masks {regions.normal.shape}")
        scores = part[~normal]
        # Each region weighs the same whatever its size, so a pixel weighs one over its region's.
        yield part[normal], scores, share[regions.region[found : found + scores.size]]
        images += len(part)
        found += scores.size
    if images != len(regions.normal):
        raise ValueError(f"there are maps of {images} images, masks of {len(regions.normal)}")


@dataclass(kw_only=True)
class _Sums:
    """The figures as sums over thresholds, which come in windows from the highest down.

    Attributes:
        anomalous, normal: pixels in all.
        limit: the false positive rate that AUPRO stops at.
        above_normal, above_anomalous: pixels in the windows so far.
        roc, ap, pro: sums so far.
    """

    anomalous: int
    normal: int
    limit: float
    above_normal: int = 0
    above_anomalous: int = 0
    roc: float = 0.0
    ap: float = 0.0
    pro: float = 0.0

    def add(self, window: Window) -> bool:
        """Add the thresholds of a window; False if it holds a NaN."""
        normal = window.normal
        if normal.size and np.isnan(normal[-1]):
            return False
        if window.scores.size:
            thresholds, at = np.unique(window.scores, return_inverse=True)  # ascending
            if np.isnan(thresholds[-1]):
                return False
            from_top = self.above_normal + normal.size
            self._thresholds(
                hits=np.bincount(at),
                overlap=np.bincount(at, weights=window.weights),
                fp_above=from_top - np.searchsorted(normal, thresholds, side="right"),
                fp_from=from_top - np.searchsorted(normal, thresholds, side="left"),
            )
        elif window.ties_anomalous:
            self._thresholds(
                hits=np.array([window.ties_anomalous]),
                overlap=np.array([window.ties_weight]),
                fp_above=np.array([self.above_normal]),
                fp_from=np.array([self.above_normal + window.ties_normal]),
            )
        self.above_normal += normal.size + window.ties_normal
        self.above_anomalous += window.scores.size + window.ties_anomalous
        return True

    def _thresholds(
        self, *, hits: np.ndarray, overlap: np.ndarray, fp_above: np.ndarray, fp_from: np.ndarray
    ) -> None:
        """Add ascending thresholds: anomalous pixels at each, normal ones above and from it."""
        self.roc += _area_left_of(fp_above, fp_from, hits, self.normal)
        self.pro += _area_left_of(fp_above, fp_from, overlap, self.limit * self.normal)
        found = self.above_anomalous + np.cumsum(hits[::-1])[::-1]  # at or above each threshold
        self.ap += float(np.dot(hits, found / (found + fp_from)))


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
