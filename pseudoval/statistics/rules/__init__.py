"""Named rules for which configuration wins on a pseudo set: one module each, and a row here."""

from collections.abc import Callable, Sequence

import numpy as np

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config
from pseudoval.statistics.bootstrap import Replicates
from pseudoval.statistics.rules.best import best
from pseudoval.statistics.rules.margin import margin
from pseudoval.statistics.rules.order import TIE_ORDER, select_best, selection_order
from pseudoval.statistics.rules.rule import Candidates, Choice, Rule

__all__ = [
    "BEST", "MARGIN", "RULES", "TIE_ORDER", "Candidates", "Choice", "Rule", "find_rule", "select",
    "select_best", "selection_order",
]  # fmt: skip

BEST, MARGIN = "best", "margin"

RULES: dict[str, Rule] = {
    BEST: best,
    MARGIN: margin,
}
"""Every rule by name. A configuration without a score never wins under any of them."""


def find_rule(name: str) -> Rule:
    """The rule of a name.

    Raises:
        UserError: it is not in ``RULES``; naming those that are.
    """
    if name not in RULES:
        raise UserError(f"There is no selection rule {name!r}; the rules are {', '.join(RULES)}.")
    return RULES[name]


def select(
    rule: str,
    configs: Sequence[Config],
    values: Sequence[float] | np.ndarray,
    replicates: Callable[[], Replicates],
    separations: Callable[[], np.ndarray],
) -> Choice:
    """Choose one of some configurations; arguments as the attributes of ``Candidates``.

    Raises:
        UserError: there is no such rule.
        ValueError: no configuration has a value.
    """
    candidates = Candidates(
        configs=configs,
        values=np.asarray(values, dtype=np.float64),
        replicates=replicates,
        separations=separations,
    )
    return find_rule(rule).choose(candidates)
