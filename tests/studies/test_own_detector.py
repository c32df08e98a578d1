"""The documented example of a detector of one's own, from the shell commands that it names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import refused

from pseudoval.cli.commands import run
from pseudoval.errors import UserError
from pseudoval.models.open import open_detector
from pseudoval.models.train import train
from pseudoval.scoring import evaluate_run
from studies import run_study, staged

DOCS = Path(__file__).parents[2] / "docs"
NAME = "own_detector:Repaint"


@pytest.fixture(scope="module")
def trained(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MODEL of the example, trained from a shell in the folder of its module."""
    model = tmp_path_factory.mktemp("own") / "model"
    command = ["train", road / "data", "--pseudo", road / "pseudo", "--out", model, "--detector",
               NAME]  # fmt: skip
    packages = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    done = subprocess.run(
        [sys.executable, "-c", "from pseudoval.cli import main; main()", *map(str, command)],
        cwd=DOCS, env=packages, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return model


def test_the_example_of_the_documentation(
    road: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DOCS)
    out, pseudo = tmp_path / "run", road / "pseudo"
    for arguments in [
        ["tune", "--model", trained, "--pseudo", pseudo, "--out", out],
        ["evaluate", out, road / "data"],
        ["report", out],
    ]:
        assert run([str(argument) for argument in arguments]) == 0
    best = json.loads((out / "best.json").read_text())
    assert [stage["name"] for stage in best["stages"]] == ["blur", "error", "width"]
    assert len(set(best["stages"][0]["pseudo_auroc"])) > 1, "the values differ"
    final = json.loads((out / "report" / "correlation.json").read_text())["final"]
    assert final["params"] == best["params"] and final["regret"] >= 0
    page = (out / "report" / "report.html").read_text()
    assert "--grid blur=0.5,1.0,2.0,4.0 --grid error=absolute,squared --grid width=" in page


def test_a_detector_may_be_tuned_as_an_object(
    road: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DOCS)
    detector, out = open_detector(trained, seed=0), tmp_path / "run"
    detector.name = "mine"  # an object that is in no folder has any name
    grids = {"blur": [1.0], "error": ["squared", "absolute"], "width": "4"}
    found = run_study(staged, model=detector, pseudo=road / "pseudo", out=out, grids=grids)
    assert found.best["params"]["width"] == 4
    assert not run_study(staged, model=detector, pseudo=road / "pseudo", out=out, grids=grids).fresh
    with pytest.raises(UserError, match="evaluate_run"):
        evaluate_run(out, road / "data")
    table = evaluate_run(out, road / "data", detector=detector)
    assert json.loads((out / "figures.json").read_text()) == table
    detector.model_sha256 = "0" * 64
    with pytest.raises(UserError, match="model_sha256"):
        evaluate_run(out, road / "data", detector=detector)
    for more in ({"repeats": 2}, {"settings": {"score.pool": "4"}}):
        with pytest.raises(UserError, match="need a MODEL folder"):
            run_study(staged, model=detector, pseudo=road / "pseudo", out=tmp_path / "x", **more)  # type: ignore[arg-type]


def test_scoring_options_and_another_split(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(DOCS)
    other, model = tmp_path / "other", str(tmp_path / "model")
    assert run(["build", str(road / "data"), "--out", str(other), "--split-seed", "7"]) == 0
    train(road / "data", other, Path(model), detector="own_classes:Power")
    tune = [
        "tune",
        "--model",
        model,
        "--pseudo",
        str(road / "pseudo"),
        "--out",
        str(tmp_path / "x"),
    ]
    refused(capsys, [*tune, "--set", "score.pool=4"], "has no options of scoring")
    refused(capsys, tune, "was trained on another split")
