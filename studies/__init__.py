"""Staged Optuna studies over pseudo-validation sets.

The real test set cannot be reached from here: a study takes pseudo sets and a model, nothing else.
"""

from studies.design.built_in import (
    STUDIES,
    components_then_levels,
    joint,
    joint_tpe,
    k_only,
    k_then_epoch,
    k_then_t,
    staged,
    stages_then_k,
    t_then_k,
    t_then_k_then_epoch,
)
from studies.design.ranges import Range
from studies.design.stages import Stage, Study
from studies.design.study_files import read_study
from studies.run import Outcome, run_study

__all__ = [
    "STUDIES", "Outcome", "Range", "Stage", "Study", "components_then_levels", "joint", "joint_tpe",
    "k_only", "k_then_epoch", "k_then_t", "read_study", "run_study", "staged", "stages_then_k",
    "t_then_k", "t_then_k_then_epoch",
]  # fmt: skip
