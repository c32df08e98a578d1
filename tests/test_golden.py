"""What the commands make is what they made when it was recorded: see ``golden_outputs``."""

import json
import os
from pathlib import Path
from typing import Any

import golden_outputs
import pytest
import torch

from pseudoval.cli.commands import run
from pseudoval.demo import render_dataset
from pseudoval.demo.commands import demo_commands

SCORE_TOLERANCE = 1e-6


@pytest.mark.parametrize("name", golden_outputs.MAKERS)
@pytest.mark.usefixtures("blank_pictures")
def test_outputs_are_the_golden_ones(name: str, tmp_path: Path) -> None:
    if name == "demo" and "PSEUDOVAL_GOLDEN_DEMO" not in os.environ:
        pytest.skip("the whole demo on one thread takes six minutes; set PSEUDOVAL_GOLDEN_DEMO=1")
    recorded: dict[str, Any] = json.loads((golden_outputs.FOLDER / f"{name}.json").read_text())
    machine = recorded.pop("machine")
    if machine != golden_outputs.machine():
        pytest.skip(f"recorded with {machine}, this is {golden_outputs.machine()}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = golden_outputs.MAKERS[name](tmp_path)
    finally:
        torch.set_num_threads(threads)
    differences = golden_outputs.differences(recorded, found, SCORE_TOLERANCE)
    assert not differences, "\n".join(differences[:20])


def test_the_demo_builds_the_golden_set(tmp_path: Path) -> None:
    recorded: dict[str, Any] = json.loads((golden_outputs.FOLDER / "demo.json").read_text())
    if recorded["machine"] != golden_outputs.machine():
        pytest.skip(f"recorded with {recorded['machine']}, this is {golden_outputs.machine()}")
    (tmp_path / "data").mkdir()
    render_dataset(tmp_path / "data", seed=0, test_good=1, defects_per_kind=1)  # it reads no more
    assert run(demo_commands(tmp_path, 0)[0]) == 0
    assert golden_outputs.pseudo_set(tmp_path / "pseudo") == recorded["sets"]["pseudo"]


def test_a_difference_is_found() -> None:
    recorded = {"scores": [0.5, float("nan")], "text": "words", "split_sha256": "a"}
    same = {"scores": [0.5, float("nan")], "text": "other words", "split_sha256": "a", "more": 1}
    assert golden_outputs.differences(recorded, same, 1e-6) == []
    for other in ({"scores": [0.6, float("nan")]}, {"scores": [0.5]}, {"split_sha256": "b"}):
        assert golden_outputs.differences(recorded, {**same, **other}, 1e-6)
