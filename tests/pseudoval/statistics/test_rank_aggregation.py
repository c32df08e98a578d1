"""Rankings joined into one."""

import numpy as np

from pseudoval.statistics.rank_aggregation import borda, rank_rows


def test_ranks_and_borda_by_hand() -> None:
    ranks = rank_rows(np.array([[0.9, 0.5], [0.8, 0.5], [0.9, 0.7]]))
    assert ranks.tolist() == [[1.5, 2.5], [3.0, 2.5], [1.5, 1.0]]
    assert borda(ranks).tolist() == [2.0, 2.75, 1.25]
