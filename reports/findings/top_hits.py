"""Whether the choice is among the best on the real test set."""

from reports.findings.rank import rank
from reports.findings.statistic import ScoredStage, Statistic


def among(stage: ScoredStage, best: int) -> bool | None:
    """Whether the rank of the choice is at most ``best``."""
    found = rank(stage)
    return None if found is None else found <= best


top1_hit = Statistic(
    key="top1_hit",
    heading="is the choice the best there?",
    meaning="A configuration that ties with the best counts as the best.",
    compute=lambda stage: among(stage, 1),
)
top3_hit = Statistic(
    key="top3_hit",
    heading="is it among the three best there?",
    meaning="",
    compute=lambda stage: among(stage, 3),
)
