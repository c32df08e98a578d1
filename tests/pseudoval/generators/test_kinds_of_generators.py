"""What each generator's paper says of it, and how fragments are blended."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import texture
from PIL import Image

from pseudoval.errors import UserError
from pseudoval.generators import GENERATORS, Generate, parse_settings
from pseudoval.generators.augment import default_pipeline
from pseudoval.generators.blending import blend, membrane
from pseudoval.generators.mix import MixConfig
from pseudoval.generators.perlin import perlin_noise

FREE = {"min_change": "0", "jitter": "0"}


def generator(name: str) -> Generate:
    generate = GENERATORS[name].generate
    assert generate is not None
    return generate


def mask_of(name: str, seed: int, side: int = 256, **settings: str) -> np.ndarray:
    config = parse_settings(name, {**FREE, **settings})
    pictures = texture(1, side), texture(2, side)
    return generator(name)(*pictures, config, np.random.default_rng(seed))[1]


def coordinates(side: int = 200) -> np.ndarray:
    """A picture whose colours say where they come from."""
    y, x = np.mgrid[:side, :side].astype(np.uint8)
    return np.stack([x, y, np.full_like(x, 255)], axis=2)


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    return cv2.boundingRect(mask.astype(np.uint8))


def test_cutpaste_patches_are_rectangles_of_the_papers_sizes() -> None:
    shares, aspects = [], []
    for seed in range(60):
        mask = mask_of("cutpaste", seed)
        _, _, w, h = box(mask)
        assert mask.sum() == w * h
        shares.append(mask.mean())
        aspects.append(w / h)
    assert 0.019 < min(shares) < 0.05 and 0.12 < max(shares) < 0.151
    assert 0.28 < min(aspects) < 0.5 and 2 < max(aspects) < 3.4
    assert 0.7 < np.median(aspects) < 1.4  # log-uniform


def test_scars_are_thin_turned_and_grow_with_the_image() -> None:
    found = []
    for seed in range(60):
        mask = mask_of("cutpaste-scar", seed, width="2,4", length="20,25")
        (_, (w, h), _) = cv2.minAreaRect(np.argwhere(mask).astype(np.float32))
        found.append((min(w, h) + 1, max(w, h) + 1, box(mask)[3]))
    thin, long, tall = np.transpose(found)
    assert thin.max() < 7 and long.min() > 18 and long.max() < 28
    assert tall.min() < 7 and tall.max() > 12
    small, large = (
        np.mean([mask_of("cutpaste-scar", seed, side).sum() for seed in range(20)])
        for side in (256, 512)
    )
    assert 3.5 < large / small < 4.5


def test_three_way_makes_both() -> None:
    masks = [mask_of("cutpaste-3way", seed, rotation="20") for seed in range(40)]
    assert 10 < sum(mask.sum() > 1000 for mask in masks) < 30


def test_nsa_patches_are_resized_and_of_gamma_distributed_sides() -> None:
    sides = []
    for seed in range(60):
        _, _, w, h = box(mask_of("nsa", seed, max_patches="1"))
        sides += [w / 256, h / 256]
    assert min(sides) > 0.05 and max(sides) < 0.41
    assert np.mean(sides) == pytest.approx(0.2, abs=0.04)
    hard = {**FREE, "blending": "hard", "max_patches": "1", "side": "0.2,0.3"}
    zooms = []
    for seed in range(40):
        config = parse_settings("nsa", hard)
        black = np.zeros((200, 200, 3), np.uint8)
        image, mask = generator("nsa")(black, coordinates(), config, np.random.default_rng(seed))
        left, top, w, h = box(mask)
        cut = image[top : top + h, left : left + w, 0].astype(float)
        zooms.append((w - 1) / (cut[h // 2].max() - cut[h // 2].min()))
    assert 0.65 < min(zooms) < 0.75 and 1.2 < max(zooms) < 1.4


def test_perlin_noise_is_gradient_noise() -> None:
    rng = np.random.default_rng(0)
    noise = perlin_noise(rng, 240, 160, 4, 8)
    assert noise.shape == (240, 160) and noise.dtype == np.float32
    assert 0.4 < np.abs(noise).max() <= 1.01 and abs(noise.mean()) < 0.1
    # Near zero about the corners of the cells, 60 x 20 pixels each; smooth everywhere.
    corners = noise[np.ix_([59, 60, 119, 120], [19, 20, 39, 40])]
    assert np.abs(corners).max() < 0.07
    assert np.abs(np.diff(noise, axis=0)).max() < 0.1
    assert np.abs(np.diff(noise, axis=1)).max() < 0.2
    again = perlin_noise(np.random.default_rng(0), 240, 160, 4, 8)
    assert (noise == again).all()


def test_perlin_areas_textures_and_pieces(tmp_path: Path) -> None:
    for seed in range(10):
        assert 0.01 <= mask_of("perlin", seed, min_area="0.01", max_area="0.1").mean() <= 0.1
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(default_pipeline(jitter=0.0, flips=0.0)))
    free = {**FREE, "augment": str(plain)}
    config = parse_settings("perlin", {**free, "opacity": "1"})
    black = np.zeros((200, 200, 3), np.uint8)
    image, mask = generator("perlin")(black, coordinates(), config, np.random.default_rng(0))
    y, x = np.nonzero(mask)
    from_x, from_y = image[mask][:, 0].astype(int), image[mask][:, 1].astype(int)
    assert ((from_x - x) % 25 == 0).all() and ((from_y - y) % 25 == 0).all()
    assert len(set(zip(from_x - x, from_y - y, strict=True))) > 4
    with pytest.raises(UserError, match="no texture image in"):
        parse_settings("perlin", {"texture_folder": str(tmp_path)})
    Image.new("RGB", (50, 70), (250, 0, 0)).save(tmp_path / "red.png")
    config = parse_settings("perlin", {**free, "texture_folder": str(tmp_path), "opacity": "1"})
    assert config.to_json()["texture_folder"]["folder"] == tmp_path.name
    colour, grey = texture(1, 96), np.full((96, 96, 3), 90, np.uint8)
    for background, expected in ((colour, (250, 0, 0)), (grey, (75, 75, 75))):
        image, mask = generator("perlin")(
            background, texture(2, 96), config, np.random.default_rng(0)
        )
        assert (image[mask] == expected).all()


def test_perlin_pieces_off_the_foreground_are_left_out() -> None:
    foreground = np.zeros((256, 256), bool)
    foreground[:, :128] = True
    config = parse_settings("perlin", {**FREE, "min_overlap": "0.6", "octaves": "3,5"})
    for seed in range(5):
        _, mask = generator("perlin")(
            texture(1, 256), texture(2, 256), config, np.random.default_rng(seed), foreground
        )
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        assert count > 2
        for label in range(1, count):
            assert foreground[labels == label].mean() >= 0.6


def corner_shape() -> np.ndarray:
    shape = np.zeros((20, 24), bool)
    shape[2:18, 3:12] = shape[9:12, 3:24] = True
    return shape


def test_poisson_keeps_gradients_and_meets_the_background() -> None:
    background, patch = texture(3, 64), texture(4, 64)[10:30, 10:34]
    shape = corner_shape()
    top, left = 30, 40  # the shape reaches the right border of the image
    correction = membrane(background, top, left, shape, patch)
    assert (correction[~shape] == 0).all()
    inner = cv2.erode(np.pad(shape, 1).astype(np.uint8), np.ones((3, 3)))[1:-1, 1:-1] > 0
    laplacian = cv2.Laplacian(correction, cv2.CV_32F, ksize=1)
    assert inner.sum() > 20 and np.abs(laplacian[inner]).max() < 1e-3
    # One more pixel, whose neighbours are all on the edge, gets their mean.
    single = np.zeros((3, 3), bool)
    single[1, 1] = True
    around, above = background[10:13, 10:13].astype(float), texture(5, 64)[:3, :3].astype(float)
    difference = around - above
    cross = difference[0, 1] + difference[2, 1] + difference[1, 0] + difference[1, 2]
    found = membrane(background, 10, 10, single, above.astype(np.uint8))
    assert found[1, 1] == pytest.approx(cross / 4, abs=1e-4)
    # A constant offset vanishes: the patch itself, brighter, leaves no trace.
    own = background[top : top + 20, left : left + 24]
    brighter = (own + 20).astype(np.uint8)
    result = blend(background, top, left, shape, brighter, blending="poisson", opacity=1.0)
    assert np.abs(result.astype(int) - own)[shape].max() <= 1


def test_poisson_in_a_rectangle_is_the_same_by_either_way() -> None:
    background, patch = texture(3, 64), texture(4, 64)[10:30, 10:34]
    rectangle = np.ones((20, 24), bool)
    with_margin = np.pad(rectangle, ((0, 1), (0, 0)))  # no longer full: solved as any shape
    taller = np.pad(patch, ((0, 1), (0, 0), (0, 0)), mode="edge")
    fast = membrane(background, 20, 30, rectangle, patch)
    general = membrane(background, 20, 30, with_margin, taller)
    assert np.abs(fast).max() > 10
    assert np.abs(fast - general[:20]).max() < 1e-3


def test_poisson_over_the_whole_image_is_the_patch() -> None:
    background, patch = texture(3, 20), texture(4, 20)
    everything = np.ones((20, 20), bool)
    result = blend(background, 0, 0, everything, patch, blending="poisson", opacity=1)
    assert (result == patch).all()


def test_feather_and_alpha_fade_in_from_the_edge() -> None:
    background, patch = np.zeros((60, 60, 3), np.uint8), np.full((40, 40, 3), 200, np.uint8)
    shape = np.ones((40, 40), bool)
    feather = blend(background, 10, 10, shape, patch, blending="feather", opacity=1.0)[20, :, 0]
    assert feather[:5].tolist() == [50, 100, 150, 200, 200] and (feather == feather[::-1]).all()
    alpha = blend(background, 10, 10, shape, patch, blending="alpha", opacity=1.0)[20, :, 0]
    assert alpha[:20].tolist() == [10 * n for n in range(1, 21)]
    half = blend(background, 10, 10, shape, patch, blending="feather", opacity=0.5)
    assert half[20, 20, 0] == 100


def test_a_mixture_draws_by_weight() -> None:
    config = parse_settings("mix", {"weights": "lafite:3, perlin"})
    assert isinstance(config, MixConfig) and config.weights == {"lafite": 3.0, "perlin": 1.0}
    rng = np.random.default_rng(0)
    names = [config.pick(rng) for _ in range(400)]
    assert 260 < names.count("lafite") < 340 and set(names) == {"lafite", "perlin"}
    assert {config.pick(rng, frozenset(["lafite"])) for _ in range(9)} == {"perlin"}


def test_settings_of_a_mixture() -> None:
    config = parse_settings(
        "mix",
        {"weights": "lafite,nsa", "lafite.opacity": "0.4", "opacity": "0.7,1", "side": "0.1,0.2"},
    )
    assert config.configs["lafite"].opacity == (0.4, 0.4)
    assert config.configs["nsa"].opacity == (0.7, 1.0) and config.configs["nsa"].side == (0.1, 0.2)
    found = config.to_json()
    assert found["weights"] == {"lafite": 1.0, "nsa": 1.0}
    assert found["lafite"]["opacity"] == [0.4, 0.4]
    for settings, match in (
        ({"weights": "lafite:x"}, "not of the form lafite:2,perlin:1"),
        ({"weights": "lafite:0"}, "weight of lafite must be a positive number"),
        ({"weights": "lafite:nan"}, "must be a positive number"),
        ({"weights": "mix"}, "cannot mix 'mix'"),
        ({"weights": ""}, "cannot mix ''"),
        ({"perlin.colour": "1"}, "Generator 'perlin' has no option 'colour'"),
        ({"weights": "lafite", "nsa.side": "1"}, "no option 'nsa.side'"),
        ({"colour": "1"}, "no option 'colour'"),
        ({"weights": "external,lafite"}, "needs a folder"),
    ):
        with pytest.raises(UserError, match=match):
            parse_settings("mix", settings)
