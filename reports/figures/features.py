"""Where the feature vectors of normal and anomalous patches lie, as in the paper's Figure 5."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from reports.figures.examples import Example, by_category
from reports.figures.style import HAIR, PSEUDO, TEST, short, styled

ANOMALOUS_SHARE = 0.25
"""A patch is anomalous if at least this share of its pixels lies in the mask; a patch that a mask
merely touches is neither, and is left out."""
MOST_CATEGORIES = 6
PANEL_INCHES = (1.8, 1.9)
SHOWN = 600
"""Patches of one kind in a panel at most: more cover each other."""
LABELS = ("normal patch", "patch in the mask of an anomaly")
LOOKS: tuple[dict[str, Any], ...] = (
    {"marker": "o", "color": PSEUDO["color"], "s": 7, "alpha": 0.45, "linewidths": 0},
    {"marker": "x", "color": TEST["color"], "s": 12, "alpha": 0.9, "linewidths": 0.8},
)
"""Of normal and of anomalous patches."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """The patches of one category in the plane of the two main directions at step 0.

    Attributes:
        points: ``[2, N, 2]`` float64, coordinates at step 0 and noised to step ``large_t``, on the
            same axes.
        anomalous: ``[N]`` bool.
        explained: share of the variance at step 0 along each of the two, in [0, 1].
        large_t: the step of the second ``points``.
    """

    points: np.ndarray
    anomalous: np.ndarray
    explained: tuple[float, float]
    large_t: int

    @property
    def separations(self) -> list[float]:
        """Distance of the two kinds' centres in root mean square radii of the normal patches.

        At step 0 and at ``large_t``.
        """
        normal, anomalous = self.points[:, ~self.anomalous], self.points[:, self.anomalous]
        centres = normal.mean(axis=1)
        radii = np.sqrt(((normal - centres[:, None]) ** 2).sum(axis=2).mean(axis=1))
        distances = np.linalg.norm(anomalous.mean(axis=1) - centres, axis=1)
        return (distances / radii).tolist()


def project(examples: Sequence[Example]) -> Patches | None:
    """Principal components of the patches of some examples, fitted on step 0.

    Args:
        examples: of one category; those without features, or of a defect without a mask, are
            left out.

    Returns:
        None where fewer than three patches are left or they are all the same.
    """
    features, anomalous, steps = [], [], []
    for example in examples:
        if example.features is None or example.large_t is None or example.mask is None:
            continue
        share = patch_shares(example.mask, *example.features.shape[2:])
        kept = (share == 0) | (share >= ANOMALOUS_SHARE)
        features.append(example.features[:, :, kept])
        anomalous.append(share[kept] > 0)
        steps.append(example.large_t)
    if not features:
        return None
    vectors = np.concatenate(features, axis=2).astype(np.float64).transpose(0, 2, 1)  # [2, N, C]
    centred = vectors - vectors[0].mean(axis=0)
    _, spread, directions = np.linalg.svd(centred[0], full_matrices=False)
    if centred.shape[1] < 3 or len(spread) < 2 or spread[0] == 0:
        return None
    # The sign of a component is free; the largest entry positive makes it the same everywhere.
    axes = [axis * np.sign(axis[np.abs(axis).argmax()]) for axis in directions[:2]]
    first, second = (spread**2 / (spread**2).sum())[:2].tolist()
    return Patches(
        points=centred @ np.transpose(axes),
        anomalous=np.concatenate(anomalous),
        explained=(first, second),
        large_t=max(steps),
    )


def patch_shares(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Share of each patch ``[rows, columns]`` in [0, 1] that a mask ``[H, W]`` covers.

    Patches tile the image evenly; a pixel on a border counts for the patch of its centre.
    """
    image = Image.fromarray(mask.astype(np.float32))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BOX))


def planes(examples: Sequence[Example]) -> list[tuple[str, Patches]]:
    """The plane of each category that has patches of both kinds, at most ``MOST_CATEGORIES``."""
    found = []
    for category, members in by_category(examples).items():
        patches = project(members)
        if patches is not None and patches.anomalous.any() and not patches.anomalous.all():
            found.append((category, patches))
    return found[:MOST_CATEGORIES]


@styled
def features_figure(examples: Sequence[Example]) -> Figure | None:
    """Per category a row with the patches at step 0, and the same noised to a large step.

    Both panels of a category have the same axes, so that the spread can be compared. None where
    no example has features.
    """
    found = planes(examples)
    if not found:
        return None
    figure = Figure(figsize=(2 * PANEL_INCHES[0], 0.4 + len(found) * PANEL_INCHES[1]))
    grid = figure.subplots(len(found), 2, sharex="row", sharey="row", squeeze=False)
    for pair, (category, patches) in zip(grid, found, strict=True):
        titles = (f"{short(category, 18)}, step 0", f"step {patches.large_t}")
        for axes, points, title in zip(pair, patches.points, titles, strict=True):
            _draw(axes, points, patches.anomalous)
            axes.set(title=title, xlabel=f"PC 1 ({patches.explained[0]:.0%})")
        pair[0].set_ylabel(f"PC 2 ({patches.explained[1]:.0%})")
        reach = 1.08 * np.abs(patches.points).max()
        pair[0].set(xlim=(-reach, reach), ylim=(-reach, reach))
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def _draw(axes: Axes, points: np.ndarray, anomalous: np.ndarray) -> None:
    for kind, look in enumerate(LOOKS):
        shown = points[anomalous == kind]
        # Evenly over the list, which goes through the images in order.
        axes.scatter(*shown[:: -(-len(shown) // SHOWN)].T, label=LABELS[kind], **look)
    axes.set_box_aspect(1)
    axes.axhline(0, color=HAIR, linewidth=0.7, zorder=0)
    axes.axvline(0, color=HAIR, linewidth=0.7, zorder=0)
