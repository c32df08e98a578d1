"""How far apart normal and anomalous scores lie, where an AUROC has nothing left to say."""

import numpy as np

from pseudoval.metrics.image_metrics import checked, mean_over_categories, metric_by_category
from pseudoval.metrics.score_matrix import ScoreMatrix


def d_prime(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Standardised difference of the two means of each row.

    The mean of the anomalous scores minus that of the normal ones, over the root of the mean of
    their variances: d_a of Simpson and Fitter 1973 ("What is the best index of detectability?",
    Psychological Bulletin 80). Of normally distributed scores the AUROC is a monotone function of
    it, ``Phi(d_a / sqrt(2))``; but where that is 1 up to the last image, it still tells more from
    less. Unlike the AUROC it depends on the scale of the scores.

    Args:
        scores: ``[..., N]``, higher is more anomalous.
        labels: ``[N]``, 0 normal and 1 anomalous.

    Returns:
        ``[...]`` float64, of any sign; without any spread 0 for equal means and infinite for
        others; NaN for a row that holds a NaN.

    Raises:
        ValueError: as of ``metrics.auroc``.
    """
    scores, anomalous = checked(scores, labels)
    parts = scores[..., anomalous].astype(np.float64), scores[..., ~anomalous].astype(np.float64)
    gap = parts[0].mean(axis=-1) - parts[1].mean(axis=-1)
    spread = np.sqrt((parts[0].var(axis=-1) + parts[1].var(axis=-1)) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(gap == 0, 0.0, gap / spread))


def separation(matrix: ScoreMatrix) -> np.ndarray:
    """Mean over the categories of ``log(1 + d')``, ``[configs]``, a negative d' counting as 0.

    The logarithm weighs relative gains: in a category that every configuration solves, d' may go
    from 20 to 25 and would drown what happens in a hard one between 1 and 1.2.
    """
    table = metric_by_category(d_prime, matrix.scores, matrix.categories, matrix.labels)
    return mean_over_categories(np.log1p(np.maximum(table, 0.0)))
