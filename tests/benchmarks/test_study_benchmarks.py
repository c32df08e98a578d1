"""The benchmarks of racing, of the study layer and of scaling run, and say what they should."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pseudoval.metrics.score_matrix import ScoreMatrix

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name: runpy.run_path(str(FOLDER / f"{name}.py"))


def test_race_replays_a_finished_run(road: Path, tmp_path: Path) -> None:
    out = tmp_path / "race.json"
    command = [sys.executable, str(FOLDER / "race.py"), "--run", str(road / "run"), "--quick",
               "--out", str(out)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = json.loads(out.read_text())
    figure = found["figures"]["race_image_configurations"]
    assert figure["ours"] == figure["peer"] == 5 * 12, "too few normals to race"
    assert found["checks"]["same_choice"] == 1.0
    assert found["command"].startswith("python")


def test_a_race_that_chooses_otherwise_is_compared(imported: Any) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(2), 60)
    scores = np.array([s * labels + 0.1 * rng.standard_normal(120) for s in (3.0, 0.0)])
    matrix = ScoreMatrix(
        scores=scores, configs=[{"k": 1}, {"k": 2}], images=[str(i) for i in range(120)],
        categories=["a"] * 120, labels=labels, groups=[str(i // 2) for i in range(120)],
    )  # fmt: skip
    race = imported("race")
    found = race["replay"]("macro_image_auroc", matrix, 0)
    assert found["other"] is None and found["raced"] < found["full"] == 240
    told = race["compared"]("macro_image_auroc", matrix, 0, 1)
    assert told["distinguishable"] and told["difference"] == pytest.approx(0.5, abs=0.15)
    assert told["interval"][0] > 0 and told["race"] == {"k": 2}


def test_trials_in_the_storage_are_counted(imported: Any, tmp_path: Path) -> None:
    found = imported("study_overhead")["measure_storage"](tmp_path / "storage", 30)
    assert found["storage_trials"] == 30
    assert found["storage_bytes"] > 30 * 100
    assert found["storage_write_seconds"] > 0


def test_scaling_on_paper_agrees_with_the_page(imported: Any) -> None:
    scaling = imported("scaling")
    page = (FOLDER.parent / "docs" / "scaling.md").read_text()
    grids = [scaling["at_grid"](side) for side in scaling["GRIDS"]]
    for name in ("one pass of the network", "study: 500 configurations", "study on 8 GPUs",
                 "study on 64 GPUs", "maps in memory when a stage closes"):  # fmt: skip
        assert f"| {name} | {' | '.join(grid[name] for grid in grids)} |" in page, name
    assert scaling["duration"](60) == "60 s" and scaling["duration"](7200) == "2 h"
