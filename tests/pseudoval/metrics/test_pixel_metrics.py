import math
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from pseudoval.metrics.pixel_metrics import PixelMetrics, label_regions, pixel_metrics


def _pixel_case(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.standard_normal((4, 17, 13)), (0, 2, 2)) > 0.17
    masks[0] = False
    maps = rng.standard_normal(masks.shape) + 0.8 * masks
    return (np.round(maps * levels) / levels).astype(np.float32), masks


def _slow_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """Over all thresholds, from the definition: threshold the maps, measure, integrate."""
    regions = []
    for number, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, structure=[[1, 1, 1]] * 3)
        regions += [(number, labelled == label) for label in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        above = maps >= threshold
        overlap = np.mean([above[number][region].mean() for number, region in regions])
        points.append((above[~masks].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_pixel_metrics_agree_with_slow_references(levels: int, limit: float) -> None:
    maps, masks = _pixel_case(levels, levels)
    found = pixel_metrics(maps, masks, fpr_limit=limit)
    flat = masks.ravel()
    assert found.auroc == pytest.approx(roc_auc_score(flat, maps.ravel()), abs=1e-9)
    assert found.ap == pytest.approx(average_precision_score(flat, maps.ravel()), abs=1e-9)
    assert found.aupro == pytest.approx(_slow_aupro(maps, masks, limit), abs=1e-9)


def test_labelled_regions_give_the_same_figures() -> None:
    maps, masks = _pixel_case(8, 5)
    regions = label_regions(masks)
    assert pixel_metrics(maps, regions) == pixel_metrics(maps, masks)
    assert regions.sizes.sum() == masks.sum()


def test_regions_touching_at_a_corner_are_one_and_small_ones_weigh_as_much() -> None:
    masks = np.zeros((1, 8, 8), dtype=bool)
    masks[0, 0, 0] = masks[0, 1, 1] = True
    assert label_regions(masks).sizes.tolist() == [2]
    masks = np.zeros((1, 8, 8), dtype=bool)
    masks[0, 0, 0] = True
    masks[0, 4:, 4:] = True
    only_small = np.zeros((1, 8, 8), dtype=np.float32)
    only_small[0, 0, 0] = 1
    # Half of the overlap at once; the rest on the ramp to false positive rate 1, cut at 0.3.
    assert pixel_metrics(only_small, masks).aupro == pytest.approx(0.5 + 0.5 * 0.15)


def test_perfect_constant_and_random_maps() -> None:
    _, masks = _pixel_case(2, 1)
    perfect = pixel_metrics(masks.astype(np.float32), masks)
    assert (perfect.auroc, perfect.ap, perfect.aupro) == pytest.approx((1, 1, 1), abs=1e-12)
    constant = pixel_metrics(np.full(masks.shape, 7, dtype=np.float32), masks)
    assert constant.auroc == 0.5
    assert constant.ap == pytest.approx(masks.mean())
    assert constant.aupro == pytest.approx(0.15)  # the diagonal up to 0.3, divided by 0.3
    masks = np.zeros((20, 100, 100), dtype=bool)
    masks[:, 40:60, 40:60] = True
    noise = np.random.default_rng(0).random(masks.shape, dtype=np.float32)
    chance = pixel_metrics(noise, masks)
    assert chance.auroc == pytest.approx(0.5, abs=0.02)
    assert chance.aupro == pytest.approx(0.15, abs=0.02)


def test_pixel_edge_cases() -> None:
    maps, masks = _pixel_case(3, 4)
    for place in (masks, ~masks):
        spoilt = maps.copy()
        spoilt[tuple(np.argwhere(place)[0])] = np.nan
        assert math.isnan(pixel_metrics(spoilt, masks).aupro)
    zeros = np.where(masks, np.float32(0.0), np.float32(-0.0))
    assert pixel_metrics(zeros, masks).auroc == 0.5
    for bad in (np.zeros_like(masks), np.ones_like(masks), masks[:2], masks[0]):
        with pytest.raises(ValueError, match=r"need|shape"):
            pixel_metrics(maps, bad)
    with pytest.raises(ValueError, match="fpr_limit"):
        pixel_metrics(maps, masks, fpr_limit=0)


def test_maps_in_parts_give_the_same_figures_within_the_stated_memory() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((25, 200, 200), dtype=bool)
    masks[::2, 20:60, 30:70] = True
    masks[4, 100:190, 100:190] = True
    maps = rng.standard_normal(masks.shape, dtype=np.float32) + masks
    regions = label_regions(masks)
    whole = pixel_metrics(maps, masks)
    tracemalloc.start()
    assert pixel_metrics((maps[start : start + 2] for start in range(0, 25, 2)), regions) == whole
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < regions.memory + 2**20  # and the part that is read


def test_parts_must_make_up_the_masks() -> None:
    maps, masks = _pixel_case(1, 5)
    for parts in ([maps[:2]], [maps, maps[:1]], [maps[:, 1:]]):
        with pytest.raises(ValueError, match=r"shape|images"):
            pixel_metrics(iter(parts), masks)


def test_real_maps_agree_with_scikit_learn(shared: Path) -> None:
    """Smooth maps over real masks."""
    from pseudoval.data.images import read_mask, read_rgb

    files = sorted((shared / "data/real/bottle/ground_truth/contamination").glob("*.png"))[:12]
    masks, maps = [], []
    for file in files:
        name = file.name.replace("_mask", "")
        image = read_rgb(shared / "data/real/bottle/test/contamination" / name)
        masks.append(read_mask(file, image.shape[:2]))
        grey = image.astype(np.float32).mean(axis=2)
        maps.append(np.abs(grey - ndimage.gaussian_filter(grey, 8)))  # many ties
    scores, truth = np.stack(maps), np.stack(masks)
    assert truth.any(axis=(1, 2)).all()
    flat = truth.ravel()
    expected = PixelMetrics(
        auroc=float(roc_auc_score(flat, scores.ravel())),
        ap=float(average_precision_score(flat, scores.ravel())),
        aupro=_slow_aupro(np.round(scores), truth, 0.3),
    )
    found = pixel_metrics(scores, truth)
    assert found.auroc == pytest.approx(expected.auroc, abs=1e-9)
    assert found.ap == pytest.approx(expected.ap, abs=1e-9)
    rounded = pixel_metrics(np.round(scores), truth)
    assert rounded.aupro == pytest.approx(expected.aupro, abs=1e-9)
