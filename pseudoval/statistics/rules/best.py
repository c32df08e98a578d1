"""The rule ``best``, the paper's: the highest pseudo score."""

from pseudoval.statistics.rules.rule import Candidates, Choice, Rule


def choose(candidates: Candidates) -> Choice:
    """The leader; nothing else counts as equally good."""
    return Choice(row=candidates.leader, leader=candidates.leader, within=[candidates.leader])


best = Rule(
    summary="the highest pseudo score; ties: the smallest t, then the smallest K",
    takes="the highest",
    needs_bootstrap=False,
    choose=choose,
)
