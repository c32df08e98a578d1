"""Staged against joint: what going t first, then K, lost against the cells off that path."""

from typing import Any

import numpy as np

from pseudoval.statistics.intervals import paired_interval
from pseudoval.statistics.regret import regret
from reports.findings.names import ordered
from reports.findings.source import MACRO, Source, stage_configs
from reports.findings.stability import best_of
from reports.findings.uncertainty import (
    Evidence,
    Sample,
    interval_list,
    known_regret_interval,
    number,
    pair,
)


def off_path(source: Source, evidence: Evidence) -> dict[str, Any] | None:
    """The ``audit`` entry of ``correlation.json``; None if no cell off the path was scored.

    The cells never take part in the choice. The losses are those of the mean over categories:
    the best of all configurations scored minus the staged choice, on the pseudo set and on the
    test set. ``joint_choice`` is what a search over all of them would have chosen, and
    ``joint_choice_gain`` what it would have brought on the test set.
    """
    staged = stage_configs(source)
    cells = [config for config in source.pseudo.configs if config not in staged]
    if not cells:
        return None
    scored = [*staged, *cells]
    joint = scored[best_of(source, scored)]
    found: dict[str, Any] = {
        **{key: source.audit[key] if source.audit else None for key in ("share", "seed", "cells")},
        "scored": len(cells),
        "joint_choice": ordered(joint),
        "joint_choice_gain": None,
        "joint_choice_gain_interval": None,
    }
    columns = []
    for name, sample in evidence.sets.items():
        loss, interval = None, None
        if sample is not None and all(cell in sample.configs for cell in cells):
            chosen = scored.index(source.params)
            loss = number(regret(sample.values(scored, MACRO), chosen))
            interval = known_regret_interval(sample, scored, chosen, MACRO)
        found[f"{name}_loss"], found[f"{name}_loss_interval"] = loss, interval
        columns.append(_column(sample, cells))
    found["configurations"] = [
        {"params": ordered(cell), "pseudo": pseudo, "test": test}
        for cell, pseudo, test in zip(cells, *columns, strict=True)
    ]
    test = evidence.test
    if test is not None and joint in test.configs:
        both = test.part([joint, source.params], MACRO)
        found["joint_choice_gain"] = number(float(np.subtract(*both.means)))
        found["joint_choice_gain_interval"] = pair(paired_interval(both, 0, 1))
    return found


def _column(sample: Sample | None, cells: list[dict[str, float | str]]) -> list[Any]:
    """AUROC and interval of each cell on a set; None where it was not scored."""
    known = [] if sample is None else [cell for cell in cells if cell in sample.configs]
    if sample is None or not known:
        return [None] * len(cells)
    values, intervals = sample.values(known, MACRO), interval_list(sample, known, MACRO)
    results = (
        {"auroc": number(value), "interval": interval}
        for value, interval in zip(values, intervals, strict=True)
    )
    return [next(results) if cell in known else None for cell in cells]
