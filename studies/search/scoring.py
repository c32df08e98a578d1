"""Scoring configurations for every member of a study, by whoever does the work."""

from collections.abc import Sequence

import numpy as np

from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback, labelled
from pseudoval.scoring.blocks import Scoring, forget_blocks, score_all
from pseudoval.scoring.fits import fit_banks
from pseudoval.scoring.pixels import add_pixel_figures
from pseudoval.statistics.objectives import needs_pixels
from studies.search.members import Member
from studies.search.prepared import PreparedStudy


def score_members(
    study: PreparedStudy, configs: Sequence[Config], name: str, progress: ProgressCallback
) -> list[ScoreMatrix]:
    """The score matrix of every member over the same configurations.

    Pixel figures are in it if the objective needs them; else they are left to ``with_pixels``.

    Raises:
        UserError: an image cannot be read; and as ``run_tasks``.
    """
    fit_banks([member.detector for member in study.members], configs, study.workers, progress)
    known = [_known(member, configs) for member in study.members]
    wanted = {}
    for place, (member, there) in enumerate(zip(study.members, known, strict=True)):
        missing = [config for config in configs if there is None or config not in there.configs]
        if missing:
            wanted[place] = Scoring(
                detector=member.detector, items=member.items, configs=missing, name=name,
                store=member.blocks_path,
            )  # fmt: skip
    scored = score_all([*wanted.values()], workers=study.workers, progress=progress)
    fresh = dict(zip(wanted, scored, strict=True))
    for place, scoring in wanted.items():
        member = study.members[place]
        if needs_pixels(study.header["objective"]):
            fresh[place] = _measured(study, member, fresh[place], [scoring], progress)
        else:
            member.scored.append(scoring)
    matrices = []
    for place, there in enumerate(known):
        whole = ScoreMatrix.joined([m for m in (there, fresh.get(place)) if m is not None])
        matrices.append(whole.select([whole.row(config) for config in configs]))
    return matrices


def with_pixels(
    study: PreparedStudy, matrices: Sequence[ScoreMatrix], progress: ProgressCallback
) -> list[ScoreMatrix]:
    """The matrices of the members, with the pixel figures that were left for later."""
    return [
        _measured(study, member, matrix, member.scored, progress)
        for member, matrix in zip(study.members, matrices, strict=True)
    ]


def forget_scored(study: PreparedStudy) -> None:
    """Remove the blocks of all members, whose matrices are safely written."""
    for member in study.members:
        forget_blocks(member.blocks_path)
        member.scored.clear()


def _measured(
    study: PreparedStudy,
    member: Member,
    matrix: ScoreMatrix,
    scored: Sequence[Scoring],
    progress: ProgressCallback,
) -> ScoreMatrix:
    return add_pixel_figures(
        matrix, scored, workers=study.workers, progress=labelled(progress, member.name)
    )


def _known(member: Member, configs: Sequence[Config]) -> ScoreMatrix | None:
    """The rows of an earlier matrix that need not be scored again; None if there are none."""
    matrix = member.known
    if matrix is None:
        return None
    sound = np.isfinite(matrix.scores).all(axis=1)
    rows = [row for row, one in enumerate(matrix.configs) if one in configs and sound[row]]
    return matrix.select(rows) if rows else None
