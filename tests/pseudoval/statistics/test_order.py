"""Which configuration comes first, and which of equals."""

import math

import numpy as np
import pytest

from pseudoval.statistics.rules import select_best, selection_order

NAN = math.nan


def test_ties_go_to_the_smallest_t_then_the_smallest_k() -> None:
    configs = [{"k": 1, "t": 300}, {"k": 9, "t": 200}, {"t": 200, "k": 5}, {"t": 25, "k": 0}]
    assert select_best(configs, [0.9, 0.9, 0.9, 0.8]) == 2
    assert selection_order(configs, [0.9, 0.9, 0.9, 0.8]) == [2, 1, 0, 3]


def test_numbers_are_compared_as_numbers_and_other_keys_by_name() -> None:
    assert select_best([{"k": 12}, {"k": 2}, {"k": 100}], [1.0, 1.0, 1.0]) == 1
    assert select_best([{"name": "wide"}, {"name": "deep"}], [0.5, 0.5]) == 1
    configs = [{"t": 2, "b": 1, "a": 9}, {"t": 2, "b": 8, "a": 3}, {"t": 2}, {"t": 2, "a": "x"}]
    assert selection_order(configs, [0.5] * 4) == [2, 1, 0, 3]


def test_nan_never_wins() -> None:
    configs = [{"t": t} for t in (1, 2, 3)]
    assert select_best(configs, np.array([NAN, -math.inf, NAN])) == 1
    assert selection_order(configs, [NAN, 0.1, 0.2]) == [2, 1, 0]
    for values in ([NAN] * 3, []):
        with pytest.raises(ValueError, match="no configuration"):
            select_best(configs[: len(values)], values)
    with pytest.raises(ValueError, match="3 configurations and 1 values"):
        select_best(configs, [0.5])
