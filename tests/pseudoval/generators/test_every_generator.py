"""What all generators promise, whatever the options that they share."""

import json
import random
from itertools import permutations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import texture

from pseudoval.errors import UserError
from pseudoval.generators import GENERATORS, Generate, parse_settings
from pseudoval.generators.augment import (
    augmentation,
    change_colour,
    default_pipeline,
    read_pipeline,
)
from pseudoval.generators.options import BLENDINGS
from pseudoval.generators.visibility import MIN_VISIBLE, measure, visibility_floor

PASTING = [name for name, known in GENERATORS.items() if known.generate is not None]
COMMON = {"opacity", "scale", "min_change", "min_overlap", "blending", "augment"}


def picture(seed: int, height: int = 96, width: int = 96, grey: bool = False) -> np.ndarray:
    """Blotches, lines and noise: something to be seen at every scale."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(texture(seed), (width, height), interpolation=cv2.INTER_CUBIC)
    image[:: max(height // 9, 1)] = rng.integers(0, 255, 3)
    noisy = image + rng.normal(0, 6, (height, width, 1))
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    return np.repeat(image[..., :1], 3, axis=2) if grey else image


def generator(name: str) -> Generate:
    generate = GENERATORS[name].generate
    assert generate is not None
    return generate


def make(
    name: str, seed: int, background: np.ndarray, source: np.ndarray, **settings: str
) -> tuple[np.ndarray, np.ndarray]:
    config = parse_settings(name, settings)
    image, mask = generator(name)(background, source, config, np.random.default_rng(seed))
    assert image.shape == background.shape and image.dtype == np.uint8
    assert mask.shape == background.shape[:2] and mask.dtype == bool and mask.any()
    assert not (image != background).any(axis=2)[~mask].any()
    change = np.abs(image.astype(int) - background)[mask]
    floor = visibility_floor(background, config.min_change)
    assert change.mean() >= floor
    assert (change.max(axis=1) >= floor / 2).mean() >= MIN_VISIBLE
    assert (change != 0).any(axis=1).mean() >= config.MIN_CHANGED
    return image, mask


@pytest.mark.parametrize("name", PASTING)
@pytest.mark.parametrize("blending", BLENDINGS)
def test_only_the_mask_changes_and_it_does_visibly(name: str, blending: str) -> None:
    for seed in range(4):
        background, source = picture(2 * seed), picture(2 * seed + 1)
        before = background.copy(), source.copy()
        make(name, seed, background, source, blending=blending)
        assert (background == before[0]).all() and (source == before[1]).all()


@pytest.mark.parametrize("name", PASTING)
@pytest.mark.parametrize("sizes", [((40, 150), (60, 60)), ((16, 16), (300, 200))])
def test_any_size_and_sources_of_another(name: str, sizes: tuple) -> None:
    for seed in range(3):
        make(name, seed, picture(0, *sizes[0]), picture(1, *sizes[1]), min_change="4")


@pytest.mark.parametrize("name", PASTING)
def test_native_resolution(name: str) -> None:
    settings = {"max_patches": "1", "side": "0.06,0.1"} if name == "nsa" else {}
    _, mask = make(name, 0, picture(0, 1100, 1024), picture(1, 1100, 1024), **settings)
    assert mask.sum() > 200


@pytest.mark.parametrize("name", PASTING)
def test_grey_stays_grey(name: str) -> None:
    background, source = picture(0, grey=True), picture(1, grey=True)
    image, _ = make(name, 0, background, source)
    assert (np.ptp(image, axis=2) == 0).all()


@pytest.mark.parametrize("name", PASTING)
def test_same_stream_same_bytes_and_no_global_state(name: str, pipeline: Path) -> None:
    strong = {"augment": str(pipeline)}
    background, source = picture(0), picture(1)
    results = []
    threads = cv2.getNumThreads()
    try:
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            cv2.setNumThreads(seed)
            before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
            results.append(make(name, 5, background, source, **strong, blending="poisson"))
            assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
            make(name, 6, source, background, **strong)  # leaves nothing behind
    finally:
        cv2.setNumThreads(threads)
    (image, mask), (again, same) = results
    assert (image == again).all() and (mask == same).all()
    assert (make(name, 7, background, source, **strong)[1] != mask).any()


@pytest.mark.parametrize("name", PASTING)
def test_fields_that_every_generator_has(name: str) -> None:
    config = parse_settings(name, {"opacity": "0.5", "scale": "2", "min_overlap": "1"})
    assert config.opacity == (0.5, 0.5) and config.scale == 2 and config.min_overlap == 1
    assert config.to_json().keys() >= COMMON


@pytest.mark.parametrize("name", PASTING)
def test_scale_is_a_factor_on_areas(name: str) -> None:
    free = {"min_change": "0"}
    if name == "perlin":
        free |= {"min_area": "0.001", "max_area": "0.2"}
    if name == "lafite":
        free |= {"max_fragments": "1", "masks": "ellipse", "min_area": "0.005", "max_area": "0.02"}
    areas = []
    for scale in ("1", "2"):
        masks = [
            make(name, seed, picture(0, 200, 200), picture(1, 200, 200), **free, scale=scale)[1]
            for seed in range(30)
        ]
        areas.append(np.mean([mask.mean() for mask in masks]))
    assert 1.6 < areas[1] / areas[0] < 2.4


@pytest.mark.parametrize("name", PASTING)
def test_opacity_is_the_weight_of_the_fragment(name: str) -> None:
    free = {"min_change": "0", "blending": "hard"}
    background, source = picture(0), picture(1)
    full, mask = make(name, 0, background, source, **free, opacity="1")
    half, same = make(name, 0, background, source, **free, opacity="0.5")
    assert (mask == same).all()
    expected = (background.astype(float) + full) / 2
    assert np.abs(half - expected)[mask].max() <= 0.5


@pytest.mark.parametrize("name", PASTING)
def test_fragments_lie_on_the_foreground(name: str) -> None:
    foreground = np.zeros((96, 96), bool)
    foreground[8:70, 10:80] = True
    for seed in range(8):
        background, source = picture(seed), picture(50 + seed)
        config = parse_settings(name, {"min_overlap": "0.8", "min_change": "3"})
        rng = np.random.default_rng(seed)
        _, mask = generator(name)(background, source, config, rng, foreground)
        # Fragments may overlap where they are on it, so a set of them may be a little below.
        assert mask[foreground].sum() >= 0.75 * mask.sum()


@pytest.mark.parametrize("name", PASTING)
def test_impossible_constraints_are_counted(name: str) -> None:
    black, config = np.zeros((64, 64, 3), np.uint8), parse_settings(name, {})
    generate, rng = generator(name), np.random.default_rng(0)
    with pytest.raises(UserError, match=r"in 500 draws: .*below 1\.0 grey levels \d+ times"):
        generate(black, black, config, rng)
    nowhere = np.zeros((64, 64), bool)
    with pytest.raises(UserError, match="foreground is empty"):
        generate(picture(0, 64, 64), picture(1, 64, 64), config, rng, nowhere)
    nowhere[5, 5] = True
    whole = parse_settings(name, {"min_overlap": "1"})
    with pytest.raises(UserError, match=r"in 500 draws: .*(foreground|area).* times.*Lower|Wid"):
        generate(picture(0, 64, 64), picture(1, 64, 64), whole, rng, nowhere)
    with pytest.raises(UserError, match="10x64 pixels"):
        generate(np.zeros((64, 10, 3), np.uint8), black, config, rng)


def changed_by(pipeline: dict[str, Any], patch: np.ndarray, seed: int = 0) -> np.ndarray:
    return augmentation(pipeline, np.random.default_rng(seed))(patch)


def test_the_default_pipeline_by_strength() -> None:
    patch = np.ascontiguousarray(picture(0)[:40, :50])
    assert (changed_by(default_pipeline(0.0, 0.0), patch) == patch).all()
    assert (changed_by(default_pipeline(0.0, 1.0), patch) == patch[::-1, ::-1]).all()
    weak, strong = (
        np.mean([
            np.abs(changed_by(default_pipeline(jitter, 0.0), patch, seed).astype(int) - patch)
            for seed in range(8)
        ])
        for jitter in (0.05, 0.5)
    )  # fmt: skip
    assert 0 < weak < strong


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a pipeline of everything that a fragment may go through."""
    import albumentations as library

    path = tmp_path_factory.mktemp("pipelines") / "strong.json"
    steps = [
        library.OneOf([library.HorizontalFlip(p=0.5), library.VerticalFlip(p=0.5)], p=0.9),
        library.Affine(scale=(0.5, 1.9), border_mode=cv2.BORDER_REFLECT_101, p=1.0),
        library.ElasticTransform(alpha=50, sigma=4.0, border_mode=cv2.BORDER_REFLECT_101, p=1.0),
        library.GaussianBlur(sigma_limit=(0.0, 2.0), blur_limit=0, p=1.0),
        library.ColorJitter(hue=(0.0, 0.0), p=1.0),
    ]
    path.write_text(json.dumps(library.to_dict(library.Compose(steps))))
    return path


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 4)])
def test_augmentation_of_the_smallest_fragments(size: tuple[int, int], pipeline: Path) -> None:
    patch = np.ascontiguousarray(picture(0)[: size[0], : size[1]])
    everything = read_pipeline(pipeline)
    for seed in range(20):
        assert changed_by(everything, patch, seed).shape == patch.shape
        still = changed_by(default_pipeline(0.0, 1.0), np.full_like(patch, 7), seed)
        assert (still == 7).all()


