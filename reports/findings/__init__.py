"""What a report says, computed from score matrices: a file for each finding.

A statistic of one's own is a file with a function of a ``ScoredStage``, and a row in
``STATISTICS``. ``correlation.json`` then has its value under each stage and ``final``, of every
category too, and the page a row with its heading and its meaning.
"""

from reports.findings.rank import test_rank
from reports.findings.statistic import ScoredStage, Statistic
from reports.findings.top_hits import top1_hit, top3_hit

__all__ = ["STATISTICS", "ScoredStage", "Statistic"]

STATISTICS: tuple[Statistic, ...] = (
    test_rank,
    top1_hit,
    top3_hit,
)
