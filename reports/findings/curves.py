"""The stage curves as a tidy table: ``curves.csv``."""

import math

import pandas as pd

from pseudoval.statistics.rules import select_best
from reports.findings.source import MACRO, POOLED, Source, Stage

COLUMNS = ("run", "stage", "param", "value", "category", "set", "auroc", "selected", "oracle")


def curves_table(source: Source) -> pd.DataFrame:
    """Image AUROC of every value of every stage, one row each.

    Returns:
        Columns ``COLUMNS``: ``category`` is ``macro``, ``pooled`` or a category name; ``set`` is
        ``pseudo`` or ``test`` (no such rows without a test set); ``auroc`` in [0, 1], NaN where
        a configuration was not scored to the end; ``selected`` marks the value chosen on the
        pseudo set, ``oracle`` the best of this category on the test set (ties: the smallest).
    """
    rows = []
    for stage in source.stages:
        for category in (MACRO, POOLED, *source.pseudo.category_names):
            pseudo, test = stage_curves(source, stage, category)
            oracle = oracle_index(stage, test)
            for kind, curve in (("pseudo", pseudo), ("test", test)):
                for index, auroc in enumerate(curve or []):
                    cell = (source.name, stage.name, stage.param, stage.values[index], category)
                    marks = (index == stage.selected, index == oracle)
                    rows.append((*cell, kind, auroc, *marks))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def stage_curves(
    source: Source, stage: Stage, category: str
) -> tuple[list[float], list[float] | None]:
    """AUROC on the pseudo set and on the test set, by the values of a stage.

    Args:
        category: ``macro``, ``pooled`` or a category name.
    """
    test = source.test_auroc
    return (
        source.pseudo_auroc.curve(stage.configs, category),
        None if test is None else test.curve(stage.configs, category),
    )


def oracle_index(stage: Stage, test_curve: list[float] | None) -> int | None:
    """Index of the value with the best test AUROC; None without one."""
    if test_curve is None or all(math.isnan(value) for value in test_curve):
        return None
    return select_best(stage.configs, test_curve)
