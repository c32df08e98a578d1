"""Cells of the grid that the stages passed by, scored afterwards to see what was missed.

They enter the score matrix, so that the test set is scored on them too, but never the choice.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pseudoval.data.files import atomic_path, read_json, write_json
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.score_matrix import Config, ScoreMatrix, config_name
from pseudoval.progress import ProgressCallback
from pseudoval.scoring.blocks import forget_blocks
from studies.design.stages import GRID, Study
from studies.search.members import Member, listed, mean_over_members, score_members

AUDIT = "audit"
BEST = "best.json"


def check_share(plan: Study, share: float) -> None:
    """Refuse a share that cannot be scored.

    Raises:
        UserError: the share is not in (0, 1], or the study has no cells off its path.
    """
    if not 0 < share <= 1:
        raise UserError(f"The share of cells to audit is {share:g}; give one above 0, up to 1.")
    if not any(stage.inherits or stage.sampler != GRID for stage in plan.stages):
        raise UserError(
            f"The study {plan.name} searches its whole grid, so there is no cell off its path; "
            "leave --audit-joint out."
        )


def add_audit(
    plan: Study,
    members: Sequence[Member],
    out: Path,
    share: float,
    seed: int,
    progress: ProgressCallback,
) -> bool:
    """Score a share of the cells off the path of a finished RUN, in resumable blocks.

    Writes each member's ``pseudo_scores.npz``, then ``trials.csv`` and ``best.json`` with
    ``audit``: the mean over members, and each member's own in its own ``best.json``. A RUN that
    holds a smaller audit keeps its cells and gets more.

    Returns:
        Whether there was anything to do.
    """
    best = read_json(out / BEST, "The run's choice")
    if not is_open(best, share):
        return False
    on_path: list[Config] = []
    for stage in best["stages"]:
        on_path += [config for config in stage["configs"] if config not in on_path]
    cells = [cell for cell in plan.cells() if cell not in on_path]
    defaults = {parameter.name: parameter.default for parameter in members[0].detector.parameters}
    wanted = draw_cells(cells, share, seed, defaults)
    started = time.monotonic()
    team = members[0].team
    if team is not None and team.helper:
        for member in members:
            _missing(member, wanted, progress)
        return False
    by_member = {member.name: _score_cells(member, on_path, wanted, progress) for member in members}
    values = mean_over_members([aurocs for aurocs, _ in by_member.values()])
    scored = max(count for _, count in by_member.values())
    seconds = (time.monotonic() - started) / max(scored, 1)
    about = {"share": share, "seed": seed, "cells": len(cells), "configs": wanted}
    for member in members:
        if member.name:
            own = read_json(member.folder / BEST, "The run's choice")
            own[AUDIT] = {**about, "pseudo_auroc": listed(by_member[member.name][0])}
            write_json(member.folder / BEST, own)
    _write_trials(out / "trials.csv", wanted, values, seconds)
    best[AUDIT] = {**about, "pseudo_auroc": listed(values)}
    write_json(out / BEST, best)
    for member in members:
        forget_blocks(member.folder / "blocks")
    return True


def is_open(best: Mapping[str, Any], share: float) -> bool:
    """Whether a RUN with this ``best.json`` lacks cells of an audit of this share."""
    return bool(share > best.get(AUDIT, {"share": 0.0})["share"])


def _missing(
    member: Member, wanted: Sequence[Config], progress: ProgressCallback
) -> tuple[ScoreMatrix, int]:
    """A member's matrix with the wanted cells in it, and how many had to be scored for it."""
    matrix = ScoreMatrix.load(member.folder / "pseudo_scores.npz")
    fresh = [cell for cell in wanted if cell not in matrix.configs]
    if fresh:
        (scored,) = score_members([member], fresh, AUDIT, progress)
        matrix = ScoreMatrix.joined([matrix, scored])
    return matrix, len(fresh)


def _score_cells(
    member: Member,
    on_path: Sequence[Config],
    wanted: Sequence[Config],
    progress: ProgressCallback,
) -> tuple[np.ndarray, int]:
    """Macro AUROC of each wanted cell with one member, and how many had to be scored for it."""
    matrix, count = _missing(member, wanted, progress)
    matrix = matrix.select([matrix.row(config) for config in [*on_path, *wanted]])
    matrix.save(member.folder / "pseudo_scores.npz")
    audited = matrix.select(range(len(on_path), len(matrix.configs)))
    return macro_auroc(audited.scores, audited.categories, audited.labels), count


def draw_cells(
    cells: Sequence[Config], share: float, seed: int, defaults: Config
) -> list[dict[str, Any]]:
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


def _write_trials(path: Path, cells: Sequence[Config], values: np.ndarray, seconds: float) -> None:
    """Add the cells to ``trials.csv``, keeping the rows of those that are in it already."""
    table = pd.read_csv(path)
    names = [config_name(cell) for cell in cells]
    earlier = table[table["stage"] == AUDIT].set_index("params")["seconds"].to_dict()
    rows = pd.DataFrame(
        {
            "stage": AUDIT,
            "number": range(len(names)),
            "params": names,
            "state": np.where(np.isnan(values), "FAIL", "COMPLETE"),
            "pseudo_auroc": values,
            "seconds": [earlier.get(name, round(seconds, 3)) for name in names],
        }
    )
    whole = pd.concat([table[table["stage"] != AUDIT], rows], ignore_index=True)
    with atomic_path(path) as temporary:
        whole.to_csv(temporary, index=False, lineterminator="\n")
