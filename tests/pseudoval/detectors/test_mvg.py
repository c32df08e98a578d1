"""Gaussians on pooled features: the arithmetic, and the whole road without anomaly maps."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import refused, road_commands, with_options
from safetensors.numpy import load_file

from pseudoval.cli.commands import run
from pseudoval.data.images import read_rgb
from pseudoval.detectors import Detector
from pseudoval.detectors.mvg import SHARES, MvgDetector, whitening
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.open import open_detector
from pseudoval.scoring.pixels import NO_MAPS

ALL = {"components": "all", "levels": 1234}


def distance(values: np.ndarray, share: float, offset: np.ndarray) -> float:
    matrix = whitening(values, share)
    assert matrix is not None
    return float(np.linalg.norm(matrix @ offset))


def test_many_normals_give_the_mahalanobis_distance(rng: np.random.Generator) -> None:
    mixing = rng.normal(size=(3, 3))
    values = rng.normal(size=(20_000, 3)) @ mixing.T
    offset = np.array([1.0, -2.0, 0.5])
    wanted = np.sqrt(offset @ np.linalg.inv(mixing @ mixing.T) @ offset)
    assert distance(values, 1.0, offset) == pytest.approx(wanted, rel=0.05)


def test_few_normals_are_shrunk(rng: np.random.Generator) -> None:
    """Five points in ten dimensions: their covariance has no inverse, the shrunk one has."""
    values = rng.normal(size=(5, 10))
    offset = np.linalg.svd(values - values.mean(axis=0))[2][-1]
    assert 0 < distance(values, 1.0, offset) < 100


def test_negated_components_see_the_directions_that_hardly_vary(
    rng: np.random.Generator,
) -> None:
    values = rng.normal(size=(2000, 3)) * [10, 1, 0.1]
    still, moving = np.eye(3)[2], np.eye(3)[0]
    assert distance(values, 0.05, still) == pytest.approx(10, rel=0.1)
    assert distance(values, 0.05, moving) < 0.1 < distance(values, 1.0, 10 * moving)
    assert whitening(values, 0.05).shape == (2, 3)  # type: ignore[union-attr]
    assert whitening(values, 0.005).shape == (1, 3)  # type: ignore[union-attr]


def test_directions_without_any_variance_are_no_components(rng: np.random.Generator) -> None:
    flat = np.pad(rng.normal(size=(50, 2)), ((0, 0), (0, 3)))
    matrix = whitening(flat, 0.01)
    assert matrix is not None and matrix.shape == (1, 5)
    assert not matrix[:, 2:].any() and np.isfinite(matrix).all()


def test_equal_normals_have_no_gaussian() -> None:
    assert all(whitening(np.ones((4, 3)), share) is None for share in SHARES.values())


@pytest.fixture(scope="module")
def gaussians(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model``, ``run``, ``refit`` and ``predictions`` of every command."""
    root = tmp_path_factory.mktemp("mvg")
    _, train, _, _, _ = road_commands(road)
    data, out = str(road / "data"), str(root / "run")
    model, refit = str(root / "model"), str(root / "refit")
    for arguments in [
        [*with_options(train, out=model), "--detector", "mvg"],
        ["tune", "--model", model, "--pseudo", str(road / "pseudo"), "--out", out],
        ["evaluate", out, data],
        ["report", out],
        ["train", data, "--refit", out, "--out", refit],
        ["evaluate", out, data, "--model", refit],
        ["predict", refit, data + "/fabric/test/good", "--run", out,
         "--out", str(root / "predictions")],
    ]:  # fmt: skip
        assert run(arguments) == 0, arguments
    return root


def opened(gaussians: Path) -> Detector:
    return open_detector(gaussians / "model", seed=0)


