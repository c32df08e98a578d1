"""The rule ``margin``: of those that the images cannot tell apart, the clearest separation."""

import numpy as np

from pseudoval.statistics.intervals import TIE, gap_errors
from pseudoval.statistics.rules.order import selection_order
from pseudoval.statistics.rules.rule import Candidates, Choice, Rule


def choose(candidates: Candidates) -> Choice:
    """Of those within one standard error of the leader, the one that sets scores farthest apart.

    The standard error is that of the *difference* to the leader: both are scored on the same
    images, so that what is hard for both cancels. Where the bootstrap sees no difference at all,
    ``gap_errors`` says what the images leave open. Those that it cannot tell apart are asked for
    more than the order of their scores, which is all that an AUROC sees: on a set that many of
    them solve, the AUROCs tie while ``separation`` still differs. Equal separations go to the
    smallest t, then the smallest K.
    """
    values, leader = candidates.values, candidates.leader
    errors = gap_errors(candidates.replicates(), leader)
    within = np.flatnonzero(values[leader] - values <= errors + TIE).tolist()
    apart = candidates.separations()[within]
    first = selection_order([candidates.configs[row] for row in within], apart)[0]
    return Choice(row=within[first], leader=leader, within=within)


margin = Rule(
    summary=(
        "of those within one bootstrap standard error of the highest pseudo score, the one whose "
        "normal and anomalous scores lie farthest apart"
    ),
    takes="the one that sets scores farthest apart, within one standard error",
    needs_bootstrap=True,
    choose=choose,
)
