"""Image files in and out: one RGB scale for all, masks, content hashes, deterministic PNG."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from pseudoval.data.files import atomic_path
from pseudoval.errors import UserError

PNG_LEVEL = 3
"""zlib level: 2.5 times as fast as the default 6, for files 8 % larger (bottle at 256 px)."""


def read_rgb(path: Path) -> np.ndarray:
    """Read an image as uint8 ``[H, W, 3]`` RGB in 0..255.

    Every image is brought to that scale by a fixed rule, never by its own extremes, so that two
    images of one camera stay comparable:

    - grey and 1-bit are replicated over the channels, palettes looked up, CMYK and the like
      converted by Pillow; 16-bit colour keeps its high byte (Pillow's rule);
    - 16-bit grey and 32-bit integers are taken as 0..65535 and divided by 257 (65535 -> 255);
    - floating point is taken as 0..1 and multiplied by 255;
    - alpha is ignored: the colours below it are what a camera saw, and compositing would invent
      a background.

    Of several frames the first is read. An EXIF orientation is not applied: masks are drawn on
    the stored pixels.

    Raises:
        UserError: no such file, not an image, truncated, or values outside the fixed range.
    """
    return _rgb(_open(path), path)


def read_all(paths: Sequence[Path]) -> list[np.ndarray]:
    """``read_rgb`` of every file, on all cores.

    Raises:
        UserError: of the first file that cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(read_rgb, paths))


def read_mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask as bool ``[H, W]``; any value but zero (black) is anomalous, alpha is ignored.

    Args:
        shape: height and width of the image that the mask belongs to.

    Raises:
        UserError: the file is not a readable image, or of another size than its image.
    """
    return read_mask_values(path, shape) != 0


def read_mask_values(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask's values ``[H, W]`` as they are stored, of colours the largest channel.

    Args, Raises: as ``read_mask``.
    """
    image = _open(path)
    raw = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")
    values = np.asarray(image) if raw else _rgb(image, path)
    values = values if values.ndim == 2 else values.max(axis=2)
    if values.shape != shape:
        raise UserError(
            f"The mask {path} is {values.shape[1]}x{values.shape[0]} pixels, its image "
            f"{shape[1]}x{shape[0]}; they must agree."
        )
    return values


def image_shape(path: Path) -> tuple[int, int]:
    """Height and width of an image file, from its header; its pixels are not decoded.

    Raises:
        UserError: no such file, or not an image.
    """
    width, height = _open(path, decode=False).size
    return height, width


def pixel_sha256(image: np.ndarray) -> str:
    """Hex SHA-256 of an image's shape and pixels: equal for the same picture in any format."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def write_png(path: Path, array: np.ndarray) -> None:
    """Write uint8 ``[H, W]`` or ``[H, W, 3]``, or bool ``[H, W]`` as 0 and 255, atomically.

    The same array gives the same bytes: no time, no text, a fixed compression level.
    """
    pixels = array.astype(np.uint8) * np.uint8(255) if array.dtype == bool else array
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=PNG_LEVEL)


def _open(path: Path, decode: bool = True) -> Image.Image:
    """Open and, unless told otherwise, decode fully, so that a truncated file fails here."""
    if not path.is_file():
        raise UserError(f"There is no image file at {path}.")
    if path.stat().st_size == 0:
        raise UserError(f"The image {path} is empty (0 bytes); replace or remove it.")
    try:
        with Image.open(path) as image:
            if not decode:
                return image
            image.load()
            return image.copy()
    except Image.UnidentifiedImageError:
        raise UserError(f"{path} is not an image that can be read; replace or remove it.") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise UserError(
            f"The image {path} is damaged or truncated ({error}); replace or remove it."
        ) from None


def _rgb(image: Image.Image, path: Path) -> np.ndarray:
    """The conversion that ``read_rgb`` describes."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise UserError(
                f"{path} holds 32-bit values outside 0..65535 ({wide.min()}..{wide.max()}); "
                "save it with 8 or 16 bits."
            )
        return _replicate((wide + 128) // 257)
    if image.mode == "F":
        real = np.asarray(image)
        if not (np.isfinite(real).all() and real.min() >= 0 and real.max() <= 1):
            raise UserError(
                f"{path} holds floating-point values outside 0..1; save it with 8 or 16 bits."
            )
        return _replicate(np.rint(real * 255))
    if image.mode in ("RGBa", "La"):  # Pillow converts premultiplied colours to these only
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    if image.mode == "LA":
        image = image.getchannel("L")
    return np.array(image.convert("RGB"))


def _replicate(grey: np.ndarray) -> np.ndarray:
    """``[H, W]`` in 0..255 to uint8 ``[H, W, 3]``."""
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
