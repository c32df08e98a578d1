"""The benchmark of sharing work: its parts on hardly any work."""

from pathlib import Path

import pytest

import scale_out


def test_tasks_cost_something_beside_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_out, "TURNS", 1)
    figures, checks = scale_out.measure_tasks(8)
    figure = figures["task_cost"]
    assert figure["ours"] > 0 and figure["peer"] > 0
    assert figure["ratio"] == figure["ours"] / figure["peer"]
    assert checks["driver_ms_a_task"] > 0


def test_what_the_driver_does_with_a_block(tmp_path: Path) -> None:
    found = scale_out.measure_blocks(tmp_path, 14)
    assert found["MB"] == pytest.approx(16 * 500 * (4 * 14 * 14 + 8) / 1e6, rel=0.01)
    assert found["checking, ms"] > 0 and found["reading scores, ms"] > 0
    assert found["reading maps, ms"] > found["reading scores, ms"]
