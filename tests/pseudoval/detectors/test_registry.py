"""Every detector of the table, and one more row: the whole road with a detector of one's own."""

import json
from pathlib import Path

import pytest
from helpers import refused

from pseudoval.cli.commands import run
from pseudoval.detectors import DETECTORS, DetectorRow, detector_class
from pseudoval.errors import UserError
from pseudoval.models.members import recorded_sha256
from pseudoval.models.train import train

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", DETECTORS)
def test_a_row_names_a_class_that_exists(name: str) -> None:
    assert detector_class(name).name == name


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(UserError, match=r"'nearest'.*lafite, uniad, knn, mvg"):
        detector_class("nearest")


@pytest.fixture
def thumbnails(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the documented detector, which has a row for the time of a test."""
    monkeypatch.syspath_prepend(DOCS)
    row = DetectorRow(where="own_detector:Thumbnails", summary="thumbnails", study="")
    monkeypatch.setitem(DETECTORS, "thumbnails", row)
    return "thumbnails"


@pytest.mark.usefixtures("blank_pictures")
def test_a_row_is_all_that_a_detector_needs(
    road: Path, tmp_path: Path, thumbnails: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, pseudo = road / "data", road / "pseudo"
    model, out, refit = (tmp_path / name for name in ("model", "run", "refit"))
    sha256 = train(data, pseudo, model, detector=thumbnails, per_category=True)
    assert recorded_sha256(model) == sha256
    study = tmp_path / "study.toml"
    study.write_text(
        'name = "sides"\n[[stage]]\nvalues.side = [4, 16]\nfixed.percent = 10\n'
        "[[stage]]\nvalues.percent = [1, 50]\n"
    )
    for arguments in [
        ["tune", "--study", study, "--model", model, "--pseudo", pseudo, "--out", out],
        ["evaluate", out, data],
        ["report", out],
        ["train", data, "--refit", out, "--out", refit],
        ["predict", refit, data / "fabric" / "test" / "good", "--out", tmp_path / "predictions"],
    ]:
        assert run([str(argument) for argument in arguments]) == 0, arguments
    final = json.loads((out / "report" / "correlation.json").read_text())["final"]
    assert set(final["params"]) == {"percent", "side"} and final["regret"] >= 0
    about = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
    assert (about["params_from"], about["params"]) == ("refit", final["params"])
    tune = ["tune", "--model", str(model), "--pseudo", str(pseudo), "--out", str(tmp_path / "x")]
    refused(capsys, tune, "study for the detector thumbnails")
    tune += ["--study", str(study)]
    refused(capsys, [*tune, "--set", "score.pool=4"], "score.pool")
    with pytest.raises(UserError, match="no backbone"):
        train(data, pseudo, tmp_path / "y", detector=thumbnails, backbone="resnet18")
    (model / "fabric" / "model.npz").write_bytes((model / "flange" / "model.npz").read_bytes())
    refused(capsys, ["evaluate", str(out), str(data)], "does not match its hash")
