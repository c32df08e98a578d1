"""What is held out for the pseudo set never reaches a model."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import road_commands, with_options

from pseudoval.cli.commands import run


@pytest.mark.parametrize("detector", ["lafite", "knn", "mvg"])
def test_a_model_does_not_depend_on_the_pictures_of_the_pseudo_set(
    data: Path, tmp_path: Path, detector: str
) -> None:
    build, train = road_commands(tmp_path, data=str(data))[:2]
    assert run(build) == 0
    train = with_options(train, "--detector", detector, "--no-cache", epochs=1)
    assert run(with_options(train, out=tmp_path / "before")) == 0
    rng = np.random.default_rng(0)
    for path in (tmp_path / "pseudo").rglob("*.png"):
        noise = rng.integers(0, 256, cv2.imread(str(path)).shape, dtype=np.uint8)
        assert cv2.imwrite(str(path), noise)
    assert run(with_options(train, out=tmp_path / "after")) == 0
    before, after = (
        json.loads((tmp_path / name / "model.json").read_text())["model_sha256"]
        for name in ("before", "after")
    )
    assert before == after
