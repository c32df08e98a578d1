"""Scoring one stage: its grid, or what TPE suggests of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback
from pseudoval.statistics.objectives import values
from studies.design.stages import GRID, Stage
from studies.search.members import Member, mean_over_members, score_members
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
        return mean_over_members([values(objective, matrix) for matrix in batches[-1]])

    order = tried(stage, grid, seed, score)
    wholes = [ScoreMatrix.joined(of_member) for of_member in zip(*batches, strict=True)]
    ascending = [config for config in grid if config in order]
    return Scored(
        order=order,
        matrices=[whole.select([whole.row(config) for config in ascending]) for whole in wholes],
    )
