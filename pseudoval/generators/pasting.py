"""Cutting fragments, and pasting them until they are seen and lie where they should."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np

from pseudoval.errors import UserError
from pseudoval.generators.augment import augmentation
from pseudoval.generators.blending import blend
from pseudoval.generators.options import PasteConfig
from pseudoval.generators.visibility import Change, measure, visibility_floor

MIN_SIDE = 16
"""Pixels; below that the smallest fragments are no longer shapes."""
MIN_SHIFT = 0.1
"""Least distance from where a fragment is cut to where it is pasted, as a share of the shorter
side. Normals of an aligned category match where they are: a fragment pasted in its own place would
be no anomaly."""
MAX_ATTEMPTS = 500
"""Draws of one fragment before giving up. A set fails with its worst image, so that constraints
which one draw in a hundred meets still have to build hundreds."""


class Fragment(NamedTuple):
    """A fragment that is drawn but not pasted yet.

    Attributes:
        shape: bool ``[h, w]``, its pixels in a window of that size.
        top, left: where the window lies in the background.
        cut: makes its content uint8 ``[h, w, 3]``; called only if the place is accepted.
    """

    shape: np.ndarray
    top: int
    left: int
    cut: Callable[[], np.ndarray]


Draw = Callable[[np.ndarray], Fragment | str]
"""Draws a fragment, given the mask bool ``[H, W]`` of the earlier ones, or says what failed."""


def paste(
    background: np.ndarray,
    draws: Iterable[Draw],
    config: PasteConfig,
    rng: np.random.Generator,
    foreground: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Paste one fragment of each draw, each drawn until it meets the constraints.

    No pixel outside the mask changes; a share of at least ``config.MIN_CHANGED`` of those inside
    does, half of them visibly; the mean change inside is at or above the floor.

    Args:
        background: uint8 ``[H, W, 3]``, sides of 16 px or more.
        foreground: bool ``[H, W]``, where ``config.min_overlap`` of each fragment lies, or None.

    Returns:
        image uint8 ``[H, W, 3]`` and mask bool ``[H, W]``, never empty.

    Raises:
        UserError: the foreground is empty, or no fragment met the constraints in ``MAX_ATTEMPTS``
            draws; the message counts which failed.
    """
    if foreground is not None and not foreground.any():
        raise UserError("its foreground is empty; mend the foreground, or use --foreground none.")
    painting = _Painting(background, config, rng, foreground)
    for draw in draws:
        failures: Counter[str] = Counter()
        for _ in range(MAX_ATTEMPTS):
            reason = painting.add(draw)
            if reason is None:
                break
            failures[reason] += 1
        else:
            counts = ", ".join(f"{reason} {n} times" for reason, n in failures.most_common())
            raise UserError(
                f"no fragment met the constraints in {MAX_ATTEMPTS} draws: {counts}. "
                f"{_mend(failures)} (--set name=value)."
            )
    return painting.image, painting.mask


class _Painting:
    """An image to which fragments are added, and its mask."""

    def __init__(
        self,
        background: np.ndarray,
        config: PasteConfig,
        rng: np.random.Generator,
        foreground: np.ndarray | None,
    ) -> None:
        self.background, self.config = background, config
        self.rng, self.foreground = rng, foreground
        self.image, self.mask = background.copy(), np.zeros(background.shape[:2], bool)
        self.change = Change()
        self.floor = visibility_floor(background, config.min_change)
        self.augment = augmentation(config.pipeline(), rng)

    def add(self, draw: Draw) -> str | None:
        """Draw a fragment and paste it, or say why it will not do."""
        drawn = draw(self.mask)
        if isinstance(drawn, str):
            return drawn
        shape = drawn.shape
        h, w = shape.shape
        window = (slice(drawn.top, drawn.top + h), slice(drawn.left, drawn.left + w))
        if self.foreground is not None:
            least = self.config.min_overlap
            if np.count_nonzero(shape & self.foreground[window]) < least * np.count_nonzero(shape):
                return f"less than {least:.0%} of the fragment lay on the foreground"
        low, high = self.config.opacity
        patch = blend(
            self.background,
            drawn.top,
            drawn.left,
            shape,
            self.augment(drawn.cut()),
            blending=self.config.blending,
            opacity=low if low == high else self.rng.uniform(low, high),
        )
        below = self.background[window]
        change = measure(below, patch, shape, self.floor)
        reason = change.objection(self.floor, self.config.MIN_CHANGED)
        if reason is not None:
            return reason
        where = np.ascontiguousarray(shape).view(np.uint8)
        covered = self.mask[window]
        union = covered | shape
        if np.count_nonzero(union) < np.count_nonzero(covered) + change.pixels:
            # The fragment may cover what was visible of an earlier one: judge the whole too.
            before, tried = self.image[window], self.image[window].copy()
            cv2.copyTo(patch, where, tried)
            old = measure(below, before, covered, self.floor)
            change = measure(below, tried, union, self.floor).minus(old)
            reason = self.change.plus(change).objection(self.floor, self.config.MIN_CHANGED)
            if reason is not None:
                return reason
        cv2.copyTo(patch, where, self.image[window])  # a tenth of the time of numpy's copyto
        covered |= shape
        self.change = self.change.plus(change)
        return None


