"""What a detector offers to the studies, and how it says what it can be tuned over."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config
from pseudoval.metrics.spacing import geometric
from pseudoval.progress import ProgressCallback

Arrays = dict[str, np.ndarray]

Value = float | str
"""A value of a parameter: a whole number, a number, or text."""


Kind = Literal["int", "float", "categorical"]
DERIVED: Any = None
"""What is left to be derived from the other attributes."""


@dataclass(frozen=True)
class Parameter:
    """A parameter that a detector can be tuned over.

    A name and a grid are enough: ``Parameter("k", grid=(1, 5, 9))``.

    Attributes:
        grid: the values that a study tries by default, numbers ascending; of a categorical
            parameter all values that there are, unless the detector's ``check`` takes others.
        default: a fixed choice to compare with; by default the middle one of numbers (of two the
            lower), the first of names.
        needs_fit: whether another value needs a new fit, or only new scores. Such a parameter may
            be left out of a configuration, which then is scored with the value that the model was
            fitted with.
        kind: ``int``, ``float``, or ``categorical`` for text and for codes, such as the digits of
            feature stages, where a value half-way between two others means nothing; by default
            what the values of the grid are.
        low, high: the range of numbers that make sense; none of a categorical parameter.
        log: whether a search over a range draws from it evenly in the logarithm; by default if
            the grid is ``geometric``.
        meaning: one line for a person, with the unit.

    Raises:
        UserError: an empty grid, equal values or values of several kinds in it, or a default that
            is not one of them.
    """

    name: str
    _: KW_ONLY
    grid: tuple[Value, ...]
    default: Value = DERIVED
    needs_fit: bool = False
    kind: Kind = DERIVED
    low: float = -math.inf
    high: float = math.inf
    log: bool = DERIVED
    meaning: str = ""

    def __post_init__(self) -> None:
        kind = self.kind or self._kind()
        grid = tuple(self.grid) if kind != "float" else tuple(map(float, self.grid))
        if len(set(grid)) < len(grid):
            twice = next(value for value in grid if grid.count(value) > 1)
            raise UserError(f"The grid of {self.name} has {twice!r} twice; keep one of them.")
        if kind != "categorical":
            grid = tuple(sorted(grid, key=float))
        default = self.default
        if default is None and grid:  # a model may be too small for any value
            default = grid[0 if kind == "categorical" else (len(grid) - 1) // 2]
        log = kind != "categorical" and geometric(grid) if self.log is None else self.log
        for name, value in {"kind": kind, "grid": grid, "default": default, "log": log}.items():
            object.__setattr__(self, name, value)

    def value_of(self, text: str) -> Value:
        """A value as the command line has it; a name or a code that is not in the grid is kept.

        Raises:
            UserError: not a number, where it takes numbers.
        """
        named = {str(value): value for value in self.grid}
        if self.kind == "categorical" and (text in named or isinstance(self.default, str)):
            return named.get(text, text)
        for kind in (int, float):
            with suppress(ValueError):
                return kind(text) if self.kind != "float" else float(text)
        raise UserError(f"{self.name} takes numbers, and {text!r} is none.")

    def _kind(self) -> Kind:
        """What the values of the grid are."""
        listed = list(self.grid) if isinstance(self.grid, tuple | list) else []
        values = listed if self.default is None else [*listed, self.default]
        kinds = {type(value) for value in values}
        infinite = any(type(value) is float and not math.isfinite(value) for value in values)
        if not listed or infinite or not kinds <= {int, float, str}:
            raise UserError(
                f"The grid of {self.name} is {self.grid!r}, its default {self.default!r}; give "
                "numbers or names, such as grid=(1, 5, 9)."
            )
        if kinds == {int}:
            return "int"
        if str not in kinds:
            return "float"
        if kinds != {str}:
            raise UserError(
                f"The grid of {self.name} and its default have numbers and names: {values!r}; "
                "write all of them as names."
            )
        if self.default is not None and self.default not in self.grid:
            raise UserError(
                f"The default of {self.name} is {self.default!r}, which is not in its grid; add it."
            )
        return "categorical"


def limited(parameter: Parameter, high: float) -> Parameter:
    """A parameter of numbers and its default grid within what a model allows."""
    grid = tuple(value for value in parameter.grid if float(value) <= high)
    default = parameter.default if float(parameter.default) <= high else high
    return dataclasses.replace(
        parameter, high=min(parameter.high, high), grid=grid, default=default
    )


@dataclass(frozen=True, kw_only=True)
class Block:
    """What a detector says of a block of images under a list of configurations.

    Attributes:
        scores: ``[configs, images]`` float64, higher is more anomalous.
        coarse: ``[configs, images, h, w]`` float32, anomaly maps at the detector's own
            resolution; ``Detector.render`` brings them to full size. Kept coarse because a block
            of full-size maps of every configuration is thousands of times larger. None of a
            detector without maps, which says so by ``has_maps``.
    """

    scores: np.ndarray
    coarse: np.ndarray | None


class Detector(Protocol):
    """An anomaly detector that scores many configurations at once.

    Scores of an image under a configuration are a function of the model, the seed, the image and
    the configuration, bit for bit: never of what else is scored, of the order or of block sizes.
    """

    name: str
    parameters: tuple[Parameter, ...]
    categories: list[str]
    split_sha256: str | None
    model_sha256: str
    seed: int
    refit: Mapping[str, Any] | None
    """The choice that the model was refitted with; None for a model that held normals out."""
    of_all: bool
    """Whether one model judges all categories, so that ``of`` always is the detector itself."""

    @property
    def has_maps(self) -> bool:
        """Whether there are anomaly maps; without them pixel figures and heat maps are not
        available, and ``render`` is never called.
        """
        ...

    @property
    def scores_in_maps(self) -> bool:
        """Whether an image's score is a value of its anomaly map, so that the highest score of
        normal images may end the scale of heat maps.
        """
        ...

    def of(self, category: str) -> "Detector":
        """The detector that judges images of a category; itself where all share one.

        Raises:
            UserError: there is none for that category.
        """
        ...

    def check(self, config: Config) -> None:
        """Refuse a configuration that cannot be scored.

        Raises:
            UserError: naming the parameter, its value and its range.
        """
        ...

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """Score uint8 RGB ``[H, W, 3]`` images under every configuration."""
        ...

    def render(self, coarse: np.ndarray) -> np.ndarray:
        """Coarse maps ``[B, h, w]`` to full-size anomaly maps ``[B, H, W]`` float32."""
        ...

    def explain(self, image: np.ndarray, config: Config) -> Arrays:
        """What pictures are drawn from.

        Returns:
            ``map`` ``[H, W]``, the anomaly map, if the detector has maps; ``error_plain`` and
            ``error_edited`` ``[h, w]``, the error without and with feature editing where the
            detector has them; further arrays as the detector likes.
        """
        ...

    def provenance(self) -> Mapping[str, Any]:
        """JSON-able facts for the header of a score matrix."""
        ...


@runtime_checkable
class ExplainsTogether(Protocol):
    """A detector that explains several images faster than one after another; it need not be one."""

    def explain_all(self, images: Sequence[np.ndarray], config: Config) -> list[Arrays]:
        """What ``Detector.explain`` says of each image, bit for bit."""
        ...


@runtime_checkable
class FitsBanks(Protocol):
    """A detector that fits something for some configurations when they are first scored, and keeps
    it in MODEL; it need not be one.
    """

    def unfitted(self, configs: Sequence[Config]) -> list[Config]:
        """A configuration for each thing that is not in MODEL yet, and needs none that is not."""
        ...

    def fit_bank(self, config: Config) -> None:
        """Fit and keep what this configuration needs."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What is to be trained: one model, or one for each seed, for each category, or both.

    Attributes:
        out: the MODEL folder.
        detector: a name that ``pseudoval.detectors.detector_class`` knows.
        values: of parameters that need a fit, to train with instead of their defaults; of a
            detector without a configuration.
        config: a ``lafite_core.config.LafiteConfig``; None for a detector without options.
        backbone: makes the feature extractor of the configuration.
        images: file and SHA-256 of every normal to train on, by category.
        split_sha256: None if nothing is held out.
        pairs: a few held-out normals by category, each with an anomaly that was made of it, for a
            warning where scores fall with anomaly; nothing is fitted on them.
        seeds: of the models; more than one go to ``out/seed-S``.
        per_category: a model for each category in ``CATEGORY``, instead of one for all.
        refit: the choice that the model is refitted with; None for a model that is to be tuned.
        resume: go on in what is there; a finished model is never trained again.
        overwrite: throw away what is there.
        cache: folder of the feature cache; None for none.
        notice: takes a sentence for the user, such as on a smaller micro-batch.
        group: the processes that train together; a ``lafite_core.distributed.Group``.
    """

    out: Path
    detector: str
    config: Any
    backbone: Callable[[], Any]
    images: Mapping[str, Sequence[tuple[Path, str]]]
    split_sha256: str | None
    seeds: Sequence[int]
    per_category: bool
    preset: str | None
    refit: Mapping[str, Any] | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    pairs: Mapping[str, Sequence[tuple[Path, Path]]] = field(default_factory=dict)
    device: str
    resume: bool
    overwrite: bool
    cache: Path | None
    progress: ProgressCallback
    notice: Callable[[str], None] | None
    group: Any = None

    def files(self) -> list[tuple[Path, str]]:
        """File and SHA-256 of every image, category by category."""
        return [image for category in sorted(self.images) for image in self.images[category]]


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """A model that is to score.

    Attributes:
        folder: the MODEL folder of one model.
        seed: of the noise that scoring draws.
        cache: folder of the feature cache; None for none.
        configure: what to score with, given the configuration that the model was trained with.
    """

    folder: Path
    seed: int
    device: str
    cache: Path | None
    configure: Callable[[Any], Any]


@runtime_checkable
class ExtractsFeatures(Protocol):
    """A class of detectors whose features can be put into the cache before a training."""

    @classmethod
    def extract(cls, request: TrainRequest, files: Sequence[tuple[Path, str]]) -> None:
        """Extract the features of some images, given as file and SHA-256, into the cache."""
        ...


class TrainedDetector(Detector, Protocol):
    """A detector that ``train`` fits and that is opened from its MODEL folder."""

    configurable: ClassVar[bool]
    """Whether backbone, preset and the options of ``lafite_core.config`` are for it."""

    @classmethod
    def train(cls, request: TrainRequest, info: Mapping[str, Any]) -> None:
        """Fit one model, with the first seed, and write it, going on with what is there.

        Args:
            info: JSON-able provenance for ``model.json``, which is written last and says that the
                model is whole.
        """
        ...

    @classmethod
    def open(cls, request: OpenRequest) -> Detector:
        """The detector in a MODEL folder.

        Raises:
            UserError, LafiteError: the model is unfinished, damaged or of another format.
        """
        ...
