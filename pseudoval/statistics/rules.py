"""Named rules for which configuration wins on a pseudo set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config
from pseudoval.statistics.bootstrap import Replicates
from pseudoval.statistics.curves import select_best, selection_order
from pseudoval.statistics.intervals import TIE, gap_errors

BEST, MARGIN, ONE_SE = "best", "margin", "one-se"

RULES = {
    BEST: "the highest pseudo score; ties: the smallest t, then the smallest K",
    MARGIN: (
        "of those within one bootstrap standard error of the highest pseudo score, the one whose "
        "normal and anomalous scores lie farthest apart"
    ),
    ONE_SE: (
        "the smallest t, then the smallest K, whose paired difference to the highest pseudo score "
        "is within one bootstrap standard error"
    ),
}
"""What each rule takes. A configuration without a score never wins under any of them."""
TAKES = {
    ONE_SE: "the cheapest within one standard error",
    MARGIN: "the one that sets scores farthest apart, within one standard error",
}
"""What a rule other than ``best`` took, for a sentence."""
RESAMPLED = (ONE_SE, MARGIN)
"""Rules that need a bootstrap of what is maximised."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A choice among configurations.

    Attributes:
        row: the configuration that won.
        leader: the one with the highest value.
        within: rows that the rule takes for as good as the leader, ascending, itself included.
    """

    row: int
    leader: int
    within: list[int]


def check_rule(name: str) -> None:
    """Refuse a rule that is not in ``RULES``.

    Raises:
        UserError: naming the rules.
    """
    if name not in RULES:
        raise UserError(f"There is no selection rule {name!r}; the rules are {', '.join(RULES)}.")


def select(
    rule: str,
    configs: Sequence[Config],
    values: Sequence[float] | np.ndarray,
    replicates: Callable[[], Replicates],
    separations: Callable[[], np.ndarray],
) -> Choice:
    """Choose one of some configurations.

    ``one-se`` is the rule of Breiman et al. 1984 (Classification and Regression Trees, section
    3.4.3) with the standard error of the *difference* to the leader: both are scored on the same
    images, so that what is hard for both cancels. Where the bootstrap sees no difference at all,
    ``gap_errors`` says what the images leave open. ``margin`` asks those that ``one-se`` cannot
    tell apart for more than the order of their scores, which is all that an AUROC sees: on a set
    that many of them solve, the AUROCs tie while ``separation`` still differs.

    Args:
        values: of each configuration, higher is better; NaN never wins and is never within.
        replicates: makes the bootstrap of these configurations; not called by ``best``.
        separations: makes ``separation.separation`` of these configurations; called by ``margin``
            alone.

    Raises:
        UserError: there is no such rule.
        ValueError: no configuration has a value.
    """
    check_rule(rule)
    leader = select_best(configs, values)
    if rule == BEST:
        return Choice(row=leader, leader=leader, within=[leader])
    numbers = np.asarray(values, dtype=np.float64)
    errors = gap_errors(replicates(), leader)
    within = np.flatnonzero(numbers[leader] - numbers <= errors + TIE).tolist()
    apart = separations()[within] if rule == MARGIN else np.zeros(len(within))
    first = selection_order([configs[row] for row in within], apart)[0]
    return Choice(row=within[first], leader=leader, within=within)
