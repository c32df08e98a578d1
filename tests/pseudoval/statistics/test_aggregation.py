"""Rankings joined into one, against every order there is."""

import itertools

import numpy as np
import pytest

from pseudoval.statistics.rank_aggregation import borda, kemeny, rank_rows


def distance(order: tuple[int, ...], ranks: np.ndarray) -> int:
    """Pairs of the order that the rankings contradict."""
    return sum(
        int((ranks[after] < ranks[before]).sum())
        for at, before in enumerate(order)
        for after in order[at + 1 :]
    )


def inversions(values: np.ndarray) -> int:
    """Pairs that stand in descending order."""
    return sum(int(first > second) for first, second in itertools.combinations(values, 2))


def test_ranks_and_borda_by_hand() -> None:
    ranks = rank_rows(np.array([[0.9, 0.5], [0.8, 0.5], [0.9, 0.7]]))
    assert ranks.tolist() == [[1.5, 2.5], [3.0, 2.5], [1.5, 1.0]]
    assert borda(ranks).tolist() == [2.0, 2.75, 1.25]


@pytest.mark.parametrize("rankings", [1, 2, 3, 5])
def test_kemeny_is_the_best_of_all_orders(rng: np.random.Generator, rankings: int) -> None:
    configs = [{"t": t} for t in (30, 10, 20, 50, 40, 60)]
    for _ in range(6):
        ranks = rank_rows(rng.integers(0, 6, (6, rankings)))
        found = kemeny(configs, ranks)
        every = {order: distance(order, ranks) for order in itertools.permutations(range(6))}
        assert found.exact
        assert found.distance == every[tuple(found.order)] == min(every.values())

        def inversions(order: tuple[int, ...]) -> int:
            return sum(
                configs[a]["t"] > configs[b]["t"] for a, b in itertools.combinations(order, 2)
            )

        closest = min(inversions(o) for o, far in every.items() if far == found.distance)
        assert inversions(tuple(found.order)) == closest, "ties go to the smallest t"


def test_a_majority_cycle_is_broken_at_its_weakest_pair() -> None:
    # 0 beats 1 by four to one, 1 beats 2 by four to one, 2 beats 0 by three to two.
    ranks = np.array([[1, 1, 2, 2, 3], [2, 2, 3, 3, 1], [3, 3, 1, 1, 2]], dtype=float)
    assert kemeny([{"t": t} for t in (1, 2, 3)], ranks).order == [0, 1, 2]


def test_local_search_comes_close_and_says_so(rng: np.random.Generator) -> None:
    configs = [{"t": t} for t in range(12)]
    for _ in range(5):
        ranks = rank_rows(rng.normal(size=(12, 4)))
        exact, local = kemeny(configs, ranks), kemeny(configs, ranks, exact_up_to=0)
        assert not local.exact
        assert sorted(local.order) == list(range(12))
        assert exact.distance <= local.distance <= 1.1 * exact.distance
        for row in local.order:
            rest = [other for other in local.order if other != row]
            moved = [distance((*rest[:at], row, *rest[at:]), ranks) for at in range(12)]
            assert min(moved) == local.distance, "no single move helps"


def test_agreement_and_small_sets() -> None:
    configs = [{"t": t} for t in (1, 2, 3, 4)]
    ranks = np.array([[2, 2], [1, 1], [4, 4], [3, 3]], dtype=float)
    assert kemeny(configs, ranks).order == [1, 0, 3, 2]
    assert kemeny(configs, ranks).distance == 0
    assert kemeny(configs, np.ones((4, 3))).order == [0, 1, 2, 3], "all tied: by configuration"
    assert kemeny(configs[:1], ranks[:1]).order == [0]
    assert kemeny(configs[:2], ranks[:2]).order == [1, 0]
