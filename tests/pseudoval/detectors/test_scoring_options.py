"""A trained model scored with other options: tuned, evaluated, refitted and used with them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import refused, road_commands, with_options

from pseudoval.cli.commands import run
from pseudoval.metrics.score_matrix import ScoreMatrix

FAST = ("--set", "diffusion.evaluations=2", "--set", "diffusion.sampling_steps=3",
        "--set", "score.pool=4")  # fmt: skip


@pytest.fixture(scope="module")
def fast(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run`` and ``refit``, of the road's model with other options."""
    root = tmp_path_factory.mktemp("fast")
    tune, data, out = road_commands(road)[2], str(road / "data"), str(root / "run")
    for arguments in [
        with_options(tune, *FAST, out=out),
        ["evaluate", out, data],
        ["train", data, "--refit", out, "--out", str(root / "refit")],
        ["evaluate", out, data, "--model", str(root / "refit")],
    ]:
        assert run(arguments) == 0, arguments
    return root


def test_the_run_says_how_it_was_scored(road: Path, fast: Path) -> None:
    plain, found = (json.loads((r / "run" / "run.json").read_text()) for r in (road, fast))
    assert found["scoring"] == {
        "diffusion.evaluations": "2", "diffusion.sampling_steps": "3", "score.pool": "4",
    }  # fmt: skip
    assert plain["scoring"] == {}
    assert plain["trained_sha256"] == plain["model_sha256"] == found["trained_sha256"]
    assert found["model_sha256"] != plain["model_sha256"]
    for name in ("pseudo_scores.npz", "test_scores.npz"):
        one, two = (ScoreMatrix.load(root / "run" / name) for root in (road, fast))
        assert two.header["model_sha256"] == found["model_sha256"]
        assert not np.isclose(one.scores, two.scores).any()


def test_the_same_command_finds_it_finished_and_others_are_refused(
    road: Path, fast: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = with_options(road_commands(road)[2], out=fast / "run")
    assert run([*tune, *FAST]) == 0
    assert "nothing to do" in capsys.readouterr().out
    refused(capsys, tune, "another scoring")
    refused(capsys, [*tune, *FAST[:-1], "score.pool=8"], "another scoring")


def test_a_refit_keeps_what_its_run_was_scored_with(fast: Path) -> None:
    config = json.loads((fast / "refit" / "model.json").read_text())["config"]
    assert config["diffusion"]["evaluations"] == 2
    assert config["diffusion"]["sampling_steps"] == 3
    assert config["score"]["pool"] == 4
    assert (fast / "run" / "refit" / "figures.json").exists()


def test_predictions_are_the_scores_of_evaluate(road: Path, fast: Path, tmp_path: Path) -> None:
    images = road / "data" / "fabric" / "test"
    command = ["predict", str(road / "model"), str(images), "--run", str(fast / "run"),
               "--out", str(tmp_path / "out")]  # fmt: skip
    assert run(command) == 0
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    matrix = ScoreMatrix.load(fast / "run" / "test_scores.npz")
    best = json.loads((fast / "run" / "best.json").read_text())["params"]
    for image, score in zip(table["image"], table["score"], strict=True):
        column = matrix.images.index(f"fabric/test/{image}")
        assert matrix.scores[matrix.row(best), column] == score


@pytest.mark.parametrize(
    "option, what",
    [("features.grid=7", "features.grid cannot be set for scoring"),
     ("diffusion.target=v", "diffusion.target cannot be set for scoring"),
     ("nothing=1", "nothing cannot be set for scoring"),
     ("score.nothing=1", "no option 'score.nothing'"),
     ("score.precision=float64", "must be auto or float32 or bfloat16"),
     ("diffusion.sampling_steps=few", "cannot be 'few'"),
     ("diffusion.evaluations=11", "must be between 0 and diffusion.sampling_steps"),
     ("diffusion.eta=2", "must be in [0, 1]")],
)  # fmt: skip
def test_options_that_cannot_be_set(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, what: str
) -> None:
    tune = with_options(road_commands(road)[2], "--set", option, out=tmp_path / "run")
    refused(capsys, tune, what)


def test_fewer_evaluations_are_for_sampling_without_fresh_noise(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--set", "diffusion.evaluations=1", "--set", "diffusion.eta=0.5")
    tune = with_options(road_commands(road)[2], *options, out=tmp_path / "run")
    refused(capsys, tune, "diffusion.evaluations is 1")
