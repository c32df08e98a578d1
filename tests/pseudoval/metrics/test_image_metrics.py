import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import (
    auroc,
    auroc_by_category,
    average_precision,
    macro_auroc,
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
    assert auroc(scores, labels).tolist() == [0.75, 0.5]


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
