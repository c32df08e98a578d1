"""Masks of many shapes, and fragments that change what their mask says and nothing else."""

import random

import cv2
import numpy as np
import pytest

from pseudoval.cli import run
from pseudoval.errors import UserError
from pseudoval.generators import GENERATORS, parse_settings
from pseudoval.generators.lafite import LafiteGeneratorConfig, generate
from pseudoval.generators.masks import MASK_FAMILIES, squared_distance
from pseudoval.generators.pasting import MIN_SHIFT
from pseudoval.generators.visibility import visibility_floor


def texture(seed: int, height: int = 96, width: int = 96, grey: bool = False) -> np.ndarray:
    """Smooth colour noise, a different picture for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 210, (8, 8, 1 if grey else 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    smooth = smooth.reshape(height, width, -1) + rng.normal(0, 4, (height, width, 1))
    image = np.clip(smooth, 0, 255).astype(np.uint8)
    return np.repeat(image, 3, axis=2) if grey else image


def make(seed: int, size: tuple[int, int] = (96, 96), **options: object) -> tuple:
    background, source = texture(2 * seed, *size), texture(2 * seed + 1, *size)
    config = LafiteGeneratorConfig(**options)  # type: ignore[arg-type]
    image, mask = generate(background, source, config, np.random.default_rng(seed))
    return background, source, image, mask


@pytest.mark.parametrize("family", sorted(MASK_FAMILIES))
def test_mask_families(family: str) -> None:
    shapes = set()
    for seed in range(12):
        for side, area, angle in ((64, 150, 0.0), (120, 900, 35.0), (128, 60, -110.0)):
            draw = MASK_FAMILIES[family]
            mask = draw(np.random.default_rng(seed), side, area, angle)
            assert mask.dtype == bool and max(mask.shape) <= side
            assert mask.any(axis=0)[[0, -1]].all() and mask.any(axis=1)[[0, -1]].all()
            least = 0.3 if family == "blob" else 0.9
            assert least * area <= mask.sum() <= 1.5 * area
            assert (mask == draw(np.random.default_rng(seed), side, area, angle)).all()
            # One piece, up to 8-connection.
            assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] == 2
            shapes.add((mask.shape, mask.tobytes()))
    assert len(shapes) > 15  # at this size thin bars have few rows to choose from


@pytest.mark.parametrize("family", sorted(MASK_FAMILIES))
@pytest.mark.parametrize("side", [16, 40])
def test_mask_families_fit_into_small_images(family: str, side: int) -> None:
    for seed in range(30):
        for area in (12, int(0.4 * side**2)):
            for angle in (0.0, 45.0, 80.0):
                mask = MASK_FAMILIES[family](np.random.default_rng(seed), side, area, angle)
                assert mask.any() and max(mask.shape) <= side


def test_distances_are_whole_numbers_when_squared() -> None:
    paper = np.ones((90, 120), np.uint8)
    paper[10, 20] = paper[70, 100] = 0
    y, x = np.mgrid[:90, :120]
    exact = np.minimum((y - 10) ** 2 + (x - 20) ** 2, (y - 70) ** 2 + (x - 100) ** 2)
    assert (squared_distance(paper) == exact).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jitter": 0.0, "max_fragments": 1},
        {"content_rotation": "independent"},
        {"content_rotation": "none", "max_fragments": 5, "joined": 1.0},
        {"blending": "feather", "min_area": 0.02},
        {"masks": ("brush", "scar")},
        {"min_area": 0.25, "max_area": 0.25},
    ],
)
@pytest.mark.parametrize("size", [(96, 96), (40, 150)])
def test_only_and_nearly_all_of_the_mask_changes(options: dict, size: tuple[int, int]) -> None:
    for seed in range(6):
        background, _, image, mask = make(seed, size, **options)
        changed = (image != background).any(axis=2)
        assert image.shape == background.shape and image.dtype == np.uint8
        assert mask.shape == size and mask.dtype == bool and mask.any()
        assert not changed[~mask].any()
        assert changed[mask].mean() >= 0.9
        change = np.abs(image.astype(int) - background)[mask].mean()
        assert change >= visibility_floor(background, 8)


def test_inputs_stay_as_they_are() -> None:
    background, source, _, _ = make(0)
    assert (background == texture(0)).all() and (source == texture(1)).all()


def test_same_stream_same_bytes_and_no_global_state() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = make(5)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        again = make(5)
    finally:
        cv2.setNumThreads(threads)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    background, source = texture(10), texture(11)
    other = generate(background, source, LafiteGeneratorConfig(), np.random.default_rng(6))
    assert (other[1] != first[3]).any()


def test_fragments_come_from_the_source() -> None:
    """Blue of the source on a red background: nothing else can turn blue."""
    background = np.zeros((80, 80, 3), np.uint8)
    background[..., 0] = 180
    source = np.zeros((80, 80, 3), np.uint8)
    source[..., 2] = 160
    config = LafiteGeneratorConfig(jitter=0.0)
    image, mask = generate(background, source, config, np.random.default_rng(0))
    assert (image[mask] == (0, 0, 160)).all()
    assert (image[~mask] == (180, 0, 0)).all()


def cut_from(config: LafiteGeneratorConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``[n, 2]`` (x, y) of a fragment's pixels and of where in the source each was cut.

    The source carries its own coordinates as colours.
    """
    y, x = np.mgrid[:120, :120].astype(np.uint8)
    source = np.stack([2 * x, 2 * y, np.full_like(x, 255)], axis=2)
    background = np.zeros_like(source)
    image, mask = generate(background, source, config, np.random.default_rng(seed))
    pasted_y, pasted_x = np.nonzero(mask)
    return np.stack([pasted_x, pasted_y], axis=1).astype(float), image[mask][:, :2] / 2


