"""Perlin anomalies after DRAEM (Zavrtanik et al. 2021) and MemSeg (Yang et al. 2023): textures
that show through where Perlin noise is high.

As in MemSeg the texture may come from the normals themselves, cut into pieces and shuffled; DRAEM
takes a folder of foreign textures.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

import cv2
import numpy as np

from pseudoval.data.dataset import IMAGE_SUFFIXES
from pseudoval.data.images import read_rgb
from pseudoval.errors import UserError
from pseudoval.generators.options import PasteConfig
from pseudoval.generators.pasting import Fragment, check_size, fit_source, paste

ROTATION = 90.0
"""Largest angle in degrees, either way, by which the noise is turned."""
PIECES = 8
"""Number of pieces along a side that the source is cut into and shuffled."""


@dataclass(frozen=True, kw_only=True)
class PerlinConfig(PasteConfig):
    """A texture, or shuffled pieces of a normal, where Perlin noise is high (DRAEM, MemSeg).

    Attributes:
        opacity: MemSeg's range; what is too faint to be seen is drawn again.
        jitter: strong, as both papers augment their textures strongly.
        octaves: the noise has ``2**n`` cells along a side, ``n`` drawn uniformly from these
            bounds for each side (DRAEM: 0 to 5).
        threshold: where the noise, of about -1..1, is above it, the anomaly shows.
        min_area, max_area: bounds of the mask's share of the image; others are drawn again.
        texture_folder: a folder that is searched for texture images; None takes the source, cut
            into ``PIECES``.
    """

    FLIPS: ClassVar[float] = 0.5

    opacity: Annotated[tuple[float, float], (0.01, 1)] = (0.15, 1.0)
    jitter: Annotated[float, (0, 1)] = 0.3
    octaves: Annotated[tuple[int, int], (0, 8)] = (0, 5)
    threshold: Annotated[float, (0, 1)] = 0.5
    min_area: Annotated[float, (1e-5, 1)] = 0.002
    max_area: Annotated[float, (1e-5, 1)] = 0.25
    texture_folder: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.texture_folder is not None:
            textures(self.texture_folder)


def generate(
    background: np.ndarray,
    source: np.ndarray,
    config: PerlinConfig,
    rng: np.random.Generator,
    foreground: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Let a texture show through ``background``; arguments as ``lafite.generate``.

    With a foreground, a piece of the mask that lies on it by less than ``config.min_overlap`` is
    left out.

    Raises:
        UserError: as ``pasting.paste``.
    """
    check_size(background)
    height, width = background.shape[:2]

    def draw(mask: np.ndarray) -> Fragment | str:
        shape = _noise_mask(height, width, config, rng)
        if foreground is not None:
            shape = _pieces_on(shape, foreground, config.min_overlap)
        share = np.count_nonzero(shape) / shape.size
        least, most = config.min_area * config.scale, min(config.max_area * config.scale, 1.0)
        if not least <= share <= most:
            return f"the mask's area was not {least:.2%} to {most:.2%} of the image"
        left, top, w, h = cv2.boundingRect(shape.view(np.uint8))
        window = (slice(top, top + h), slice(left, left + w))
        texture = _texture(background, source, config, rng)
        return Fragment(np.ascontiguousarray(shape[window]), top, left, lambda: texture[window])

    return paste(background, [draw], config, rng, foreground)


