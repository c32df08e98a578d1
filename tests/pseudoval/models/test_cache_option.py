"""Commands share features, scores do not change by a bit, and folders are treated with care."""

from pathlib import Path

import numpy as np
import pytest
from helpers import contents, copied, refused, road_commands, with_options

from lafite_core.features import FeatureExtractor
from pseudoval.cli.commands import run
from pseudoval.data.files import folder_kind
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.members import cache_folder


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every image that goes through a backbone."""
    counts: list[int] = []
    honest = FeatureExtractor.extract
    monkeypatch.setattr(FeatureExtractor, "extract", lambda *a: counts.append(1) or honest(*a))
    return counts


@pytest.fixture
def model(road: Path, tmp_path: Path) -> Path:
    """A copy of the road's model without its cache."""
    copied(road / "model", tmp_path / "model")
    return tmp_path / "model"


def scores(run_folder: Path, name: str) -> np.ndarray:
    return ScoreMatrix.load(run_folder / f"{name}_scores.npz").scores


def test_every_image_is_extracted_once_and_scores_stay(
    road: Path, model: Path, tmp_path: Path, extracted: list[int]
) -> None:
    tune = with_options(road_commands(road)[2], model=model, out=tmp_path / "run")
    assert run(tune) == 0
    held_out = ScoreMatrix.load(tmp_path / "run" / "pseudo_scores.npz")
    assert len(extracted) == len(held_out.images), "t and K, and the examples, share the features"
    assert run(["evaluate", str(tmp_path / "run"), str(road / "data")]) == 0
    matrix = ScoreMatrix.load(tmp_path / "run" / "test_scores.npz")
    assert len(extracted) == len(held_out.images) + len(matrix.images)
    extracted.clear()
    assert run(with_options(tune, out=tmp_path / "again")) == 0
    images = road / "data" / "flange" / "test"
    assert run(["predict", str(model), str(images), "--out", str(tmp_path / "p")]) == 0
    assert not extracted
    off = ["evaluate", str(tmp_path / "again"), str(road / "data"), "--no-cache"]
    assert run(off) == 0
    assert len(extracted) >= len(matrix.images)
    for name in ("pseudo", "test"):
        plain, cached = scores(road / "run", name), scores(tmp_path / "run", name)
        assert np.array_equal(plain, cached)
        assert np.array_equal(scores(tmp_path / "again", name), cached)


def test_without_a_cache_nothing_is_kept(road: Path, model: Path, tmp_path: Path) -> None:
    before = contents(model)
    tune = with_options(road_commands(road)[2], "--no-cache", model=model, out=tmp_path / "run")
    assert run(tune) == 0
    assert contents(model) == before
    assert np.array_equal(scores(tmp_path / "run", "pseudo"), scores(road / "run", "pseudo"))


def test_models_may_share_a_folder(
    road: Path, model: Path, tmp_path: Path, extracted: list[int]
) -> None:
    shared = str(tmp_path / "features")
    tune = with_options(
        road_commands(road)[2], "--cache", shared, model=model, out=tmp_path / "run"
    )
    assert run(tune) == 0
    assert folder_kind(tmp_path / "features") == "cache"
    assert not (model / "cache").exists()
    count = len(extracted)
    train = with_options(road_commands(road)[1], "--cache", shared, out=tmp_path / "other")
    assert run(train) == 0
    assert len(extracted) > count, "the bank's normals are others than the held-out ones"
    extracted.clear()
    assert run(with_options(train, "--seed", "1", out=tmp_path / "third")) == 0
    assert run(with_options(tune, model=tmp_path / "other", out=tmp_path / "run2")) == 0
    assert not extracted


def test_a_refit_finds_what_train_and_tune_extracted(
    road: Path, tmp_path: Path, extracted: list[int]
) -> None:
    shared = str(tmp_path / "features")
    train, tune = (
        with_options(part, "--cache", shared, out=tmp_path / name)
        for part, name in zip(road_commands(road)[1:3], ("model", "run"), strict=True)
    )
    assert run(train) == 0
    assert run(with_options(tune, model=tmp_path / "model")) == 0
    extracted.clear()
    again = ["train", str(road / "data"), "--refit", str(tmp_path / "run"), "--out"]
    assert run([*again, str(tmp_path / "refit"), "--cache", shared]) == 0
    assert not extracted


def test_a_folder_of_something_else_is_refused(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    _, train, tune, evaluate, _ = road_commands(road)
    for command in (train, tune, evaluate):
        there = [*command, "--cache", str(tmp_path)]
        if "--out" in command:
            there = with_options(there, out=tmp_path / "out")
        if command is not evaluate:
            refused(capsys, there, "did not write")
        refused(capsys, [*there, "--no-cache"], "--cache or --no-cache, not both")
    refused(
        capsys, with_options(train, "--cache", str(road / "run"), out=tmp_path / "m"), "is a run"
    )
    fresh = with_options(train, "--cache", str(tmp_path / "new"), out=tmp_path / "m")
    refused(capsys, [*fresh, "--set", "edit.keep_rate=0"], "in (0, 1]")
    assert contents(tmp_path) == {"notes.txt": b"mine"}
    assert not (tmp_path / "new").exists()


def test_members_share_the_cache_of_the_whole(several: Path) -> None:
    whole = several / "model"
    for folder in (whole, whole / "seed-3", whole / "seed-4" / "fabric"):
        assert cache_folder(folder, True) == whole / "cache"
    assert cache_folder(whole, False) is None
    assert list((whole / "cache").rglob("*.safetensors"))
    assert not (whole / "seed-3" / "cache").exists()
