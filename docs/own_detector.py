"""A detector of one's own, tuned on a pseudo set and judged on the real test set.

    pseudoval build DATA
    python docs/own_detector.py DATA pseudo run

At the end stands the regret: what it cost to choose without labels.

It compares thumbnails with the mean thumbnail of the training normals. ``side``, the size of the
thumbnails, needs a new fit; ``percent``, how much of the difference map is averaged, does not.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from pseudoval.data.images import read_rgb
from pseudoval.detectors import Block, Detector, Parameter
from pseudoval.detectors.base import ArrayDetector
from pseudoval.detectors.per_category import PerCategoryDetector
from pseudoval.metrics.score_matrix import Config
from pseudoval.pseudo_set.manifest import load_manifest
from pseudoval.scoring import evaluate_run
from reports import verdict, write_report
from studies import Outcome, Stage, Study, run_study

SIDE = Parameter(
    name="side", low=2, high=64, grid=(4, 8, 16, 32), default=16, needs_fit=True,
    meaning="side of the thumbnails in pixels",
)  # fmt: skip
PERCENT = Parameter(
    name="percent", low=1, high=100, grid=(1, 10, 50), default=10, needs_fit=False,
    meaning="share of the difference map that the score is the mean of, the highest first",
)  # fmt: skip


class Thumbnails(ArrayDetector):
    """Difference to the mean thumbnail of the normals, in standard deviations."""

    name = "thumbnails"
    parameters = (PERCENT, SIDE)
    side = 128

    @classmethod
    def fit(cls, images: Iterable[np.ndarray], seed: int) -> dict[str, np.ndarray]:
        """Thumbnails of the largest side; smaller ones are made of them."""
        return {"normals": np.array([thumbnail(image, SIDE.high) for image in images])}

    @cache  # noqa: B019 (there are few sides)
    def fitted(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation ``[side, side, 3]`` of the normals; fitted once for each side."""
        small = np.array([thumbnail(image, side) for image in self.arrays["normals"]])
        return small.mean(axis=0), small.std(axis=0) + 1

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """Scores, and maps of one size for all of them."""
        scores = np.empty((len(configs), len(images)))
        coarse = np.empty((len(configs), len(images), 32, 32), dtype=np.float32)
        for row, config in enumerate(configs):
            side = cast(int, config.get("side", SIDE.default))
            mean, std = self.fitted(side)
            for column, image in enumerate(images):
                far = np.abs((thumbnail(image, side) - mean) / std).mean(axis=2)
                highest = np.sort(far.ravel())[::-1]
                taken = max(1, round(far.size * float(config["percent"]) / 100))
                scores[row, column] = highest[:taken].mean()
                coarse[row, column] = cv2.resize(far, (32, 32))
        return Block(scores=scores, coarse=coarse)


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


def fit(data: Path, pseudo: Path) -> Detector:
    """A detector for each category, from the normals that the pseudo set does not hold out."""
    manifest = load_manifest(pseudo)
    held_out = set(manifest["heldout_train"])
    members = {}
    for category in manifest["categories"]:
        paths = sorted((data / category / "train" / "good").iterdir())
        normals = [read_rgb(p) for p in paths if p.relative_to(data).as_posix() not in held_out]
        info = {"categories": [category], "split_sha256": manifest["split_sha256"]}
        members[category] = Thumbnails(Thumbnails.fit(normals, seed=0), info)
    return PerCategoryDetector(members)


def tune(detector: Detector, pseudo: Path, out: Path) -> Outcome:
    """Choose on the pseudo set."""
    return run_study(side_then_percent, model=detector, pseudo=pseudo, out=out)


if __name__ == "__main__":
    data, pseudo, out = map(Path, sys.argv[1:4])
    detector = fit(data, pseudo)
    print(tune(detector, pseudo, out).trials.to_string(index=False))
    evaluate_run(out, data, detector=detector)
    write_report([out])
    print(verdict(json.loads((out / "report" / "correlation.json").read_text())))
