"""Repeats are told from parts that merely look alike."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pseudoval.audit.near_duplicates import descriptors, similar_pairs

SIDE = 160


def part(seed: int) -> np.ndarray:
    """A machined plate: the same layout each time, with scratches and grain of its own."""
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE, 3), 40, np.uint8)
    cv2.circle(image, (80, 80), 62, (150, 150, 160), -1)
    cv2.circle(image, (80, 80), 30, (70, 70, 80), -1)
    for _ in range(12):
        x, y = rng.integers(20, 140, 2)
        dx, dy = rng.integers(-25, 26, 2)
        shade = int(rng.integers(90, 200))
        cv2.line(image, (int(x), int(y)), (int(x + dx), int(y + dy)), (shade,) * 3, 2)
    return noisy(image, seed)


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed + 1000).normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def brighter(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 1.2 + 10, 0, 255).astype(np.uint8)


def compressed(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=50)
    return np.array(Image.open(file))


def moved(image: np.ndarray) -> np.ndarray:
    move = np.array([[1, 0, 2.5], [0, 1, -1.5]])
    return cv2.warpAffine(image, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)


def saved(folder: Path, images: list[np.ndarray]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{index:03}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("count", [8, 45])
def test_repeats_are_found_and_no_others(tmp_path: Path, count: int) -> None:
    images = [part(seed) for seed in range(count)]
    again = [noisy(images[0], 7), brighter(images[1]), compressed(images[2]), moved(images[3])]
    found = descriptors(saved(tmp_path / "a", [*images, *again]))
    pairs = {(a, b) for a, b, _ in similar_pairs(found)}
    assert pairs == {(index, count + index) for index in range(4)}
    across = {(a, b) for a, b, _ in similar_pairs(found[:count], found[count:])}
    assert across == {(index, index) for index in range(4)}


def test_textures_are_compared_as_well(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def texture() -> np.ndarray:
        coarse = rng.uniform(0, 255, (40, 40, 3)).astype(np.float32)
        return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).clip(0, 255)

    images = [texture().astype(np.uint8) for _ in range(10)]
    found = descriptors(saved(tmp_path / "a", [*images, compressed(images[4])]))
    assert [(a, b) for a, b, _ in similar_pairs(found)] == [(4, 10)]


def test_even_pictures_are_like_nothing(tmp_path: Path) -> None:
    images = [part(0)] * 2 + [np.full((SIDE, SIDE, 3), 128, np.uint8)] * 8
    found = descriptors(saved(tmp_path / "a", images))
    assert np.isfinite(found).all()
    same = descriptors(saved(tmp_path / "b", images[2:]))
    assert not list(similar_pairs(same))


def test_the_progress_is_told(tmp_path: Path) -> None:
    steps: list[int] = []
    descriptors(saved(tmp_path / "a", [part(seed) for seed in range(8)]), steps.append)
    assert steps == list(range(1, 9))
