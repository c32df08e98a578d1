"""``torchrun -m pseudoval train``: several processes, one MODEL."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import road_commands, with_options

from lafite_core.model import LafiteModel

ROOT = Path(__file__).parents[3]


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in csv.DictReader((folder / "losses.csv").open())]


def test_two_processes_train_the_models_of_one(road: Path, several: Path, tmp_path: Path) -> None:
    _, train, *_ = road_commands(road)
    model = tmp_path / "model"
    command = with_options(train, "--seed", "3", "--seeds", "2", "--per-category", out=model)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "pseudoval", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("model ") == 1, "one process speaks for all"
    for place in ("seed-3/fabric", "seed-4/flange"):
        alone = several / "model" / place
        assert losses(model / place) == pytest.approx(losses(alone), rel=1e-4)
        assert LafiteModel.load(model / place).info["training"]["processes"] == 2
