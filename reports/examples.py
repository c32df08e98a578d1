"""Example pictures: image, mask and anomaly map side by side, read from ``RUN/examples``."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pseudoval.errors import UserError
from pseudoval.files import read_npz
from reports.figures import jpeg

KINDS = ("normal image", "pseudo anomaly", "real defect")
MOST = 12
"""Pictures on a page: four categories of the three kinds."""
PANEL_INCHES = 2.1


@dataclass(frozen=True, kw_only=True)
class Example:
    """One explained image.

    Attributes:
        id: relative path of the image.
        category: its category.
        kind: one of ``KINDS``.
        score: its image score under the chosen configuration, any real scale.
        image: ``[H, W, 3]`` uint8.
        mask: ``[H, W]`` bool, None where no mask is known.
        map: ``[h, w]`` float32, the anomaly map.
    """

    id: str
    category: str
    kind: str
    score: float
    image: np.ndarray
    mask: np.ndarray | None
    map: np.ndarray


def read_examples(folder: Path) -> list[Example]:
    """All examples in a folder, by category and kind; none if the folder is missing.

    Raises:
        UserError: a file is damaged or lacks an array.
    """
    examples = [_read(path) for path in sorted(folder.glob("*.npz"))]
    return sorted(examples, key=lambda one: (one.category, KINDS.index(one.kind)))


def choose_examples(examples: Sequence[Example]) -> list[Example]:
    """The first example of each kind of each category, at most ``MOST``.

    Every kind that there is gets its turn before a further category does.
    """
    first: dict[tuple[str, str], Example] = {}
    for example in examples:
        first.setdefault((example.category, example.kind), example)
    return list(first.values())[:MOST]


def value_ranges(examples: Sequence[Example]) -> dict[str, tuple[float, float]]:
    """Per category the lowest and highest map value, so that its pictures share one colour scale.

    A scale per picture would paint the brightest spot of a normal image like a defect.
    """
    maps = defaultdict(list)
    for example in examples:
        maps[example.category].append(example.map[np.isfinite(example.map)])
    joined = {name: np.concatenate(parts) for name, parts in maps.items()}
    return {
        name: (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        for name, values in joined.items()
    }


def example_picture(example: Example, limits: tuple[float, float]) -> bytes:
    """A JPEG of image | image with the outline of its mask | image under its anomaly map.

    Args:
        limits: map values that are fully transparent and fully coloured.
    """
    height, width = example.image.shape[:2]
    inches = PANEL_INCHES * height / width
    figure = Figure(figsize=(3 * PANEL_INCHES, inches), facecolor="white")
    extent = (0, width, height, 0)
    for column in range(3):
        axes = figure.add_axes((column / 3 + 0.004, 0.0, 1 / 3 - 0.008, 1.0))
        axes.set_axis_off()
        axes.imshow(example.image, extent=extent, aspect="auto", interpolation="antialiased")
        if column == 1 and example.mask is not None and example.mask.any():
            # Dark under light, so that the outline shows on any ground.
            edges = np.pad(example.mask, 1).astype(float)
            xs, ys = np.arange(width + 2) - 0.5, np.arange(height + 2) - 0.5
            axes.contour(xs, ys, edges, levels=[0.5], colors="black", linewidths=2.6)
            axes.contour(xs, ys, edges, levels=[0.5], colors="#ffdd33", linewidths=1.2)
        if column == 2:
            low, high = limits
            axes.imshow(
                example.map,
                extent=extent,
                aspect="auto",
                interpolation="bilinear",
                cmap="inferno",
                alpha=0.6,
                vmin=low,
                vmax=high if high > low else low + 1,
            )
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
    return jpeg(figure, dpi=130)


def _read(path: Path) -> Example:
    arrays = read_npz(path, "The example")
    try:
        meta = json.loads(str(arrays["meta"]))
        image, mask, anomaly_map = arrays["image"], arrays["mask"], arrays["map"]
        if image.ndim != 3 or image.shape[2] != 3 or mask.shape != image.shape[:2]:
            raise ValueError(f"image of shape {image.shape} with mask of shape {mask.shape}")
        if anomaly_map.ndim != 2:
            raise ValueError(f"map of shape {anomaly_map.shape}")
        anomaly = KINDS[1] if meta["set"] == "pseudo" else KINDS[2]
        return Example(
            id=str(meta["id"]),
            category=str(meta["category"]),
            kind=anomaly if meta["label"] else KINDS[0],
            score=float(meta["score"]),
            image=image.astype(np.uint8),
            mask=mask.astype(bool) if bool(arrays["has_mask"]) else None,
            map=anomaly_map.astype(np.float32),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not an example that tune or evaluate wrote ({error!r}); delete it or run "
            "the command again."
        ) from None
