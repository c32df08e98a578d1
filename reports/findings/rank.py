"""Where the choice stands on the real test set."""

import math

from reports.findings.statistic import ScoredStage, Statistic

TIE = 1e-12
"""AUROCs closer than this are equal: sums over categories are rounded."""


def rank(stage: ScoredStage) -> int | None:
    """1 and the number of configurations with a strictly higher test AUROC than the chosen one."""
    if stage.test is None or math.isnan(stage.test[stage.selected]):
        return None
    return 1 + int((stage.test > stage.test[stage.selected] + TIE).sum())


test_rank = Statistic(
    key="test_rank",
    heading="rank of the choice on the real test set",
    meaning="A rank counts the configurations that are strictly better there.",
    compute=rank,
)
