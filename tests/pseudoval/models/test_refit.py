"""The final model: on all normals, with what the RUN's model was made with."""

import json
import shutil
from pathlib import Path

import pytest
import timm
from helpers import contents, copied, refused
from safetensors.torch import save_file

from lafite_core.model import LafiteModel
from pseudoval.cli.commands import run
from pseudoval.models.members import read_members, recorded_sha256


def command(road: Path, run_folder: Path, out: Path, *more: str) -> list[str]:
    data = str(road / "data")
    return ["train", data, "--refit", str(run_folder), "--out", str(out), *more]


def test_same_model_on_all_normals(road: Path, several: Path) -> None:
    best = json.loads((several / "run" / "best.json").read_text())
    for seed in (3, 4):
        for category in ("fabric", "flange"):
            place = f"seed-{seed}/{category}"
            tuned = LafiteModel.load(several / "model" / place)
            final = LafiteModel.load(several / "refit" / place)
            normals = list((road / "data" / category / "train" / "good").iterdir())
            assert final.info["images"] == len(normals) > tuned.info["images"]
            assert final.config == tuned.config
            assert final.seed == seed
            assert final.info["split_sha256"] is None
            assert final.info["detector"] == "lafite"
            about = final.info["refit"]
            assert about["params"] == best["params"]
            assert about["run_model_sha256"] == best["model_sha256"]
            assert (about["study"], about["seed"]) == ("t_then_k", 0)


def test_seeds_can_be_chosen(road: Path, tmp_path: Path) -> None:
    assert run(command(road, road / "run", tmp_path / "one", "--seed", "7")) == 0
    assert LafiteModel.load(tmp_path / "one").seed == 7
    assert run(command(road, road / "run", tmp_path / "two", "--seeds", "2")) == 0
    members = read_members(tmp_path / "two")
    assert members is not None
    assert members.names == ["seed-0", "seed-1"]


def test_a_finished_refit_is_kept(
    road: Path, several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied(several / "refit", tmp_path / "refit")
    before = contents(out)
    refused(capsys, command(road, several / "run", out), "already holds a model")
    assert run(command(road, several / "run", out, "--resume")) == 0
    one = out / "seed-3"
    assert contents(out) == before
    refused(capsys, command(road, several / "run" / "seed-3", one, "--resume"),
            "another choice or images")  # fmt: skip
    assert contents(out) == before


def test_default_folder(road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, there = (road / "data").resolve(), (road / "run").resolve()
    monkeypatch.chdir(tmp_path)
    assert run(["train", str(data), "--refit", str(there)]) == 0
    assert (tmp_path / "refit" / "model.json").exists()


@pytest.mark.parametrize(
    "option",
    [["--preset", "demo"], ["--backbone", "filterbank"], ["--weights", "w"], ["--epochs", "2"],
     ["--set", "score.pool=4"], ["--detector", "knn"], ["--pseudo", "pseudo"], ["--per-category"]],
)  # fmt: skip
def test_options_that_the_run_decides(
    road: Path, tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, command(road, road / "run", tmp_path / "x", *option),
            f"--refit takes {option[0]} from RUN")  # fmt: skip
    assert not (tmp_path / "x").exists()


def test_bad_input(road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    refused(capsys, command(road, tmp_path / "none", out), "no run folder")
    shutil.copytree(road / "run", tmp_path / "run")
    refused(capsys, command(road, tmp_path / "run", out), "no model folder")
    copied(road / "model", tmp_path / "model")
    header = tmp_path / "run" / "run.json"
    header.write_text(header.read_text().replace(recorded_sha256(road / "model"), "0" * 64))
    refused(capsys, command(road, tmp_path / "run", out), "is not the one that")
    shutil.copytree(road / "data" / "fabric", tmp_path / "data" / "fabric")
    arguments = command(road, road / "run", out)
    arguments[1] = str(tmp_path / "data")
    refused(capsys, arguments, "'flange' has no folder")
    assert not out.exists()


def test_backbone_weights_are_the_models_own(road: Path, tmp_path: Path) -> None:
    """The file given to --weights may be gone by then."""
    weights = tmp_path / "weights.safetensors"
    network = timm.create_model("test_resnet.r160_in1k", pretrained=False)
    save_file(network.state_dict(), weights)
    train = ["train", str(road / "data"), "--pseudo", str(road / "pseudo"), "--detector", "knn",
             "--backbone", "test_resnet.r160_in1k", "--weights", str(weights),
             "--set", "features.image_size=64", "--set", "features.grid=4"]  # fmt: skip
    assert run([*train, "--out", str(tmp_path / "model")]) == 0
    tune = ["tune", "--study", "k", "--k", "1,2", "--pseudo", str(road / "pseudo")]
    out = tmp_path / "run"
    assert run([*tune, "--model", str(tmp_path / "model"), "--out", str(out)]) == 0
    weights.unlink()
    assert run(command(road, out, tmp_path / "refit")) == 0
    name = "backbone.safetensors"
    assert (tmp_path / "refit" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
