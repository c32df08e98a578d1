"""What a rule is: a function from candidates to a choice, and how it is told to a person."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pseudoval.metrics.score_matrix import Config
from pseudoval.statistics.bootstrap import Replicates
from pseudoval.statistics.rules.order import select_best


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Configurations that a rule chooses among.

    Attributes:
        values: ``[C]``, of each configuration, higher is better; NaN never wins and is never
            within.
        replicates: makes the bootstrap of ``values``; for rules that need one.
        separations: makes ``separation.separation`` of each configuration, ``[C]``.
    """

    configs: Sequence[Config]
    values: np.ndarray
    replicates: Callable[[], Replicates]
    separations: Callable[[], np.ndarray]

    @cached_property
    def leader(self) -> int:
        """The row of the highest value, see ``select_best``.

        Raises:
            ValueError: no configuration has a value.
        """
        return select_best(self.configs, self.values)


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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule for which configuration wins.

    Attributes:
        summary: what it takes, in a line.
        takes: the same in a few words, for a sentence about a choice that is not the leader.
        needs_bootstrap: whether ``choose`` asks for the replicates, which objectives of pixels
            do not have.
        choose: the rule itself.
    """

    summary: str
    takes: str
    needs_bootstrap: bool
    choose: Callable[[Candidates], Choice]
