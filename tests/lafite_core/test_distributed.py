"""Two processes on one CPU train what one process trains."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import CONFIG, features

from lafite_core.distributed import ALONE, join
from lafite_core.train import train_unet

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tiny_training import CONFIG, features
from lafite_core.distributed import join, leave
from lafite_core.train import train_unet

group, device = join("cpu")
assert group.size == 2
log = Path(sys.argv[1])
trained = train_unet(features(), CONFIG, seed=1, log=log, group=group)
assert log.exists() or not group.leads
assert trained.how["processes"] == 2
group.wait()
leave()
"""


def test_alone_outside_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join("cpu") == (ALONE, "cpu")


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    """Ten images in batches of four: the last batch leaves one image to each process."""
    script, log = tmp_path / "two.py", tmp_path / "two.csv"
    script.write_text(SCRIPT)
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(script), str(log), str(here)],
        env={**os.environ, "PYTHONPATH": str(here.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    alone = tmp_path / "one.csv"
    train_unet(features(), CONFIG, seed=1, log=alone)
    one, two = ([*csv.DictReader(path.open())] for path in (alone, log))
    for name in ("loss", "gradient_norm"):
        wanted = torch.tensor([float(row[name]) for row in one])
        found = torch.tensor([float(row[name]) for row in two])
        assert torch.allclose(found, wanted, rtol=1e-4), name
