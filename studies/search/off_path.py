"""Cells of the grid that the stages passed by, scored afterwards to see what was missed.

They enter the score matrix, so that the test set is scored on them too, but never the choice.
"""

import math
import time
from collections.abc import Sequence

import numpy as np

from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.runs import Best, OffPathCells, Params, read_best, write_best
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback
from pseudoval.statistics.objectives import needs_pixels
from studies.search.members import listed, mean_over_members
from studies.search.prepared import PreparedStudy
from studies.search.scoring import forget_scored, score_members, with_pixels
from studies.search.trials import AUDIT, add_off_path_trials


def score_off_path(study: PreparedStudy, share: float, progress: ProgressCallback) -> None:
    """Score a share of the cells off the path of a finished RUN, in resumable blocks.

    Writes each member's ``pseudo_scores.npz``, then ``trials.csv`` and ``best.json`` with
    ``audit``: the mean over members, and each member's own in its own ``best.json``. A RUN that
    holds a smaller share keeps its cells and gets more.
    """
    best = read_best(study.out)
    if share_of(best) >= share:
        return
    on_path: list[Params] = []
    for stage in best["stages"]:
        on_path += [config for config in stage["configs"] if config not in on_path]
    cells = [cell for cell in study.plan.cells() if cell not in on_path]
    defaults = {p.name: p.default for p in study.members[0].detector.parameters}
    wanted = draw_cells(cells, share, study.header["seed"], defaults)
    started = time.monotonic()
    matrices, count = _with_cells(study, wanted, progress)
    seconds = (time.monotonic() - started) / max(1, count)
    aurocs = []
    for member, matrix in zip(study.members, matrices, strict=True):
        matrix.select([matrix.row(c) for c in [*on_path, *wanted]]).save(member.scores_path)
        off_path = matrix.select([matrix.row(config) for config in wanted])
        aurocs.append(macro_auroc(off_path.scores, off_path.categories, off_path.labels))
    found: OffPathCells = {
        "share": share, "seed": study.header["seed"], "cells": len(cells), "configs": wanted,
        "pseudo_auroc": listed(mean_over_members(aurocs)),
    }  # fmt: skip
    for member, own in zip(study.members, aurocs, strict=True):
        if member.name:
            audit: OffPathCells = {**found, "pseudo_auroc": listed(own)}
            write_best(member.folder, {**read_best(member.folder), "audit": audit})
    add_off_path_trials(study.out, wanted, mean_over_members(aurocs), seconds)
    write_best(study.out, {**best, "audit": found})
    forget_scored(study)


def share_of(best: Best | None) -> float:
    """The share of the cells off the path that a RUN with this ``best.json`` has scored."""
    return best["audit"]["share"] if best is not None and "audit" in best else 0.0


def _with_cells(
    study: PreparedStudy, wanted: Sequence[Config], progress: ProgressCallback
) -> tuple[list[ScoreMatrix], int]:
    """The members' matrices with the wanted cells in them, and how many had to be scored."""
    matrices = [ScoreMatrix.load(member.scores_path) for member in study.members]
    fresh = [cell for cell in wanted if any(cell not in one.configs for one in matrices)]
    if fresh:
        scored = score_members(study, fresh, AUDIT, progress)
        if not needs_pixels(study.header["objective"]):
            scored = with_pixels(study, scored, progress)
        pairs = zip(matrices, scored, strict=True)
        matrices = [ScoreMatrix.joined([old, new]) for old, new in pairs]
    return matrices, len(fresh)


def draw_cells(cells: Sequence[Config], share: float, seed: int, defaults: Config) -> list[Params]:
    """A share of the cells, rounded up, in the order of ``cells``.

    A larger share of the same seed holds a smaller one. The detector's default is taken first if
    it is among them, because what it costs cannot be told otherwise.
    """
    order = np.random.default_rng([seed, len(cells)]).permutation(len(cells)).tolist()
    # A parameter that the study leaves to the model has no say. Stable: the rest stays shuffled.
    order.sort(
        key=lambda row: any(defaults.get(name) != value for name, value in cells[row].items())
    )
    taken = sorted(order[: math.ceil(share * len(cells))])
    return [dict(cells[row]) for row in taken]
