"""``build --calibrate``: the search of ``calibration`` on the normals and the plan of a set."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.files import sha256_file
from pseudoval.data.images import read_rgb
from pseudoval.errors import UserError
from pseudoval.generators import parameters
from pseudoval.progress import ProgressCallback, silent
from pseudoval.pseudo_set.calibration import TARGET, calibrate, check_target, measured_difficulty
from pseudoval.pseudo_set.plan import Copy, Normal, Task

ANOMALIES, NORMALS = 24, 64
"""At most so many of each are scored in a category. A standard error of some 0.05 is enough to hit
a target that is three times as wide."""
FILTER_BANK = "filterbank"


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """What a set is calibrated with.

    Attributes:
        target: least and largest image AUROC of nearest neighbours.
        backbone: their backbone, a timm model name or ``filterbank``, which needs no weights.
        weights: safetensors file of the backbone; without it timm downloads them.
    """

    target: tuple[float, float] = TARGET
    backbone: str = FILTER_BANK
    weights: Path | None = None

    def __post_init__(self) -> None:
        check_target(self.target)
        if self.weights is not None and not self.weights.is_file():
            raise UserError(f"There is no weights file at {self.weights}.")

    def to_json(self) -> dict[str, Any]:
        """What the outcome depends on."""
        return {
            "target": list(self.target),
            "backbone": self.backbone,
            "weights_sha256": None if self.weights is None else sha256_file(self.weights),
        }


def calibrate_set(
    generator: str,
    config: Any,
    options: CalibrationOptions,
    *,
    data: Path,
    held_out: Mapping[str, Sequence[Normal]],
    bank: Mapping[str, Sequence[Normal]],
    tasks: Sequence[Task | Copy],
    make: Callable[[Task, Any], np.ndarray],
    progress: ProgressCallback | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Calibrate a configuration on some of the anomalies of a plan; normals are all that is read.

    Args:
        held_out, bank: the normals of each category on both sides of the split.
        tasks: the plan; external anomalies in it are left as they are.
        make: ``(task, config) -> image``.

    Returns:
        The configuration with opacity and scale as chosen, and what the manifest says of it:
        ``generator`` and ``calibration``.

    Raises:
        UserError: see ``calibrate``.
        LafiteError: an unknown backbone, or weights of another one.
    """
    # Imported here, as it brings torch.
    from pseudoval.detectors.reference import reference_of_normals

    show = progress or silent
    reference = reference_of_normals(
        {name: [(data / n.name, n.file_sha256) for n in found] for name, found in bank.items()},
        backbone=options.backbone,
        weights=options.weights,
        progress=progress,
    )
    chosen = {category: some_tasks(category, tasks) for category in held_out}
    normals = {
        category: sorted({n.pixel_sha256: data / n.name for n in found}.items())[:NORMALS]
        for category, found in held_out.items()
    }
    difficulty = measured_difficulty(
        reference,
        {name: (read_rgb(path) for _, path in found) for name, found in normals.items()},
        {category: wanted for category, wanted in chosen.items() if wanted},
        make,
    )
    done = 0

    def counted(tried: Any) -> float:
        nonlocal done
        done += 1
        value = difficulty(tried)
        show(f"calibrating, AUROC {value:.3f}", done, done)
        return value

    found = calibrate(config, counted, target=options.target)
    return found.config, {
        "generator": {"name": generator, "parameters": parameters(found.config)},
        "calibration": {
            **found.to_json(),
            "reference": reference.facts,
            "normals": {category: len(images) for category, images in normals.items()},
            "anomalies": {category: len(wanted) for category, wanted in chosen.items()},
            "asked": parameters(config),
        },
    }


def some_tasks(category: str, tasks: Sequence[Task | Copy]) -> list[Task]:
    """Anomalies of a category by the hash of what is underneath, on as many normals as possible."""
    mine = sorted(
        (task for task in tasks if isinstance(task, Task) and _category(task) == category),
        key=lambda task: task.key,
    )
    seen: Counter[str] = Counter()
    ranked = []
    for task in mine:
        ranked.append((seen[task.background.name], task))
        seen[task.background.name] += 1
    return [task for _, task in sorted(ranked, key=lambda pair: pair[0])[:ANOMALIES]]


def _category(task: Task) -> str:
    return task.image.partition("/")[0]
