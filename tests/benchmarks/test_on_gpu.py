"""The command for a GPU runs: its own figures are computed, on a CPU; the others are asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import copied

import on_gpu


def test_it_asks_for_each_grid_and_adds_its_own_figures(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def benchmark(*arguments: Any) -> int:
        words = [str(one) for one in arguments]
        asked.append(words)
        row = {"ours": 1.0, "peer": 2.0, "ratio": 2.0, "unit": "s", "peer_name": "x"}
        if words[0] == "lafite_quality":
            copied(road / "model", Path(words[words.index("--work") + 1]) / "lafite")
        out = Path(words[words.index("--out") + 1])
        out.write_text(json.dumps({"figures": {"sweep_study": row}}))
        return 0

    monkeypatch.setattr(on_gpu, "benchmark", benchmark)
    monkeypatch.setattr(on_gpu, "STEPS", (25, 300, 900))
    monkeypatch.setattr(on_gpu, "IMAGES", 2)
    monkeypatch.setattr(on_gpu, "matmul_flops", lambda device, precision: 1e12)
    work, out = tmp_path / "work", tmp_path / "found.json"
    arguments = [str(road), "--work", str(work), "--out", str(out), "--device", "cpu"]
    assert on_gpu.main([*arguments, "--set", "score.pool=4", "--epochs", "2"]) == 0
    assert [words[0] for words in asked] == ["lafite_quality", "sweep"] * 2
    assert asked[0][asked[0].index("--grid") + 1] == "14"
    assert asked[2][-4:] == ["--set", "score.pool=4", "--epochs", "2"]
    found = json.loads(out.read_text())
    for grid in (14, 32):
        checks = found["checks"]
        assert checks[f"equal_positions_{grid}"] == 1, "on a CPU"
        assert 0 < checks[f"moved_by_float16_{grid}"] < checks[f"moved_by_bfloat16_{grid}"] < 0.1
    assert {"study_seconds_14", "scoring_flops_32"} <= set(found["figures"])
    monkeypatch.setattr(on_gpu, "benchmark", lambda *arguments: 3)
    assert on_gpu.main(arguments) == 3, "stopped in time"
