"""``check-detector``: whether a detector of one's own keeps its contract, on a few images."""

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from pseudoval.data.dataset import list_categories, train_normals
from pseudoval.data.files import sha256_file
from pseudoval.data.images import read_rgb
from pseudoval.detectors import Value, detector_class
from pseudoval.detectors.own import STATE, OwnDetector
from pseudoval.detectors.states import read_state, write_state
from pseudoval.errors import UserError
from pseudoval.models.direction import pairs_of
from pseudoval.models.open import open_detector
from pseudoval.models.settings import find_device
from pseudoval.models.train import train
from pseudoval.pseudo_set.build import build
from pseudoval.pseudo_set.manifest import pseudo_items

NORMALS = 16
"""Half of them are trained on, the others are scored, each with an anomaly made of it."""

Pairs = Sequence[tuple[Path, Path]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a check has found.

    Attributes:
        name: what was checked.
        breach: what breaks the contract; "" if nothing does.
        seen: what was measured, or compared.
    """

    name: str
    breach: str
    seen: str


def check_detector(name: str, data: Path, *, device: str = "auto") -> Iterator[Check]:
    """Train a detector on a few normals of the first category, and try what it is relied on for.

    Only ``train/good`` is read. Nothing is left on the disk.

    Args:
        name: ``module:Class``, or that of a detector that another package announces.

    Raises:
        UserError: the class is none of one's own, or lacks something; DATA has no normals to take.
    """
    kind = detector_class(name)
    if not issubclass(kind, OwnDetector):
        raise UserError(
            f"{name} keeps the protocol by itself; check-detector is for a class with parameters, "
            "fit and score."
        )
    device = find_device(device)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        _few_normals(data, root / "data")
        build(root / "data", root / "pseudo", holdout=0.5, per_normal=1)
        began = time.monotonic()
        try:
            train(
                root / "data", root / "pseudo", root / "model", detector=name, device=device,
                cache=False,
            )  # fmt: skip
        except UserError as error:
            yield Check(name="fit and score", breach=str(error), seen="")
            return
        took = time.monotonic() - began
        (pairs,) = pairs_of(pseudo_items(root / "pseudo")).values()
        yield Check(name="fit and score", breach="", seen=f"trained in {took:.1f} s")
        tried = _Tried(kind=kind, model=root / "model", device=device, pairs=pairs)
        for title, check in CHECKS.items():
            try:
                breach, seen = check(tried)
            except UserError as error:
                breach, seen = str(error), ""
            yield Check(name=title, breach=breach, seen=seen)


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """A trained detector that is tried, and files of normals with an anomaly of each."""

    kind: type[OwnDetector]
    model: Path
    device: str
    pairs: Pairs

    def opened(self) -> OwnDetector:
        """The detector, opened anew."""
        found = open_detector(self.model, seed=0, device=self.device, cache=False)
        return cast(OwnDetector, found)

    def images(self) -> list[np.ndarray]:
        """The images of a few pairs."""
        return [read_rgb(path) for pair in self.pairs[:3] for path in pair]

    def configs(self) -> list[dict[str, Value]]:
        """The defaults, then every parameter at its other values; of a fit at one other value."""
        detector = self.opened()
        found = [detector.defaults]
        for parameter in detector.parameters:
            others = [value for value in parameter.grid if value != parameter.default]
            for value in others[: 1 if parameter.needs_fit else None]:
                found.append({**detector.defaults, parameter.name: value})
        return found


def _numbers(tried: _Tried) -> tuple[str, str]:
    """Every value of every parameter gives finite scores and maps."""
    configs = tried.configs()
    block = tried.opened().score_block(tried.images(), configs)
    sound = np.isfinite(block.scores).all(axis=1)
    if block.coarse is not None:
        sound &= np.isfinite(block.coarse).all(axis=(1, 2, 3))
    bad = [config for config, one in zip(configs, sound, strict=True) if not one]
    maps = "no maps" if block.coarse is None else "maps"
    breach = f"scores or maps that are not finite numbers, with {bad[0]}" if bad else ""
    return breach, f"{len(configs)} configurations, {maps}"


def _state(tried: _Tried) -> tuple[str, str]:
    """A second fit gives the same state, and a state scores the same from memory and from disk."""
    opened = tried.opened()
    state = tried.kind.fitted(opened.train_files, opened.values, opened.fit_seed, tried.device)
    again = tried.model / "again.safetensors"
    _, about = read_state(tried.model / STATE)
    same = write_state(again, state, about, "fit") == sha256_file(tried.model / STATE)
    kept = opened.score_block(tried.images(), [opened.defaults]).scores
    opened.take(opened.values, state)
    fresh = opened.score_block(tried.images(), [opened.defaults]).scores
    if not same:
        return "two fits with one seed give different states", ""
    differ = not np.array_equal(kept, fresh, equal_nan=True)
    return "other scores from a state on disk than from the one that fit returned" * differ, "equal"


def _determinism(tried: _Tried) -> tuple[str, str]:
    """The same scores again, from one object and from another."""
    one, configs, images = tried.opened(), tried.configs(), tried.images()
    first, second = (one.score_block(images, configs).scores for _ in range(2))
    other = tried.opened().score_block(images, configs).scores
    for scores, which in ((second, "when it is asked again"), (other, "in a new process")):
        if not np.array_equal(first, scores, equal_nan=True):
            return f"an image scores otherwise {which}", ""
    return "", "equal"


def _independence(tried: _Tried) -> tuple[str, str]:
    """Company and order of images and configurations change nothing."""
    configs, images = tried.configs(), tried.images()
    together = tried.opened().score_block(images, configs).scores
    turned = tried.opened().score_block(images[::-1], configs[::-1]).scores[::-1, ::-1]
    if not np.array_equal(together, turned, equal_nan=True):
        return "scores depend on the order of images or configurations", ""
    for row, config in enumerate(configs):
        alone = tried.opened().score_block(images[-1:], [config]).scores[0, 0]
        if not np.array_equal(alone, together[row, -1], equal_nan=True):
            return f"an image scores otherwise alone than in company, with {config}", ""
    return "", "equal"


def _direction(tried: _Tried) -> tuple[str, str]:
    """Most pasted anomalies score above their normal."""
    above = tried.opened().rising(tried.pairs)
    seen = f"{above} of {len(tried.pairs)} pasted anomalies score above their normal"
    falls = 2 * above <= len(tried.pairs)
    return f"only {seen}; higher must be more anomalous" * falls, seen


def _cost(tried: _Tried) -> tuple[str, str]:
    """Time and memory, which break nothing."""
    one, images = tried.opened(), tried.images()
    one.score_block(images[:1], [one.defaults])  # loads
    began = time.monotonic()
    one.score_block(images, [one.defaults])
    each = 1000 * (time.monotonic() - began) / len(images)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return "", f"{each:.1f} ms an image; the process took {peak:.0f} MiB at most"


CHECKS: dict[str, Callable[[_Tried], tuple[str, str]]] = {
    "finite numbers": _numbers,
    "state": _state,
    "determinism": _determinism,
    "company and order": _independence,
    "direction": _direction,
    "time and memory": _cost,
}
"""What is checked of a detector that trains: each gives a breach, or "", and what was seen."""


def _few_normals(data: Path, root: Path) -> None:
    """A DATA of some normals of the first category."""
    category = list_categories(data)[0]
    place = root / category / "train" / "good"
    place.mkdir(parents=True)
    for path in train_normals(data, category)[:NORMALS]:
        shutil.copyfile(path, place / path.name)
