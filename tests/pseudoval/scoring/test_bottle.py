"""The road on real images: a part of the `bottle` category and the ImageNet backbone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pseudoval.cli.commands import run
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.score_matrix import ScoreMatrix


@pytest.fixture(scope="module")
def bottle(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the category: 32 train normals, 8 test normals and 8 large breaks."""
    root = tmp_path_factory.mktemp("bottle")
    real = shared / "data" / "real" / "bottle"
    for folder, count in [
        ("train/good", 32),
        ("test/good", 8),
        ("test/broken_large", 8),
        ("ground_truth/broken_large", 8),
    ]:
        (root / "data" / "bottle" / folder).mkdir(parents=True)
        for path in sorted((real / folder).iterdir())[:count]:
            shutil.copy(path, root / "data" / "bottle" / folder)
    return root


@pytest.mark.usefixtures("blank_pictures")
def test_nearest_neighbours_find_broken_bottles(bottle: Path, shared: Path) -> None:
    data, pseudo, model, out = (str(bottle / name) for name in ("data", "pseudo", "model", "run"))
    weights = str(shared / "weights" / "tf_efficientnet_b4.stages1-4.safetensors")
    for command in [
        ["build", data, "--out", pseudo, "--per-normal", "1"],
        ["train", data, "--pseudo", pseudo, "--out", model, "--detector", "knn",
         "--weights", weights],
        ["tune", "--study", "k", "--model", model, "--pseudo", pseudo, "--out", out, "--k", "1,5"],
        ["evaluate", out, data],
        ["report", out],
    ]:  # fmt: skip
        assert run(command) == 0, command
    best = json.loads((bottle / "run" / "best.json").read_text())
    matrix = ScoreMatrix.load(bottle / "run" / "test_scores.npz")
    row = matrix.row(best["params"])
    assert macro_auroc(matrix.scores, matrix.categories, matrix.labels)[row] > 0.95
    assert matrix.pixel["pixel_auroc"][row, 0] > 0.9
    assert np.isfinite(best["pseudo_auroc"])
    report = json.loads((bottle / "run" / "report" / "correlation.json").read_text())
    assert report["final"]["params"] == best["params"]
