"""Where the object is, on made-up objects and textures."""

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pseudoval.data.images import read_rgb
from pseudoval.errors import UserError
from pseudoval.pseudo_set.foreground import Foreground, make_foreground

HEIGHT, WIDTH = 120, 150
Painter = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def even(rng: np.random.Generator, colour: tuple[int, int, int], noise: float = 3) -> np.ndarray:
    return np.float32(colour) + rng.normal(0, noise, (HEIGHT, WIDTH, 3)).astype(np.float32)


def cloud(rng: np.random.Generator, amplitude: float, cells: int = 14) -> np.ndarray:
    coarse = rng.normal(0, amplitude, (cells, cells, 3)).astype(np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def stuff(rng: np.random.Generator, colour: tuple[int, int, int]) -> np.ndarray:
    return np.float32(colour) + cloud(rng, 10)


def disc(x: int, y: int, radius: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    return mask.astype(bool)


def on(background: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], colour, background)


def around(rng: np.random.Generator) -> np.ndarray:
    return disc(75 + int(rng.integers(-6, 7)), 60 + int(rng.integers(-6, 7)), 34)


def dark_on_light(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mask = around(rng)
    return on(even(rng, (225, 225, 220)), mask, stuff(rng, (60, 50, 40))), mask


def light_on_dark(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mask = around(rng)
    return on(even(rng, (15, 15, 22)), mask, stuff(rng, (170, 150, 120))), mask


def on_rough_ground(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mask = around(rng)
    return on(even(rng, (90, 80, 70), noise=14), mask, stuff(rng, (190, 180, 160))), mask


def over_the_edge(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mask = disc(70 + int(rng.integers(10)), 8, 45)
    return on(even(rng, (225, 225, 220)), mask, stuff(rng, (60, 90, 140))), mask


def several(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    shift = int(rng.integers(8))
    mask = disc(30 + shift, 30, 18) | disc(75, 80 + shift, 18) | disc(115, 35, 18)
    return on(even(rng, (230, 230, 230)), mask, stuff(rng, (90, 70, 50))), mask


def in_uneven_light(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mask = around(rng)
    light = np.linspace(-45, 45, WIDTH, dtype=np.float32)[None, :, None]
    return on(even(rng, (180, 180, 180)) + light, mask, stuff(rng, (60, 50, 90))), mask


def ring(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mask = disc(75, 60, 45) & ~disc(75, 60, 22)
    return on(even(rng, (220, 220, 220)), mask, stuff(rng, (90, 90, 95))), mask


def vignette(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return even(rng, (60, 60, 60)) + 110 * np.exp(-2 * (x**2 + y**2))[..., None] + cloud(rng, 5)


def marble(rng: np.random.Generator) -> np.ndarray:
    return even(rng, (150, 145, 140)) + cloud(rng, 18, cells=8)


def stripes(rng: np.random.Generator) -> np.ndarray:
    wave = 25 * np.sin(np.arange(WIDTH) / 4 + rng.uniform(0, 6))
    return even(rng, (150, 110, 70)) + wave[None, :, None]


def grey(rng: np.random.Generator) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 128.0)


def stained(rng: np.random.Generator) -> np.ndarray:
    """Few enough to be what they are: stains, not the category's object."""
    spot = disc(75, 60, 25) if rng.random() < 0.4 else np.zeros((HEIGHT, WIDTH), bool)
    return on(even(rng, (150, 145, 140)), spot, np.float32((60, 60, 60)))


def speck(rng: np.random.Generator) -> np.ndarray:
    return on(even(rng, (225, 225, 220)), disc(75, 60, 10), np.float32((60, 50, 40)))


def saved(folder: Path, images: list[np.ndarray]) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{index:02}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)
    return paths


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(
    "paint",
    [dark_on_light, light_on_dark, on_rough_ground, over_the_edge, several, in_uneven_light, ring],
)
def test_an_object_on_a_plain_background_is_found(tmp_path: Path, paint: Painter) -> None:
    drawn = [paint(np.random.default_rng(seed)) for seed in range(10)]
    paths = saved(tmp_path / "a", [image for image, _ in drawn])
    found = make_foreground("auto", "a", paths)
    assert found.kind == "object", found.reason
    for path, (_, mask) in zip(paths, drawn, strict=True):
        found_mask = found(read_rgb(path), path.name)
        assert found_mask is not None
        assert found_mask.dtype == bool and found_mask.shape == mask.shape
        assert agreement(found_mask, mask) > 0.93


@pytest.mark.parametrize("paint", [vignette, marble, stripes, grey, stained, speck])
def test_a_texture_is_taken_as_a_whole(
    tmp_path: Path, paint: Callable[[np.random.Generator], np.ndarray]
) -> None:
    paths = saved(tmp_path / "a", [paint(np.random.default_rng(seed)) for seed in range(10)])
    found = make_foreground("auto", "a", paths)
    assert found.kind == "texture"
    assert found.reason.startswith("texture: whole image")
    assert found(read_rgb(paths[0]), paths[0].name) is None


def test_the_size_of_the_image_does_not_matter(tmp_path: Path) -> None:
    """The mask comes at full size, and is that of a small copy."""
    drawn = [dark_on_light(np.random.default_rng(seed)) for seed in range(5)]
    large = [cv2.resize(image, (5 * WIDTH, 5 * HEIGHT)) for image, _ in drawn]
    paths = saved(tmp_path / "a", large)
    found_mask = make_foreground("auto", "a", paths)(read_rgb(paths[0]), "00.png")
    assert found_mask is not None and found_mask.shape == (5 * HEIGHT, 5 * WIDTH)
    mask = cv2.resize(drawn[0][1].astype(np.uint8), (5 * WIDTH, 5 * HEIGHT)).astype(bool)
    assert agreement(found_mask, mask) > 0.95


def test_neither_names_nor_order_nor_copies_matter(tmp_path: Path) -> None:
    images = [dark_on_light(np.random.default_rng(seed))[0] for seed in range(6)]
    first = make_foreground("auto", "a", saved(tmp_path / "a", images))
    other = make_foreground("auto", "a", saved(tmp_path / "b", [*images[::-1], images[0]]))
    assert first == other
    assert first.background is not None


def test_no_more_than_a_sample_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pseudoval.pseudo_set import foreground

    read: list[Path] = []

    def counted(path: Path) -> np.ndarray:
        read.append(path)
        return read_rgb(path)

    monkeypatch.setattr(foreground, "read_rgb", counted)
    images = [dark_on_light(np.random.default_rng(seed))[0] for seed in range(40)]
    make_foreground("auto", "a", saved(tmp_path / "a", images))
    assert len(read) == len(set(read)) == foreground.SAMPLE < 40


def test_a_process_gets_it_whole(tmp_path: Path) -> None:
    drawn = [several(np.random.default_rng(seed)) for seed in range(4)]
    paths = saved(tmp_path / "a", [image for image, _ in drawn])
    found = make_foreground("auto", "a", paths)
    there = pickle.loads(pickle.dumps(found))
    image = read_rgb(paths[1])
    assert np.array_equal(there(image, "01.png"), found(image, "01.png"))


def test_an_image_without_the_object_is_taken_as_a_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = [dark_on_light(np.random.default_rng(seed))[0] for seed in range(9)]
    paths = saved(tmp_path / "a", [*images, even(rng, (225, 225, 220)), marble(rng)])
    found = make_foreground("auto", "a", paths)
    assert found.kind == "object"
    assert found(read_rgb(paths[-2]), "09.png") is None
    assert found(read_rgb(paths[-1]), "10.png") is None


def test_none_reads_nothing(tmp_path: Path) -> None:
    found = make_foreground("none", "a", [tmp_path / "missing.png"])
    assert found.kind == "none"
    assert found(np.zeros((20, 20, 3), np.uint8), "a/train/good/missing.png") is None


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A folder of masks, and the images they belong to."""
    paths = saved(tmp_path / "data" / "a" / "train" / "good", [grey(None)] * 2)  # type: ignore
    masks = tmp_path / "masks"
    (masks / "a").mkdir(parents=True)
    for number, path in enumerate(paths):
        mask = disc(75, 60, 20 + number).astype(np.uint8) * 255
        Image.fromarray(mask).save(masks / "a" / path.name)
    return masks, paths


def test_given_masks_are_used(given: tuple[Path, list[Path]]) -> None:
    masks, paths = given
    found = pickle.loads(pickle.dumps(make_foreground(masks, "a", paths)))
    assert isinstance(found, Foreground) and found.kind == "given"
    found_mask = found(read_rgb(paths[1]), "a/train/good/01.png")
    assert np.array_equal(found_mask, disc(75, 60, 21))


def test_wrong_given_masks_are_refused(given: tuple[Path, list[Path]]) -> None:
    masks, paths = given
    with pytest.raises(UserError, match=r"no folder .*masks/b .*category 'b'"):
        make_foreground(masks, "b", paths)
    with pytest.raises(UserError, match=r"elsewhere/a"):
        make_foreground(masks / "elsewhere", "a", paths)
    Image.new("L", (WIDTH, HEIGHT)).save(masks / "a" / "01.png")
    with pytest.raises(UserError, match=r"01\.png is empty"):
        make_foreground(masks, "a", paths)
    Image.new("L", (WIDTH + 1, HEIGHT), 255).save(masks / "a" / "01.png")
    with pytest.raises(UserError, match=r"01\.png is 151x120 pixels, its image 150x120"):
        make_foreground(str(masks), "a", paths)
    (masks / "a" / "01.png").unlink()
    with pytest.raises(UserError, match=r"01\.png of the normal 01\.png is missing"):
        make_foreground(masks, "a", paths)


def test_real_categories(shared: Path) -> None:
    """Two have an object on a plain background, two fill the image."""
    root = shared / "data" / "real"
    kinds = {}
    for category in ("bottle", "elpv_mono", "magnetic_tile", "tire"):
        paths = sorted((root / category / "train" / "good").iterdir())
        found = make_foreground("auto", category, paths)
        kinds[category] = found.kind
        if found.kind == "object":
            shares = [float(found(read_rgb(path), path.name).mean()) for path in paths[::30]]  # type: ignore[union-attr]
            low, high = {"bottle": (0.6, 0.7), "tire": (0.28, 0.38)}[category]
            assert low < min(shares) and max(shares) < high
    assert kinds == {
        "bottle": "object",
        "elpv_mono": "texture",
        "magnetic_tile": "texture",
        "tire": "object",
    }