def test_a_pipeline_of_ones_own_changes_fragments_and_is_written_down(pipeline: Path) -> None:
    config = parse_settings("cutpaste", {"augment": str(pipeline)})
    assert config.to_json()["augment"] == json.loads(pipeline.read_text())
    plain = parse_settings("cutpaste", {}).to_json()["augment"]["transform"]["transforms"]
    assert [step["__class_fullname__"] for step in plain] == ["ColorJitter"]
    patch = np.ascontiguousarray(picture(0)[:40, :50])
    first, again, other = (changed_by(config.pipeline(), patch, seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != patch).any() and (first != other).any()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"transform": {"__class_fullname__": "NoSuchTransform", "p": 1.0}}',
        '{"transform": {"__class_fullname__": "GaussianBlur", "p": 1.0, "blur_limit": "wide"}}',
        '{"transform": {"__class_fullname__": "GaussianBlur", "p": 1.0, "strength": 3}}',
        '{"transform": {"__class_fullname__": "Resize", "p": 1.0, "height": 9, "width": 9}}',
    ],
)
def test_a_pipeline_that_cannot_be_used_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"mine\.json cannot be used") as caught:
        parse_settings("lafite", {"augment": str(path)})
    assert "\n" not in str(caught.value)


def test_colours_change_as_the_library_changes_them() -> None:
    import albumentations

    jitter = albumentations.ColorJitter(hue=(0.0, 0.0), p=1.0)
    patch = np.clip(picture(3), 60, 180)
    for order in permutations(range(4)):
        factors = {"brightness": 1.2, "contrast": 0.8, "saturation": 0.7}
        expected = jitter.apply(patch, **factors, hue=0.0, order=list(order))
        found = change_colour(patch, tuple(factors.values()), order)
        assert np.abs(found.astype(int) - expected).max() <= 3  # the library rounds at every step
        assert np.abs(found.astype(float) - expected).mean() < 1.5
    assert (change_colour(patch, (1.0, 1.0, 1.0), (2, 1, 0)) == patch).all()


