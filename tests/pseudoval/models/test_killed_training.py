"""A training that is killed goes on to the same model, to the bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from helpers import road_commands, with_options

from pseudoval.cli.commands import run
from pseudoval.models.members import recorded_sha256

ROOT = Path(__file__).parents[3]


def test_resuming_after_a_kill_gives_the_same_losses_and_model(road: Path, tmp_path: Path) -> None:
    _, train, *_ = road_commands(road)
    often = ["--epochs", "12", "--set", "train.checkpoint_seconds=0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(with_options(train, *often, out=whole)) == 0
    command = with_options(train, *often, out=killed)
    process = subprocess.Popen(
        [sys.executable, "-m", "pseudoval", *command],
        # As many threads as here: another number sums in another order.
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        },
        stderr=subprocess.DEVNULL,
    )
    log, end = killed / "losses.csv", time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        if log.exists() and len(log.read_text().splitlines()) > 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (killed / "checkpoint.safetensors").exists(), "it was killed between two epochs"
    assert not (killed / "model.json").exists()
    assert run([*command, "--resume"]) == 0
    assert log.read_bytes() == (whole / "losses.csv").read_bytes()
    assert recorded_sha256(killed) == recorded_sha256(whole)
    assert not (killed / "checkpoint.safetensors").exists()
