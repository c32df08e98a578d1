"""Contact sheets: what anomalies were made of, and what came out."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

TILE, GAP, HEAD, FOOT = 144, 6, 22, 18
"""Pixels: sides of a tile, space between tiles, heights of the headings and of the captions."""
COLUMNS = 2
"""Anomalies beside each other; each takes a tile for every picture."""
PAPER, INK = 255, 30


Row = tuple[str, Mapping[str, np.ndarray | None]]
"""One line of plain ASCII, and the pictures over it by heading, uint8 ``[H, W, 3]`` or bool
``[H, W]`` of any size; None leaves the tile empty."""


def contact_sheet(rows: Sequence[Row]) -> np.ndarray:
    """The sheet as uint8 ``[H, W, 3]``, with a heading over every column of tiles.

    Args:
        rows: at least one, all with the same headings.
    """
    headings = list(rows[0][1])
    lines = -(-len(rows) // COLUMNS)
    across = min(COLUMNS, len(rows))
    block = len(headings) * (TILE + GAP)
    width = across * block + (across - 1) * 2 * GAP + GAP
    sheet = np.full((HEAD + lines * (TILE + FOOT + GAP), width, 3), PAPER, np.uint8)
    for number, (caption, pictures) in enumerate(rows):
        line, column = divmod(number, COLUMNS)
        left = GAP + column * (block + 2 * GAP)
        top = HEAD + line * (TILE + FOOT + GAP)
        for place, heading in enumerate(headings):
            x = left + place * (TILE + GAP)
            if line == 0:
                _write(sheet, heading, x, HEAD - 7, 0.45)
            picture = pictures[heading]
            if picture is not None:
                tile = fitted(picture)
                sheet[top : top + tile.shape[0], x : x + tile.shape[1]] = tile
        _write(sheet, caption, left, top + TILE + 13, 0.38)
    return sheet


def fitted(picture: np.ndarray) -> np.ndarray:
    """A picture within a tile, its proportions kept, as uint8 ``[h, w, 3]``."""
    if picture.dtype == bool:
        picture = np.repeat(picture.astype(np.uint8)[..., None] * np.uint8(255), 3, axis=2)
    height, width = picture.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=method))


def _write(sheet: np.ndarray, text: str, x: int, y: int, size: float) -> None:
    cv2.putText(
        sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, (INK,) * 3, 1, cv2.LINE_AA
    )  # fmt: skip
