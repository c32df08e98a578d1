"""predict: the scores of evaluate, heat maps on one scale, and what is refused."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import contents, refused, texture
from matplotlib import colormaps
from PIL import Image

from pseudoval.cli.commands import run
from pseudoval.data.files import claim_folder
from pseudoval.data.images import read_rgb, write_png
from pseudoval.errors import UserError
from pseudoval.metrics.runs import load_run
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.open import open_detector
from pseudoval.scoring.blocks import score_by_category
from pseudoval.scoring.heat_maps import overlay
from pseudoval.scoring.predict import scale_of
from pseudoval.scoring.targets import find_images, map_names


def scores(folder: Path) -> dict[str, float]:
    with (folder / "scores.csv").open(newline="") as file:
        return {row["image"]: float(row["score"]) for row in csv.DictReader(file)}


def about(folder: Path) -> dict:
    return json.loads((folder / "predictions.json").read_text())


@pytest.fixture(scope="module")
def predicted(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the road's model on its own test images, under the choice of its run."""
    out = tmp_path_factory.mktemp("predicted") / "out"
    tests = [str(road / "data" / name / "test") for name in ("fabric", "flange")]
    command = ["predict", str(road / "model"), *tests, "--run", str(road / "run")]
    assert run([*command, "--out", str(out)]) == 0
    return out


def test_scores_are_those_of_evaluate_to_the_bit(road: Path, predicted: Path) -> None:
    matrix = ScoreMatrix.load(road / "run" / "test_scores.npz")
    header = about(predicted)
    row = matrix.row(header["params"])
    assert scores(predicted) == dict(zip(matrix.images, matrix.scores[row].tolist(), strict=True))
    best = json.loads((road / "run" / "best.json").read_text())
    assert header["params"] == best["params"]
    assert header["params_from"] == "run"
    assert header["model_sha256"] == best["model_sha256"]
    assert header["images"] == len(matrix.images)


