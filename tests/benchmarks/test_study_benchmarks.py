"""The benchmarks of the study layer and of scaling run, and say what they should."""

import runpy
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name: runpy.run_path(str(FOLDER / f"{name}.py"))


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
                 "study on 64 GPUs", "maps of a category", "the task of a block",
                 "tasks of pixel figures", "checking them, the driver alone"):  # fmt: skip
        assert f"| {name} | {' | '.join(grid[name] for grid in grids)} |" in page, name
    for name, told in scaling["speeds"]().items():
        if name in page:
            assert f"| {name} | {told} |" in page
    assert scaling["duration"](60) == "60 s" and scaling["duration"](7200) == "2 h"
