"""What a study costs beside its scoring: the study layer, and trials in the storage.

    python benchmarks/study_overhead.py [--model MODEL --pseudo PSEUDO] [--quick] [--out FILE.json]

Ours is ``run_study`` over a joint grid of 200 configurations, from the model's folder to a finished
RUN: blocks on disk, bootstrap, Optuna, examples. The peer opens the same model and scores the same
grid with ``score_images``. They take turns, and the fastest of each counts. Without ``--model`` a
small LafitE is trained on rendered images first, whose scoring is so cheap that the share of the
study is at its largest. Then 10,000 trials of a grid are put into the storage and read again, and
200 are asked of a sampler and told.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import result, show
from pseudoval.cli.commands import run
from pseudoval.data.files import write_json
from pseudoval.demo import render_dataset
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config
from pseudoval.models.open import open_detector
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from pseudoval.scoring.matrices import score_images
from studies import Range, Stage, joint, run_study
from studies.search.samplers import maker, try_all
from studies.search.stage_trials import TrialResult, open_stage
from studies.search.storage import StudyStorage, open_journal

SEED = 0
T_GRID = tuple(range(25, 525, 25))
K_GRID = tuple(range(1, 11))
TURNS = 2


def main() -> None:
    """Measure, print a table, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a LafitE MODEL")
    parser.add_argument("--pseudo", type=Path, help="a PSEUDO of its split")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, or less")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    if (arguments.model is None) != (arguments.pseudo is None):
        parser.error("give both --model and --pseudo, or none")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, pseudo = arguments.model, arguments.pseudo
        if model is None:
            model, pseudo = small_model(folder, quick=arguments.quick)
        figure, checks = measure_study(model, pseudo, folder, quick=arguments.quick)
        checks |= measure_storage(folder / "storage", 500 if arguments.quick else 10_000)
        checks |= measure_sampler(folder / "sampler", 50 if arguments.quick else 200)
    found = {"figures": {"study_overhead": figure}, "checks": checks}
    show(found)
    if arguments.out is not None:
        write_json(arguments.out, result(found, device="cpu", seed=SEED))


def measure_study(
    model: Path, pseudo: Path, folder: Path, *, quick: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds of a study and of scoring its grid directly, in turns."""
    t, k = (T_GRID[:4], K_GRID[:5]) if quick else (T_GRID, K_GRID)
    items = pseudo_items(pseudo, load_manifest(pseudo))
    grid = joint(open_detector(model, seed=SEED), t, k).cells()
    # Both then find the features in the cache, and all libraries loaded.
    score_images(open_detector(model, seed=SEED), items, grid[:1], name="warming up")
    ours: list[float] = []
    peer: list[float] = []
    same = True
    for turn in range(1 if quick else TURNS):
        started = time.perf_counter()
        direct = score_images(open_detector(model, seed=SEED), items, grid, name="direct")
        peer.append(time.perf_counter() - started)
        out = folder / f"run-{turn}"
        started = time.perf_counter()
        outcome = run_study("joint", model=model, pseudo=pseudo, out=out, t=t, k=k, seed=SEED)
        ours.append(time.perf_counter() - started)
        same = same and outcome.matrix.configs == direct.configs
        same = same and np.array_equal(outcome.matrix.scores, direct.scores)
        shutil.rmtree(out)
    figure = {
        "ours": min(ours),
        "peer": min(peer),
        "peer_name": "score_images over the same grid",
        "ratio": min(ours) / min(peer),
        "unit": "s",
    }
    checks = {
        "configurations": len(grid),
        "images": len(items),
        "overhead": min(ours) / min(peer) - 1,
        "overhead_below_5_percent": min(ours) / min(peer) < 1.05,
        "same_scores": same,
        "ours_seconds": ours,
        "peer_seconds": peer,
    }
    return figure, checks


def trial_result(config: Config, value: float) -> TrialResult:
    """What a trial of four categories is told."""
    return TrialResult(
        config=config,
        value=value,
        attributes={
            "seconds": 0.25,
            "interval": [value - 0.01, value + 0.01],
            **{f"auroc/category-{place}": value for place in range(4)},
        },
        steps=dict.fromkeys(range(4), value),
    )


def measure_sampler(folder: Path, trials: int) -> dict[str, Any]:
    """Seconds for so many trials that a random sampler is asked for, in the default storage."""
    folder.mkdir()
    stage = Stage(
        name="joint", grid={"t": Range(low=1, high=10**6)}, sampler="random", trials=trials
    )
    storage = StudyStorage(storage=open_journal(folder), name="benchmark")
    opened = open_stage(storage, stage, {})
    started = time.perf_counter()
    try_all(
        opened, storage, {"k": 1}, seed=SEED, make=maker(stage, None),
        score=lambda configs: opened.record([trial_result(config, 0.5) for config in configs]),
    )  # fmt: skip
    return {
        "sampler_trials": len(opened.entered()),
        "sampler_seconds": time.perf_counter() - started,
    }


def measure_storage(folder: Path, trials: int) -> dict[str, Any]:
    """Seconds and bytes of so many trials in the default storage, written and read."""
    folder.mkdir()
    stage = Stage(name="joint", grid={"t": tuple(range(1, trials // 10 + 1)), "k": K_GRID})
    configs = stage.configs({})
    rng = np.random.default_rng(SEED)
    values = rng.uniform(0.5, 1.0, len(configs)).tolist()
    outcomes = [trial_result(config, value) for config, value in zip(configs, values, strict=True)]
    started = time.perf_counter()
    storage = StudyStorage(storage=open_journal(folder), name="benchmark")
    open_stage(storage, stage, {}).record(outcomes)
    written = time.perf_counter()
    storage = StudyStorage(storage=open_journal(folder), name="benchmark")
    found = open_stage(storage, stage, {}).finished(configs)
    read = time.perf_counter()
    if len(found) != len(configs):
        raise UserError(f"{len(found)} of {len(configs)} trials came back from the storage.")
    return {
        "storage_trials": len(configs),
        "storage_write_seconds": written - started,
        "storage_read_seconds": read - written,
        "storage_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def small_model(folder: Path, *, quick: bool) -> tuple[Path, Path]:
    """A LafitE of the demo's preset, hardly trained, and its pseudo set of rendered images."""
    data, pseudo, model = folder / "data", folder / "pseudo", folder / "model"
    data.mkdir()
    render_dataset(data, seed=SEED, size=128, train=24 if quick else 48, test_good=1,
                   defects_per_kind=1, categories=["fabric", "flange"])  # fmt: skip
    for arguments in (
        ["build", str(data), "--out", str(pseudo), "--per-normal", "1"],
        ["train", str(data), "--pseudo", str(pseudo), "--out", str(model), "--preset", "demo",
         "--epochs", "2"],
    ):  # fmt: skip
        if run(arguments) != 0:
            raise UserError(f"'pseudoval {' '.join(arguments)}' failed.")
    return model, pseudo


if __name__ == "__main__":
    main()
