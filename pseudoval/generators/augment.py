"""Changing a fragment before it is pasted, through albumentations, from our own random stream."""

import os
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from pseudoval.generators.options import PasteConfig

Augment = Callable[[np.ndarray], np.ndarray]
"""uint8 ``[h, w, 3]`` to the same."""
LEAST_SIDE = 8
"""Pixels; OpenCV's warp never returns from mirroring at the border of a picture one pixel wide."""


def augmentation(config: PasteConfig, rng: np.random.Generator) -> Augment:
    """Colour, mirroring, size, blur and elastic deformation as ``config`` says.

    All draw from ``rng`` alone, at every call anew.
    """
    strengths = (config.jitter, config.flips, config.zoom, config.blur, config.elastic)
    if not any(strengths):
        return lambda patch: patch
    transforms = _transforms(*strengths)
    # Compose(seed=...) would start every transform from the same stream; sharing ours does not.
    other = random.Random(int(rng.integers(2**63)))
    for transform in transforms:
        transform.set_random_state(rng, other)

    def augment(patch: np.ndarray) -> np.ndarray:
        h, w = patch.shape[:2]
        bottom, right = max(LEAST_SIDE - h, 0), max(LEAST_SIDE - w, 0)
        if bottom or right:
            patch = cv2.copyMakeBorder(patch, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        for transform in transforms:
            patch = transform(image=patch)["image"]
        return patch[:h, :w]

    return augment


def change_colour(
    patch: np.ndarray, factors: tuple[float, float, float], order: Sequence[int]
) -> np.ndarray:
    """Brightness, contrast (about the mean grey) and saturation of a patch, changed by factors.

    Each step is linear in a pixel and its grey value, so all three are one weighted sum. Unlike a
    step at a time this rounds and clips once, at the end.

    Args:
        patch: uint8 ``[h, w, 3]``.
        order: the order of the three, by their place in ``factors``; other numbers are ignored.
    """
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    mean = cv2.mean(grey)[0]
    own, of_grey, constant = 1.0, 0.0, 0.0  # weights of the pixel and its grey, and what is added
    for step in order:
        if step in (0, 1):
            factor = factors[step]
            about = (own + of_grey) * mean + constant if step == 1 else 0.0
            own, of_grey = factor * own, factor * of_grey
            constant = factor * constant + (1 - factor) * about
        elif step == 2:
            of_grey = factors[2] * of_grey + (1 - factors[2]) * (own + of_grey)
            own *= factors[2]
    return cv2.addWeighted(patch, own, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), of_grey, constant)


@lru_cache(maxsize=8)
def _transforms(
    jitter: float, flips: float, zoom: float, blur: float, elastic: float
) -> tuple[Any, ...]:
    """The transforms of these strengths; making them takes as long as using them ten times."""
    # The import asks the package index for its newest version unless told not to, and takes two
    # seconds: only who needs it pays.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as library

    class ColorJitter(library.ColorJitter):
        """The library's, in one pass over the pixels: it is most of the time of an anomaly."""

        def apply(
            self, img: np.ndarray, brightness: float, contrast: float, saturation: float,
            order: Sequence[int], **params: Any,
        ) -> np.ndarray:  # fmt: skip
            return change_colour(img, (brightness, contrast, saturation), order)

    made: list[Any] = []
    if flips:
        made += [library.HorizontalFlip(p=flips), library.VerticalFlip(p=flips)]
    if zoom:
        made.append(
            library.Affine(
                scale=(1 - zoom, 1 + zoom),
                interpolation=cv2.INTER_CUBIC,
                border_mode=cv2.BORDER_REFLECT_101,
                p=1.0,
            )
        )
    if elastic:
        # Displacements are noise in -1..1, smoothed and multiplied by alpha: a smoothing of
        # 4 pixels keeps about a tenth of it.
        made.append(
            library.ElasticTransform(
                alpha=10 * elastic, sigma=4.0, border_mode=cv2.BORDER_REFLECT_101, p=1.0
            )
        )
    if blur:
        made.append(library.GaussianBlur(sigma_limit=(0.0, blur), blur_limit=0, p=1.0))
    if jitter:
        span = (max(1 - jitter, 0.0), 1 + jitter)
        made.append(
            ColorJitter(brightness=span, contrast=span, saturation=span, hue=(0.0, 0.0), p=1.0)
        )
    return tuple(made)
