"""Which configuration wins by which rule."""

import math
from typing import Any

import numpy as np
import pytest
from helpers import refused

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.statistics.bootstrap import Replicates, averaged, bootstrap_auroc
from pseudoval.statistics.intervals import gap_errors
from pseudoval.statistics.rules import BEST, MARGIN, RULES, select
from pseudoval.statistics.separation import d_prime, separation

NAN = math.nan
CONFIGS = [{"t": 100, "k": k} for k in (8, 2, 1, 30)]


def made(values: list[list[float]], estimates: list[float]) -> Replicates:
    """One category of ten images a class."""
    array = np.array([values])
    return Replicates(
        names=["c"], estimates=np.array([estimates]), values=array,
        freedom=np.full(array.shape[:2], 9.0), sizes=[(10, 10)], seed=0,
    )  # fmt: skip


def never() -> Any:
    raise AssertionError("the rule does not need this")


def test_best_takes_the_highest_and_the_smallest_of_equals() -> None:
    choice = select(BEST, CONFIGS, [0.9, 0.95, 0.8, 0.95], never, never)
    assert (choice.row, choice.leader, choice.within) == (1, 1, [1])


def test_margin_takes_the_farthest_apart_within_one_paired_error() -> None:
    # Differences to the leader, row 0: k = 2 spreads by 0.01, k = 1 by 0.02, k = 30 by 0.1.
    leader = [0.90, 0.90]
    part = made([leader, [0.88, 0.90], [0.83, 0.87], [0.65, 0.85]], [0.90, 0.891, 0.85, 0.82])
    assert gap_errors(part, 0) == pytest.approx([0, 0.01, 0.02, 0.1])
    apart = np.array([1.0, 1.1, 9.0, 1.3])

    def chosen(values: np.ndarray) -> int:
        return select(MARGIN, CONFIGS, part.means, lambda: part, lambda: values).row

    assert chosen(apart) == 3, "k = 1 lies farther apart, but its AUROC is clearly lower"
    apart[3] = 1.1
    assert chosen(apart) == 1, "of two that lie equally far apart the cheaper one"
    apart[3] = NAN
    assert chosen(apart) == 1
    found = select(MARGIN, CONFIGS, part.means, lambda: part, lambda: apart)
    assert (found.leader, found.within) == (0, [0, 1, 3])


def test_d_prime_is_the_standardised_difference_of_the_means() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.0, 2, 4, 8], [4, 8, 0, 2], [1, 1, 1, 1], [1, 1, 2, 2], [0, NAN, 1, 2]])
    found = d_prime(scores, labels)
    wide = 5 / math.sqrt((1 + 4) / 2)
    assert found[:4] == pytest.approx([wide, -wide, 0, math.inf])
    assert math.isnan(found[4])
    assert d_prime(scores[0] * 7 + 3, labels) == pytest.approx(wide), "whatever the unit"


def test_separation_tells_more_from_less_where_every_auroc_is_1() -> None:
    scores = np.array([[0.0, 1, 4, 5, 0, 1, 4, 5], [0, 1, 8, 9, 0, 1, 4, 5]])
    matrix = ScoreMatrix(
        scores=scores, configs=CONFIGS[:2], images=[f"{i}" for i in range(8)],
        categories=["a"] * 4 + ["b"] * 4, labels=np.array([0, 0, 1, 1] * 2),
        groups=[f"{i}" for i in range(8)],
    )  # fmt: skip
    found = separation(matrix)
    assert found == pytest.approx([math.log(1 + 8), (math.log(1 + 16) + math.log(1 + 8)) / 2])
    part = bootstrap_auroc(scores, matrix.categories, matrix.labels, matrix.groups, replicates=50)
    assert part.means.tolist() == [1, 1]
    assert select(BEST, CONFIGS[:2], part.means, never, never).row == 1, "k = 2 is cheaper"
    assert select(MARGIN, CONFIGS[:2], part.means, lambda: part, lambda: found).row == 1
    assert select(MARGIN, CONFIGS[:2], part.means, lambda: part, lambda: found[::-1]).row == 0


def test_pairing_decides_and_not_the_error_of_a_configuration_alone() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0.8, 0.1, 500)
    part = made([shared.tolist(), (shared - 0.02 + rng.normal(0, 1e-3, 500)).tolist()], [0.8, 0.78])
    assert part.values[0, 1].std() > 0.09, "alone it is uncertain by far more than the gap"
    found = select(MARGIN, CONFIGS[:2], [0.8, 0.78], lambda: part, lambda: np.array([1.0, 9.0]))
    assert (found.row, found.within) == (0, [0])


def test_equal_scores_go_to_the_cheapest_and_nan_to_none() -> None:
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((4, 40))
    labels = np.arange(40) % 2
    scores += labels
    scores[1] = scores[0]
    scores[2, 5] = NAN
    part = bootstrap_auroc(scores, ["a"] * 40, labels, [str(i) for i in range(40)])
    for rule in RULES:
        values = part.means.copy()
        values[3] = 0.0
        choice = select(rule, CONFIGS, values, lambda: part, lambda: d_prime(scores, labels))
        assert choice.row == 1, "equal to k = 8 and cheaper; k = 1 has no value"
        assert 2 not in choice.within
    with pytest.raises(ValueError, match="no configuration"):
        select(MARGIN, CONFIGS, [NAN] * 4, lambda: part, never)


def test_the_mean_of_seeds_is_resampled_as_one() -> None:
    rng = np.random.default_rng(2)
    labels, groups = np.arange(40) % 2, [str(i) for i in range(40)]
    sets = [rng.standard_normal((3, 40)) + labels for _ in range(2)]
    parts = [bootstrap_auroc(s, ["a"] * 40, labels, groups, replicates=50) for s in sets]
    mean = averaged(parts)
    assert np.allclose(mean.values, (parts[0].values + parts[1].values) / 2)
    assert np.allclose(mean.means, (parts[0].means + parts[1].means) / 2)
    other = bootstrap_auroc(sets[0], ["a"] * 40, labels, groups, replicates=50, seed=1)
    with pytest.raises(ValueError, match="not drawn alike"):
        averaged([parts[0], other])


def test_an_unknown_rule(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no selection rule 'first'; the rules are best, margin"):
        select("first", CONFIGS, [0.1] * 4, never, never)
    refused(capsys, ["tune", "--study", "k", "--rule", "first"], "'first'")
