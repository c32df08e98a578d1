"""What choosing on labelled validation data would cost: repeated halves of a labelled set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pseudoval.statistics.intervals import TIE
from pseudoval.statistics.samples import group_strata, samples_by_category
from pseudoval.statistics.weighted import weighted_auroc

SPLITS = 200
SMALLEST = 20
"""Groups that each class of each category needs, so that each half has ten."""

LABELLED_MEANING = (
    "What an author would pay who had labels: one half of the real test images, drawn at random "
    "within each category and class, chooses the configuration, the other half pays for it, over "
    "{splits} splits. The regret is what the best configuration of the whole test set reaches on "
    "the half that pays, minus what the chosen one reaches there; it is counted from the same "
    "best as the regret of the choice made without labels."
)


@dataclass(frozen=True, kw_only=True)
class Halves:
    """AUROC of configurations on both halves of a set, for many splits.

    Attributes:
        names: categories, sorted.
        chooses, pays: ``[categories, C, splits]``; NaN for a category that is too small.
        sizes: of the smallest class of each category, in groups.
    """

    names: list[str]
    chooses: np.ndarray
    pays: np.ndarray
    sizes: list[int]

    def too_small(self, category: str | None) -> str | None:
        """The first category (of one, or of all) that cannot be split; None if there is none."""
        for name, size in zip(self.names, self.sizes, strict=True):
            if category in (None, name) and size < SMALLEST:
                return name
        return None

    def paid(self, rows: Sequence[int], category: str | None) -> np.ndarray:
        """AUROC on the one half of what the other half chose, ``[splits]``.

        Args:
            rows: candidates, ordered so that the first of equals is to be chosen.
            category: None chooses by the mean over the categories, and pays it.
        """
        places = [
            place for place, name in enumerate(self.names) if category is None or name == category
        ]
        chooses = self.chooses[np.ix_(places, rows)].mean(axis=0)
        pays = self.pays[np.ix_(places, rows)].mean(axis=0)
        chosen = (chooses >= np.nanmax(chooses, axis=0) - TIE).argmax(axis=0)
        return np.asarray(pays[chosen, np.arange(pays.shape[1])])


def split_halves(
    scores: np.ndarray,
    categories: Sequence[str],
    labels: np.ndarray,
    groups: Sequence[str],
    *,
    splits: int = SPLITS,
    seed: int = 0,
) -> Halves:
    """Score every configuration on random halves, stratified by category and class.

    Groups stay whole. Of an odd number of groups the one left over goes to the half that pays.

    Args:
        scores: ``[C, N]``.
        categories, labels, groups: of the N images.
    """
    scores = np.asarray(scores, dtype=np.float64)
    samples = samples_by_category(categories, labels, groups)
    shape = (len(samples), len(scores), splits)
    chooses, pays = np.full(shape, np.nan), np.full(shape, np.nan)
    for place, sample in enumerate(samples):
        if min(sample.sizes) < SMALLEST:
            continue
        inside, group, anomalous = scores[:, sample.inside], sample.group, sample.anomalous
        rng = np.random.default_rng([seed, 2, place])
        half = np.zeros((int(group.max()) + 1, splits), dtype=np.int32)
        for members in group_strata(group, anomalous):
            drawn = rng.permuted(np.tile(members, (splits, 1)), axis=1)[:, : len(members) // 2]
            half[drawn.T, np.arange(splits)] = 1
        chooses[place] = weighted_auroc(inside, anomalous, half, group)
        pays[place] = weighted_auroc(inside, anomalous, 1 - half, group)
    return Halves(
        names=[sample.name for sample in samples],
        chooses=chooses,
        pays=pays,
        sizes=[min(sample.sizes) for sample in samples],
    )
