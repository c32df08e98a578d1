"""The embedded demo dataset: layout, determinism, masks, variation."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pseudoval.demo import (
    CATEGORIES,
    DEFECT_KINDS,
    render_dataset,
    render_defect,
    render_normal,
)
from pseudoval.demo.render import CHANGE_FLOOR

SIZE, TRAIN, GOOD, PER_KIND = 96, 3, 2, 6
KINDS = [(category, kind) for category in CATEGORIES for kind in DEFECT_KINDS[category]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    render_dataset(out, size=SIZE, train=TRAIN, test_good=GOOD, defects_per_kind=PER_KIND)
    return out


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def masks(data: Path, category: str) -> Iterator[np.ndarray]:
    for path in sorted((data / category / "ground_truth").rglob("*_mask.png")):
        yield np.asarray(Image.open(path))


def test_categories_and_kinds() -> None:
    assert {"board", "fabric", "flange"} <= set(CATEGORIES)
    assert set(DEFECT_KINDS) == set(CATEGORIES)
    assert all(len(kinds) >= 3 for kinds in DEFECT_KINDS.values())


def test_layout_is_exactly_mvtec(data: Path) -> None:
    expected = set()
    for category in CATEGORIES:
        expected |= {f"{category}/train/good/{k:03d}.png" for k in range(TRAIN)}
        expected |= {f"{category}/test/good/{k:03d}.png" for k in range(GOOD)}
        for kind in DEFECT_KINDS[category]:
            for k in range(PER_KIND):
                expected.add(f"{category}/test/{kind}/{k:03d}.png")
                expected.add(f"{category}/ground_truth/{kind}/{k:03d}_mask.png")
    assert set(contents(data)) == expected


def test_files_are_rgb_images_and_binary_masks(data: Path) -> None:
    for path in data.rglob("*.png"):
        image = Image.open(path)
        assert image.size == (SIZE, SIZE)
        if "ground_truth" in path.parts:
            assert image.mode == "L"
            assert set(np.unique(np.asarray(image))) == {0, 255}, path
        else:
            assert image.mode == "RGB"


def test_same_seed_gives_the_same_bytes_whatever_else_is_rendered(
    data: Path, tmp_path: Path
) -> None:
    chosen = (CATEGORIES[-1], CATEGORIES[0])
    render_dataset(tmp_path, size=SIZE, train=1, test_good=2, defects_per_kind=1, categories=chosen)
    everything, some = contents(data), contents(tmp_path)
    assert {name.split("/")[0] for name in some} == set(chosen)
    assert all(everything[name] == blob for name, blob in some.items())


@pytest.mark.parametrize("category", CATEGORIES)
def test_another_seed_or_split_or_index_gives_another_image(category: str) -> None:
    images = [
        render_normal(category, "train", 0, seed=0, size=64),
        render_normal(category, "train", 0, seed=1, size=64),
        render_normal(category, "train", 1, seed=0, size=64),
        render_normal(category, "test", 0, seed=0, size=64),
    ]
    for one, other in combinations(images, 2):
        # Averages of 8 x 8 pixels: the grain alone would not tell them apart.
        coarse = [image.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) for image in (one, other)]
        assert np.abs(coarse[0] - coarse[1]).mean() > 0.7


@pytest.mark.parametrize(("category", "kind"), KINDS)
def test_defect_changes_what_is_under_the_mask_and_nothing_else(category: str, kind: str) -> None:
    shown = render_defect(category, kind, 1, seed=5, size=SIZE)
    change = np.abs(shown.image.astype(int) - shown.twin)
    assert shown.mask.any()
    assert change[shown.mask].mean() >= CHANGE_FLOOR
    assert not change[~shown.mask].any()
    # At most the pinholes that closing fills are unchanged below the mask.
    assert (change.max(axis=2)[shown.mask] > 0).mean() > 0.9


def test_dataset_holds_the_rendered_defects(data: Path) -> None:
    shown = render_defect("board", "burn", 4, size=SIZE)
    image = np.asarray(Image.open(data / "board/test/burn/004.png"))
    mask = np.asarray(Image.open(data / "board/ground_truth/burn/004_mask.png"))
    np.testing.assert_array_equal(image, shown.image)
    np.testing.assert_array_equal(mask > 0, shown.mask)


@pytest.mark.parametrize("category", CATEGORIES)
def test_at_least_half_of_the_masks_are_below_one_per_cent(data: Path, category: str) -> None:
    areas = np.array([np.mean(mask > 0) for mask in masks(data, category)])
    assert np.mean(areas < 0.01) >= 0.5
    assert areas.max() < 0.03 + 1 / SIZE**2


def test_severity_varies(data: Path) -> None:
    for category in CATEGORIES:
        areas = np.array([np.mean(mask > 0) for mask in masks(data, category)])
        assert areas.max() > 3 * areas.min()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"categories": ["fabric", "bottle"]}, KeyError, "bottle"),
        ({"size": 63}, ValueError, "63"),
        ({"seed": -1}, ValueError, "non-negative"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(
    tmp_path: Path, wrong: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        render_dataset(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_unknown_kind_is_named() -> None:
    with pytest.raises(KeyError, match="burn"):
        render_defect("flange", "burn", 0)
