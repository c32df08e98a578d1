"""The speed benchmarks run, measure what they say, and find equal results on both sides."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch

import metrics
import solver
import sweep


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Benchmarks take all cores; the tests after them do not."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def quick(benchmark: ModuleType, out: Path, *more: str) -> dict[str, Any]:
    command = [f"{benchmark.__name__}.py", "--quick", "--out", str(out), *more]
    with mock.patch.object(sys, "argv", command):
        benchmark.main()
    found: dict[str, Any] = json.loads(out.read_text())
    assert {"figures", "checks", "versions", "device", "seed", "command"} <= set(found)
    for row in found["figures"].values():
        assert row["ratio"] == row["peer"] / row["ours"]
    return found


def test_pixel_figures(tmp_path: Path) -> None:
    found = quick(metrics, tmp_path / "metrics.json")
    checks = found["checks"]
    assert found["figures"]["pixel_auroc_5m"]["peer"] > 0
    assert abs(checks["auroc_minus_scikit_learn"]) < 1e-9
    assert abs(checks["ap_minus_scikit_learn"]) < 1e-9


def test_a_study_and_a_plain_loop_find_the_same(tmp_path: Path) -> None:
    found = quick(sweep, tmp_path / "sweep.json")
    checks = found["checks"]
    assert {"sweep_study", "sweep_beside_network_ms"} <= set(found["figures"])
    assert checks["configurations"] == 21
    assert checks["scores_equal_up_to_rounding"]
    assert checks["largest_difference_of_an_auroc"] < 1e-12
    parts = checks["breakdown_ms"]
    outside = sum(v for name, v in parts.items() if name not in ("network", "features"))
    assert found["figures"]["sweep_beside_network_ms"]["ours"] == outside
    assert {"decode", "neighbours", "editing", "noise", "error maps", "image scores",
            "pixel figures", "network", "features"} <= set(parts)  # fmt: skip


def test_evaluations_are_compared_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    work = tmp_path / "work"
    found = quick(solver, tmp_path / "solver.json", "--work", str(work), "--limit")
    assert found["figures"]["solver_evaluations"]["ours"] == 1
    assert found["figures"]["solver_evaluations"]["peer"] == 2
    compared = found["checks"]["against_the_reference"]
    assert list(compared) == ["ddim 2, 1 evaluations", "ddim 1", "ddim 4"]
    assert compared["ddim 4"]["rms_of_scores_in_deviations"] > 0
    kept = {path.name: path.stat().st_mtime_ns for path in work.glob("*.npz")}
    assert len(kept) == 4
    again = quick(solver, tmp_path / "again.json", "--work", str(work), "--limit")
    assert again["checks"] == found["checks"]
    assert kept == {path.name: path.stat().st_mtime_ns for path in work.glob("*.npz")}
