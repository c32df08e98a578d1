"""Everything that only a GPU can tell, in one command that can be interrupted and repeated.

    python benchmarks/on_gpu.py FOLDER --work WORK --out FILE.json

FOLDER is made by ``benchmarks/lafite_quality.py pack``. For each grid the paper's network is
trained and scored (``benchmarks/lafite_quality.py run``: quality, and the share of the machine's
matrix products that training reaches), and then:

- ``scoring_flops``: what scoring a block of 16 images at 12 steps t reaches of them, images and all
  that is beside the network included;
- ``equal_positions``: the share of error maps that are equal to the bit wherever in a batch a
  trajectory is;
- ``moved_by_float16`` and ``..bfloat16``: the largest difference to a score in float32, in standard
  deviations of the scores;
- ``study_seconds``: a whole study against the plain loop over its trials (``benchmarks/sweep.py``).

It runs on a CPU too, with smaller settings, to see that it runs.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import result, show
from lafite_core import sweep
from lafite_core.model import LafiteModel
from lafite_core.predictor import scoring_precision
from pseudoval.data.files import write_json
from pseudoval.data.images import read_all
from pseudoval.models.settings import find_device
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from throughput import matmul_flops, scoring_flops

HERE = Path(__file__).parent
IMAGES = 16
STEPS = (25, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900)


def benchmark(name: str, *arguments: Any) -> int:
    """Run another benchmark; its exit code."""
    command = [sys.executable, str(HERE / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, check=False).returncode


def with_precision(model: LafiteModel, precision: str) -> LafiteModel:
    """The model as it scores in another arithmetic."""
    score = replace(model.config.score, precision=precision)
    return replace(model, config=replace(model.config, score=score))


def of_scoring(model: LafiteModel, images: Sequence[np.ndarray]) -> tuple[float, float]:
    """FLOP/s of scoring a block, and of a large matrix product."""
    configs = [(t, 0) for t in STEPS]
    calls = len(images) * len(configs) * model.config.diffusion.sampling_steps
    sweep.lafite_errors(model, images, configs, seed=0)  # compiles, and has the features at hand
    times = []
    for _ in range(3):
        started = time.perf_counter()
        sweep.lafite_errors(model, images, configs, seed=0)
        times.append(time.perf_counter() - started)
    precision = scoring_precision(model.config.score, model.device)
    peak = matmul_flops(model.device, "float32" if precision == "float32" else "bfloat16")
    return calls * scoring_flops(model.config, len(model.standardiser.mean)) / min(times), peak


def of_positions(model: LafiteModel, images: Sequence[np.ndarray]) -> float:
    """The share of error maps that are equal to the bit at another place in a batch."""
    configs = [(t, 0) for t in STEPS]
    base = sweep.lafite_errors(model, images, configs, seed=0)
    equal = []
    for shift in range(1, len(configs)):
        order = np.roll(np.arange(len(configs)), shift)
        found = sweep.lafite_errors(model, images, [configs[row] for row in order], seed=0)
        equal.append((found == base[order]).all((2, 3)).mean())
    return float(np.mean(equal))


def of_arithmetics(model: LafiteModel, images: Sequence[np.ndarray]) -> dict[str, float]:
    """How far 16 bits move a score at most, in deviations of the images' scores at its t."""
    found = {}
    for precision in ("float32", "float16", "bfloat16"):
        other = with_precision(model, precision)
        errors = sweep.lafite_errors(other, images, [(t, 0) for t in STEPS], seed=0)
        found[precision] = sweep.scores(other, errors)
    wanted = found.pop("float32")
    return {
        f"moved_by_{name}": float((np.abs(scores - wanted).max(1) / wanted.std(1)).max())
        for name, scores in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--grids", default="14,32")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.OPTION=VALUE")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=9, help="of a category and class, in a study")
    options = parser.parse_args(arguments)
    device = find_device(options.device)
    more = [part for setting in options.set for part in ("--set", setting)]
    more += [] if options.epochs is None else ["--epochs", options.epochs]
    pseudo = options.folder / "pseudo"
    items = pseudo_items(pseudo, load_manifest(pseudo))[:IMAGES]
    images = read_all([item.path for item in items])
    figures: dict[str, Any] = {}
    checks: dict[str, Any] = {}
    for grid in options.grids.split(","):
        work, out = options.work / f"grid-{grid}", options.work / f"grid-{grid}.json"
        failed = benchmark(
            "lafite_quality", "run", options.folder, "--preset", options.preset, "--grid", grid,
            "--work", work, "--out", out, "--device", device, *more,
        ) or benchmark(
            "sweep", "--data", options.folder / "data", "--model", work / "lafite", "--pseudo",
            pseudo, "--images", options.images, "--device", device, "--out", work / "study.json",
        )  # fmt: skip
        if failed:
            return failed
        quality, study = (json.loads(path.read_text()) for path in (out, work / "study.json"))
        figures |= {f"{name}_{grid}": row for name, row in quality["figures"].items()}
        figures[f"study_seconds_{grid}"] = study["figures"]["sweep_study"]
        model = LafiteModel.load(work / "lafite", device)
        model.prepare(images)
        reached, peak = of_scoring(model, images)
        figures[f"scoring_flops_{grid}"] = {
            "ours": reached,
            "peer": peak,
            "ratio": reached / peak,
            "unit": "FLOP/s",
            "peer_name": "a large matrix product in 16 bits in the same run",
        }
        apart = {"equal_positions": of_positions(model, images), **of_arithmetics(model, images)}
        checks |= {f"{name}_{grid}": value for name, value in apart.items()}
    found = result({"figures": figures, "checks": checks}, device=device, seed=0)
    show(found)
    write_json(options.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
