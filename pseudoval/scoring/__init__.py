"""A detector and images make a score matrix, predictions or examples."""

from pseudoval.scoring.evaluate import evaluate_refit, evaluate_run

__all__ = ["evaluate_refit", "evaluate_run"]
