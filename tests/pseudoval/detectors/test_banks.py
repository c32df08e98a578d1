"""Memory banks of other stages and sizes, fitted from MODEL without DATA."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import contents, refused, road_commands, with_options
from pretended_gpu import pretended_gpu

from pseudoval.cli.commands import run
from pseudoval.data.images import read_rgb
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.open import open_detector
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items


def trained(road: Path, out: Path, *settings: str, detector: str = "knn") -> Path:
    train = with_options(road_commands(road)[1], out=out, epochs=1)
    more = [part for setting in settings for part in ("--set", setting)]
    assert run([*train, "--detector", detector, *more]) == 0
    return out


@pytest.fixture(scope="module")
def models(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``all``: every stage, 10 %; ``part``: stages 2 and 3, 25 %; nothing of DATA beside them."""
    root = tmp_path_factory.mktemp("models")
    trained(road, root / "all")
    trained(road, root / "part", "features.stages=2,3", "edit.keep_rate=0.25")
    return root


@pytest.fixture
def images(road: Path) -> list[np.ndarray]:
    items = pseudo_items(road / "pseudo", load_manifest(road / "pseudo"))
    return [read_rgb(item.path) for item in items[:3]]


def copied(model: Path, to: Path) -> Path:
    shutil.copytree(model, to, ignore=shutil.ignore_patterns("fits"))
    return to


def test_another_bank_is_that_of_a_model_trained_so(
    models: Path, tmp_path: Path, images: list[np.ndarray]
) -> None:
    folder = copied(models / "all", tmp_path / "model")
    detector, other = (open_detector(path, seed=0) for path in (folder, models / "part"))
    block = detector.score_block(images, [{"k": 1, "keep": 25, "stages": 23}, {"k": 1},
                                          {"k": 3, "keep": 25, "stages": 23}])  # fmt: skip
    wanted = other.score_block(images, [{"k": 1}, {"k": 3}])
    assert np.array_equal(block.scores[[0, 2]], wanted.scores)
    assert np.array_equal(block.coarse[[0, 2]], wanted.coarse)
    own = detector.score_block(images, [{"k": 1}])
    assert np.array_equal(block.scores[[1]], own.scores), "whatever else is scored"
    assert not np.array_equal(block.scores[0], own.scores[0])
    explained = detector.explain(images[0], {"k": 3, "keep": 25, "stages": 23})
    assert np.array_equal(explained["error_plain"], wanted.coarse[1, 0])


def test_what_is_left_out_is_the_models_own(models: Path, images: list[np.ndarray]) -> None:
    detector = open_detector(models / "all", seed=0)
    own = detector.score_block(images, [{"k": 2}])
    same = detector.score_block(images, [{"k": 2, "keep": 10, "stages": 1234}])
    assert np.array_equal(own.scores, same.scores)
    assert not (models / "all" / "fits").exists(), "nothing was fitted"


def test_keep_100_has_every_patch(models: Path, tmp_path: Path, road: Path) -> None:
    detector = open_detector(copied(models / "all", tmp_path / "model"), seed=0)
    manifest = load_manifest(road / "pseudo")
    held_out = set(manifest["heldout_train"])
    train = [
        path
        for path in sorted((road / "data" / "fabric" / "train" / "good").iterdir())
        if path.relative_to(road / "data").as_posix() not in held_out
    ]
    block = detector.score_block([read_rgb(train[0])], [{"k": 1, "keep": 100}, {"k": 1}])
    assert block.scores[0, 0] == 0 < block.scores[1, 0], "a training image is in that bank itself"


