"""Contact sheets: what anomalies were made of, and what came out."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

TILE, GAP, LINE = 144, 6, 20
"""Pixels: side of a tile, space between tiles, height of a heading or a caption."""
COLUMNS = 2
"""Anomalies beside each other; each takes a tile for every picture."""
INK = (30, 30, 30)

Row = tuple[str, Mapping[str, np.ndarray | None]]
"""A caption of one line, and the pictures over it by heading, uint8 ``[H, W, 3]`` or bool
``[H, W]`` of any size; None leaves the tile empty."""


def contact_sheet(rows: Sequence[Row]) -> np.ndarray:
    """The sheet as uint8 ``[H, W, 3]``, with a heading over every column of tiles.

    Args:
        rows: at least one, all with the same headings.
    """
    block = (len(rows[0][1]) * (TILE + GAP) + GAP, TILE + LINE + GAP)
    lines = -(-len(rows) // COLUMNS)
    size = (min(COLUMNS, len(rows)) * block[0], LINE + lines * block[1])
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for number, (caption, pictures) in enumerate(rows):
        line, column = divmod(number, COLUMNS)
        left, top = GAP + column * block[0], LINE + line * block[1]
        pen.text((left, top + TILE + GAP // 2), caption, fill=INK)
        for place, (heading, picture) in enumerate(pictures.items()):
            x = left + place * (TILE + GAP)
            if line == 0:
                pen.text((x, GAP // 2), heading, fill=INK)
            if picture is not None:
                sheet.paste(fitted(picture), (x, top))
    return np.asarray(sheet)


def fitted(picture: np.ndarray) -> Image.Image:
    """A picture within a tile, its proportions kept."""
    return ImageOps.contain(Image.fromarray(picture).convert("RGB"), (TILE, TILE))
