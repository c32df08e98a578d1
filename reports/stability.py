"""Does the choice survive leaving out a category, or a generator of the pseudo anomalies?"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pseudoval.metrics import macro_auroc
from pseudoval.scores import ScoreMatrix
from pseudoval.statistics import select_best
from reports.source import Source


def stability(source: Source) -> list[dict[str, Any]]:
    """The choice of each stage, made again without one category or generator at a time.

    Later stages were scored at the values that the earlier ones chose on the whole set, so each
    stage is judged by itself: ``selected`` gives the value by stage.
    """
    found = []
    names = np.array(source.pseudo.categories)
    if len(set(source.pseudo.categories)) > 1:
        for name in source.pseudo.category_names:
            found.append(_without(source, "category", name, names != name))
    generators = np.array(image_generators(source.pseudo))
    distinct = sorted(set(generators) - {""})
    if len(distinct) > 1:
        for name in distinct:
            found.append(_without(source, "generator", name, generators != name))
    return [entry for entry in found if entry is not None]


def image_generators(matrix: ScoreMatrix) -> list[str]:
    """Generator of each pseudo anomaly, the folder that it lies in; "" for normal images."""
    return [
        PurePosixPath(image).parent.name if label == 1 else ""
        for image, label in zip(matrix.images, matrix.labels, strict=True)
    ]


def _without(source: Source, what: str, name: str, kept: np.ndarray) -> dict[str, Any] | None:
    """None if no category keeps both classes."""
    matrix = source.pseudo
    names = np.array(matrix.categories)
    whole = {
        category
        for category in matrix.category_names
        if len(set(matrix.labels[kept & (names == category)].tolist())) == 2
    }
    rows = np.flatnonzero(kept & np.isin(names, sorted(whole)))
    if not rows.size:
        return None
    values = macro_auroc(matrix.scores[:, rows], _at(matrix.categories, rows), matrix.labels[rows])
    selected = {}
    same = True
    for stage in source.stages:
        places = [matrix.configs.index(config) for config in stage.configs]
        row = select_best(stage.configs, values[places])
        selected[stage.name] = stage.values[row]
        same = same and row == stage.selected
    return {"left_out": what, "name": name, "selected": selected, "same": same}


def _at(values: Sequence[str], rows: np.ndarray) -> list[str]:
    return [values[row] for row in rows]
