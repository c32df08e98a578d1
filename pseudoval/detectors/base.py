"""What detectors of one model share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pseudoval.data.files import read_json
from pseudoval.detectors.protocol import Arrays, Block, Detector, Parameter
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config

MODEL = "model.json"


class SingleModel:
    """A detector of one model for all its categories.

    Args:
        info: provenance as in ``model.json``: ``categories``, ``split_sha256`` and, of a final
            model, ``refit``.
        map_side: of its anomaly maps, in pixels; None of a detector without maps.
    """

    name: str
    parameters: tuple[Parameter, ...]
    of_all = True

    def __init__(
        self, info: Mapping[str, Any], *, seed: int, model_sha256: str, map_side: int | None
    ) -> None:
        self.categories: list[str] = list(info["categories"])
        self.split_sha256: str | None = info["split_sha256"]
        self.refit: Mapping[str, Any] | None = info.get("refit")
        self.seed = seed
        self.model_sha256 = model_sha256
        self.map_side = map_side

    @property
    def has_maps(self) -> bool:
        """See ``Detector``."""
        return self.map_side is not None

    @property
    def scores_in_maps(self) -> bool:
        """See ``Detector``."""
        return self.has_maps

    def of(self, category: str) -> Detector:
        """See ``Detector``; all categories share the model."""
        return self

    def check(self, config: Config) -> None:
        """See ``Detector``."""
        self.check_names(config)
        check_values(self.parameters, config)

    def check_names(self, config: Config) -> None:
        """Refuse a configuration that lacks a parameter or has an unknown one.

        Raises:
            UserError: naming what a configuration has.
        """
        needed = [p.name for p in self.parameters if not p.needs_fit]
        optional = [p.name for p in self.parameters if p.needs_fit]
        if not set(needed) <= set(config) <= {*needed, *optional}:
            has = " and ".join(needed) or "nothing"
            more = f", and may have {' and '.join(optional)}" if optional else ""
            raise UserError(
                f"A configuration of {self.name} has {has}{more}; not "
                f"{', '.join(config) or 'nothing'}."
            )

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """See ``Detector``."""
        raise NotImplementedError

    def render(self, coarse: np.ndarray) -> np.ndarray:
        """See ``Detector``; the side is ``map_side``."""
        assert self.map_side is not None  # without maps there is nothing to render
        size = (self.map_side, self.map_side)
        return np.array([cv2.resize(one, size) for one in coarse], dtype=np.float32)

    def explain(self, image: np.ndarray, config: Config) -> Arrays:
        """See ``Detector``; without editing there is one error map, under both names."""
        coarse = self.score_block([image], [config]).coarse
        if coarse is None:
            return {}
        error = coarse[0, 0]
        return {
            "map": self.render(error[None])[0],
            "error_plain": error,
            "error_edited": error,
        }

    def provenance(self) -> dict[str, Any]:
        """See ``Detector``."""
        return {
            "detector": self.name,
            "model_sha256": self.model_sha256,
            "split_sha256": self.split_sha256,
            "seed": self.seed,
            "map_side": self.map_side,
        }


def read_model_json(folder: Path) -> dict[str, Any]:
    """``model.json``: ``config``, ``seed``, ``model_sha256`` and ``info`` of a finished model.

    Raises:
        UserError: it is missing, damaged or of another format.
    """
    path = folder / MODEL
    if not path.exists():
        raise UserError(
            f"There is no finished model in {folder} (no {MODEL}); train one, or go on with train "
            "--resume."
        )
    found = read_json(path, "The model")
    if not {"config", "seed", "model_sha256", "info"} <= set(found):
        raise UserError(f"{path} is damaged; train the model again.")
    return found


def check_values(parameters: Iterable[Parameter], config: Config) -> None:
    """Refuse a value that is out of range; those that need a fit are looked at first.

    Raises:
        UserError: naming the parameter, its value and its range.
    """
    for parameter in sorted(parameters, key=lambda p: not p.needs_fit):
        value = config.get(parameter.name, parameter.default)
        if parameter.kind == "categorical":
            sound, what = value in parameter.grid, f"one of {', '.join(map(repr, parameter.grid))}"
        else:
            whole = parameter.kind == "int"
            sound = type(value) is int or (type(value) is float and not whole)
            sound = sound and parameter.low <= float(value) <= parameter.high
            what = f"a {'whole ' * whole}number"
            if math.isfinite(parameter.low) or math.isfinite(parameter.high):
                what += f" from {parameter.low} to {parameter.high}"
        if not sound:
            raise UserError(f"{parameter.name} = {value} cannot be scored; it must be {what}.")
