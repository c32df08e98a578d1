import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from pseudoval.errors import UserError
from pseudoval.metrics import (
    auroc,
    auroc_by_category,
    average_precision,
    label_regions,
    macro_auroc,
    pixel_metrics,
    pooled_auroc,
    require_both_classes,
)


def _scores_with_ties(seed: int, rows: int, size: int, levels: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(size) % 3 == 0).astype(np.int64)
    return rng.integers(0, levels, (rows, size)) / levels + 0.1 * labels * (levels < 5), labels


@pytest.mark.parametrize("levels", [2, 3, 7, 10**6])
def test_image_metrics_agree_with_scikit_learn(levels: int) -> None:
    scores, labels = _scores_with_ties(levels, 6, 91, levels)
    expected = [roc_auc_score(labels, row) for row in scores]
    np.testing.assert_allclose(auroc(scores, labels), expected, atol=1e-12)
    expected = [average_precision_score(labels, row) for row in scores]
    np.testing.assert_allclose(average_precision(scores, labels), expected, atol=1e-12)


def test_shapes_follow_the_leading_axes() -> None:
    scores, labels = _scores_with_ties(0, 6, 40, 9)
    for metric in (auroc, average_precision):
        cube = metric(scores.reshape(2, 3, 40), labels)
        assert cube.shape == (2, 3)
        np.testing.assert_array_equal(cube.ravel(), metric(scores, labels))
        assert metric(scores[0], labels).shape == ()


def test_constant_backward_and_infinite_scores() -> None:
    labels = np.array([0, 0, 0, 1])
    rows = np.array([[5.0, 5, 5, 5], [1, 2, 3, 0], [-np.inf, 0, 1, np.inf], [1e30, 2e30, 0, 3e30]])
    assert auroc(rows, labels).tolist() == [0.5, 0.0, 1.0, 1.0]
    assert average_precision(rows, labels).tolist() == [0.25, 0.25, 1.0, 1.0]


def test_nan_spoils_its_own_row_only() -> None:
    labels = np.array([0, 1, 0, 1])
    rows = np.array([[0.0, 1, 0, 1], [0, np.nan, 0, 1], [np.nan, 1, 0, 1]])
    for metric in (auroc, average_precision):
        values = metric(rows, labels)
        assert values[0] == 1.0
        assert np.isnan(values[1:]).all()


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [0, 1, 2], [0, 1]])
def test_labels_that_allow_no_metric(labels: list[int]) -> None:
    for metric in (auroc, average_precision):
        with pytest.raises(ValueError, match=r"class|label|shape"):
            metric(np.zeros((2, 3)), np.array(labels))


def test_macro_is_the_mean_over_sorted_categories_and_not_pooled() -> None:
    categories = ["tire", "cable", "tire", "cable"]
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[10.0, 0, 11, 1], [1, 0, 0, 1]])
    assert auroc_by_category(scores, categories, labels).tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert macro_auroc(scores, categories, labels).tolist() == [1.0, 0.5]
    assert pooled_auroc(scores, labels).tolist() == [0.75, 0.5]


def test_macro_ties_exactly_when_categories_swap_their_values() -> None:
    rng = np.random.default_rng(5)
    categories = [name for name in "abcdefg" for _ in range(11)]
    labels = np.tile(np.arange(11) % 2, 7)
    blocks = rng.random((7, 11))
    rows = np.stack([blocks[rng.permutation(7)].ravel() for _ in range(50)])
    assert len(set(macro_auroc(rows, categories, labels).tolist())) == 1


def test_one_class_is_an_error_that_names_the_category() -> None:
    labels = np.array([0, 1, 0, 0])
    categories = ["cable", "cable", "tire", "tire"]
    require_both_classes(categories[:2], labels[:2], "scores.csv")
    with pytest.raises(UserError, match=r"'tire' in scores.csv has normal images only"):
        require_both_classes(categories, labels, "scores.csv")
    with pytest.raises(UserError, match=r"'cable' in scores.csv has anomalous images only"):
        require_both_classes(["cable"], np.array([1]), "scores.csv")
    with pytest.raises(UserError, match="no images"):
        require_both_classes([], np.array([]), "scores.csv")
    with pytest.raises(ValueError, match="'tire'"):
        auroc_by_category(np.zeros((1, 4)), categories, labels)


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