def perlin_noise(
    rng: np.random.Generator, height: int, width: int, rows: int, columns: int
) -> np.ndarray:
    """Gradient noise (Perlin 1985, with the quintic fade of 2002) on a grid of cells.

    Args:
        rows, columns: number of cells along the height and the width.

    Returns:
        float32 ``[height, width]`` of about -1..1, 0 in the corners of the cells.
    """
    angle = rng.uniform(0, 2 * np.pi, (rows + 1, columns + 1))
    gradient_x, gradient_y = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    row, y, fade_y = _cells(height, rows)
    column, x, fade_x = _cells(width, columns)
    # The corners' contributions are products of a factor of y and one of x: first along y, on
    # the few columns of gradients, then along x. Elementwise, so the same on every machine.
    y, fade_y = y[:, None], fade_y[:, None]
    along_x = gradient_x[row] * (1 - fade_y) + gradient_x[row + 1] * fade_y
    along_y = gradient_y[row] * (y * (1 - fade_y)) + gradient_y[row + 1] * ((y - 1) * fade_y)
    noise = along_x[:, column] * (x * (1 - fade_x))
    noise += along_x[:, column + 1] * ((x - 1) * fade_x)
    noise += along_y[:, column] * (1 - fade_x)
    noise += along_y[:, column + 1] * fade_x
    noise *= np.float32(math.sqrt(2))
    return noise


def textures(folder: Path) -> tuple[Path, ...]:
    """The images in a folder and below it, sorted.

    Raises:
        UserError: there is none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"There is no texture image in {folder}; give another texture_folder.")
    return tuple(found)


_textures = lru_cache(maxsize=4)(textures)
_read = lru_cache(maxsize=8)(read_rgb)


def _cells(length: int, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell, position in it and fade of each pixel along an axis, ``[length]`` each."""
    position = (np.arange(length) + 0.5) * (cells / length)
    cell = position.astype(np.intp)
    t = position - cell
    return cell, t.astype(np.float32), (t**3 * (t * (t * 6 - 15) + 10)).astype(np.float32)


def _noise_mask(
    height: int, width: int, config: PerlinConfig, rng: np.random.Generator
) -> np.ndarray:
    """Where turned noise is above the threshold, bool ``[height, width]``; perhaps nowhere."""
    low, high = config.octaves
    rows, columns = (
        min(2**n, max(side // 4, 1))
        for n, side in zip(rng.integers(low, high + 1, 2).tolist(), (height, width), strict=True)
    )
    noise = perlin_noise(rng, height, width, rows, columns)
    angle = rng.uniform(-ROTATION, ROTATION)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    noise = cv2.warpAffine(noise, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    shape = noise > config.threshold
    area = np.count_nonzero(shape)
    if config.scale != 1 and area:
        wanted = min(max(round(area * config.scale), 1), shape.size)
        shape = noise >= np.partition(noise, shape.size - wanted, axis=None)[shape.size - wanted]
    return shape


def _pieces_on(shape: np.ndarray, foreground: np.ndarray, min_overlap: float) -> np.ndarray:
    """The connected pieces of which at least a share lies on the foreground."""
    count, labels = cv2.connectedComponents(shape.view(np.uint8), connectivity=8)
    total = np.bincount(labels.ravel(), minlength=count)
    on = np.bincount(labels[foreground], minlength=count)
    kept = on >= min_overlap * total
    kept[0] = False
    return kept[labels]


def _texture(
    background: np.ndarray, source: np.ndarray, config: PerlinConfig, rng: np.random.Generator
) -> np.ndarray:
    """What shows through, uint8 ``[H, W, 3]``."""
    height, width = background.shape[:2]
    if config.texture_folder is not None:
        paths = _textures(config.texture_folder)
        texture = fit_source(_read(paths[int(rng.integers(len(paths)))]), background)
        if _is_grey(background):  # colour would give the anomaly away
            texture = cv2.cvtColor(cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return texture
    n = min(PIECES, height, width)
    h, w = -(-height // n), -(-width // n)
    whole = cv2.resize(source, (w * n, h * n), interpolation=cv2.INTER_AREA)
    pieces = whole.reshape(n, h, n, w, 3).swapaxes(1, 2).reshape(n * n, h, w, 3)
    shuffled = pieces[rng.permutation(n * n)].reshape(n, n, h, w, 3).swapaxes(1, 2)
    return shuffled.reshape(n * h, n * w, 3)[:height, :width]


def _is_grey(image: np.ndarray) -> bool:
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())
