"""Which images are drawn together: the groups of each category, and how often each is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The images of one category, or of several that are ranked together.

    Attributes:
        name: of the category.
        inside: ``[n]`` rows among all images.
        group: ``[n]`` number of the group of each, from 0 without gaps.
        anomalous: ``[n]`` bool.
    """

    name: str
    inside: np.ndarray
    group: np.ndarray
    anomalous: np.ndarray

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of groups with a normal and with an anomalous image."""
        normal, anomalous = (np.unique(self.group[self.anomalous == one]) for one in (False, True))
        return len(normal), len(anomalous)


def samples_by_category(
    categories: Sequence[str], labels: np.ndarray, groups: Sequence[str]
) -> list[Sample]:
    """The images of each category, sorted by its name; a group is looked at within its category.

    Args:
        categories, labels, groups: of the N images.
    """
    of_category, of_group = np.asarray(categories), np.asarray(groups)
    samples = []
    for name in sorted(set(categories)):
        inside = np.flatnonzero(of_category == name)
        _, group = np.unique(of_group[inside], return_inverse=True)
        anomalous = np.asarray(labels)[inside] == 1
        samples.append(Sample(name=name, inside=inside, group=group, anomalous=anomalous))
    return samples


def draw_samples(
    samples: Sequence[Sample], replicates: int, seed: int, stream: int = 0
) -> list[np.ndarray]:
    """How often each group is drawn: ``[groups, replicates]`` int32 of each sample.

    Args:
        seed, stream: the draws are a function of both; other streams are independent.
    """
    return [
        draw_groups(
            sample.group, sample.anomalous, replicates, np.random.default_rng([seed, stream, place])
        )
        for place, sample in enumerate(samples)
    ]


def draw_groups(
    group: np.ndarray, anomalous: np.ndarray, replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """How often each group is drawn, with replacement within its stratum.

    Args:
        group: ``[N]``, number of the group of each image, from 0 without gaps.
        anomalous: ``[N]`` bool.

    Returns:
        ``[groups, replicates]`` int32.
    """
    counts = np.zeros((int(group.max()) + 1, replicates), dtype=np.int32)
    for members in group_strata(group, anomalous):
        size = len(members)
        drawn = rng.integers(0, size, (replicates, size))
        drawn += size * np.arange(replicates)[:, None]
        table = np.bincount(drawn.ravel(), minlength=size * replicates)
        counts[members] = table.reshape(replicates, size).T
    return counts


def group_strata(group: np.ndarray, anomalous: np.ndarray) -> list[np.ndarray]:
    """The groups with normal images only, with anomalous ones only, and with both."""
    classes = np.zeros(int(group.max()) + 1, dtype=int)
    np.bitwise_or.at(classes, group, np.where(anomalous, 2, 1))
    strata = (np.flatnonzero(classes == kind) for kind in (1, 2, 3))
    return [members for members in strata if members.size]
