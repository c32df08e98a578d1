"""Anomalies after LafitE: fragments of other normal images, cut, rotated and pasted elsewhere."""

import math
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pseudoval.errors import UserError
from pseudoval.generators.masks import MASK_FAMILIES, squared_distance

MIN_SIDE = 16
"""Pixels; below that the smallest fragments are no longer shapes."""
MIN_FRAGMENT_PX = 12
"""Pixels; smaller fragments are drawn at this size."""
CANVAS_SHARE = 0.4
"""Largest share of a square canvas that a family can still fill with its shape."""
FAINTEST = 1.0
"""Grey levels; the floor for an image without contrast, where a pasted fragment is only noise."""

Jitter = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class LafiteGeneratorConfig:
    """Options of the ``lafite`` generator.

    Attributes:
        masks: families of shapes to draw from, see ``masks.MASK_FAMILIES``.
        weights: how often each of ``masks`` is drawn, relative to the others; empty: equally.
        min_area, max_area: bounds of the anomaly's share of the image, drawn log-uniformly so
            that each size class is as frequent as the next. Defects of industrial sets run from
            a few tenths of a percent (holes, cuts) to several percent (dents, stains), rarely
            beyond. At most 0.25: what is larger is no local defect.
        max_fragments: an anomaly is 1 to this many fragments, which share its area.
        joined: probability that a further fragment touches the earlier ones, as one compound
            shape, instead of lying anywhere.
        min_rotation, max_rotation: range in degrees by which each mask is rotated.
        content_rotation: how the fragment's content turns: ``with_mask`` as one piece,
            ``independent`` by an angle of its own from the same range, or ``none``.
        min_shift: least distance from where a fragment is cut to where it is pasted, as a share
            of the shorter side. Normals of an aligned category match where they are: a fragment
            pasted in its own place would be no anomaly.
        jitter: largest relative change of a fragment's brightness, contrast and saturation, by
            albumentations; 0 for none. 0.1 is CutPaste's (Li et al. 2021).
        blend_px: width in pixels over which a fragment fades in from its edge; 0 is a hard paste,
            as a wide fade leaves a mask that covers almost unchanged pixels.
        min_change: visibility floor: mean absolute difference, in grey levels over the pixels
            and channels of a mask, that a fragment must make. 8 of 255 is just seen on an even
            surface.
        min_change_contrast: the same floor as a share of the background's standard deviation.
            The lower of the two holds (but not below 1 grey level), so that dark and even images,
            whose whole range is a few levels, are judged by their own contrast.
        min_changed: share of the pixels in the mask that must differ from the background. A
            fragment of white on white is redrawn; the few pixels that agree by chance stay in the
            mask, whose shape is kept whole.
        max_attempts: draws of one fragment before giving up.
    """

    masks: tuple[str, ...] = tuple(MASK_FAMILIES)
    weights: tuple[float, ...] = ()
    min_area: float = 0.002
    max_area: float = 0.05
    max_fragments: int = 3
    joined: float = 0.5
    min_rotation: float = 0.0
    max_rotation: float = 360.0
    content_rotation: str = "with_mask"
    min_shift: float = 0.1
    jitter: float = 0.1
    blend_px: float = 0.0
    min_change: float = 8.0
    min_change_contrast: float = 0.4
    min_changed: float = 0.9
    max_attempts: int = 100

    def __post_init__(self) -> None:
        unknown = [name for name in self.masks if name not in MASK_FAMILIES]
        known = ", ".join(MASK_FAMILIES)
        rules = {
            f"masks must be one or more of {known}": bool(self.masks) and not unknown,
            "weights must be empty or one per mask, none negative, not all zero": (
                not self.weights
                or (
                    len(self.weights) == len(self.masks)
                    and min(self.weights) >= 0
                    and sum(self.weights) > 0
                )
            ),
            "0 < min_area <= max_area <= 0.25": 0 < self.min_area <= self.max_area <= 0.25,
            "max_fragments must be 1 to 10": 1 <= self.max_fragments <= 10,
            "joined must lie in 0..1": 0 <= self.joined <= 1,
            "-360 <= min_rotation <= max_rotation <= 360": (
                -360 <= self.min_rotation <= self.max_rotation <= 360
            ),
            "content_rotation must be with_mask, independent or none": (
                self.content_rotation in ("with_mask", "independent", "none")
            ),
            "min_shift must lie in 0..0.5": 0 <= self.min_shift <= 0.5,
            "jitter must lie in 0..1": 0 <= self.jitter <= 1,
            "blend_px must lie in 0..100": 0 <= self.blend_px <= 100,
            "min_change must lie in 0..255": 0 <= self.min_change <= 255,
            "min_change_contrast must not be negative": self.min_change_contrast >= 0,
            "min_changed must lie in 0..1": 0 <= self.min_changed <= 1,
            "max_attempts must be 1 or more": self.max_attempts >= 1,
        }
        for rule, kept in rules.items():
            if not kept:
                raise UserError(f"Generator 'lafite': {rule}.")


