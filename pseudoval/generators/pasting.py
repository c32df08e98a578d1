"""Pasting fragments until they are seen, and lie where they should."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np

from pseudoval.errors import UserError
from pseudoval.generators.augment import Augment, augmentation
from pseudoval.generators.blending import blend
from pseudoval.generators.options import PasteConfig

MIN_SIDE = 16
"""Pixels; below that the smallest fragments are no longer shapes."""
FAINTEST = 1.0
"""Grey levels; the floor for an image without contrast, where a pasted fragment is only noise."""
CONTRAST_SIDE = 64
"""Pixels of the shorter side that the contrast is taken from; more would hardly change it."""


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


class Change(NamedTuple):
    """What pasting changed inside a mask; changes of disjoint parts add up.

    Attributes:
        levels: sum of the absolute differences, over pixels and channels.
        changed: number of pixels that differ in any channel.
        pixels: number of pixels in the mask.
    """

    levels: int = 0
    changed: int = 0
    pixels: int = 0

    def plus(self, other: "Change") -> "Change":
        return Change(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: "Change") -> "Change":
        return Change(*(a - b for a, b in zip(self, other, strict=True)))


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

    No pixel outside the mask changes; a share of at least ``config.min_changed`` of those inside
    does; the mean change inside is at or above the visibility floor.

    Args:
        background: uint8 ``[H, W, 3]``, sides of 16 px or more.
        foreground: bool ``[H, W]``, where ``config.min_overlap`` of each fragment lies, or None.

    Returns:
        image uint8 ``[H, W, 3]`` and mask bool ``[H, W]``, never empty.

    Raises:
        UserError: the image is too small, its foreground empty, or no fragment met the
            constraints in ``config.max_attempts`` draws; the message counts which failed.
    """
    height, width = background.shape[:2]
    check_size(background)
    if foreground is not None and config.min_overlap and not foreground.any():
        raise UserError("its foreground is empty; mend the foreground, or use --foreground none.")
    floor = visibility_floor(background, config)
    augment = augmentation(config, rng)
    image, mask = background.copy(), np.zeros((height, width), bool)
    sofar = Change()
    for draw in draws:
        failures: Counter[str] = Counter()
        for _ in range(config.max_attempts):
            added = _add(
                background, image, mask, sofar, draw, config, rng, foreground, floor, augment
            )
            if isinstance(added, Change):
                sofar = added
                break
            failures[added] += 1
        else:
            counts = ", ".join(f"{reason} {n} times" for reason, n in failures.most_common())
            raise UserError(
                f"no fragment met the constraints in {config.max_attempts} draws: {counts}. "
                f"{_mend(failures)} (--set name=value)."
            )
    return image, mask


def check_size(background: np.ndarray) -> None:
    """Raise ``UserError`` unless the image is large enough for fragments."""
    height, width = background.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"the image is {width}x{height} pixels; the generator needs {MIN_SIDE} or more a side."
        )


def visibility_floor(background: np.ndarray, config: PasteConfig) -> float:
    """The mean absolute change, in grey levels, that a fragment must make on this background."""
    step = max(min(background.shape[:2]) // CONTRAST_SIDE, 1)
    few = background[::step, ::step]
    total = np.add(few[..., 0], few[..., 1], dtype=np.int32)
    total += few[..., 2]
    own = max(config.min_change_contrast * float(total.std()) / 3, FAINTEST)
    return min(config.min_change, own)


def fit_source(source: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The source at the background's size, so that both show things equally large."""
    height, width = background.shape[:2]
    if source.shape != background.shape:
        source = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA)
    return source


def anywhere(
    rng: np.random.Generator,
    size: tuple[int, int],
    h: int,
    w: int,
    spots: np.ndarray | None = None,
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


def spots_of(foreground: np.ndarray | None, config: PasteConfig) -> np.ndarray | None:
    """Flat indices of the pixels that fragments are centred on, or None for anywhere."""
    if foreground is None or not config.min_overlap:
        return None
    return np.flatnonzero(foreground)


def _add(
    background: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    sofar: Change,
    draw: Draw,
    config: PasteConfig,
    rng: np.random.Generator,
    foreground: np.ndarray | None,
    floor: float,
    augment: Augment,
) -> Change | str:
    """Paste one fragment into ``image`` and ``mask``, or say why it will not do.

    Returns:
        the change with this fragment, where ``sofar`` is that without, or the reason.
    """
    drawn = draw(mask)
    if isinstance(drawn, str):
        return drawn
    shape, top, left, cut = drawn
    h, w = shape.shape
    window = (slice(top, top + h), slice(left, left + w))
    if foreground is not None and config.min_overlap:
        area = np.count_nonzero(shape)
        if np.count_nonzero(shape & foreground[window]) < config.min_overlap * area:
            return f"less than {config.min_overlap:.0%} of the fragment lay on the foreground"
    low, high = config.opacity
    patch = blend(
        background,
        top,
        left,
        shape,
        augment(cut()),
        blending=config.blending,
        blend_px=config.blend_px,
        opacity=low if low == high else rng.uniform(low, high),
    )
    change = measure(background[window], patch, shape)
    reason = _objection(change, floor, config.min_changed)
    if reason is not None:
        return reason
    where = np.ascontiguousarray(shape).view(np.uint8)
    covered = mask[window]
    union = covered | shape
    together = change
    if np.count_nonzero(union) < np.count_nonzero(covered) + change.pixels:
        # The fragment may cover what was visible of an earlier one: judge the whole too.
        before, tried = image[window], image[window].copy()
        cv2.copyTo(patch, where, tried)
        old = measure(background[window], before, covered)
        together = measure(background[window], tried, union).minus(old)
        reason = _objection(sofar.plus(together), floor, config.min_changed)
        if reason is not None:
            return reason
    cv2.copyTo(patch, where, image[window])  # a tenth of the time of numpy's copyto
    covered |= shape
    return sofar.plus(together)


def measure(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> Change:
    """How much ``after`` differs from ``before`` inside ``mask``."""
    change = cv2.absdiff(before, after)
    where = mask.view(np.uint8) if mask.flags.c_contiguous else mask.astype(np.uint8)
    pixels = cv2.countNonZero(where)
    same = cv2.bitwise_and(cv2.inRange(change, (0, 0, 0), (0, 0, 0)), where)
    mean = cv2.mean(change, where)
    return Change(round(sum(mean) * pixels), pixels - cv2.countNonZero(same), pixels)


def _objection(change: Change, floor: float, min_changed: float) -> str | None:
    """Why a change will not do, or None."""
    if change.levels < 3 * floor * change.pixels:
        return f"the change was below {floor:.1f} grey levels"
    if change.changed < min_changed * change.pixels:
        return f"less than {min_changed:.0%} of the pixels changed"
    return None


def _mend(failures: Counter[str]) -> str:
    """What to turn against the constraint that failed most often."""
    worst = failures.most_common(1)[0][0]
    if "foreground" in worst:
        return "Lower min_overlap or scale"
    if "cut" in worst:
        return "Lower min_shift or scale"
    if "area" in worst:
        return "Widen min_area and max_area, or lower min_overlap"
    return "Lower min_change or min_changed, or raise opacity or jitter"
