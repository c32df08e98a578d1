"""Changing a fragment before it is pasted: one albumentations pipeline, from our own random stream.

A pipeline is what ``albumentations.to_dict`` gives: plain JSON, which the manifest keeps. One of
one's own is a file of that, made for example by

    json.dump(albumentations.to_dict(albumentations.Compose([...])), file)
"""

import json
import os
import random
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pseudoval.errors import UserError

CHANGED = ("brightness", "contrast", "saturation")
Augment = Callable[[np.ndarray], np.ndarray]
"""uint8 ``[h, w, 3]`` to the same."""
LEAST_SIDE = 8
"""Pixels; OpenCV's warp never returns from mirroring at the border of a picture one pixel wide."""

TRIALS = 8
"""Times that a pipeline of one's own is tried: most transforms are applied at random."""


def default_pipeline(jitter: float, flips: float) -> dict[str, Any]:
    """The pipeline of the papers: mirroring, then brightness, contrast and saturation.

    Args:
        jitter: largest relative change of each of the three; 0 for none.
        flips: probability of mirroring in each direction.
    """
    steps: list[dict[str, Any]] = []
    if flips:
        steps += [
            {"__class_fullname__": name, "p": flips} for name in ("HorizontalFlip", "VerticalFlip")
        ]
    if jitter:
        span = [max(1 - jitter, 0.0), 1 + jitter]
        changes = {**dict.fromkeys(CHANGED, span), "hue": [0.0, 0.0]}
        steps.append({"__class_fullname__": "ColorJitter", "p": 1.0, **changes})
    return {"transform": {"__class_fullname__": "Compose", "p": 1.0, "transforms": steps}}


@lru_cache(maxsize=8)
def read_pipeline(path: Path) -> dict[str, Any]:
    """The pipeline in a file, which is read once: a set is made with what its manifest says.

    Raises:
        UserError: not JSON of ``albumentations.to_dict``, an unknown transform, options that it
            does not accept, or a pipeline that changes the size of a picture.
    """
    sample = np.zeros((32, 48, 3), np.uint8)
    try:
        pipeline = json.loads(path.read_text(encoding="utf-8"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the library passes over what it does not know
            augment = augmentation(pipeline, np.random.default_rng(0))
        for _ in range(TRIALS):
            changed = augment(sample)
            if changed.shape != sample.shape or changed.dtype != np.uint8:
                raise ValueError("it changes the size or the type of a picture")
    except Exception as error:  # whatever the library raises for what is not its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"The pipeline {path} cannot be used ({reason}); write it with albumentations.to_dict."
        ) from None
    return dict(pipeline)


def augmentation(pipeline: dict[str, Any], rng: np.random.Generator) -> Augment:
    """A pipeline as a function that draws from ``rng`` alone, at every call anew."""
    if not pipeline["transform"].get("transforms", True):
        return lambda patch: patch
    transforms = _transforms(json.dumps(pipeline))
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
def _transforms(pipeline: str) -> tuple[Any, ...]:
    """The steps of a pipeline; making them takes as long as using them ten times."""
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

    whole = library.from_dict(json.loads(pipeline))
    # A Compose that is always applied draws whether to be: its steps alone do not.
    steps = whole.transforms if isinstance(whole, library.Compose) and whole.p == 1 else [whole]
    for place, step in enumerate(steps):
        if type(step) is library.ColorJitter and step.hue == (0, 0):
            options = {name: getattr(step, name) for name in CHANGED}
            steps[place] = ColorJitter(**options, hue=(0.0, 0.0), p=step.p)
    return tuple(steps)
