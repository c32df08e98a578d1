"""Where the feature vectors of normal and anomalous patches lie, as in the paper's Figure 5."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.examples import Example
from reports.figures.style import HAIR, PSEUDO, TEST, short, styled

ANOMALOUS_SHARE = 0.25
"""A patch is anomalous if at least this share of its pixels lies in the mask; a patch that a mask
merely touches is neither, and is left out."""
MOST_CATEGORIES = 6
PANEL_INCHES = 1.75
SHOWN = 600
"""Patches of one kind in a panel at most: more cover each other."""
LOOKS: dict[bool, dict[str, Any]] = {
    False: {"label": "normal patch", "s": 7, "marker": "o", "color": PSEUDO["color"],
            "alpha": 0.45, "linewidths": 0},
    True: {"label": "patch in the mask of an anomaly", "s": 12, "marker": "x",
           "color": TEST["color"], "alpha": 0.9, "linewidths": 0.8},
}  # fmt: skip
"""Of patches, by whether they lie in the mask of an anomaly."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """The patches of one category in the plane of the two main directions at step 0.

    Attributes:
        clean: ``[N, 2]`` float64, coordinates at step 0.
        noised: ``[N, 2]`` the same patches noised to step ``large_t``, same axes.
        anomalous: ``[N]`` bool.
        explained: share of the variance at step 0 along each of the two, in [0, 1].
        large_t: the step of ``noised``.
    """

    clean: np.ndarray
    noised: np.ndarray
    anomalous: np.ndarray
    explained: tuple[float, float]
    large_t: int

    def separation(self, points: np.ndarray) -> float:
        """Distance of the two kinds' centres in root mean square radii of the normal patches.

        Args:
            points: ``clean`` or ``noised``.
        """
        normal, anomalous = points[~self.anomalous], points[self.anomalous]
        centre = normal.mean(axis=0)
        radius = np.sqrt(((normal - centre) ** 2).sum(axis=1).mean())
        return float(np.linalg.norm(anomalous.mean(axis=0) - centre) / radius)


def project(examples: Sequence[Example]) -> Patches | None:
    """Principal components of the patches of some examples, fitted on step 0.

    Args:
        examples: of one category; those without features, or of a defect without a mask, are
            left out.

    Returns:
        None where fewer than three patches are left or they are all the same.
    """
    clean, noised, anomalous, steps = [], [], [], []
    for example in examples:
        if example.features is None or example.features_noised is None or example.mask is None:
            continue
        if example.large_t is None or example.features.shape != example.features_noised.shape:
            continue
        channels, rows, columns = example.features.shape
        share = patch_shares(example.mask, rows, columns).ravel()
        kept = (share == 0) | (share >= ANOMALOUS_SHARE)
        clean.append(example.features.reshape(channels, -1).T[kept])
        noised.append(example.features_noised.reshape(channels, -1).T[kept])
        anomalous.append(share[kept] > 0)
        steps.append(example.large_t)
    if not clean:
        return None
    vectors = np.concatenate(clean).astype(np.float64)  # [N, C]
    centre = vectors.mean(axis=0)
    _, spread, directions = np.linalg.svd(vectors - centre, full_matrices=False)
    if len(vectors) < 3 or len(spread) < 2 or spread[0] == 0:
        return None
    # The sign of a component is free; the largest entry positive makes it the same everywhere.
    axes = directions[:2]
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(2), largest])[:, None]
    variance = spread**2 / (spread**2).sum()
    return Patches(
        clean=(vectors - centre) @ axes.T,
        noised=(np.concatenate(noised).astype(np.float64) - centre) @ axes.T,
        anomalous=np.concatenate(anomalous),
        explained=(float(variance[0]), float(variance[1])),
        large_t=max(steps),
    )


def patch_shares(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Share of each patch ``[rows, columns]`` in [0, 1] that a mask ``[H, W]`` covers.

    Patches tile the image evenly; a pixel on a border counts for the patch of its centre.
    """
    height, width = mask.shape
    ys = ((np.arange(height) + 0.5) * rows / height).astype(int)
    xs = ((np.arange(width) + 0.5) * columns / width).astype(int)
    counts = np.zeros((rows, columns))
    pixels = np.zeros((rows, columns))
    where = np.ix_(ys, xs)
    np.add.at(pixels, where, 1)
    np.add.at(counts, where, mask)
    return np.divide(counts, pixels, out=np.zeros_like(counts), where=pixels > 0)


def planes(examples: Sequence[Example]) -> list[tuple[str, Patches]]:
    """The plane of each category that has patches of both kinds, at most ``MOST_CATEGORIES``."""
    found = []
    for category in dict.fromkeys(one.category for one in examples):
        patches = project([one for one in examples if one.category == category])
        if patches is not None and patches.anomalous.any() and not patches.anomalous.all():
            found.append((category, patches))
    return found[:MOST_CATEGORIES]


@styled
def features_figure(examples: Sequence[Example]) -> Figure | None:
    """Per category the patches at step 0, and the same noised to a large step under them.

    Both panels of a category have the same axes, so that the spread can be compared; of a single
    category they stand side by side. None where no example has features.
    """
    found = planes(examples)
    if not found:
        return None
    down, across = (1, 2) if len(found) == 1 else (2, len(found))
    size = (0.5 + PANEL_INCHES * across, 0.6 + PANEL_INCHES * down)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for column, (category, patches) in enumerate(found):
        pair = grid[0] if len(found) == 1 else grid[:, column]
        reach = 1.08 * max(np.abs(patches.clean).max(), np.abs(patches.noised).max())
        name = short(category, 18)
        titles = (f"{name}, step 0", f"step {patches.large_t}")
        for axes, points, title in zip(pair, (patches.clean, patches.noised), titles, strict=True):
            _draw(axes, points, patches.anomalous, reach)
            axes.set_title(title, fontsize=8, pad=3)
            axes.set_xlabel(f"PC 1 ({patches.explained[0]:.0%})", fontsize=7.5)
            axes.set_ylabel(f"PC 2 ({patches.explained[1]:.0%})", fontsize=7.5)
    # Those of one panel stand for all.
    handles = grid[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", ncols=2, fontsize=8, handletextpad=0.2)
    return figure


def _draw(axes: Axes, points: np.ndarray, anomalous: np.ndarray, reach: float) -> None:
    for kind, look in LOOKS.items():
        shown = points[anomalous == kind]
        # Evenly over the list, which goes through the images in order.
        shown = shown[:: max(1, -(-len(shown) // SHOWN))]
        axes.scatter(*shown.T, **look)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_box_aspect(1)
    axes.axhline(0, color=HAIR, linewidth=0.7, zorder=0)
    axes.axvline(0, color=HAIR, linewidth=0.7, zorder=0)
    axes.tick_params(labelsize=6.5, length=2)