def test_a_fit_is_made_once_and_belongs_to_its_model(
    models: Path, tmp_path: Path, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(models / "all", tmp_path / "model")
    config = {"k": 2, "keep": 5, "stages": 34}
    first = open_detector(folder, seed=0).score_block(images, [config])
    (path,) = (folder / "fits").iterdir()
    before = path.read_bytes()

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("fitted again")

    with monkeypatch.context() as patched:
        patched.setattr("pseudoval.detectors.banks.greedy_coreset", never)
        again = open_detector(folder, seed=0).score_block(images, [config])
    assert np.array_equal(first.scores, again.scores)
    for damage in (b"", before[: len(before) // 2]):
        path.write_bytes(damage)
        assert np.array_equal(
            open_detector(folder, seed=0).score_block(images, [config]).scores, first.scores
        )
        assert path.read_bytes() == before, "made again"
    # The same file in another model's folder is not taken for its own.
    other = copied(models / "part", tmp_path / "other")
    (other / "fits").mkdir()
    shutil.copy(path, other / "fits" / "bank-stages-3-keep-0.05.npz")
    detector = open_detector(other, seed=0)
    detector.score_block(images, [{"k": 1, "keep": 5, "stages": 3}])
    assert (other / "fits" / "bank-stages-3-keep-0.05.npz").read_bytes() != before


def test_wrong_values_and_lost_features_are_refused(
    models: Path, tmp_path: Path, images: list[np.ndarray]
) -> None:
    folder = copied(models / "all", tmp_path / "model")
    detector = open_detector(folder, seed=0)
    for config, what in (
        ({"k": 1, "stages": 32}, "stages = 32 .* in rising order"),
        ({"k": 1, "stages": 15}, r"digits of the model's stages \(1, 2, 3, 4\)"),
        ({"k": 1, "stages": 12345}, "stages = 12345 .* in rising order"),
        ({"k": 1, "stages": "two"}, "stages = two .* in rising order"),
        ({"k": 1, "keep": 0}, "keep = 0 cannot be scored; .* from 1 to 100"),
        ({"k": 5000, "keep": 1}, "k = 5000 cannot be scored"),
        ({"stages": 1}, "has k, and may have keep and stages; not stages"),
        ({"k": 1, "bank": 1}, "not k, bank"),
    ):
        with pytest.raises(UserError, match=what):
            detector.check(config)
    own = len(detector.model.bank)  # type: ignore[attr-defined]
    detector.check({"k": 2 * own, "keep": 25})
    with pytest.raises(UserError, match=f"from 1 to {own}"):
        detector.check({"k": 2 * own})
    (folder / "train_features.safetensors").unlink()
    with pytest.raises(UserError, match="training features, which belong to the model"):
        detector.score_block(images, [{"k": 1, "stages": 1}])
    assert detector.score_block(images, [{"k": 1}]).scores.shape == (1, 3)


def test_keep_of_the_editing_bank(road: Path, tmp_path: Path, images: list[np.ndarray]) -> None:
    folder = copied(road / "model", tmp_path / "model")
    detector = open_detector(folder, seed=0)
    block = detector.score_block(
        images, [{"t": 25, "k": 2}, {"t": 25, "k": 2, "keep": 100}, {"t": 25, "k": 0, "keep": 100},
                 {"t": 25, "k": 0}],
    )  # fmt: skip
    assert not np.array_equal(block.scores[0], block.scores[1])
    assert np.array_equal(block.scores[2], block.scores[3]), "without editing there is no bank"
    alone = open_detector(folder, seed=0).score_block(images, [{"t": 25, "k": 2, "keep": 100}])
    assert np.array_equal(alone.scores[0], block.scores[1])


@pytest.mark.usefixtures("blank_pictures")
def test_the_whole_road_over_stages(
    models: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out, refit = (str(tmp_path / name) for name in ("model", "run", "refit"))
    copied(models / "all", Path(model))
    tune = ["tune", "--model", model, "--pseudo", str(road / "pseudo"), "--out", out]
    study = tmp_path / "study.toml"
    study.write_text(
        'name = "stages"\n[[stage]]\nvalues.stages = [2, 23]\nvalues.keep = [5, 25]\nfixed.k = 1\n'
        "[[stage]]\nvalues.k = [1, 2]\n"
    )
    assert run([*tune, "--study", str(study)]) == 0
    best = json.loads((Path(out) / "best.json").read_text())
    assert best["stages"][0]["configs"] == [
        {"k": 1, "keep": keep, "stages": stages} for keep in (5, 25) for stages in (2, 23)
    ]
    assert set(best["params"]) == {"k", "keep", "stages"}
    assert len(list((Path(model) / "fits").iterdir())) == 4
    before = contents(Path(model) / "fits")
    assert run(["evaluate", out, str(road / "data")]) == 0
    assert contents(Path(model) / "fits") == before, "evaluate finds the fits of tune"
    assert run(["train", str(road / "data"), "--refit", out, "--out", refit]) == 0
    assert run(["evaluate", out, str(road / "data"), "--model", refit]) == 0
    test = ScoreMatrix.load(Path(out) / "test_scores.npz")
    assert len(test.configs) == 6 - 1, "the choice of the first stage is in the second too"
    image = str(next((road / "data" / "fabric" / "test" / "good").iterdir()))
    assert run(["predict", refit, image, "--out", str(tmp_path / "predictions")]) == 0
    named = with_options(tune, out=tmp_path / "named")
    assert run([*named, "--study", "stages_then_k", "--k", "1,4"]) == 0
    found = json.loads((tmp_path / "named" / "best.json").read_text())
    first = found["stages"][0]
    assert first["param"] == "configuration"
    assert sorted(c["stages"] for c in first["configs"]) == [
        1, 2, 3, 4, 12, 23, 34, 123, 234, 1234,
    ]  # fmt: skip
    assert first["values"][0] == "k=5;stages=1", "a code is told by its name"
    assert run(["report", str(tmp_path / "named")]) == 0
    refused(capsys, [*named, "--study", "stages_then_k", "--t", "3"], "no parameter t")
    # A study without these parameters says nothing of them.
    plain = with_options(tune, out=tmp_path / "plain")
    assert run([*plain, "--study", "k", "--k", "1,4"]) == 0
    header = json.loads((tmp_path / "plain" / "run.json").read_text())
    assert set(header["defaults"]) == {"k"} and header["grids"] == {"k": [1, 4]}


def test_a_gpu_holds_one_fitted_bank_at_a_time(models: Path, images: list[np.ndarray]) -> None:
    configs = [{"k": 1, "keep": 25, "stages": stages} for stages in (1, 2, 3, 4)]
    with pretended_gpu() as gpu:
        detector = open_detector(models / "all", seed=0, device="cuda:1")
        detector.score_block(images, configs[:1])
        one = gpu.used["cuda:1"]
        detector.score_block(images, configs)
        assert gpu.used["cuda:1"] < 2 * one
