"""UniAD through every command, on tiny rendered images."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import refused

from pseudoval.cli.commands import run
from pseudoval.data.images import read_rgb
from pseudoval.detectors import DETECTORS
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.open import open_detector

SMALL = ["features.image_size=64", "features.grid=8", "uniad.width=16", "uniad.heads=2",
         "uniad.feedforward=32", "uniad.neighbourhood=3", "score.pool=8"]  # fmt: skip


def train_command(road: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(road / "data"), "--pseudo", str(road / "pseudo"), "--out", str(out),
            "--detector", "uniad", "--preset", "demo", "--epochs", "3",
            *[part for one in SMALL for part in ("--set", one)], *more]  # fmt: skip


@pytest.fixture(scope="module")
def made(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model``, ``run``, ``refit`` and ``predictions``."""
    root = tmp_path_factory.mktemp("uniad")
    data, model, out = str(road / "data"), str(root / "model"), str(root / "run")
    for arguments in [
        train_command(road, root / "model"),
        ["tune", "--model", model, "--pseudo", str(road / "pseudo"), "--out", out, "--k", "0,1,4"],
        ["evaluate", out, data],
        ["report", out],
        ["train", data, "--refit", out, "--out", str(root / "refit")],
        ["evaluate", out, data, "--model", str(root / "refit")],
        ["predict", model, data + "/flange/test/good", "--run", out,
         "--out", str(root / "predictions")],
    ]:  # fmt: skip
        assert run(arguments) == 0, arguments
    return root


def test_every_command_works(made: Path) -> None:
    about = json.loads((made / "run" / "run.json").read_text())
    assert (about["study"], about["grids"]) == ("k", {"k": [0, 1, 4]})
    matrix = ScoreMatrix.load(made / "run" / "test_scores.npz")
    assert matrix.configs == [{"k": 0}, {"k": 1}, {"k": 4}]
    assert len(np.unique(matrix.scores, axis=0)) == 3
    assert np.isfinite(matrix.pixel["pixel_auroc"]).all()
    assert list((made / "predictions" / "maps").rglob("*.png"))
    assert (made / "model" / "loss.png").exists()
    for folder in ("run", "run/refit"):
        content = json.loads((made / folder / "figures.json").read_text())
        names = [row["variant"] for row in content["variants"]]
        assert names == ["with editing", "without editing"]
    final = json.loads((made / "run/report/correlation.json").read_text())["final"]
    assert final["without_editing"]["params"] == {"k": 0}
    assert final["default"]["params"] == {"k": 0}


def test_tables_and_figures_show_both_errors(made: Path) -> None:
    examples = [np.load(path) for path in (made / "run" / "examples").glob("*.npz")]
    assert all({"map", "error_plain", "error_edited"} <= set(one.files) for one in examples)
    detector = open_detector(made / "model", seed=0)
    image = examples[0]["image"]
    errors = detector.explain(image, {"k": 4})
    assert not np.array_equal(errors["error_plain"], errors["error_edited"])
    plain = detector.explain(image, {"k": 0})
    assert np.array_equal(plain["error_plain"], plain["error_edited"])
    assert np.array_equal(plain["error_plain"], errors["error_plain"])


def test_a_finished_training_is_found_and_repeated_to_the_byte(
    made: Path, road: Path, tmp_path: Path
) -> None:
    assert run(train_command(road, made / "model", "--resume")) == 0
    assert run(train_command(road, tmp_path / "again")) == 0
    for name in ("model.json", "uniad.safetensors", "bank.safetensors", "losses.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (made / "model" / name).read_bytes()


def test_another_core_set_needs_no_training(made: Path, road: Path) -> None:
    detector = open_detector(made / "model", seed=0)
    image = read_rgb(next((road / "data/fabric/test/good").iterdir()))
    configs = [{"k": 0}, {"k": 0, "keep": 100}, {"k": 3}, {"k": 3, "keep": 100}]
    found = detector.score_block([image], configs).scores[:, 0]
    assert found[0] == found[1], "without editing the bank does not matter"
    assert found[2] != found[3]


def test_what_cannot_be_is_refused(
    made: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    bad = train_command(road, model, "--set", "uniad.neighbourhood=9")
    refused(capsys, bad, "must be below features.grid, which is 8")
    refused(
        capsys, train_command(road, model, "--set", "uniad.heads=3"), "a divisor of uniad.width"
    )
    assert not model.exists()
    tune = ["tune", "--model", str(made / "model"), "--pseudo", str(road / "pseudo"),
            "--out", str(tmp_path / "run")]  # fmt: skip
    refused(capsys, [*tune, "--t", "25"], "no parameter t")
    refused(capsys, [*tune, "--k", "100000"], "k = 100000 cannot be scored")
    assert not (tmp_path / "run").exists()


def test_its_epoch_is_chosen_after_k(road: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "run"
    assert run(train_command(road, model, "--keep-epochs", "1")) == 0
    assert run(["tune", "--model", str(model), "--pseudo", str(road / "pseudo"), "--k", "0,2",
                "--out", str(out)]) == 0  # fmt: skip
    best = json.loads((out / "best.json").read_text())
    assert best["study"] == "k_then_epoch" and best["params"]["epoch"] in (1, 3)


def test_its_default_study_is_the_stage_of_k() -> None:
    assert DETECTORS["uniad"].study == "k"
