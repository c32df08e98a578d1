"""Every command, on a tiny rendered set, and what each says to bad input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import contents, copied, refused, road_commands
from PIL import Image

from pseudoval import __version__
from pseudoval.cli.commands import cli, run
from pseudoval.data.files import MARKER, claim_folder
from pseudoval.demo.commands import demo_commands, render_data
from pseudoval.metrics.score_matrix import ScoreMatrix


def test_the_road_leaves_the_documented_files(road: Path) -> None:
    found = set(contents(road / "run"))
    assert {
        MARKER, "run.json", "best.json", "trials.csv", "optuna.journal", "pseudo_scores.npz",
        "test_scores.npz", "report/correlation.json", "report/report.html", "report/curves.png",
        "report/curves.csv", f"report/{MARKER}",
    } <= found  # fmt: skip
    assert any(name.startswith("examples/pseudo-") for name in found)
    assert any(name.startswith("examples/test-") for name in found)
    assert {
        "model.json",
        "bank.safetensors",
        "unet.safetensors",
        "train_features.safetensors",
    } <= {path.name for path in (road / "model").iterdir()}
    correlation = json.loads((road / "run" / "report" / "correlation.json").read_text())
    for stage in correlation["stages"]:
        assert set(stage) >= {
            "name", "param", "values", "pseudo_auroc", "test_auroc", "selected", "oracle",
            "regret", "random_regret", "spearman", "kendall",
        }  # fmt: skip
        best = max(stage["test_auroc"])
        at = dict(zip(stage["values"], stage["test_auroc"], strict=True))
        assert stage["regret"] == pytest.approx(best - at[stage["selected"]])
    final = correlation["final"]
    assert set(final) >= {"params", "pseudo_auroc", "test_auroc", "pixel_auroc", "regret"}
    assert set(correlation["per_category"]) == {"fabric", "flange"}
    for part in correlation["per_category"].values():
        assert {"stages", "final"} <= set(part)


def test_run_json_names_things_relatively(road: Path) -> None:
    header = json.loads((road / "run" / "run.json").read_text())
    assert header["model"] == "../model"
    assert header["pseudo"] == ["../pseudo"]
    assert header["categories"] == ["fabric", "flange"]


def test_matrices_share_configurations(road: Path) -> None:
    pseudo, test = (ScoreMatrix.load(road / "run" / f"{n}_scores.npz") for n in ("pseudo", "test"))
    assert pseudo.configs == test.configs
    assert pseudo.header["model_sha256"] == test.header["model_sha256"]
    defects = [i for i, image in enumerate(test.images) if "/test/good/" not in image]
    assert test.labels.nonzero()[0].tolist() == defects
    assert ((test.pixel["pixel_auroc"] >= 0) & (test.pixel["pixel_auroc"] <= 1)).all()


def test_two_roads_are_the_same_to_the_byte(road: Path, tmp_path: Path) -> None:
    """Same seed, other place, rubbish in the test folders, and DATA gone before tune."""
    data = tmp_path / "elsewhere"
    shutil.copytree(road / "data", data)
    for path in data.glob("*/test/*/*"):
        path.write_bytes(b"rubbish")
    for path in data.glob("*/ground_truth/*/*"):
        path.unlink()
    build, train, tune, _, _ = road_commands(tmp_path, "elsewhere")
    assert run(build) == 0
    assert run(train) == 0
    shutil.rmtree(data)
    assert run(tune) == 0
    for name in ("pseudo/manifest.json", "run/best.json", "run/pseudo_scores.npz"):
        assert (tmp_path / name).read_bytes() == (road / name).read_bytes(), name
    assert contents(tmp_path / "pseudo") == contents(road / "pseudo")


def test_no_held_out_image_in_the_bank(road: Path) -> None:
    manifest = json.loads((road / "pseudo" / "manifest.json").read_text())
    model = json.loads((road / "model" / "model.json").read_text())
    normals = {str(p.relative_to(road / "data")) for p in (road / "data").glob("*/train/good/*")}
    held_out = set(manifest["heldout_train"])
    assert held_out < normals
    assert model["info"]["images"] == len(normals) - len(held_out)
    sources = {s for image in manifest["images"] for s in image["source_files"]}
    assert sources <= held_out


def test_repeated_commands_do_nothing_twice(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "road"
    copied(road, again)
    before = contents(again)
    build, train, tune, evaluate, _ = road_commands(again)
    for arguments in (build, [*train, "--resume"], tune, evaluate):
        assert run(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(again) == before


@pytest.mark.usefixtures("blank_pictures")
def test_knn_goes_the_same_road(road: Path, tmp_path: Path) -> None:
    model, out, data = str(tmp_path / "knn"), str(tmp_path / "run"), str(road / "data")
    pseudo = str(road / "pseudo")
    assert run(["train", data, "--pseudo", pseudo, "--out", model, "--detector", "knn",
                "--preset", "demo", "--set", "features.grid=8"]) == 0  # fmt: skip
    assert run(["tune", "--model", model, "--pseudo", pseudo, "--out", out,
                "--k", "3,1,9"]) == 0  # fmt: skip
    assert run(["evaluate", out, data]) == 0
    assert run(["report", out]) == 0
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["stages"][0]["configs"] == [{"k": 1}, {"k": 3}, {"k": 9}]
    assert set(best["params"]) == {"k"}
    assert (tmp_path / "run" / "report" / "report.html").exists()
    assert not (tmp_path / "knn" / "unet.safetensors").exists()


def test_demo_renders_once_and_names_its_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    made = []

    def render(folder: Path, *, seed: int) -> None:
        made.append(seed)
        (folder / "fabric").mkdir()

    monkeypatch.setattr("pseudoval.demo.commands.render_dataset", render)
    render_data(out, 3)
    render_data(out, 3)
    assert made == [3]
    assert (out / "data" / "fabric").is_dir()
    refused(capsys, ["demo", "--out", str(out), "--seed", "4"], "holds a demo with seed 3")
    for arguments in demo_commands(out, 3):
        command = cli.commands[arguments[0]]
        command.make_context(arguments[0], list(arguments[1:]))  # parses


def test_studies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["studies"]) == 0
    listed = capsys.readouterr().out
    for word in ("t_then_k", "macro_image_auroc", "margin", "lafite", "knn"):
        assert word in listed


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pseudoval", "--version"], cwd=Path(__file__).parents[3],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.strip() == f"pseudoval, version {__version__}"


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.commands:
        assert run([name, "--help"]) == 0
        assert len(capsys.readouterr().out) > 100


# Bad input


def test_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    refused(capsys, ["build", str(tmp_path / "absent"), "--out", str(out)], "absent")
    (tmp_path / "empty").mkdir()
    refused(capsys, ["build", str(tmp_path / "empty"), "--out", str(out)], "empty")
    assert not out.exists()


def test_output_that_is_not_ours(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    (tmp_path / "notes.txt").write_text("mine")
    for arguments in road_commands(road)[:3]:
        there = [*arguments]
        there[there.index("--out") + 1] = str(tmp_path)
        refused(capsys, there, "did not write")
    refused(capsys, ["demo", "--out", str(tmp_path)], "did not write")
    refused(capsys, ["report", str(road / "run"), "--out", str(tmp_path)], "did not write")
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_training_options(road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "model")
    train = ["train", str(road / "data"), "--pseudo", str(road / "pseudo"), "--out", out]
    rubbish = tmp_path / "rubbish.safetensors"
    rubbish.write_bytes(b"x")
    for more, what in [
        (["--backbone", "resnet19", "--weights", "x"], "no backbone 'resnet19'"),
        (["--backbone", "resnet18", "--weights", str(rubbish)], "cannot be read"),
        (["--backbone", "resnet18", "--weights", str(tmp_path / "no")], "no weights file"),
        (["--backbone", "filterbank", "--weights", str(rubbish)], "has no weights"),
        (["--set", "unet.width=3"], "no option 'unet.width'"),
        (["--set", "unet.base_channels=x"], "cannot be 'x'"),
        (["--set", "edit.weights=best"], "inverse_distance or softmax or uniform"),
        (["--set", "edit.keep_rate=0"], "in (0, 1]"),
    ]:
        refused(capsys, [*train, *more], what)
        assert not (tmp_path / "model").exists()
    again = [*train[:-1], str(road / "model"), "--preset", "demo"]
    refused(capsys, again, "already holds a model")
    refused(capsys, [*again, "--resume"], "finished model with another configuration")
    missing = ["train", str(road / "data"), "--pseudo", str(tmp_path / "none"), "--out", out]
    refused(capsys, missing, "no pseudo folder")


def test_interrupted_training_is_not_thrown_away(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(road / "data", tmp_path / "data")
    shutil.copytree(road / "pseudo", tmp_path / "pseudo")
    train = road_commands(tmp_path)[1]
    with monkeypatch.context() as patch:
        patch.setattr("lafite_core.fit.train_network", lambda *a, **o: (_ for _ in ()).throw(
            KeyboardInterrupt))  # fmt: skip
        assert run(train) == 130
    assert "--resume goes on" in capsys.readouterr().err
    refused(capsys, train, "unfinished training")
    assert (tmp_path / "model" / "train_features.safetensors").exists()
    assert run([*train, "--resume"]) == 0
    made, known = (json.loads((r / "model" / "model.json").read_text()) for r in (tmp_path, road))
    assert made["model_sha256"] == known["model_sha256"]


def test_data_changed_since_the_set_was_built(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(road / "data", data)
    manifest = json.loads((road / "pseudo" / "manifest.json").read_text())
    (data / manifest["heldout_train"][0]).unlink()
    train = ["train", str(data), "--pseudo", str(road / "pseudo"), "--out", str(tmp_path / "m")]
    refused(capsys, train, manifest["heldout_train"][0])
    assert not (tmp_path / "m").exists()


def test_tune_without_its_inputs(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run")]
    model, pseudo = ["--model", str(road / "model")], ["--pseudo", str(road / "pseudo")]
    refused(capsys, ["tune", *pseudo, *out, "--model", str(tmp_path / "x")], "no model folder")
    refused(capsys, ["tune", *model, *out, "--pseudo", str(tmp_path / "x")], "no pseudo folder")
    refused(capsys, ["tune", *model, *out, "--pseudo", str(road / "model")], "is a model folder")
    refused(capsys, ["tune", *model, *pseudo, *out, "--t", "1,x"], "neither a list such as")
    claim_folder(tmp_path / "half", "model")
    refused(capsys, ["tune", *pseudo, *out, "--model", str(tmp_path / "half")], "no finished model")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def movable(road: Path, tmp_path: Path) -> Path:
    """A copy of the road whose evaluation has not been done."""
    copied(road, tmp_path / "road")
    (tmp_path / "road" / "run" / "test_scores.npz").unlink()
    return tmp_path / "road"


@pytest.mark.parametrize(
    ("gone", "what"),
    [("fabric/test/good", "normal"), ("fabric/test", "test"), ("flange", "flange")],
)
def test_test_split_that_cannot_be_used(
    movable: Path, gone: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(movable / "data" / gone)
    run_folder = movable / "run"
    refused(capsys, ["evaluate", str(run_folder), str(movable / "data")], what)
    assert not (run_folder / "test_scores.npz").exists()


def test_test_split_without_defects(movable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (movable / "data" / "fabric" / "test").iterdir():
        if folder.name != "good":
            shutil.rmtree(folder)
    refused(capsys, ["evaluate", str(movable / "run"), str(movable / "data")], "defect")


def test_a_truncated_test_image(movable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((movable / "data" / "flange" / "test" / "dent").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    refused(capsys, ["evaluate", str(movable / "run"), str(movable / "data")], path.name)
    assert not (movable / "run" / "test_scores.npz").exists()


@pytest.mark.usefixtures("blank_pictures")
def test_without_masks_pixel_figures_are_not_available(
    movable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(movable / "data" / "fabric" / "ground_truth")
    assert run(["evaluate", str(movable / "run"), str(movable / "data")]) == 0
    assert "n/a" in capsys.readouterr().out
    assert run(["report", str(movable / "run")]) == 0
    report = json.loads((movable / "run" / "report" / "correlation.json").read_text())
    assert report["per_category"]["fabric"]["final"]["pixel_auroc"] is None
    assert report["final"]["pixel_auroc"] is not None


def test_evaluate_asks_for_a_finished_run(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim_folder(tmp_path / "run", "run")
    refused(capsys, ["evaluate", str(tmp_path / "run"), str(road / "data")], "not finished")
    refused(capsys, ["evaluate", str(road / "model"), str(road / "data")], "is a model folder")


def test_another_model_in_its_place(movable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = json.loads((movable / "run" / "best.json").read_text())
    header["model_sha256"] = "0" * 64
    (movable / "run" / "best.json").write_text(json.dumps(header))
    refused(capsys, ["evaluate", str(movable / "run"), str(movable / "data")], "not the one")


@pytest.mark.usefixtures("blank_pictures")
def test_images_of_mixed_sizes_and_modes_work(road: Path, tmp_path: Path) -> None:
    """Grey, palette, alpha, 16 bit and another size: all of them are images."""
    data = tmp_path / "mixed"
    shutil.copytree(road / "data" / "fabric", data / "fabric")
    paths = sorted((data / "fabric" / "train" / "good").iterdir())
    for path, mode in zip(paths, ["L", "P", "RGBA", "LA", "1"], strict=False):
        Image.open(path).convert(mode).save(path)
    grey = np.asarray(Image.open(paths[5]).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(paths[5])
    Image.open(paths[6]).resize((80, 50)).save(paths[6])
    for arguments in road_commands(tmp_path, "mixed"):
        assert run(arguments) == 0, arguments


def test_interruption_says_how_to_go_on(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("studies.search.scoring.score_all", interrupted)
    out = str(tmp_path / "run")
    tune = ["tune", "--model", str(road / "model"), "--pseudo", str(road / "pseudo"), "--out", out]
    assert run(tune) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_bug_leaves_with_1(
    road: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("reports.write_report", broken)
    assert run(["report", str(road / "run")]) == 1
    assert "bug" in capsys.readouterr().err