def test_refit_knows_its_choice_and_the_noise_of_its_run(
    several: Path, road: Path, tmp_path: Path
) -> None:
    """Seed 4 of the model, noise of the RUN (seed 0), categories from the folders."""
    out = tmp_path / "out"
    model = several / "refit" / "seed-4"
    assert run(["predict", str(model), str(road / "data"), "--out", str(out)]) == 0
    matrix = ScoreMatrix.load(several / "run" / "refit" / "seed-4" / "test_scores.npz")
    found = scores(out)
    known = dict(zip(matrix.images, matrix.scores[0].tolist(), strict=True))
    assert {name: found[name] for name in known} == known
    assert about(out)["params_from"] == "refit"
    assert about(out)["seed"] == 0
    with (out / "scores.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert row["category"] == row["image"].partition("/")[0]


def test_category_by_name_or_by_the_nearest_folder(
    several: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["predict", str(several / "model" / "seed-3")]
    images = tmp_path / "fabric" / "flange"
    images.mkdir(parents=True)
    shutil.copy(next((road / "data" / "flange" / "test" / "good").iterdir()), images / "x.png")
    out = tmp_path / "out"
    assert run([*model, str(images), "--out", str(out)]) == 0
    near = scores(out)
    assert run([*model, str(images), "--out", str(tmp_path / "b"), "--category", "flange"]) == 0
    assert scores(tmp_path / "b") == near
    assert run([*model, str(images), "--out", str(tmp_path / "c"), "--category", "fabric"]) == 0
    assert scores(tmp_path / "c") != near
    plain = tmp_path / "x.png"
    shutil.copy(images / "x.png", plain)
    refused(capsys, [*model, str(plain), "--out", str(tmp_path / "d")], "pass --category NAME")
    refused(capsys, [*model, str(plain), "--out", str(tmp_path / "d"), "--category", "wood"],
            "knows no category 'wood'; it knows fabric, flange")  # fmt: skip
    assert not (tmp_path / "d").exists()


def test_maps_keep_size_and_folders_and_share_a_scale(road: Path, predicted: Path) -> None:
    maps = {name for name in contents(predicted) if name.startswith("maps/")}
    assert maps == {f"maps/{name}" for name in scores(predicted)}
    detector = open_detector(road / "model", seed=0)
    header = about(predicted)
    scale = header["scale"]
    for name in scores(predicted):
        image = read_rgb(road / "data" / name)
        drawn = read_rgb(predicted / "maps" / name)
        block = detector.score_block([image], [header["params"]])
        values = detector.render(block.coarse[0])[0]
        assert np.array_equal(drawn, overlay(image, values, scale["low"], scale["high"]))


def test_scale_ends_at_the_highest_normal_of_the_pseudo_set(road: Path, predicted: Path) -> None:
    header = about(predicted)
    matrix = ScoreMatrix.load(road / "run" / "pseudo_scores.npz")
    normals = matrix.scores[matrix.row(header["params"])][matrix.labels == 0]
    assert header["scale"]["high"] == normals.max()
    assert "pseudo set" in header["scale"]["high_is"]


def test_scale_without_a_run_ends_at_the_highest_value(road: Path) -> None:
    detector = open_detector(road / "model", seed=0)
    coarse = [np.random.default_rng(i).uniform(1, 2, (8, 8)).astype(np.float32) for i in range(3)]
    params = {"t": 25, "k": 0}
    plain = scale_of(detector, coarse, params, None)
    assert plain["low"] == np.median(coarse)
    assert plain["high"] == detector.render(np.stack(coarse)).max()
    chosen = load_run(road / "run").best["params"]
    far = scale_of(detector, [1e6 + grid for grid in coarse], chosen, load_run(road / "run"))
    assert far["high"] > far["low"] > 1e6, "normals below the median are no upper end"


def test_scores_in_another_unit_do_not_end_the_scale(
    road: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = open_detector(road / "model", seed=0)
    monkeypatch.setattr(type(detector), "scores_in_maps", False)
    coarse, tuned = [np.full((8, 8), -1e6, dtype=np.float32)], load_run(road / "run")
    found = scale_of(detector, coarse, tuned.best["params"], tuned)
    assert found["high_is"] == "highest value of all maps"


def test_another_model_of_the_run_does_not_lend_its_scale(
    several: Path, road: Path, tmp_path: Path
) -> None:
    images = str(road / "data" / "fabric" / "test" / "good")
    ends = {}
    for name in ("model", "refit"):
        out = tmp_path / name
        model = str(several / name / "seed-3")
        assert run(["predict", model, images, "--run", str(several / "run"),
                    "--out", str(out)]) == 0  # fmt: skip
        ends[name] = about(out)["scale"]["high_is"]
    assert "pseudo set" in ends["model"]
    assert ends["refit"] == "highest value of all maps"


def test_overlay_is_the_image_below_the_scale_and_coloured_above() -> None:
    image = texture(0)[:30]
    assert np.array_equal(overlay(image, np.zeros((4, 4)), 0.0, 1.0), image)
    assert np.array_equal(overlay(image, np.ones((4, 4)), 1.0, 1.0), image), "a flat map"
    top = overlay(image, np.full((4, 4), 9.0), 0.0, 1.0)
    ends = np.array(colormaps["inferno"](1.0)[:3]) * 255
    assert np.abs(top - (0.35 * image + 0.65 * ends)).max() < 2
    half = np.zeros((30, 48))
    half[:, 24:] = 1
    drawn = overlay(image, half, 0.0, 1.0)
    assert np.array_equal(drawn[:, :24], image[:, :24])
    assert (drawn[:, 24:] != image[:, 24:]).any(axis=2).all()


def test_which_images_and_what_they_are_called(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for path in (a / "x.png", a / "in" / "x.png", b / "x.jpg", a / ".hidden" / "y.png",
                 a / ".y.png"):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(1)).save(path)
    (a / "notes.txt").write_text("not an image")
    claim_folder(a / "predictions", "predictions")
    write_png(a / "predictions" / "maps" / "x.png", texture(2))

    def names(*arguments: Path) -> list[str]:
        return [target.name for target in find_images(arguments)]

    assert names(a) == ["in/x.png", "x.png"]
    assert names(a / "in" / "x.png") == ["x.png"]
    assert names(b, a) == ["a/in/x.png", "a/x.png", "b/x.jpg"]
    assert names(a, a / "x.png", a / "in" / ".." / "x.png") == ["in/x.png", "x.png"]
    assert map_names(["in/x.png", "x.jpg"]) == ["in/x.png", "x.png"]
    assert map_names(["x.jpg", "x.png", "x.jpg.bmp"]) == [
        "x.jpg.png", "x.png.png", "x.jpg.bmp.png",
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    for argument, what in [
        (tmp_path / "none", "no image or folder"),
        (a / "notes.txt", "not an image file"),
        (tmp_path / "empty", "no image in"),
    ]:
        with pytest.raises(UserError, match=what):
            find_images([argument])


def test_damaged_images_are_named_before_anything_is_written(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(road / "data" / "fabric" / "test" / "good", tmp_path / "images")
    *_, second, third = sorted((tmp_path / "images").iterdir())
    out = tmp_path / "out"
    command = ["predict", str(road / "model"), str(tmp_path / "images"), "--out", str(out),
               "--run", str(road / "run")]  # fmt: skip
    whole = third.read_bytes()
    third.write_bytes(whole[: len(whole) // 2])
    refused(capsys, command, third.name)
    assert not out.exists()
    second.write_bytes(b"no header")
    loaded: list[int] = []
    monkeypatch.setattr("pseudoval.scoring.predict.open_detector", lambda *a, **o: loaded.append(1))
    refused(capsys, command, second.name)
    assert loaded == [], "headers are looked at before the model is opened"
    assert not out.exists()


def test_repeated_overwritten_and_refused(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, good = tmp_path / "out", road / "data" / "fabric" / "test" / "good"
    command = ["predict", str(road / "model"), str(good), "--out", str(out)]
    assert run(command) == 0
    assert "using the defaults t=200;k=5" in capsys.readouterr().err
    before = contents(out)
    assert about(out)["params_from"] == "defaults"
    assert run(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(out) == before
    chosen = [*command, "--run", str(road / "run")]
    refused(capsys, chosen, "predictions with another params")
    assert contents(out) == before
    shutil.rmtree(out / "maps")
    (out / "predictions.json").unlink()
    assert run(command) == 0, "an unfinished lot is made again"
    assert contents(out) == before
    assert run([*chosen, "--overwrite"]) == 0
    assert "defaults" not in capsys.readouterr().err.rpartition("scoring")[2]
    assert about(out)["params_from"] == "run"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused(capsys, [*command[:-1], str(tmp_path / "mine")], "did not write")


def test_models_and_runs_that_do_not_fit(
    road: Path, several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(road / "data" / "fabric" / "test" / "good")
    out = ["--out", str(tmp_path / "out")]
    refused(capsys, ["predict", str(several / "model"), good, *out], "seed-3, ")
    refused(capsys, ["predict", str(road / "run"), good, *out], "expected a model folder")
    shutil.copytree(road / "run", tmp_path / "run")
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**header, "detector": "knn"}))
    refused(capsys, ["predict", str(road / "model"), good, *out, "--run", str(tmp_path / "run")],
            "give a run of lafite")  # fmt: skip
    refused(capsys, ["predict", str(road / "model"), *out], "Missing argument")
    assert not (tmp_path / "out").exists()


def test_images_are_never_all_in_memory(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        write_png(tmp_path / "images" / f"{number}.png", texture(number))
    sizes = []
    honest = score_by_category

    def counted(detector, images, configs):  # type: ignore[no-untyped-def]
        sizes.append(len(images))
        return honest(detector, images, configs)

    monkeypatch.setattr("pseudoval.scoring.predict.score_by_category", counted)
    command = ["predict", str(road / "model"), str(tmp_path / "images")]
    assert run([*command, "--run", str(road / "run"), "--out", str(tmp_path / "out")]) == 0
    assert sizes == [16, 16, 8]
    assert len(scores(tmp_path / "out")) == 40
