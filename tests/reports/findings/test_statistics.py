"""Statistics of the report that are a row each."""

import math

import numpy as np

from reports.findings.rank import rank
from reports.findings.statistic import ScoredStage
from reports.findings.top_hits import top1_hit, top3_hit


def stage(test: list[float] | None, selected: int = 0) -> ScoredStage:
    curve = np.array([math.nan] * 3 if test is None else test)
    return ScoredStage(
        configs=[{"t": t} for t in range(len(curve))],
        pseudo=curve,
        test=None if test is None else curve,
        selected=selected,
    )


def test_the_rank_counts_what_is_strictly_better() -> None:
    curve = [0.5, 0.9, 0.5 + 1e-15, math.nan, 0.7]
    assert [rank(stage(curve, selected)) for selected in range(5)] == [3, 1, 3, None, 2]
    assert rank(stage(None)) is None
    assert [top1_hit.compute(stage(curve, n)) for n in (0, 1, 3)] == [False, True, None]
    assert [top3_hit.compute(stage([0.1, *curve], n)) for n in (0, 1)] == [False, True]
