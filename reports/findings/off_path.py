"""Staged against joint: what going t first, then K, lost against the cells off that path."""

from typing import Any

import numpy as np

from pseudoval.statistics.intervals import paired_interval, regret_interval
from reports.findings.names import ordered
from reports.findings.source import MACRO, Source, stage_configs
from reports.findings.stability import best_of
from reports.findings.uncertainty import Evidence, Sample, interval_list, number


def audit(source: Source, evidence: Evidence) -> dict[str, Any] | None:
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
    told = source.best.get("audit") or {}
    scored = [*staged, *cells]
    joint = scored[best_of(source, scored)]
    figures: dict[str, Any] = {
        "share": told.get("share"),
        "seed": told.get("seed"),
        "cells": told.get("cells"),
        "scored": len(cells),
        "joint_choice": ordered(joint),
    }
    for name, sample in (("pseudo", evidence.pseudo), ("test", evidence.test)):
        known = sample is not None and all(config in sample.configs for config in cells)
        loss, interval = _loss(sample, scored, source) if sample and known else (None, None)
        figures[f"{name}_loss"], figures[f"{name}_loss_interval"] = loss, interval
    columns = {
        name: _column(sample, cells)
        for name, sample in (("pseudo", evidence.pseudo), ("test", evidence.test))
    }
    figures["configurations"] = [
        {"params": ordered(cell), **{name: columns[name][row] for name in columns}}
        for row, cell in enumerate(cells)
    ]
    gain, interval = None, None
    test = evidence.test
    if test is not None and joint in test.configs:
        pair = test.part([joint, source.params], MACRO)
        gain = number(float(np.subtract(*pair.means)))
        interval = None if gain is None else list(paired_interval(pair, 0, 1))
    return {**figures, "joint_choice_gain": gain, "joint_choice_gain_interval": interval}


def _loss(
    sample: Sample, scored: list[dict[str, float | str]], source: Source
) -> tuple[float | None, list[float] | None]:
    chosen = scored.index(source.params)
    values = sample.values(scored, MACRO)
    interval = regret_interval(sample.part(scored, MACRO), chosen)
    loss = number(float(np.nanmax(values) - values[chosen]))
    return loss, None if interval is None or loss is None else list(interval)


def _column(sample: Sample | None, cells: list[dict[str, float | str]]) -> list[Any]:
    """AUROC and interval of each cell on a set; None where it was not scored."""
    if sample is None:
        return [None] * len(cells)
    known = [cell for cell in cells if cell in sample.configs]
    if not known:
        return [None] * len(cells)
    values = sample.values(known, MACRO)
    intervals = interval_list(sample, known, MACRO)
    return [
        {"auroc": number(values[known.index(cell)]), "interval": intervals[known.index(cell)]}
        if cell in known
        else None
        for cell in cells
    ]
