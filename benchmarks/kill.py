"""Kill studies again and again, with kill -9 at random moments, and see what is lost.

    python benchmarks/kill.py [--quick] [--kills N] [--out FILE.json] [--folder DIR]

A tiny model on rendered images is tuned over a small grid. A process that has everything loaded
forks those that run the study, and kills them at moments drawn from the whole length of a study,
the first instants included. Half of the kills hit a process that works alone, and the next one
goes on in the same RUN; the other half hit one of three that share a RUN, and another takes its
place. A study that gets to its end is checked, and another begins, until the kills are used up:

- the scores and the choice are those of a study that nobody killed, to the byte,
- every configuration is in Optuna's storage exactly once, and complete,
- of the blocks that were begun, at most one for each kill was begun in vain.

The figure is the number of kills after which all this held, and for the peer the number of kills.
It takes about ten minutes on two cores.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import torch

from harness import result, show
from pseudoval.cli.commands import run
from pseudoval.data.files import write_json
from pseudoval.demo import render_dataset
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.scoring import blocks as sweep
from studies import run_study
from studies.search.storage import open_journal

GRIDS: dict[str, list[int]] = {"t": [25, 100, 300, 900], "k": [1, 2, 4]}
SMALL = ("features.image_size=64", "features.grid=8", "unet.base_channels=16",
         "unet.multipliers=1,2", "diffusion.sampling_steps=2", "score.pool=8")  # fmt: skip
BLOCK = 2
"""Images in a block: many short ones, so that there is much to lose."""
CROWD = 3
"""Processes that share a study."""
PATIENCE = 3600.0
"""Seconds for a study that is not killed."""


def prepare(folder: Path) -> None:
    """Make ``folder/pseudo`` and ``folder/model``, unless they are there."""
    data = folder / "data"
    if not data.exists():
        data.mkdir(parents=True)
        render_dataset(data, seed=0, size=64, train=9, test_good=1, defects_per_kind=1,
                       categories=["fabric", "flange"])  # fmt: skip
    pseudo, model = str(folder / "pseudo"), str(folder / "model")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    if not (folder / "pseudo" / "manifest.json").exists():
        assert run(["build", str(data), "--out", pseudo, "--per-normal", "3"]) == 0
    if not (folder / "model" / "model.json").exists():
        command = ["train", str(data), "--pseudo", pseudo, "--out", model, "--preset", "demo"]
        assert run([*command, "--epochs", "3", "--overwrite", *settings]) == 0


def tune(folder: Path, out: Path, log: Path, workers: int | None) -> None:
    """Run the study to its end; every block that is begun adds a byte to ``log``."""
    honest = LafiteDetector.score_block

    def counted(self: LafiteDetector, images: Any, configs: Any) -> Any:
        with log.open("ab") as file:
            file.write(b".")
        return honest(self, images, configs)

    LafiteDetector.score_block = counted  # type: ignore[method-assign]
    run_study(
        "t_then_k", model=folder / "model", pseudo=folder / "pseudo", out=out, workers=workers,
        **GRIDS,
    )  # fmt: skip


def forked(folder: Path, out: Path, log: Path, workers: int | None) -> int:
    """Start the study in a process of its own; its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tune(folder, out, log, workers)
            status = 0
        finally:
            os._exit(status)
    return child


def watch(running: set[int], seconds: float) -> None:
    """Wait until the time is up or nobody runs; those that have finished are taken out.

    Raises:
        RuntimeError: one failed.
    """
    end = time.monotonic() + seconds
    while running and time.monotonic() < end:
        for child in list(running):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                running.remove(child)
                if status:
                    raise RuntimeError(f"a study ended with status {status}")
        time.sleep(0.001)


