"""How strong synthetic anomalies must be for a set on which detectors can be told apart.

A set that every configuration solves ranks none of them, and one that no configuration solves
ranks them by chance. Opacity and size are chosen such that a reference detector, plain nearest
neighbours, comes to lie between; normals are all that it takes.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pseudoval.errors import UserError
from pseudoval.generators.mix import MixConfig
from pseudoval.metrics.image_metrics import auroc

TARGET = (0.80, 0.95)
"""Image AUROC of nearest neighbours to aim at. Above 0.95 hardly any pair of images is left that a
better configuration could set right; below 0.8 the standard error of an AUROC of some fifty images
a class (0.04 and more) drowns what configurations differ by."""
LEAST_OPACITY = 0.1
"""Smallest factor on the opacity; what is fainter is not seen by anybody."""
MOST_SCALE = 8.0
"""Largest factor on the area, and its inverse the smallest."""
STEPS = 4
"""Halvings of each of the two ranges."""


class Reference(Protocol):
    """A detector to calibrate with; see ``detectors.reference``."""

    facts: dict[str, Any]

    def scores(self, category: str, images: Iterable[np.ndarray]) -> np.ndarray:
        """Scores ``[N]``, higher for more anomalous."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting that was tried.

    Attributes:
        opacity, scale: factors on what the configuration asks for.
        image_auroc: mean over the categories; None if no such anomalies can be made.
    """

    opacity: float
    scale: float
    image_auroc: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a calibration chose.

    Attributes:
        config: the configuration with opacity and scale as chosen.
        chosen: the trial of it.
        reached: whether its AUROC lies in the target; if not it is the nearest that was seen.
        trials: all that were tried, in order.
    """

    config: Any
    chosen: Trial
    reached: bool
    target: tuple[float, float]
    trials: list[Trial]

    def to_json(self) -> dict[str, Any]:
        """For the manifest, without the configuration."""
        return {
            "target": list(self.target),
            "reached": self.reached,
            **dataclasses.asdict(self.chosen),
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }


def check_target(target: Sequence[float]) -> tuple[float, float]:
    """The target as a pair.

    Raises:
        UserError: not two ascending numbers in [0.5, 1].
    """
    if len(target) != 2 or not 0.5 <= target[0] < target[1] <= 1:
        raise UserError(
            f"The target {','.join(f'{value:g}' for value in target)} is not LOW,HIGH with 0.5 <= "
            "LOW < HIGH <= 1."
        )
    return float(target[0]), float(target[1])


def calibrate(
    config: Any, difficulty: Callable[[Any], float], *, target: Sequence[float] = TARGET
) -> Calibration:
    """Choose opacity, then if need be size, by halving.

    The configuration is taken as it is if it reaches the target. Else its opacity is multiplied by
    a factor between ``LEAST_OPACITY`` and what makes it 1, in ``STEPS`` halvings of the logarithm
    towards the target; if none reaches it the best factor is kept and the area halved upon in the
    same way. A setting that cannot be made, as it is too faint or too large, counts as a bound.

    Args:
        config: of one generator, with ``opacity`` and ``scale``, or a mixture of such.
        difficulty: the image AUROC of the reference on anomalies of a configuration; raises
            ``UserError`` where they cannot be made.

    Raises:
        UserError: the configuration as it is cannot be made, or has neither of the two options.
    """
    low, high = check_target(target)
    most_opacity = _most_opacity(config)
    trials: list[Trial] = []

    def tried(opacity: float, scale: float) -> Trial:
        value: float | None
        try:
            value = round(difficulty(adjusted(config, opacity, scale)), 6)
        except UserError:
            if not trials:
                raise
            value = None
        trials.append(Trial(opacity=opacity, scale=scale, image_auroc=value))
        return trials[-1]

    def miss(trial: Trial) -> float:
        """How far a trial is from the target."""
        if trial.image_auroc is None:
            return math.inf
        return max(low - trial.image_auroc, trial.image_auroc - high, 0.0)

    best = tried(1.0, 1.0)
    for axis, least, most in (
        ("opacity", LEAST_OPACITY, most_opacity),
        ("scale", 1 / MOST_SCALE, MOST_SCALE),
    ):
        assert best.image_auroc is not None
        easier = best.image_auroc < low
        weak, strong = (1.0, most) if easier else (least, 1.0)
        if weak == strong or miss(best) == 0:
            continue
        fixed = best.opacity
        for _ in range(STEPS):
            middle = round(math.sqrt(weak * strong), 6)
            trial = tried(middle, 1.0) if axis == "opacity" else tried(fixed, middle)
            if miss(trial) < miss(best):
                best = trial
            if miss(trial) == 0:
                break
            # What cannot be made is beyond the end that is being approached.
            hard = not easier if trial.image_auroc is None else trial.image_auroc < low
            if hard:
                weak = middle
            else:
                strong = middle
    return Calibration(
        config=adjusted(config, best.opacity, best.scale),
        chosen=best,
        reached=miss(best) == 0,
        target=(low, high),
        trials=trials,
    )


def adjusted(config: Any, opacity: float, scale: float) -> Any:
    """A configuration with its opacities (at most 1) and its scale multiplied.

    Raises:
        UserError: out of the generator's range.
    """
    if isinstance(config, MixConfig):
        parts = {
            name: adjusted(one, opacity, scale) if _adjustable(one) else one
            for name, one in config.configs.items()
        }
        return dataclasses.replace(config, configs=parts)
    low, high = (min(1.0, round(value * opacity, 6)) for value in config.opacity)
    return dataclasses.replace(config, opacity=(low, high), scale=round(config.scale * scale, 6))


def measured_difficulty(
    reference: Reference,
    normals: Mapping[str, Iterable[np.ndarray]],
    tasks: Mapping[str, Sequence[Any]],
    make: Callable[[Any, Any], np.ndarray],
) -> Callable[[Any], float]:
    """The function that ``calibrate`` asks: the reference's image AUROC, meaned over categories.

    Args:
        normals: held-out normals by category, uint8 ``[H, W, 3]``; scored once.
        tasks: the anomalies to make, by category.
        make: ``(task, config) -> image``.
    """
    known = {name: reference.scores(name, images) for name, images in normals.items()}

    def difficulty(config: Any) -> float:
        found = []
        for category, wanted in tasks.items():
            scores = reference.scores(category, (make(task, config) for task in wanted))
            labels = np.repeat([0, 1], [len(known[category]), len(scores)])
            found.append(float(auroc(np.concatenate([known[category], scores]), labels)))
        return float(np.mean(found))

    return difficulty


def _adjustable(config: Any) -> bool:
    return hasattr(config, "opacity") and hasattr(config, "scale")


def _most_opacity(config: Any) -> float:
    """The factor that brings every opacity to 1.

    Raises:
        UserError: nothing here has an opacity and a scale.
    """
    parts = config.configs.values() if isinstance(config, MixConfig) else [config]
    lowest = [one.opacity[0] for one in parts if _adjustable(one)]
    if not lowest:
        raise UserError(
            "Anomalies that are taken as they are cannot be calibrated; leave --calibrate out, or "
            "choose another generator."
        )
    return 1 / min(lowest)
