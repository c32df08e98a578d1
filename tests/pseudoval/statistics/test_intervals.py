"""Intervals against simulations with known AUROCs, and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from pseudoval.statistics.bootstrap import Replicates, bootstrap_auroc
from pseudoval.statistics.intervals import (
    auroc_intervals,
    best_shares,
    category_interval,
    compare,
    gap_errors,
    images_needed,
    paired_interval,
    regret_interval,
    resolvable_gap,
    score_interval,
)

SETS = 1000
TRIALS = 250


def replicates(values: list[list[list[float]]], estimates: list[list[float]]) -> Replicates:
    """Of given numbers, ``[categories, C, R]``; ten images a class."""
    array = np.array(values)
    return Replicates(
        names=[f"c{place}" for place in range(len(array))],
        estimates=np.array(estimates),
        values=array,
        freedom=np.full(array.shape[:2], 50.0),
        sizes=[(10, 10)] * len(array),
        seed=0,
    )


def simulated(true: list[float], kind: str, sizes: tuple[int, int]) -> Replicates:
    """As many independent sets as ``SETS``, one a row, with a category per true AUROC.

    Args:
        sizes: normal and anomalous images of a category.
    """
    rng = np.random.default_rng(11)
    normal, anomalous = ((SETS, size) for size in sizes)
    parts = []
    for auroc in true:
        if kind == "exponential":
            parts += [rng.exponential(1, normal), rng.exponential(auroc / (1 - auroc), anomalous)]
        else:
            spread = {"normal": 1.0, "wide": 2.5}[kind]
            shift = stats.norm.ppf(auroc) * math.hypot(1, spread)
            parts += [rng.normal(size=normal), rng.normal(shift, spread, anomalous)]
    count = sum(sizes)
    return bootstrap_auroc(
        np.concatenate(parts, axis=1),
        [f"c{place}" for place in range(len(true)) for _ in range(count)],
        np.tile(np.repeat([0, 1], sizes), len(true)),
        [str(image) for image in range(count * len(true))],
        replicates=300,
    )


@pytest.mark.parametrize(
    ("kind", "true", "sizes"),
    [
        ("normal", [0.7], (50, 50)),
        ("normal", [0.97], (50, 50)),
        ("exponential", [0.9], (50, 150)),
        ("exponential", [0.97], (50, 50)),
        ("wide", [0.7], (150, 50)),
        ("wide", [0.97], (150, 50)),
        ("normal", [0.7, 0.9, 0.97], (50, 50)),
        ("exponential", [0.97, 0.97, 0.97], (50, 50)),
    ],
)
def test_intervals_cover(kind: str, true: list[float], sizes: tuple[int, int]) -> None:
    found = simulated(true, kind, sizes)
    target = np.mean(true)

    def coverage(low: np.ndarray, high: np.ndarray) -> float:
        return float(((low <= target) & (target <= high)).mean())

    assert 0.92 <= coverage(*auroc_intervals(found).T) <= 0.98
    if true == [0.97]:
        plain = coverage(*np.quantile(found.values.mean(axis=0), [0.025, 0.975], axis=1))
        assert plain < 0.92, "why the plain percentile interval is not used"


def test_perfect_separation_is_no_certainty() -> None:
    low, high = score_interval(1.0, 50)
    assert (round(low, 3), high) == (0.96, 1.0)
    assert score_interval(1.0, 10)[0] < low < score_interval(1.0, 500)[0] < 1
    assert score_interval(0.0, 50) == pytest.approx((0.0, 1 - low))
    assert category_interval(1.0, 0.0, math.nan, 50) == (low, high)
    # All scores tie: the bootstrap has no width either.
    low, high = category_interval(0.5, 0.0, math.nan, 50)
    assert low < 0.4 and high > 0.6
    assert all(math.isnan(bound) for bound in category_interval(math.nan, 0, 2, 5))


def test_score_interval_is_where_the_standard_error_of_hanley_and_mcneil_ends() -> None:
    for bound in score_interval(0.8, 30):
        first, second = bound / (2 - bound), 2 * bound**2 / (1 + bound)
        variance = bound * (1 - bound) + 29 * (first - bound**2) + 29 * (second - bound**2)
        assert abs(bound - 0.8) == pytest.approx(1.959964 * math.sqrt(variance) / 30, rel=1e-4)


def test_interval_of_a_category_in_its_three_ranges() -> None:
    centre, reach = math.log(0.8 / 0.2), stats.t.ppf(0.975, 30) * 0.04 / (0.8 * 0.2)
    expected = [1 / (1 + math.exp(-(centre + sign * reach))) for sign in (-1, 1)]
    assert category_interval(0.8, 0.04, 30, 50) == pytest.approx(expected)
    # Two degrees of freedom would reach down to 0.5.
    low, high = category_interval(0.96, 0.035, 2, 20)
    assert low == score_interval(0.96, 20)[0] > 0.8 and high > 0.99
    # A single pair ranked wrongly says nothing about the next one.
    low, high = category_interval(0.9999, 1e-5, 30, 50)
    assert low == score_interval(0.9999, 50)[0] and high < 1
    assert category_interval(0.04, 0.035, 2, 20) == pytest.approx(
        tuple(1 - bound for bound in reversed(category_interval(0.96, 0.035, 2, 20)))
    )


def test_a_perfect_category_widens_the_mean() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.normal(0.8, 0.03, (1, 500))
    found = replicates([noisy, np.ones((1, 500))], [[0.8], [1.0]])  # type: ignore[list-item]
    (low, high), parts = (
        auroc_intervals(found)[0],
        [auroc_intervals(found.select([0], name))[0] for name in ("c0", "c1")],
    )
    assert 0.9 - low == pytest.approx(math.hypot(0.8 - parts[0][0], 1 - parts[1][0]) / 2)
    assert high - 0.9 == pytest.approx((parts[0][1] - 0.8) / 2)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(0.8, 0.05, 2000)
    own = rng.normal(0, 0.005, 2000)
    found = replicates([[common, common - 0.02 + own, common - 0.001 + own]], [[0.8, 0.78, 0.799]])  # type: ignore[list-item]
    comparison = compare(found, 0)
    assert comparison.gaps == pytest.approx([0, 0.02, 0.001])
    assert comparison.errors == pytest.approx([0, 0.005, 0.005], rel=0.05)
    assert comparison.together.tolist() == [True, False, True]
    low, high = paired_interval(found, 0, 1)
    assert (low, high) == pytest.approx((0.01, 0.03), abs=0.001)


def test_simultaneous_intervals_are_wider_than_single_ones() -> None:
    rng = np.random.default_rng(2)
    values = 0.8 + 0.02 * rng.normal(size=(1, 21, 4000))
    found = replicates(values, values.mean(axis=2))  # type: ignore[arg-type]
    single = compare(found.select([0, 1]), 0).critical[1]
    assert single == pytest.approx(1.96, abs=0.1)
    comparison = compare(found, 0)
    assert 2.5 < comparison.critical[1:].min() < comparison.critical.max() < 3.4
    deviations = values[0, 0] - values[0] - comparison.gaps[:, None]
    outside = (np.abs(deviations[1:]) > (comparison.critical * comparison.errors)[1:, None]).any(0)
    assert outside.mean() == pytest.approx(0.05, abs=0.005)


def test_the_best_is_in_the_leading_set_and_regrets_are_covered() -> None:
    rng = np.random.default_rng(3)
    shifts = np.array([1.0, 1.15, 1.15, 0.6, 0.2])  # rows 1 and 2 are the best in truth
    true = stats.norm.cdf(shifts / math.sqrt(2))
    labels = np.repeat([0, 1], 60)
    inside, covered = 0, 0
    for _ in range(TRIALS):
        shared = rng.normal(size=120)
        scores = 0.8 * shared + 0.6 * rng.normal(size=(5, 120)) + shifts[:, None] * labels
        found = bootstrap_auroc(scores, ["c"] * 120, labels, [str(i) for i in range(120)],
                                replicates=300, seed=int(rng.integers(1 << 30)))  # fmt: skip
        leader = int(found.estimates[0].argmax())
        inside += bool(compare(found, leader).together[1])
        low, high = regret_interval(found, 0) or (math.nan, math.nan)
        covered += low <= true.max() - true[0] <= high
    assert inside / TRIALS >= 0.94
    assert covered / TRIALS >= 0.94


def test_gaps_that_no_resample_moves_get_the_rule_of_succession() -> None:
    same = [[0.9] * 50, [0.9] * 50, list(np.linspace(0.7, 0.8, 50))]
    found = replicates([same], [[0.9, 0.9, 0.75]])
    errors = gap_errors(found, 0)
    assert errors[0] == 0
    assert errors[1] == pytest.approx(math.sqrt(1 / (3 * 10 * 12)))
    assert errors[2] == pytest.approx(np.std(same[2]))
    low, high = regret_interval(found, 0) or (math.nan, math.nan)
    assert low == 0
    assert high == pytest.approx(1.96 * errors[1], rel=1e-3), "equal so far is no certainty"


def test_shares_of_being_best_split_ties() -> None:
    values = [[[0.9, 0.8, 0.7, 0.6], [0.9, 0.7, 0.8, 0.6], [0.1, 0.2, 0.3, 0.6]]]
    found = replicates(values, [[0.9, 0.8, 0.3]])
    assert best_shares(found) == pytest.approx([(0.5 + 1 + 1 / 3) / 4, 1.83333333 / 4, 1 / 12])
    values[0][2] = [math.nan] * 4
    found = replicates(values, [[0.9, 0.8, math.nan]])
    assert best_shares(found)[:2] == pytest.approx([0.5, 0.5])
    assert math.isnan(best_shares(found)[2])
    assert compare(found, 0).together.tolist() == [True, True, False]


def test_one_configuration() -> None:
    found = replicates([[[0.7, 0.8, 0.9]]], [[0.8]])
    assert best_shares(found).tolist() == [1.0]
    assert compare(found, 0).together.tolist() == [True]
    assert regret_interval(found, 0) == (0.0, 0.0)
    assert regret_interval(replicates([[[math.nan]]], [[math.nan]]), 0) is None


def test_power_is_what_it_says() -> None:
    error = 0.01
    gap = resolvable_gap(error)
    assert gap == pytest.approx(2.8016 * error, rel=1e-4)
    seen = np.random.default_rng(4).normal(gap, error, 20_000)
    assert (np.abs(seen / error) > 1.96).mean() == pytest.approx(0.8, abs=0.01)
    assert images_needed(100, gap, error) == 100
    assert images_needed(100, gap / 2, error) == pytest.approx(400, abs=1)
    assert images_needed(100, 0.0, error) is None
