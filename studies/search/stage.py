"""Scoring one stage: its grid or what TPE suggests, and refined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback
from pseudoval.statistics.objectives import values
from studies.design.stages import GRID, Stage
from studies.search.judging import replicates_of
from studies.search.members import Member, mean_over_members, score_members
from studies.search.refining import between, in_order
from studies.search.samplers import tried


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of a stage.

    Attributes:
        order: the configurations in the order in which they were tried.
        matrices: of each member, the smallest t first, then the smallest K.
    """

    order: list[Config]
    matrices: list[ScoreMatrix]

    @property
    def configs(self) -> list[dict[str, float | str]]:
        """The rows of the matrices."""
        return self.matrices[0].configs


def score_stage(
    stage: Stage,
    selected: Mapping[str, int],
    members: Sequence[Member],
    objective: str,
    seed: int,
    report: ProgressCallback,
) -> Scored:
    """Score everything that a stage tries.

    Args:
        selected: what the stages before it chose.
        seed: of the sampler.

    Raises:
        UserError: an image cannot be read, or the objective is not available.
    """
    batches: list[list[ScoreMatrix]] = []
    grid = stage.configs(selected)
    name = f"stage-{stage.name}"

    def score(configs: Sequence[Config]) -> np.ndarray:
        label = name if stage.sampler == GRID else f"{name}-{len(batches):03d}"
        batches.append(score_members(members, configs, label, report))
        return _means(objective, batches[-1])

    order = tried(stage, grid, seed, score)
    added = _refine(stage, order, batches, members, objective, name, report)
    rows = in_order(stage, [*order, *added])
    wholes = [ScoreMatrix.joined(of_member) for of_member in zip(*batches, strict=True)]
    wholes = [whole.select([whole.row(config) for config in rows]) for whole in wholes]
    return Scored(
        order=[*order, *added],
        matrices=wholes,
    )


def _refine(
    stage: Stage,
    order: Sequence[Config],
    batches: list[list[ScoreMatrix]],
    members: Sequence[Member],
    objective: str,
    name: str,
    report: ProgressCallback,
) -> list[Config]:
    """Add rounds of values around the leader to the batches, scored on all images."""
    added: list[Config] = []
    for number in range(stage.refine):
        matrices = [ScoreMatrix.joined(of_member) for of_member in zip(*batches, strict=True)]
        means = _means(objective, matrices)
        if np.isnan(means).all():
            break  # the study ends with a sentence when it is to choose
        fresh = between(
            stage,
            matrices[0].configs,
            means,
            lambda matrices=matrices: replicates_of(objective, members, matrices),  # type: ignore[misc]
        )
        if not fresh:
            break
        batches.append(score_members(members, fresh, f"{name}-refine-{number}", report))
        added += fresh
    return added


def _means(objective: str, matrices: Sequence[ScoreMatrix]) -> np.ndarray:
    return mean_over_members([values(objective, matrix) for matrix in matrices])