@pytest.mark.parametrize("name", PASTING)
@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("blending", "soft", "must be one or more of hard, feather, alpha, poisson"),
        ("opacity", "0.9,0.2", r"opacity is \(0.9, 0.2\)"),
        ("opacity", "0,1", r"opacity is \(0.0, 1.0\)"),
        ("opacity", "0.1,0.2,0.3", "not one number or LOW,HIGH"),
        ("scale", "0", "scale is 0.0; it must lie"),
        ("min_overlap", "1.5", "min_overlap is 1.5"),
        ("min_overlap", "0", "min_overlap is 0.0"),
    ],
)
def test_bad_settings(name: str, option: str, value: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        parse_settings(name, {option: value})


def test_a_few_glaring_pixels_are_no_visible_anomaly() -> None:
    """White dots on a slightly other grey: enough change on average, at all, but hardly seen."""
    background, patch = (np.full((96, 96, 3), level, np.uint8) for level in (100, 102))
    patch.reshape(6, 16, 6, 16, 3)[:, :4, :, :4] = 255
    change = measure(background, patch, np.ones((96, 96), bool), 8.0)
    assert change.levels >= 8 * 3 * change.pixels and change.changed == change.pixels
    assert change.objection(8.0, 0.9) == "less than 50% of the pixels changed visibly"
