"""Correlations with intervals and permutation tests, against SciPy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pseudoval.statistics.correlation import PERMUTATIONS, agreements, correlations, permutations


def test_each_column_is_that_of_scipy(rng: np.random.Generator) -> None:
    first = rng.integers(0, 5, (8, 40)).astype(float)
    second = rng.integers(0, 5, (8, 40)) + 0.5 * first
    first[:, 3] = 2.0
    found = correlations(first, second)
    theirs = {
        "spearman": stats.spearmanr, "kendall": stats.kendalltau, "pearson": stats.pearsonr,
    }  # fmt: skip
    for name, function in theirs.items():
        assert math.isnan(found[name][3]), "a constant curve has no correlation"
        for column in (0, 1, 2, 20, 39):
            expected = function(first[:, column], second[:, column]).statistic
            assert found[name][column] == pytest.approx(expected, abs=1e-12)


def test_ranks_that_do_not_correlate_give_exactly_zero() -> None:
    """A bound of an interval that is 0 must not lie a rounding beside it."""
    orders = np.array(list(itertools.permutations(range(5)))).T.astype(float)
    found = correlations(np.arange(5.0)[:, None] + np.zeros(orders.shape), orders)["spearman"]
    assert (found == 0).sum() == (abs(found) < 1e-9).sum() > 0


def test_points_with_a_nan_are_left_out() -> None:
    first, second = np.array([1.0, 2, math.nan, 3, 4]), np.array([1.0, 3, 0, 2, math.nan])
    found = agreements(first, second, first[:, None], second[:, None])
    # d = (0, 1, -1): 1 - 6 * 2 / (3 * 8); one discordant pair of three.
    assert found["spearman"].value == pytest.approx(0.5)
    assert found["kendall"].value == pytest.approx(1 / 3)


def test_p_is_that_of_an_exact_permutation_test(rng: np.random.Generator) -> None:
    first, second = rng.normal(size=6), rng.normal(size=6)
    found = agreements(first, second, first[:, None], second[:, None])

    def statistic(x: np.ndarray) -> float:
        return float(stats.spearmanr(x, second).statistic)

    theirs = stats.permutation_test((first,), statistic, permutation_type="pairings")
    # Theirs doubles the smaller tail; with a symmetric distribution both agree.
    assert found["spearman"].p == pytest.approx(theirs.pvalue, abs=1e-9)


def test_permutations_are_all_of_them_or_a_sample_with_the_order_itself() -> None:
    every = permutations(4, 0)
    assert every.shape == (4, 24)
    assert len({tuple(column) for column in every.T}) == 24
    sample = permutations(12, 0)
    assert sample.shape == (12, PERMUTATIONS + 1)
    assert sample[:, 0].tolist() == list(range(12))
    assert (np.sort(sample, axis=0) == np.arange(12)[:, None]).all()
    assert np.array_equal(sample, permutations(12, 0))


def test_three_points_never_differ_from_zero() -> None:
    curve = np.array([0.5, 0.7, 0.9])
    sure = np.repeat(curve[:, None], 100, axis=1)
    found = agreements(curve, curve, sure, sure)
    assert found["spearman"].value == pytest.approx(1)
    assert found["spearman"].interval == pytest.approx((1.0, 1.0))
    assert found["spearman"].p == pytest.approx(2 / 6)
    assert found["spearman"].differs_from_zero is False


def test_a_clear_curve_differs_from_zero_and_noise_does_not(rng: np.random.Generator) -> None:
    curve = np.linspace(0.6, 0.9, 10)
    noise = rng.normal(0, 0.01, (10, 500)), rng.normal(0, 0.01, (10, 500))
    clear = agreements(curve, curve**2, curve[:, None] + noise[0], curve[:, None] ** 2 + noise[1])
    for agreement in clear.values():
        assert agreement.differs_from_zero
        low, high = agreement.interval or (math.nan, math.nan)
        assert 0.8 < low <= (agreement.value or 0) <= high <= 1
    flat = np.full(10, 0.8) + np.linspace(0, 0.002, 10)
    drowned = agreements(flat, flat, flat[:, None] + noise[0], flat[:, None] + noise[1])
    assert drowned["spearman"].value == pytest.approx(1)
    assert drowned["spearman"].p == pytest.approx(1 / (PERMUTATIONS + 1))
    assert not drowned["spearman"].differs_from_zero, (
        "the images do not support the order of the curve"
    )


def test_what_has_no_correlation() -> None:
    curve, constant = np.array([0.1, 0.2, np.nan, 0.4]), np.full(4, 0.5)
    replicates = np.ones((4, 5))
    for other in (constant, np.array([0.1, np.nan, 0.3, np.nan])):
        found = agreements(curve, other, replicates, replicates)
        assert all(agreement.value is None for agreement in found.values())
        assert all(agreement.differs_from_zero is None for agreement in found.values())
    # The curves vary, but hardly a replicate does.
    found = agreements(np.arange(4.0), np.arange(4.0), replicates, replicates)
    assert found["kendall"].interval is None
    assert found["kendall"].differs_from_zero is False
