"""One ranking out of several: Borda's and Kemeny's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse, stats

from pseudoval.metrics.score_matrix import Config
from pseudoval.statistics.rules import selection_order

EXACT_UP_TO = 40
"""Configurations up to which Kemeny's order is found exactly; beyond, the search is local."""


@dataclass(frozen=True, kw_only=True)
class Kemeny:
    """An order that contradicts the rankings in as few pairs as possible.

    Attributes:
        order: rows, best first.
        distance: pairs that the order contradicts, summed over the rankings; a tied pair of a
            ranking contradicts nothing.
        exact: whether no order has a smaller distance; else none is reached from it by moving one
            row.
    """

    order: list[int]
    distance: int
    exact: bool


def rank_rows(values: np.ndarray) -> np.ndarray:
    """Rank of each row within each column of ``[C, rankings]``: 1 is the highest, ties average."""
    return np.asarray(stats.rankdata(-np.asarray(values, dtype=np.float64), axis=0))


def borda(ranks: np.ndarray) -> np.ndarray:
    """Mean rank of each row of ``[C, rankings]``; the lowest is the best."""
    return np.asarray(np.asarray(ranks).mean(axis=1))


def kemeny(
    configs: Sequence[Config], ranks: np.ndarray, *, exact_up_to: int = EXACT_UP_TO
) -> Kemeny:
    """Kemeny's order of configurations (Kemeny 1959).

    Among orders of the same distance the one closest to ``selection_order`` of equals is taken
    (the smallest t, then the smallest k, first), so that the result does not hang on the solver.
    Up to ``exact_up_to`` configurations it is the optimum of an integer program; for more, the
    Borda order is improved by moving one configuration at a time until no move helps.

    Args:
        configs: C configurations.
        ranks: ``[C, rankings]``, the lowest is the best.
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    count = len(configs)
    wins = (ranks[:, None] < ranks[None]).sum(axis=2)  # rankings that put a above b
    place = np.empty(count, dtype=int)
    place[selection_order(configs, np.zeros(count))] = np.arange(count)
    # Putting a above b costs the rankings against it; the order of equals only decides ties.
    costs = wins.T * count**2 + (place[:, None] > place[None])
    exact = count <= exact_up_to
    order = _optimal(costs) if exact else _improved(selection_order(configs, -borda(ranks)), costs)
    distance = sum(int(wins[b, a]) for at, a in enumerate(order) for b in order[at + 1 :])
    return Kemeny(order=order, distance=distance, exact=exact)


def _optimal(costs: np.ndarray) -> list[int]:
    """The order of least total cost: a binary variable per pair, and no cycle of three."""
    count = len(costs)
    if count < 2:
        return list(range(count))
    first, second = np.triu_indices(count, 1)
    index = np.zeros((count, count), dtype=int)
    index[first, second] = np.arange(len(first))
    triples = np.array(
        [(a, b, c) for a in range(count) for b in range(a + 1, count) for c in range(b + 1, count)],
        dtype=int,
    ).reshape(-1, 3)
    a, b, c = triples.T
    rows = np.tile(np.arange(len(triples)), 3)
    columns = np.concatenate([index[a, b], index[b, c], index[a, c]])
    signs = np.repeat([1.0, 1.0, -1.0], len(triples))
    # HiGHS takes 32-bit indices, and not every version of SciPy converts them.
    places = rows.astype(np.int32), columns.astype(np.int32)
    cycles = sparse.csr_array((signs, places), shape=(len(triples), len(first)))
    found = optimize.milp(
        (costs[first, second] - costs[second, first]).astype(np.float64),
        integrality=np.ones(len(first)),
        bounds=optimize.Bounds(0, 1),
        constraints=[optimize.LinearConstraint(cycles, 0, 1)] if len(triples) else (),
        options={"mip_rel_gap": 0},
    )
    before = np.round(found.x).astype(bool)
    above = np.zeros(count, dtype=int)  # configurations that stand above each
    np.add.at(above, second[before], 1)
    np.add.at(above, first[~before], 1)
    return [int(row) for row in np.argsort(above, kind="stable")]


def _improved(order: list[int], costs: np.ndarray) -> list[int]:
    """Move one row at a time to where it costs least, until that changes nothing."""
    order = list(order)
    moved = True
    while moved:
        moved = False
        for row in list(order):
            rest = [other for other in order if other != row]
            above = np.concatenate([[0], np.cumsum(costs[rest, row])])
            below = costs[row, rest].sum() - np.concatenate([[0], np.cumsum(costs[row, rest])])
            totals = above + below  # of putting the row before the place-th of the rest
            if totals.min() < totals[order.index(row)]:
                rest.insert(int(totals.argmin()), row)
                order, moved = rest, True
    return order