def test_a_score_is_the_sum_of_its_levels(gaussians: Path, road: Path) -> None:
    detector = opened(gaussians)
    images = [read_rgb(path) for path in sorted((road / "data/fabric/test/good").iterdir())]
    configs = [{**ALL, "levels": level} for level in (1234, 1, 2, 3, 4, 24)]
    block = detector.score_block(images, configs)
    assert block.coarse is None
    assert block.scores[0] == pytest.approx(block.scores[1:5].sum(axis=0))
    assert block.scores[5] == pytest.approx(block.scores[[2, 4]].sum(axis=0))


def test_scores_do_not_depend_on_company_or_order(gaussians: Path, road: Path) -> None:
    detector = opened(gaussians)
    images = [read_rgb(path) for path in sorted((road / "data/flange/test").rglob("*.png"))]
    configs = [{**ALL, "components": name} for name in SHARES]
    whole = detector.score_block(images, configs).scores
    turned = detector.score_block(images[::-1], configs[::-1]).scores
    assert np.array_equal(whole, turned[::-1, ::-1])
    assert whole[1, 1] == detector.score_block(images[1:2], configs[1:2]).scores[0, 0]


def test_defects_score_higher(gaussians: Path, road: Path) -> None:
    detector = opened(gaussians)
    image = read_rgb(next((road / "data/flange/test/good").iterdir()))
    broken = image.copy()
    broken[20:40, 20:40] = 255 - broken[20:40, 20:40]
    for row in detector.score_block(
        [image, broken], [{**ALL, "components": c} for c in SHARES]
    ).scores:
        assert row[0] < row[1]


def test_the_model_keeps_the_pooled_features(gaussians: Path) -> None:
    kept = load_file(gaussians / "model" / "bank.safetensors")["vectors"]
    about = json.loads((gaussians / "model" / "model.json").read_text())
    assert len(kept) == about["info"]["images"] == sum(about["info"]["train_images"].values())


def test_pixel_figures_are_not_available(gaussians: Path) -> None:
    matrix = ScoreMatrix.load(gaussians / "run" / "test_scores.npz")
    assert matrix.pixel_reason == [NO_MAPS] * 2
    assert all(np.isnan(values).all() for values in matrix.pixel.values())
    page = (gaussians / "run" / "report" / "report.html").read_text()
    assert "this detector has no anomaly maps" in page
    assert NO_MAPS in page and "its map" not in page


def test_predictions_have_scores_and_no_heat_maps(
    gaussians: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((gaussians / "predictions" / "predictions.json").read_text())
    assert about["scale"] is None
    assert not (gaussians / "predictions" / "maps").exists()
    image = next((road / "data/fabric/test/good").iterdir())
    assert run(["predict", str(gaussians / "model"), str(image), "--out", str(tmp_path / "p")]) == 0
    assert "mvg has no anomaly maps" in capsys.readouterr().err


def test_what_cannot_be_is_refused(
    gaussians: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["tune", "--model", str(gaussians / "model"), "--pseudo", str(road / "pseudo"),
             "--out", str(tmp_path / "x")]  # fmt: skip
    refused(capsys, [*named, "--objective", "pixel_auroc"], "mvg has no anomaly maps")
    refused(capsys, [*named, "--k", "3"], "has no parameter k")
    assert not (tmp_path / "x").exists()
    detector = opened(gaussians)
    for config, what in [
        ({"components": "some", "levels": 1}, "components = some"),
        ({"components": "all", "levels": 21}, "levels = 21"),
        ({"components": "all", "levels": 15}, "levels = 15"),
        ({"components": "all"}, "A configuration of mvg has components and levels"),
    ]:
        with pytest.raises(UserError, match=what):
            detector.check(config)


def test_normals_that_look_the_same_are_refused(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pseudoval.detectors.mvg.pool", lambda features: np.ones((1, 24)))
    train = with_options(road_commands(road)[1], out=tmp_path / "model")
    assert run([*train, "--detector", "mvg", "--no-cache"]) == 2
    assert "Gaussian needs normals that differ" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_it_is_the_detector_of_its_name() -> None:
    assert MvgDetector.name == "mvg" and MvgDetector.configurable
