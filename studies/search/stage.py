"""Scoring one stage: its grid, or what a sampler suggests."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pseudoval.detectors import Value
from pseudoval.metrics.runs import Params
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback
from studies.design.sampler_names import GRID
from studies.design.stages import Stage
from studies.search.judging import Judged, judge
from studies.search.prepared import PreparedStudy
from studies.search.samplers import maker, tried, try_all
from studies.search.scoring import score_members
from studies.search.stage_trials import open_stage
from studies.search.storage import StudyStorage
from studies.search.trials import list_trials


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of a stage.

    Attributes:
        matrices: of each member, the smallest t first, then the smallest K.
        judged: what they are worth.
        trials: as ``trials.csv`` lists them.
    """

    matrices: list[ScoreMatrix]
    judged: Judged
    trials: pd.DataFrame

    @property
    def configs(self) -> list[Params]:
        """The rows of the matrices."""
        return self.matrices[0].configs


def score_stage(
    study: PreparedStudy,
    storage: StudyStorage,
    stage: Stage,
    selected: Mapping[str, Value],
    progress: ProgressCallback,
) -> Scored:
    """Score everything that a stage tries, and tell Optuna.

    Args:
        selected: what the stages before it chose.

    Raises:
        UserError: an image cannot be read, or the objective is not available.
    """
    objective, held = study.header["objective"], stage.held(selected)
    categories = study.header["categories"]
    trials = storage.patiently(lambda: open_stage(storage, stage, study.identity, categories))
    batches: list[list[ScoreMatrix]] = []
    verdicts: list[Judged] = []

    def score(configs: Sequence[Config]) -> None:
        began = time.monotonic()
        batch = "" if stage.sampler == GRID else f"-{len(batches):03d}"
        name = f"stage-{stage.name}{batch}"
        batches.append(score_members(study, configs, name, progress))
        verdicts.append(judge(objective, study.members, batches[-1]))
        seconds = (time.monotonic() - began) / len(configs)
        outcomes = [
            verdicts[-1].trial_result(row, config, seconds) for row, config in enumerate(configs)
        ]
        storage.patiently(lambda: trials.record(outcomes))

    make = maker(stage, study.sampler)
    try_all(trials, storage, held, seed=study.header["seed"], make=make, score=score)
    matrices, judged = batches[0], verdicts[0]
    if stage.sampler != GRID:
        ascending = stage.ascending(tried(trials, held)[: stage.budget])
        wholes = [ScoreMatrix.joined(of_member) for of_member in zip(*batches, strict=True)]
        matrices = [whole.select([whole.row(config) for config in ascending]) for whole in wholes]
        judged = judge(objective, study.members, matrices)
    listed = storage.patiently(lambda: list_trials(trials, matrices[0].configs, judged))
    return Scored(matrices=matrices, judged=judged, trials=listed)