def study(
    folder: Path, out: Path, log: Path, crowd: int, kills: int, length: float, dice: random.Random
) -> int:
    """Run a study to its end with up to so many kills on the way; how many there were."""
    workers = None if crowd == 1 else 1
    running = {forked(folder, out, log, workers) for _ in range(crowd)}
    done = 0
    while running:
        watch(running, dice.uniform(0, length) if done < kills else PATIENCE)
        if running and done == kills:
            raise RuntimeError(f"the study in {out} does not end")
        if running:
            victim = dice.choice(sorted(running))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            running.remove(victim)
            running.add(forked(folder, out, log, workers))
            done += 1
    return done


def same(whole: Path, out: Path) -> bool:
    """Scores, choice and storage are those of a study that nobody killed."""
    files = ("best.json", "pseudo_scores.npz")
    if any((whole / name).read_bytes() != (out / name).read_bytes() for name in files):
        return False
    best, storage = json.loads((whole / "best.json").read_text()), open_journal(out)
    for stage in best["stages"]:
        trials = optuna.load_study(
            study_name=f"{best['study']}/{stage['name']}", storage=storage
        ).trials
        points = [(trial.params[stage["param"]], trial.value) for trial in trials]
        expected = zip(stage["values"], stage["objective_value"], strict=True)
        if points != list(expected) or {trial.state.name for trial in trials} != {"COMPLETE"}:
            return False
    return True


def kill_often(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill studies in ``folder`` so many times; what was found, as a result file has it."""
    torch.set_num_threads(1)
    prepare(folder)
    dice = random.Random(seed)
    whole, log = folder / "whole", folder / "whole.log"
    log.write_bytes(b"")
    began = time.monotonic()
    study(folder, whole, log, 1, 0, PATIENCE, dice)
    length, blocks = time.monotonic() - began, log.stat().st_size
    totals = {"kills": 0, "survived": 0, "lost": 0, "studies": 0}
    shares = {1: kills - kills // 2, CROWD: kills // 2}
    for crowd, share in shares.items():
        left = share
        while left:
            out = folder / f"killed-{totals['studies']}"
            log = out.with_suffix(".log")
            log.write_bytes(b"")
            began = time.monotonic()
            here = study(folder, out, log, crowd, left, length, dice)
            if here == 0:  # the machine was busier when the length was taken
                length = min(length, time.monotonic() - began)
            vain = log.stat().st_size - blocks
            kept = same(whole, out) and 0 <= vain <= here
            left -= here
            totals["kills"] += here
            totals["survived"] += here if kept else 0
            totals["lost"] += vain
            totals["studies"] += 1
            print(f"{crowd} at work: {here} kills, {vain} of {blocks} blocks lost", flush=True)
    survived, done = totals["survived"], totals["kills"]
    figures = {
        "kills_survived": {
            "ours": survived, "peer": done, "peer_name": "kills", "ratio": survived / done,
            "unit": "kills",
        },
    }  # fmt: skip
    checks = {
        "all survived": survived == done,
        "kills of one that works alone": shares[1],
        f"kills of one of {CROWD}": shares[CROWD],
        "studies": totals["studies"],
        "blocks of a study": blocks,
        "blocks lost": totals["lost"],
        "seconds of a study": round(length, 2),
    }
    return {"figures": figures, "checks": checks}


def patched(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """``kill_often`` with short blocks."""
    before, sweep.BLOCK_IMAGES = sweep.BLOCK_IMAGES, BLOCK
    threads = torch.get_num_threads()
    try:
        return kill_often(folder, kills, seed)
    finally:
        sweep.BLOCK_IMAGES = before
        torch.set_num_threads(threads)


def main() -> None:
    """Read the options and write the result."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--quick", action="store_true", help="10 kills instead of 100")
    options.add_argument("--kills", type=int)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("kill.json"))
    options.add_argument("--folder", type=Path, help="keep model and RUNs there")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        kills = given.kills or (10 if given.quick else 100)
        found = patched(kills, given.seed, given.folder or Path(temporary))
    write_json(given.out, result(found, device="cpu", seed=given.seed))
    show(found)
    sys.exit(0 if found["checks"]["all survived"] else 1)


if __name__ == "__main__":
    main()
