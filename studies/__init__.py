"""Staged Optuna studies over pseudo-validation sets.

The real test set cannot be reached from here: a study takes pseudo sets and a model, nothing else.
"""

from studies.run import run_study
from studies.search import Outcome
from studies.spec import STUDIES, Stage, Study, k_only, t_then_k

__all__ = ["STUDIES", "Outcome", "Stage", "Study", "k_only", "run_study", "t_then_k"]
