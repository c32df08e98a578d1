"""A detector of one's own, tuned on a pseudo set: the smallest one that keeps the protocol.

    pseudoval build DATA
    python docs/own_detector.py DATA pseudo run

It compares thumbnails with the mean thumbnail of the training normals. ``side``, the size of the
thumbnails, needs a new fit; ``percent``, how much of the difference map is averaged, does not.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pseudoval.data.dataset import ImageItem
from pseudoval.data.images import read_rgb
from pseudoval.detectors import Block, Detector, Parameter
from pseudoval.detectors.per_category import PerCategoryDetector
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.pseudo_set.manifest import load_manifest
from pseudoval.scoring.blocks import score_images
from studies import Outcome, Stage, Study, run_study

SIDE = Parameter(
    name="side", low=2, high=64, grid=(4, 8, 16, 32), default=16, needs_fit=True,
    meaning="side of the thumbnails in pixels",
)  # fmt: skip
PERCENT = Parameter(
    name="percent", low=1, high=100, grid=(1, 10, 50), default=10, needs_fit=False,
    meaning="share of the difference map that the score is the mean of, the highest first",
)  # fmt: skip


class Thumbnails:
    """Difference to the mean thumbnail of the normals of one category, in standard deviations.

    Args:
        category: of the images that it judges.
        normals: uint8 RGB training images.
        split_sha256: of the split that held the other normals out.
    """

    def __init__(self, category: str, normals: Sequence[np.ndarray], split_sha256: str) -> None:
        self.name = "thumbnails"
        self.parameters: tuple[Parameter, ...] = (PERCENT, SIDE)
        self.categories = [category]
        self.normals = normals
        self.split_sha256: str | None = split_sha256
        self.model_sha256 = hashlib.sha256(b"".join(one.tobytes() for one in normals)).hexdigest()
        self.seed = 0  # nothing is drawn
        self.refit: Mapping[str, Any] | None = None
        self.of_all = True
        self._fits: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, category: str) -> Detector:
        """Itself: ``PerCategoryDetector`` finds the one for a category."""
        return self

    def fitted(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation ``[side, side, 3]`` of the normals; fitted once for each side."""
        if side not in self._fits:
            small = np.array([thumbnail(image, side) for image in self.normals])
            self._fits[side] = small.mean(axis=0), small.std(axis=0) + 1
        return self._fits[side]

    def check(self, config: Config) -> None:
        """Refuse what cannot be scored; without ``side`` its default is meant."""
        for parameter in self.parameters:
            value = config.get(parameter.name, parameter.default)
            if not isinstance(value, int) or not parameter.low <= value <= parameter.high:
                raise UserError(f"{parameter.name} = {value} is out of range.")

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """Scores, and maps of one size for all of them."""
        scores = np.empty((len(configs), len(images)))
        coarse = np.empty((len(configs), len(images), 32, 32), dtype=np.float32)
        for row, config in enumerate(configs):
            side = int(config.get("side", SIDE.default))
            mean, std = self.fitted(side)
            for column, image in enumerate(images):
                far = np.abs((thumbnail(image, side) - mean) / std).mean(axis=2)
                highest = np.sort(far.ravel())[::-1]
                taken = max(1, round(far.size * int(config["percent"]) / 100))
                scores[row, column] = highest[:taken].mean()
                coarse[row, column] = cv2.resize(far, (32, 32))
        return Block(scores=scores, coarse=coarse)

    def scores(self, items: Sequence[ImageItem], configs: Sequence[Config]) -> ScoreMatrix:
        """Scores of image files, as ``tune`` gets them."""
        return score_images(self, items, configs, name=self.name)

    def render(self, coarse: np.ndarray) -> np.ndarray:
        """Maps at full size."""
        return np.array([cv2.resize(one, (128, 128)) for one in coarse], dtype=np.float32)

    def explain(self, image: np.ndarray, config: Config) -> dict[str, np.ndarray]:
        """The map, for the pictures."""
        coarse = self.score_block([image], [config]).coarse[0]
        return {"map": self.render(coarse)[0], "error_plain": coarse[0], "error_edited": coarse[0]}

    def provenance(self) -> Mapping[str, Any]:
        """What the header of a score matrix says."""
        return {"detector": self.name, "model_sha256": self.model_sha256, "seed": self.seed}


def thumbnail(image: np.ndarray, side: int) -> np.ndarray:
    """``[side, side, 3]`` float, each cell the mean of its pixels."""
    return cv2.resize(image.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)


def side_then_percent(detector: Detector, t: Any = None, k: Any = None) -> Study:
    """First the size of the thumbnails, then how much of the map counts."""
    return Study(
        name="side_then_percent",
        detector="thumbnails",
        summary="side of the thumbnails, then percent of the map",
        stages=(
            Stage(name="side", grid={"side": SIDE.grid}, fixed={"percent": PERCENT.default}),
            Stage(name="percent", grid={"percent": PERCENT.grid}, inherits=("side",)),
        ),
    )


def tune(data: Path, pseudo: Path, out: Path) -> Outcome:
    """Fit on the normals that the pseudo set does not hold out, and choose on it."""
    manifest = load_manifest(pseudo)
    held_out = set(manifest["heldout_train"])
    members = {}
    for category in manifest["categories"]:
        paths = sorted((data / category / "train" / "good").iterdir())
        normals = [read_rgb(p) for p in paths if p.relative_to(data).as_posix() not in held_out]
        members[category] = Thumbnails(category, normals, manifest["split_sha256"])
    detector = PerCategoryDetector(members)
    return run_study(side_then_percent, model=detector, pseudo=pseudo, out=out)


if __name__ == "__main__":
    outcome = tune(*map(Path, sys.argv[1:4]))
    print(outcome.trials.to_string(index=False))
    print(outcome.best["params"])