def generate(
    background: np.ndarray,
    source: np.ndarray,
    config: LafiteGeneratorConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Paste fragments of ``source`` into ``background``.

    No pixel outside the mask changes; a share of at least ``config.min_changed`` of those inside
    does; the mean change inside is at or above the visibility floor. The same inputs and
    state of ``rng`` give the same bytes; nothing else is drawn from.

    Args:
        background: uint8 ``[H, W, 3]``, sides of 16 px or more.
        source: uint8 ``[h, w, 3]``; resized to the background's size if it differs.

    Returns:
        image uint8 ``[H, W, 3]`` and mask bool ``[H, W]``, never empty.

    Raises:
        UserError: the image is too small, or no fragment met the constraints in
            ``config.max_attempts`` draws; the message counts which failed.
    """
    height, width = background.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"the image is {width}x{height} pixels; the generator needs {MIN_SIDE} or more a side."
        )
    if source.shape != background.shape:
        source = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA)
    floor = visibility_floor(background, config)
    jitter = _jitter(config.jitter, rng)
    image, mask = background.copy(), np.zeros((height, width), bool)
    for area in _areas(height, width, config, rng):
        failures: Counter[str] = Counter()
        for _ in range(config.max_attempts):
            drawn = _fragment(background, source, mask, area, config, rng, jitter)
            if isinstance(drawn, str):
                failures[drawn] += 1
                continue
            window, shape, patch = drawn
            reason = _objection(background[window], patch, shape, floor, config.min_changed)
            if reason is None:
                tried, union = image.copy(), mask.copy()
                tried[window][shape] = patch[shape]
                union[window] |= shape
                # A fragment may cover what was visible of an earlier one: judge the whole too.
                reason = _objection(background, tried, union, floor, config.min_changed)
            if reason is None:
                image, mask = tried, union
                break
            failures[reason] += 1
        else:
            counts = ", ".join(f"{reason} {n} times" for reason, n in failures.most_common())
            raise UserError(
                f"no fragment met the constraints in {config.max_attempts} draws: {counts}. "
                "Lower min_change, min_changed or min_shift, or raise jitter (--set name=value)."
            )
    return image, mask


def visibility_floor(background: np.ndarray, config: LafiteGeneratorConfig) -> float:
    """The mean absolute change, in grey levels, that a fragment must make on this background."""
    grey = background.mean(axis=2, dtype=np.float32)
    own = max(config.min_change_contrast * float(grey.std()), FAINTEST)
    return min(config.min_change, own)


def _objection(
    before: np.ndarray, after: np.ndarray, mask: np.ndarray, floor: float, min_changed: float
) -> str | None:
    """Why the change from ``before`` to ``after`` inside ``mask`` will not do, or None."""
    change = cv2.absdiff(before[mask], after[mask])
    if change.mean() < floor:
        return f"the change was below {floor:.1f} grey levels"
    if change.any(axis=1).mean() < min_changed:
        return f"less than {min_changed:.0%} of the pixels changed"
    return None


def _areas(
    height: int, width: int, config: LafiteGeneratorConfig, rng: np.random.Generator
) -> list[int]:
    """Areas in pixels of an anomaly's fragments."""
    low, high = math.log(config.min_area), math.log(config.max_area)
    total = math.exp(rng.uniform(low, high)) * height * width
    count = int(rng.integers(1, config.max_fragments + 1))
    # Shares between one half and twice each other, roughly: no fragment shrinks to nothing.
    shares = rng.dirichlet(np.full(count, 4.0))
    largest = int(CANVAS_SHARE * min(height, width) ** 2)
    return [int(np.clip(round(total * share), MIN_FRAGMENT_PX, largest)) for share in shares]


def _fragment(
    background: np.ndarray,
    source: np.ndarray,
    mask: np.ndarray,
    area: int,
    config: LafiteGeneratorConfig,
    rng: np.random.Generator,
    jitter: Jitter | None,
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray] | str:
    """Draw a fragment: the window it is pasted in, its mask and its pixels there, or a reason."""
    height, width = mask.shape
    angle = rng.uniform(config.min_rotation, config.max_rotation)
    shape = _shape(min(height, width), area, angle, config, rng)
    h, w = shape.shape
    top, left = _place(mask, h, w, config.joined, rng)
    turn = angle if config.content_rotation == "with_mask" else 0.0
    if config.content_rotation == "independent":
        turn = rng.uniform(config.min_rotation, config.max_rotation)
    # The cut keeps its rotated window inside the source where that fits.
    radius = math.hypot(h, w) / 2
    cut_x = rng.uniform(min(radius, width / 2), max(width - radius, width / 2))
    cut_y = rng.uniform(min(radius, height / 2), max(height - radius, height / 2))
    shift = math.hypot(cut_x - (left + w / 2), cut_y - (top + h / 2))
    if shift < config.min_shift * min(height, width):
        return "the fragment came to lie where it was cut"
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    x0, y0 = (w - 1) / 2, (h - 1) / 2
    to_source = np.array(
        [
            [cos, -sin, cut_x - 0.5 - cos * x0 + sin * y0],
            [sin, cos, cut_y - 0.5 - sin * x0 - cos * y0],
        ]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP  # linear would blur what it rotates
    patch = cv2.warpAffine(
        source, to_source, (w, h), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    if jitter is not None:
        patch = jitter(patch)
    window = (slice(top, top + h), slice(left, left + w))
    if config.blend_px:
        depth = np.sqrt(squared_distance(np.pad(shape, 1).astype(np.uint8)))[1:-1, 1:-1]
        alpha = np.minimum(depth / (config.blend_px + 1), 1)[..., None]
        patch = np.rint(background[window] * (1 - alpha) + patch * alpha).astype(np.uint8)
    return window, shape, patch


def _shape(
    side: int, area: int, angle: float, config: LafiteGeneratorConfig, rng: np.random.Generator
) -> np.ndarray:
    """A rotated mask of one of the families, cropped to its bounding box."""
    weights = np.array(config.weights or [1.0] * len(config.masks))
    name = config.masks[int(rng.choice(len(config.masks), p=weights / weights.sum()))]
    # Room for the longest family, 25:1, and no more: large canvases cost time.
    canvas = min(side, max(MIN_SIDE, math.ceil(6 * math.sqrt(area))))
    mask = MASK_FAMILIES[name](rng, canvas, canvas, area)
    if angle % 360:
        centre = ((canvas - 1) / 2, (canvas - 1) / 2)
        # OpenCV counts angles anticlockwise, the content's matrix turns the source that way too.
        matrix = cv2.getRotationMatrix2D(centre, angle, 1.0)
        mask = cv2.warpAffine(mask.astype(np.uint8) * 255, matrix, (canvas, canvas)) >= 128
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _place(
    mask: np.ndarray, h: int, w: int, joined: float, rng: np.random.Generator
) -> tuple[int, int]:
    """Top left corner of a window of ``h x w`` inside the image: anywhere, or on ``mask``."""
    height, width = mask.shape
    if mask.any() and rng.random() < joined:
        spots = np.flatnonzero(mask)
        y, x = divmod(int(spots[rng.integers(len(spots))]), width)
        return int(np.clip(y - h // 2, 0, height - h)), int(np.clip(x - w // 2, 0, width - w))
    return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))


def _jitter(strength: float, rng: np.random.Generator) -> Jitter | None:
    """Photometric jitter driven by ``rng`` alone."""
    if not strength:
        return None
    # The import asks the package index for its newest version unless told not to, and takes two
    # seconds: only who needs it pays.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    span = (1 - strength, 1 + strength)
    jitter = albumentations.ColorJitter(
        brightness=span, contrast=span, saturation=span, hue=(0.0, 0.0), p=1.0
    )
    # Compose(seed=...) would start every transform from the same stream; sharing ours does not.
    jitter.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    return lambda patch: jitter(image=patch)["image"]
