"""The vectorised bootstrap against loops over scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from pseudoval.statistics.bootstrap import bootstrap_auroc
from pseudoval.statistics.samples import draw_groups
from pseudoval.statistics.weighted import influence_freedom, weighted_auroc


def tied_scores(rng: np.random.Generator, configs: int, labels: np.ndarray) -> np.ndarray:
    """Scores on a coarse grid, so that many tie within and between the classes."""
    return rng.integers(0, 6, (configs, len(labels))) + labels * rng.integers(0, 3, (configs, 1))


def test_weighted_auroc_is_that_of_scikit_learn(rng: np.random.Generator) -> None:
    labels = rng.permutation(np.repeat([0, 1], [23, 31]))
    scores = np.concatenate([tied_scores(rng, 4, labels), rng.normal(size=(3, 54))])
    counts = rng.integers(0, 4, (54, 300))
    found = weighted_auroc(scores, labels == 1, counts)
    for row in range(7):
        for column in (0, 1, 150, 299):
            expected = roc_auc_score(labels, scores[row], sample_weight=counts[:, column])
            assert found[row, column] == pytest.approx(expected, abs=1e-14)


def test_weights_of_groups_are_those_of_their_images(rng: np.random.Generator) -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    group = np.array([0, 1, 2, 0, 0, 2, 3])
    counts = rng.integers(1, 5, (4, 20))
    scores = tied_scores(rng, 3, labels)
    found = weighted_auroc(scores, labels == 1, counts, group)
    assert np.array_equal(found, weighted_auroc(scores, labels == 1, counts[group]))


def test_weights_too_large_for_32_bits(rng: np.random.Generator) -> None:
    labels = np.repeat([0, 1], 20)
    scores = tied_scores(rng, 2, labels)
    counts = rng.integers(1, 4, (40, 3))
    assert np.array_equal(
        weighted_auroc(scores, labels == 1, counts),
        weighted_auroc(scores, labels == 1, counts * 10_000),
    )


def test_no_weight_and_no_number_give_nan() -> None:
    scores = np.array([[0.0, 1.0, 2.0], [0.0, np.nan, 1.0], [1.0, 1.0, 1.0]])
    counts = np.array([[1, 0], [1, 3], [2, 1]])
    found = weighted_auroc(scores, np.array([False, True, True]), counts)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all(), "the second weighting has no normal image"
    assert found[[0, 2], 0].tolist() == [1.0, 0.5]


def test_groups_are_drawn_whole_and_within_their_stratum(rng: np.random.Generator) -> None:
    # Groups 0 to 9 hold a normal image and two anomalies, 10 to 14 a normal one only.
    group = np.concatenate([np.arange(15), np.arange(10), np.arange(10)])
    anomalous = np.arange(35) >= 15
    counts = draw_groups(group, anomalous, 500, rng)
    assert counts.shape == (15, 500)
    assert (counts[:10].sum(axis=0) == 10).all()
    assert (counts[10:].sum(axis=0) == 5).all()
    # A multinomial count has mean 1 and variance 1 - 1 / n.
    assert counts[:10].mean() == pytest.approx(1)
    assert counts[:10].var() == pytest.approx(0.9, abs=0.05)
    assert counts[10:].var() == pytest.approx(0.8, abs=0.05)


def test_classes_are_strata_where_each_image_is_its_own_group(rng: np.random.Generator) -> None:
    anomalous = np.arange(12) < 4
    counts = draw_groups(np.arange(12), anomalous, 100, rng)
    assert (counts[anomalous].sum(axis=0) == 4).all()
    assert (counts[~anomalous].sum(axis=0) == 8).all()


def test_replicates_are_those_of_a_loop_over_scikit_learn(rng: np.random.Generator) -> None:
    labels = np.tile([0, 1, 1], 12)
    categories = ["b"] * 18 + ["a"] * 18
    groups = [f"g{i // 3 % 6}" for i in range(36)]  # the same names in both categories
    scores = tied_scores(rng, 3, labels)
    found = bootstrap_auroc(scores, categories, labels, groups, replicates=7, seed=3)
    assert found.names == ["a", "b"]
    assert found.sizes == [(6, 6), (6, 6)]
    for place, name in enumerate(found.names):
        inside = np.array(categories) == name
        _, group = np.unique(np.array(groups)[inside], return_inverse=True)
        counts = draw_groups(group, labels[inside] == 1, 7, np.random.default_rng([3, 0, place]))
        for replicate in range(7):
            images = np.repeat(np.arange(18), counts[group, replicate])
            for row in range(3):
                drawn = scores[row, inside][images]
                expected = roc_auc_score(labels[inside][images], drawn)
                assert found.values[place, row, replicate] == pytest.approx(expected, abs=1e-14)
        whole = roc_auc_score(labels[inside], scores[0, inside])
        assert found.estimates[place, 0] == pytest.approx(whole, abs=1e-14)


def test_seed_and_stream_decide_the_draws(rng: np.random.Generator) -> None:
    labels = np.repeat([0, 1], 30)
    scores = rng.normal(size=(2, 60)) + labels
    images = [str(i) for i in range(60)]

    def values(**options: int) -> np.ndarray:
        found = bootstrap_auroc(scores, ["c"] * 60, labels, images, replicates=50, **options)
        return found.values

    assert np.array_equal(values(seed=1), values(seed=1))
    assert not np.array_equal(values(seed=1), values(seed=2))
    assert not np.array_equal(values(seed=1), values(seed=1, stream=1))
    alone = bootstrap_auroc(scores[:1], ["c"] * 60, labels, images, replicates=50, seed=1)
    assert np.array_equal(alone.values[:, 0], values(seed=1)[:, 0]), "no matter what else is scored"


def test_standard_error_is_that_of_scipy(rng: np.random.Generator) -> None:
    positive, negative = rng.normal(1.2, 1, 60), rng.normal(0, 1, 45)
    labels = np.repeat([1, 0], [60, 45])
    found = bootstrap_auroc(
        np.concatenate([positive, negative])[None], ["c"] * 105, labels,
        [str(i) for i in range(105)], replicates=6000,
    )  # fmt: skip

    def statistic(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(stats.mannwhitneyu(a, b, axis=axis).statistic / (60 * 45))

    theirs = stats.bootstrap(
        (positive, negative), statistic, n_resamples=3000, vectorized=True, batch=200,
        method="percentile", rng=np.random.default_rng(0),
    )  # fmt: skip
    assert found.values.std() == pytest.approx(theirs.standard_error, rel=0.05)
    assert np.quantile(found.values, 0.025) == pytest.approx(
        theirs.confidence_interval.low, abs=0.01
    )


def test_pairing_shows_in_the_groups() -> None:
    rng = np.random.default_rng(5)
    base = rng.normal(size=80)
    scores = np.concatenate([base, base + 0.5])[None]  # an anomaly looks like its own normal
    labels = np.repeat([0, 1], 80)
    paired = [str(i) for i in range(80)] * 2
    apart = [str(i) for i in range(160)]
    errors = [
        bootstrap_auroc(scores, ["c"] * 160, labels, groups, replicates=2000).values.std()
        for groups in (paired, apart)
    ]
    assert errors[0] < 0.5 * errors[1]


def test_freedom_by_hand(rng: np.random.Generator) -> None:
    labels = np.repeat([0, 1], [8, 6])
    scores = tied_scores(rng, 2, labels)
    group = np.arange(14)
    found = influence_freedom(scores, labels == 1, group)
    for row in range(2):
        negative, positive = scores[row, :8], scores[row, 8:]
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        variance, spread = 0.0, 0.0
        for influence in (wins.mean(axis=1) - wins.mean(), wins.mean(axis=0) - wins.mean()):
            squares = (influence / len(influence)) ** 2
            variance += squares.sum()
            spread += len(squares) * squares.var()
        assert found[row] == pytest.approx(max(2, 2 * variance**2 / spread))
    assert np.isnan(influence_freedom(np.arange(14.0)[None], labels == 1, group)[0])


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="one class only"):
        bootstrap_auroc(np.ones((1, 2)), ["a", "a"], np.array([1, 1]), ["x", "y"])
    with pytest.raises(ValueError, match="0 replicates"):
        bootstrap_auroc(np.ones((1, 2)), ["a", "a"], np.array([0, 1]), ["x", "y"], replicates=0)