def test_fragments_come_from_another_place() -> None:
    options = {"masks": ("ellipse",), "max_fragments": 1, "jitter": 0.0}
    config = LafiteGeneratorConfig(**options, content_rotation="none")
    shifts, cuts = [], []
    for seed in range(40):
        pasted, cut = cut_from(config, seed)
        shifts.append((pasted - cut).mean(axis=0))
        cuts.append(cut.mean(axis=0))
    lengths = np.hypot(*np.transpose(shifts))
    assert lengths.min() > MIN_SHIFT * 120 - 2 and lengths.max() > 60
    assert (np.ptp(cuts, axis=0) > 60).all() and (np.ptp(shifts, axis=0) > 60).all()


@pytest.mark.parametrize("angle", [30.0, 100.0, -45.0])
def test_content_turns_with_the_mask(angle: float) -> None:
    """A bar is drawn level, so turned as one piece it is cut level from the source."""
    options = {"masks": ("scar",), "max_fragments": 1, "jitter": 0.0, "min_area": 0.04}
    turned = {"min_rotation": angle, "max_rotation": angle}
    for seed in range(5):
        config = LafiteGeneratorConfig(**options, **turned)
        pasted, cut = cut_from(config, seed)
        assert np.ptp(cut[:, 0]) > 55 and np.ptp(cut[:, 1]) < 20
        # Up in the picture is down in y: the bar's own axis, anticlockwise by the angle.
        axis = np.array([np.cos(np.radians(angle)), -np.sin(np.radians(angle))])
        across = np.array([-axis[1], axis[0]])
        assert np.ptp(pasted @ axis) > 55 and np.ptp(pasted @ across) < 20
        config = LafiteGeneratorConfig(**options, **turned, content_rotation="none")
        pasted, cut = cut_from(config, seed)
        assert np.abs(np.ptp(pasted - cut, axis=0)).max() <= 1.5


def test_content_turns_on_its_own() -> None:
    options = {"masks": ("scar",), "max_fragments": 1, "jitter": 0.0, "min_area": 0.04}
    config = LafiteGeneratorConfig(**options, content_rotation="independent")
    heights = [np.ptp(cut_from(config, seed)[1][:, 1]) for seed in range(10)]
    assert min(heights) < 40 and max(heights) > 70


def test_grey_images_stay_grey() -> None:
    background, source = texture(0, grey=True), texture(1, grey=True)
    image, _ = generate(background, source, LafiteGeneratorConfig(), np.random.default_rng(0))
    assert (np.ptp(image, axis=2) == 0).all()


def test_areas_follow_the_bounds_and_spread_over_them() -> None:
    shares = np.array([make(seed)[3].mean() for seed in range(60)])
    assert shares.min() >= 0.6 * 0.002 and shares.max() <= 1.3 * 0.05
    assert (shares < 0.006).sum() >= 10 and (shares > 0.017).sum() >= 10
    options = {"min_area": 0.1, "max_area": 0.1, "max_fragments": 1, "masks": ("ellipse", "brush")}
    wide = [make(seed, **options)[3].mean() for seed in range(10)]
    assert min(wide) >= 0.09 and max(wide) <= 0.12


