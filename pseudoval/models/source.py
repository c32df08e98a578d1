"""A detector as a task carries it: itself in the driver, as its MODEL folder to a worker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pseudoval.detectors import Detector
from pseudoval.errors import UserError

AT_HAND = 2
"""Models that a worker keeps open, those that it used last: at the border of two members it needs
both, and a GPU holds few."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """How to open a detector once more; the arguments are those of ``open_detector``.

    Attributes:
        folder: MODEL, absolute: the same path everywhere.
        settings: as pairs.
        model_sha256: that the detector must have.
    """

    folder: Path
    seed: int | None
    device: str
    cache: Path | bool
    settings: tuple[tuple[str, str], ...]
    model_sha256: str


_SOURCES: WeakKeyDictionary[Detector, ModelSource] = WeakKeyDictionary()


def remember(detector: Detector, source: ModelSource) -> None:
    """Note where a detector was opened from."""
    _SOURCES[detector] = source


@dataclass(frozen=True)
class Judges:
    """The detectors of some categories.

    A detector that was opened from a MODEL folder is pickled as that folder, and opened again where
    it is used; any other is pickled itself.

    Attributes:
        by_category: the detector of each, or its source.
    """

    by_category: Mapping[str, Detector | ModelSource]

    @classmethod
    def among(cls, detector: Detector, categories: Iterable[str]) -> "Judges":
        """Those that a detector has for these categories."""
        return cls({category: detector.of(category) for category in dict.fromkeys(categories)})

    def of(self, category: str) -> Detector:
        """The detector of a category.

        Raises:
            UserError: there is no such model here, or another one.
        """
        found = self.by_category[category]
        return opened(found) if isinstance(found, ModelSource) else found

    def __reduce__(self) -> Any:
        sent = {
            category: one if isinstance(one, ModelSource) else _SOURCES.get(one, one)
            for category, one in self.by_category.items()
        }
        return Judges, (sent,)


@lru_cache(AT_HAND)
def opened(source: ModelSource) -> Detector:
    """The detector at a source, from the few that were used last.

    Raises:
        UserError: there is no such model here, or another one.
    """
    from pseudoval.models.open import open_detector

    detector = open_detector(
        source.folder,
        seed=source.seed,
        device=source.device,
        cache=source.cache,
        settings=dict(source.settings),
    )
    if detector.model_sha256 != source.model_sha256:
        raise UserError(
            f"The model in {source.folder} is not the one that this command was started with; give "
            "every machine the same files."
        )
    return detector
