"""Scoring one stage: its grid, or what TPE suggests of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pseudoval.metrics.runs import Params
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback
from pseudoval.statistics.objectives import values
from studies.design.stages import GRID, Stage
from studies.search.members import mean_over_members
from studies.search.prepared import PreparedStudy
from studies.search.samplers import tried
from studies.search.scoring import score_members


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of a stage.

    Attributes:
        order: the configurations in the order in which they were tried.
        matrices: of each member, the smallest t first, then the smallest K.
        seconds: that it took, for each configuration.
    """

    order: list[Config]
    matrices: list[ScoreMatrix]
    seconds: float

    @property
    def configs(self) -> list[Params]:
        """The rows of the matrices."""
        return self.matrices[0].configs


def score_stage(
    study: PreparedStudy, stage: Stage, selected: Mapping[str, int], progress: ProgressCallback
) -> Scored:
    """Score everything that a stage tries.

    Args:
        selected: what the stages before it chose.

    Raises:
        UserError: an image cannot be read, or the objective is not available.
    """
    started = time.monotonic()
    batches: list[list[ScoreMatrix]] = []
    grid = stage.configs(selected)

    def score(configs: Sequence[Config]) -> np.ndarray:
        batch = "" if stage.sampler == GRID else f"-{len(batches):03d}"
        name = f"stage-{stage.name}{batch}"
        batches.append(score_members(study, configs, name, progress))
        objective = study.header["objective"]
        return mean_over_members([values(objective, matrix) for matrix in batches[-1]])

    order = tried(stage, grid, study.header["seed"], score)
    ascending = [config for config in grid if config in order]
    wholes = [ScoreMatrix.joined(of_member) for of_member in zip(*batches, strict=True)]
    return Scored(
        order=order,
        matrices=[whole.select([whole.row(config) for config in ascending]) for whole in wholes],
        seconds=(time.monotonic() - started) / len(order),
    )