def check_size(background: np.ndarray) -> None:
    """Raise ``UserError`` unless the image is large enough for fragments."""
    height, width = background.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"the image is {width}x{height} pixels; the generator needs {MIN_SIDE} or more a side."
        )


def fit_source(source: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The source at the background's size, so that both show things equally large.

    Raises:
        UserError: the background is too small for fragments.
    """
    check_size(background)
    height, width = background.shape[:2]
    if source.shape != background.shape:
        source = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA)
    return source


def anywhere(
    rng: np.random.Generator,
    size: tuple[int, int],
    h: int,
    w: int,
    spots: np.ndarray | None,
) -> tuple[int, int]:
    """Top left corner of a window of ``h x w`` in an image of ``size``.

    Args:
        spots: flat indices of pixels; the window lies about one of them. None: anywhere.
    """
    height, width = size
    if spots is None:
        return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    y, x = divmod(int(spots[rng.integers(len(spots))]), width)
    return min(max(y - h // 2, 0), height - h), min(max(x - w // 2, 0), width - w)


def spots_of(mask: np.ndarray | None) -> np.ndarray | None:
    """Flat indices of the pixels that fragments are centred on, or None for anywhere."""
    return None if mask is None else np.flatnonzero(mask)


def place_and_cut(
    source: np.ndarray,
    shape: np.ndarray,
    angle: float,
    rng: np.random.Generator,
    spots: np.ndarray | None,
    zoom: float = 1.0,
) -> Fragment | str:
    """A fragment of a shape somewhere, with content from somewhere else in the source."""
    height, width = source.shape[:2]
    h, w = shape.shape
    top, left = anywhere(rng, (height, width), h, w, spots)
    x = rng.uniform(*inside(w / zoom, width))
    y = rng.uniform(*inside(h / zoom, height))
    return fragment_at(source, shape, (top, left), (x, y), angle, zoom)


def fragment_at(
    source: np.ndarray,
    shape: np.ndarray,
    corner: tuple[int, int],
    centre: tuple[float, float],
    turn: float,
    zoom: float = 1.0,
) -> Fragment | str:
    """A fragment of a shape, unless it is cut where it is pasted.

    Args:
        corner: top and left of its window in the background.
        centre: x and y in the source that its content is cut about, pixels.
        turn, zoom: as in ``cut``.
    """
    (top, left), (x, y), (h, w) = corner, centre, shape.shape
    if math.hypot(x - (left + w / 2), y - (top + h / 2)) < MIN_SHIFT * min(source.shape[:2]):
        return "the fragment came to lie where it was cut"
    return Fragment(shape, top, left, lambda: cut(source, x, y, (h, w), turn, zoom))


def cut(
    source: np.ndarray, x: float, y: float, size: tuple[int, int], turn: float, zoom: float
) -> np.ndarray:
    """A window of a picture about a point, turned and resized; mirrored beyond its border.

    Args:
        x, y: the window's centre in ``source``, pixels from its corner.
        size: height and width of the window in pixels.
        turn: degrees anticlockwise by which the content is turned.
        zoom: factor by which the content is enlarged.

    Returns:
        uint8 ``[h, w, 3]``.
    """
    h, w = size
    if turn == 0 and zoom == 1:  # whole pixels need no interpolation
        x, y = round(x - w / 2) + w / 2, round(y - h / 2) + h / 2
    cos, sin = math.cos(math.radians(turn)) / zoom, math.sin(math.radians(turn)) / zoom
    x0, y0 = (w - 1) / 2, (h - 1) / 2
    to_source = np.array(
        [
            [cos, -sin, x - 0.5 - cos * x0 + sin * y0],
            [sin, cos, y - 0.5 - sin * x0 - cos * y0],
        ]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP  # linear would blur what it rotates
    return cv2.warpAffine(source, to_source, (w, h), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def inside(extent: float, whole: int) -> tuple[float, float]:
    """Where the centre of an extent may lie so that all of it is inside, if that is possible."""
    return min(extent / 2, whole / 2), max(whole - extent / 2, whole / 2)


def _mend(failures: Counter[str]) -> str:
    """What to turn against the constraint that failed most often."""
    worst = failures.most_common(1)[0][0]
    if "foreground" in worst:
        return "Lower min_overlap or scale"
    if "cut" in worst:
        return "Lower scale"
    if "area" in worst:
        return "Widen min_area and max_area, or lower min_overlap"
    return "Lower min_change, or raise opacity or jitter"
