"""Which images are explained, and that it makes no difference whether together or one by one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import contents, texture
from PIL import Image

from pseudoval.data.dataset import ImageItem
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.scoring.examples import write_examples

CONFIG = {"side": 3}


class Alone:
    """Explains one image at a time, as a detector of one's own may do."""

    def of(self, category: str) -> "Alone":
        return self

    def explain(self, image: np.ndarray, config: Any) -> dict[str, np.ndarray]:
        return {"map": image.mean(axis=2), "error_plain": image[: config["side"], 0, 0]}


class Together(Alone):
    """Explains several, and counts them."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def explain_all(self, images: Any, config: Any) -> list[dict[str, np.ndarray]]:
        self.asked.append(len(images))
        return [self.explain(image, config) for image in images]


class ByCategory:
    """One detector for each category."""

    def __init__(self) -> None:
        self.members = {"a": Together(), "b": Together()}

    def of(self, category: str) -> Together:
        return self.members[category]


@pytest.fixture
def scored(tmp_path: Path) -> tuple[list[ImageItem], ScoreMatrix]:
    """Nine images of each of two categories: three normals, and anomalies of rising scores."""
    items = []
    for number in range(18):
        category, label = "ab"[number // 9], int(number % 9 >= 3)
        path = tmp_path / f"{number:02}.png"
        Image.fromarray(texture(number, 16)).save(path)
        items.append(
            ImageItem(
                id=path.name, path=path, category=category, label=label, group=path.name,
                mask_path=None, defect="",
            )
        )  # fmt: skip
    matrix = ScoreMatrix(
        scores=np.arange(18.0)[None],
        configs=[CONFIG],
        images=[item.id for item in items],
        categories=[item.category for item in items],
        labels=np.array([item.label for item in items]),
        groups=[item.group for item in items],
    )
    return items, matrix


def test_together_or_alone_the_files_are_the_same(
    tmp_path: Path, scored: tuple[list[ImageItem], ScoreMatrix]
) -> None:
    items, matrix = scored
    told: list[tuple[str, int, int]] = []
    one, two = Alone(), Together()
    for detector, name in ((one, "one"), (two, "two"), (ByCategory(), "three")):
        write_examples(
            tmp_path / name, "pseudo", detector, items, matrix, CONFIG,  # type: ignore[arg-type]
            lambda *step: told.append(step),
        )  # fmt: skip
    assert told == [("examples", 6, 12), ("examples", 12, 12)] * 3
    assert two.asked == [6, 6], "the images of a category are explained together"
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")


def test_a_normal_and_anomalies_by_their_rank(
    tmp_path: Path, scored: tuple[list[ImageItem], ScoreMatrix]
) -> None:
    items, matrix = scored
    write_examples(
        tmp_path / "out", "test", Together(), items, matrix, CONFIG,  # type: ignore[arg-type]
        lambda *step: None,
    )  # fmt: skip
    shown = []
    for path in sorted((tmp_path / "out").iterdir()):
        with np.load(path) as arrays:
            meta = json.loads(str(arrays["meta"]))
            own = int(meta["score"])
            assert np.array_equal(arrays["image"], texture(own, 16))
            assert np.array_equal(arrays["map"], texture(own, 16).mean(axis=2))
        shown.append((path.name, meta["id"], own, meta["label"]))
    assert shown == [
        (f"test-{n:03}.npz", f"{row:02}.png", row, int(row % 9 >= 3))
        for n, row in enumerate([1, 5, 3, 10, 14, 12])
    ]
