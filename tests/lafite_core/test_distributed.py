"""Two processes on one CPU train what one process trains, each in passes that it has memory for."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import CONFIG, features

from lafite_core.distributed import ALONE, join
from lafite_core.errors import LafiteError
from lafite_core.train import train_network

SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[2])
from tiny_training import CONFIG, features
from lafite_core.distributed import join, leave
from lafite_core.train import train_network
from lafite_core.unet import UNet

group, device = join("cpu")
assert group.size == 2
forward = UNet.forward

def limited(network, x, t):
    if len(x) > 1 and not group.leads:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return forward(network, x, t)

UNet.forward = limited
log = Path(sys.argv[1])
trained = train_network(features(), CONFIG, seed=1, log=log, group=group)
assert log.exists() or not group.leads
assert trained.how["processes"] == 2
assert trained.how["micro_batch"] == (2 if group.leads else 1)
group.wait()
leave()
"""


def test_alone_outside_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join("cpu") == (ALONE, "cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_half_of_what_torchrun_sets_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(LafiteError, match=r"WORLD_SIZE is 4 .*but LOCAL_RANK cannot be found"):
        join(device)


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
    train_network(features(), CONFIG, seed=1, log=alone)
    one, two = ([*csv.DictReader(path.open())] for path in (alone, log))
    for name in ("loss", "gradient_norm"):
        wanted = torch.tensor([float(row[name]) for row in one])
        found = torch.tensor([float(row[name]) for row in two])
        assert torch.allclose(found, wanted, rtol=1e-4), name
