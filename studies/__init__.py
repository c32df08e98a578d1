"""Staged Optuna studies over pseudo-validation sets.

The real test set cannot be reached from here: a study takes pseudo sets and a model, nothing else.
"""

from studies.design.stages import (
    STUDIES,
    Stage,
    Study,
    joint,
    joint_tpe,
    k_only,
    k_then_t,
    stages_then_k,
    t_then_k,
)
from studies.design.study_files import read_study
from studies.run import run_study
from studies.search.search import Outcome

__all__ = [
    "STUDIES", "Outcome", "Stage", "Study", "joint", "joint_tpe", "k_only", "k_then_t",
    "read_study", "run_study", "stages_then_k", "t_then_k",
]  # fmt: skip
