"""Named rules for which configuration wins on a pseudo set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pseudoval.bootstrap import Replicates
from pseudoval.errors import UserError
from pseudoval.intervals import TIE, gap_errors
from pseudoval.scores import Config
from pseudoval.statistics import select_best, selection_order

BEST, ONE_SE = "best", "one-se"

RULES = {
    BEST: "the highest pseudo score; ties: the smallest t, then the smallest K",
    ONE_SE: (
        "the smallest t, then the smallest K, whose paired difference to the highest pseudo score "
        "is within one bootstrap standard error"
    ),
}
"""What each rule takes. A configuration without a score never wins under any of them."""


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
) -> Choice:
    """Choose one of some configurations.

    ``one-se`` is the rule of Breiman et al. 1984 (Classification and Regression Trees, section
    3.4.3) with the standard error of the *difference* to the leader: both are scored on the same
    images, so that what is hard for both cancels. Where the bootstrap sees no difference at all,
    ``gap_errors`` says what the images leave open.

    Args:
        values: of each configuration, higher is better; NaN never wins and is never within.
        replicates: makes the bootstrap of these configurations; called by ``one-se`` alone.

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
    cheapest = selection_order([configs[row] for row in within], [0.0] * len(within))[0]
    return Choice(row=within[cheapest], leader=leader, within=within)
