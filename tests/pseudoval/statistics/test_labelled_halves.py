"""Choosing on one half of a labelled set and paying on the other."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pseudoval.statistics.labelled_halves import split_halves


def matrix(rng: np.random.Generator, size: int = 30) -> tuple[np.ndarray, list[str], np.ndarray]:
    labels = np.tile(np.repeat([0, 1], size), 2)
    scores = rng.normal(size=(3, 4 * size)) + np.array([[0.2], [1.5], [0.8]]) * labels
    return scores, ["a"] * 2 * size + ["b"] * 2 * size, labels


def test_halves_share_no_image_and_keep_the_classes(rng: np.random.Generator) -> None:
    scores, categories, labels = matrix(rng)
    # A single anomaly above all normals and the others below: its half is told by the AUROC.
    scores[0] = -labels + 10.0 * (np.arange(120) == 45)
    found = split_halves(scores, categories, labels, [str(i) for i in range(120)], splits=50)
    assert found.sizes == [30, 30]
    chooses, pays = found.chooses[0, 0], found.pays[0, 0]
    assert (np.isclose(chooses, 1 / 15) ^ np.isclose(pays, 1 / 15)).all()
    assert (np.isclose(chooses, 0) ^ np.isclose(pays, 0)).all()
    assert 10 < np.isclose(chooses, 1 / 15).sum() < 40


def test_mean_over_splits_is_the_auroc_of_the_set(rng: np.random.Generator) -> None:
    scores, categories, labels = matrix(rng)
    found = split_halves(scores, categories, labels, [str(i) for i in range(120)], splits=3000)
    for place in range(2):
        part = slice(60 * place, 60 * place + 60)
        expected = roc_auc_score(labels[part], scores[1, part])
        assert found.pays[place, 1].mean() == pytest.approx(expected, abs=0.005)


def test_choice_and_payment_by_hand(rng: np.random.Generator) -> None:
    scores, categories, labels = matrix(rng)
    found = split_halves(scores, categories, labels, [str(i) for i in range(120)], splits=20)
    means = found.chooses.mean(axis=0)
    expected = [found.pays[:, row, split].mean() for split, row in enumerate(means.argmax(axis=0))]
    assert found.paid([0, 1, 2], None) == pytest.approx(expected)
    assert np.array_equal(found.paid([1], "b"), found.pays[1, 1])
    doubled = split_halves(scores[[1, 1]], categories, labels, [str(i) for i in range(120)])
    assert np.array_equal(doubled.paid([0, 1], None), doubled.paid([0], None)), (
        "the first of equals"
    )


def test_groups_stay_whole(rng: np.random.Generator) -> None:
    labels = np.repeat([0, 1], 40)
    groups = [str(i % 40) for i in range(80)]
    scores = np.concatenate([np.arange(40.0), np.arange(40.0)])[None]
    # Each anomaly ties with the normal image of its group: one half of both, so exactly 0.5.
    found = split_halves(scores, ["c"] * 80, labels, groups, splits=30)
    assert (found.pays == 0.5).all() and (found.chooses == 0.5).all()
    apart = split_halves(scores, ["c"] * 80, labels, [str(i) for i in range(80)], splits=30)
    assert (apart.pays != 0.5).any()


def test_too_few_images_are_told(rng: np.random.Generator) -> None:
    scores, categories, labels = matrix(rng, size=19)
    found = split_halves(scores, categories, labels, [str(i) for i in range(76)])
    assert found.too_small(None) == "a"
    assert found.too_small("b") == "b"
    assert np.isnan(found.pays).all()
    assert split_halves(*matrix(rng, 20), [str(i) for i in range(80)]).too_small(None) is None
