"""Coarse to fine: values between the leader of a grid and its neighbours."""

from collections.abc import Callable, Sequence

import numpy as np

from pseudoval.metrics.score_matrix import Config
from pseudoval.statistics.bootstrap import Replicates
from pseudoval.statistics.curves import select_best
from pseudoval.statistics.intervals import TIE, gap_errors
from studies.design.stages import Stage

ROUNDS = 2
"""Rounds of ``--refine`` without a number: they divide the spacing of a grid by four."""


def between(
    stage: Stage,
    configs: Sequence[Config],
    values: np.ndarray,
    replicates: Callable[[], Replicates | None],
) -> list[Config]:
    """The configurations that one round of refining adds, the smallest t first, then K.

    The leader is the one with the highest value (ties: the smallest t, then K). Along each
    parameter that varies, the others held at the leader's, its next smaller and next larger value
    so far are its neighbours, and the whole number half-way (rounded down) to each is added. None
    is added towards a neighbour whose paired difference to the leader is within one bootstrap
    standard error: there the images do not resolve what lies between, and without a bootstrap
    this cannot be told. Nor is any value added beyond the ends of the grid, where no whole number
    lies between, or to a parameter of ``stage.codes``.

    Args:
        configs: all of the stage so far.
        values: of each; NaN for one that failed, which resolves nothing.
        replicates: makes the bootstrap of these configurations; None where there is none.

    Example:
        >>> import numpy as np
        >>> from studies import Stage
        >>> from studies.search.refining import between
        >>> stage = Stage(name="t", grid={"t": (100, 200, 400)}, fixed={"k": 0})
        >>> between(stage, stage.configs({}), np.array([0.8, 0.9, 0.7]), lambda: None)
        [{'t': 150, 'k': 0}, {'t': 300, 'k': 0}]
    """
    leader = select_best(configs, values)
    made = replicates()
    resolved = np.ones(len(configs), dtype=bool)
    if made is not None:
        gaps = np.asarray(values)[leader] - np.asarray(values)
        resolved = ~(gaps <= gap_errors(made, leader) + TIE)
    at = stage.point(configs[leader])
    added: list[dict[str, float | str]] = []
    for name in stage.names:
        if name in stage.codes:
            continue
        line = {
            stage.point(config)[name]: row
            for row, config in enumerate(configs)
            if all(config[other] == value for other, value in at.items() if other != name)
        }
        lower = [value for value in line if value < at[name]]
        upper = [value for value in line if value > at[name]]
        for neighbour in ([max(lower)] if lower else []) + ([min(upper)] if upper else []):
            middle = (at[name] + neighbour) // 2
            if resolved[line[neighbour]] and middle not in line:
                added.append({**configs[leader], name: middle})
    return in_order(stage, added)


def in_order(stage: Stage, configs: Sequence[Config]) -> list[Config]:
    """Configurations of a stage by their values: the smallest t first, then the smallest K."""
    return sorted(configs, key=lambda config: list(stage.point(config).values()))
