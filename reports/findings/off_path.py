"""Staged against joint: what going t first, then K, lost against the cells off that path."""

from typing import Any

import numpy as np

from pseudoval.metrics.score_matrix import Config
from pseudoval.statistics.intervals import auroc_intervals, paired_interval
from reports.findings.forms import Which
from reports.findings.names import ordered
from reports.findings.source import MACRO, stage_configs
from reports.findings.stability import best_of
from reports.findings.uncertainty import Evidence, number, pair, regret_of


def off_path(evidence: Evidence) -> dict[str, Any] | None:
    """The ``audit`` entry of ``correlation.json``; None if no cell off the path was scored.

    The cells never take part in the choice. The losses are those of the mean over categories:
    the best of all configurations scored minus the staged choice, on the pseudo set and on the
    test set. ``joint_choice`` is what a search over all of them would have chosen, and
    ``joint_choice_gain`` what it would have brought on the test set.
    """
    source, staged = evidence.source, stage_configs(evidence.source)
    cells = [config for config in source.pseudo.configs if config not in staged]
    if not cells:
        return None
    scored = [*staged, *cells]
    joint = scored[best_of(source, scored, [source.pseudo])]
    found: dict[str, Any] = {
        **{key: source.audit[key] if source.audit else None for key in ("share", "seed", "cells")},
        "scored": len(cells),
        "joint_choice": ordered(joint),
        "joint_choice_gain": None,
        "joint_choice_gain_interval": None,
    }
    for which, matrix in source.sets.items():
        full = matrix is not None and all(cell in matrix.configs for cell in cells)
        chosen = source.params if full else None
        found[f"{which}_loss"], found[f"{which}_loss_interval"] = regret_of(
            evidence, which, scored, chosen, MACRO
        )
    found["configurations"] = [
        {
            "params": ordered(cell),
            "pseudo": _result(evidence, "pseudo", cell),
            "test": _result(evidence, "test", cell),
        }
        for cell in cells
    ]
    if source.test is not None and joint in source.test.configs:
        both = evidence.part("test", [joint, source.params], MACRO)
        found["joint_choice_gain"] = number(float(np.subtract(*both.means)))
        found["joint_choice_gain_interval"] = pair(paired_interval(both, 0, 1))
    return found


def _result(evidence: Evidence, which: Which, cell: Config) -> dict[str, Any] | None:
    """AUROC and interval of a cell on a set; None where it was not scored."""
    matrix = evidence.source.sets[which]
    if matrix is None or cell not in matrix.configs:
        return None
    part = evidence.part(which, [cell], MACRO)
    return {"auroc": number(part.means[0]), "interval": pair(auroc_intervals(part)[0])}
