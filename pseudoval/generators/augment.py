"""Changing a fragment before it is pasted, through albumentations, from our own random stream."""

import os
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from pseudoval.generators.options import PasteConfig

Augment = Callable[[np.ndarray], np.ndarray]
"""uint8 ``[h, w, 3]`` to the same."""


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
        for transform in transforms:
            patch = transform(image=patch)["image"]
        return patch

    return augment


@lru_cache(maxsize=8)
def _transforms(
    jitter: float, flips: float, zoom: float, blur: float, elastic: float
) -> tuple[Any, ...]:
    """The transforms of these strengths; making them takes as long as using them ten times."""
    # The import asks the package index for its newest version unless told not to, and takes two
    # seconds: only who needs it pays.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as library
    import cv2

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
            library.ColorJitter(
                brightness=span, contrast=span, saturation=span, hue=(0.0, 0.0), p=1.0
            )
        )
    return tuple(made)