def test_several_fragments_joined_or_apart() -> None:
    def pieces(joined: float) -> list[int]:
        options = {"masks": ("ellipse",), "joined": joined, "max_fragments": 3}
        masks = [make(seed, (128, 128), max_area=0.004, **options)[3] for seed in range(30)]
        return [cv2.connectedComponents(m.astype(np.uint8), connectivity=8)[0] - 1 for m in masks]

    assert set(pieces(1.0)) == {1}
    assert set(pieces(0.0)) >= {1, 2, 3}


def test_source_of_another_size_is_resized() -> None:
    image, mask = generate(
        texture(0, 60, 90), texture(1, 120, 70), LafiteGeneratorConfig(), np.random.default_rng(0)
    )
    assert image.shape == (60, 90, 3) and mask.shape == (60, 90)


@pytest.mark.parametrize(("level", "noise"), [(10, 2), (12, 1), (128, 1), (128, 0), (250, 1)])
def test_dark_and_even_images_are_served(level: int, noise: int) -> None:
    """The floor is relative there; 8 grey levels of change would be impossible on the dark ones."""
    rng = np.random.default_rng(0)
    pictures = np.clip(rng.normal(level, noise, (2, 96, 96, 3)), 0, 255).astype(np.uint8)
    config = LafiteGeneratorConfig()
    assert visibility_floor(pictures[0], 8) < 8
    for seed in range(5):
        image, mask = generate(pictures[0], pictures[1], config, np.random.default_rng(seed))
        changed = (image != pictures[0]).any(axis=2)
        assert changed[mask].mean() >= 0.9 and not changed[~mask].any()


def test_floor_is_absolute_on_images_with_contrast() -> None:
    assert visibility_floor(texture(0), 8) == 8
    assert visibility_floor(texture(0), 3) == 3
    assert visibility_floor(np.zeros((20, 20, 3), np.uint8), 8) == 1


def test_impossible_floor_says_which_constraint_failed_and_how_often() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    config = LafiteGeneratorConfig()
    with pytest.raises(UserError, match=r"500 draws: the change was below 1\.0 grey levels \d+"):
        generate(black, black, config, np.random.default_rng(0))
    unseen = LafiteGeneratorConfig(min_change=0.0)
    with pytest.raises(UserError, match=r"less than 90% of the pixels changed \d+ times"):
        generate(black, black, unseen, np.random.default_rng(0))
    with pytest.raises(UserError, match="10x64 pixels"):
        generate(np.zeros((64, 10, 3), np.uint8), black, config, np.random.default_rng(0))


def test_settings_are_parsed_by_type() -> None:
    config = parse_settings("lafite", {"masks": "ellipse, scar", "max_fragments": "2"})
    assert config.masks == ("ellipse", "scar")
    assert config.max_fragments == 2 and config.min_area == 0.002
    assert config.to_json()["masks"] == ["ellipse", "scar"]
    assert parse_settings("lafite", {}) == LafiteGeneratorConfig()


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("colour", "1", "no option 'colour'; it has blending, opacity"),
        ("min_area", "wide", "'wide', not a number"),
        ("min_area", "nan", "not a number"),
        ("max_fragments", "2.5", "not a whole number"),
        ("min_area", "0", "min_area is 0.0"),
        ("min_area", "0.2", "min_area is above max_area"),
        ("max_area", "0.5", "max_area is 0.5"),
        ("masks", "star", "one or more of ellipse"),
        ("masks", "", "one or more of ellipse"),
        ("max_fragments", "0", "max_fragments is 0"),
        ("joined", "1.5", "joined"),
        ("min_rotation", "361", "min_rotation is 361"),
        ("content_rotation", "left", "with_mask, independent, none"),
        ("jitter", "-0.1", "jitter"),
        ("min_change", "256", "min_change"),
    ],
)
def test_bad_settings(name: str, value: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        parse_settings("lafite", {name: value})


def test_unknown_generator() -> None:
    with pytest.raises(UserError, match="no generator 'other'; choose one of cutpaste, "):
        parse_settings("other", {})


def test_the_help_of_build_says_what_every_generator_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["build", "--help"]) == 0
    shown = capsys.readouterr().out.partition("Generators:")[2].split()
    for name, known in GENERATORS.items():
        assert name in shown and known.summary.split()[-1] in shown
