"""From scenes to files: normal images, defect images with their twins and masks, the dataset."""

import zlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from pseudoval.demo import board, fabric, flange
from pseudoval.demo.camera import Image, develop, expose, sample_grain, sample_light
from pseudoval.demo.canvas import SUPERSAMPLE, Field
from pseudoval.demo.defects import Damage

_MODULES: Mapping[str, ModuleType] = {"board": board, "fabric": fabric, "flange": flange}

CATEGORIES: tuple[str, ...] = tuple(_MODULES)
"""Names of the rendered categories."""
DEFECT_KINDS: Mapping[str, tuple[str, ...]] = {
    category: tuple(module.DEFECTS) for category, module in _MODULES.items()
}
"""Kinds of defect by category."""

MIN_SIZE = 64
"""Smallest image side in pixels: below it a defect is lost among the pixels."""
CHANGE_FLOOR = 8.0
"""Smallest mean absolute change under a mask, in grey levels."""
SMALL, LARGE = 0.009, 0.03
"""Largest masks, as shares of the image: of two defect images in three, and of the third."""
# Grey levels; about twice the grain.
_VISIBLE = 4.0
_ATTEMPTS = 200


@dataclass(frozen=True, kw_only=True)
class DefectImage:
    """A defect image, its defect-free twin (same scene, light and grain) and the mask."""

    image: Image
    """[size, size, 3] uint8, RGB."""
    twin: Image
    """[size, size, 3] uint8; equal to `image` outside the mask."""
    mask: npt.NDArray[np.bool_]
    """[size, size], true where the defect visibly changed the image."""


def render_dataset(
    out: Path,
    *,
    seed: int = 0,
    size: int = 192,
    train: int = 64,
    test_good: int = 20,
    defects_per_kind: int = 6,
    categories: Sequence[str] | None = None,
) -> None:
    """Write the demo dataset into the existing folder `out`, in the MVTec layout.

    Each category gets `train/good/000.png`, `test/good/000.png`, `test/DEFECT/000.png` (RGB, 8 bit,
    `size` x `size` pixels) and `ground_truth/DEFECT/000_mask.png` (single channel, 0 or 255). Every
    image depends on (seed, category, split or defect, index) and `size` alone.

    Raises ValueError for a size below 64 or a negative seed, KeyError for an unknown category.
    """
    chosen = {name: _MODULES[name] for name in categories or CATEGORIES}
    if size < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE} pixels, got {size}")
    for category in chosen:
        root = out / category
        for split, count in (("train", train), ("test", test_good)):
            for index in range(count):
                image = render_normal(category, split, index, seed=seed, size=size)
                _write(root / split / "good" / f"{index:03d}.png", image)
        for kind in chosen[category].DEFECTS:
            for index in range(defects_per_kind):
                shown = render_defect(category, kind, index, seed=seed, size=size)
                mask = np.where(shown.mask, np.uint8(255), np.uint8(0))
                _write(root / "test" / kind / f"{index:03d}.png", shown.image)
                _write(root / "ground_truth" / kind / f"{index:03d}_mask.png", mask)


def render_normal(
    category: str, split: str, index: int, *, seed: int = 0, size: int = 192
) -> Image:
    """Return normal image `index` of a split (`train` or `test`): uint8 [size, size, 3] RGB."""
    module = _MODULES[category]
    rng = _generator(seed, category, f"{split}/good", index)
    scene = module.sample(rng, size * SUPERSAMPLE)
    light = sample_light(rng)
    return expose(develop(module.paint(scene), light), sample_grain(rng, light, size))


def render_defect(
    category: str, kind: str, index: int, *, seed: int = 0, size: int = 192
) -> DefectImage:
    """Return the defect image `index` of a kind.

    Two of three masks (index % 3 < 2) cover less than 1 % of the image, the others less than 3 %.
    Raises KeyError for an unknown category or kind.
    """
    module = _MODULES[category]
    rng = _generator(seed, category, f"test/{kind}", index)
    scene = module.sample(rng, size * SUPERSAMPLE)
    light = sample_light(rng)
    grain = sample_grain(rng, light, size)
    surface = module.paint(scene)
    clean = develop(surface, light)
    twin = expose(clean, grain)
    largest = (SMALL if index % 3 < 2 else LARGE) * size * size
    for _ in range(_ATTEMPTS):
        severity, extent = rng.uniform(size=2)
        damage = Damage(rng=rng, severity=severity, extent=extent)
        spoilt = develop(module.DEFECTS[kind](scene, deepcopy(surface), damage), light)
        mask = _visible_change(clean, spoilt)
        if not 0 < mask.sum() <= largest:
            continue
        image = expose(np.where(mask[..., None], spoilt, clean), grain)
        change = np.abs(image.astype(np.int16) - twin)[mask]
        if change.mean() >= CHANGE_FLOOR:
            return DefectImage(image=image, twin=twin, mask=mask)
    raise RuntimeError(f"no visible {kind} on {category} {index} in {_ATTEMPTS} attempts")


def _visible_change(clean: Field, spoilt: Field) -> npt.NDArray[np.bool_]:
    """Return where two pictures [size, size, 3] differ visibly, without specks and pinholes."""
    change = np.abs(spoilt - clean).max(axis=2)
    # Differences are judged over a pixel's neighbourhood: one pixel more or less is not seen.
    change = cv2.GaussianBlur(change, (0, 0), 0.6)
    seen = (change >= _VISIBLE).astype(np.uint8)
    seen = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(seen, connectivity=8)
    smallest = max(4, clean.shape[0] ** 2 // 5000)
    large = stats[:, cv2.CC_STAT_AREA] >= smallest
    large[0] = False
    return large[labels]


def _generator(seed: int, category: str, group: str, index: int) -> np.random.Generator:
    """Return the generator of one image; it does not depend on which others are rendered."""
    words = [zlib.crc32(text.encode()) for text in (category, group)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words, index]))


def _write(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Grain hardly compresses: more effort would take a third of the time for a few per cent.
    PillowImage.fromarray(pixels).save(path, compress_level=1)
