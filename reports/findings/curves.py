"""The stage curves as a tidy table: ``curves.csv``."""

import pandas as pd

from pseudoval.statistics.rules import select_best
from reports.findings.source import MACRO, POOLED, Source

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
            best = oracle(source, stage.configs, category)
            for which in source.auroc:
                curve = source.curve(which, stage.configs, category)
                for index, config in enumerate(stage.configs):
                    cell = (source.name, stage.name, stage.param, stage.values[index], category)
                    marks = (index == stage.selected, config == best)
                    rows.append((*cell, which, curve[index], *marks))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def oracle(
    source: Source, configs: list[dict[str, float | str]], category: str
) -> dict[str, float | str] | None:
    """The best of some configurations on the test set; None without one.

    Args:
        category: ``macro``, ``pooled`` or a category name.
    """
    if source.test is None:
        return None
    return configs[select_best(configs, source.curve("test", configs, category))]
