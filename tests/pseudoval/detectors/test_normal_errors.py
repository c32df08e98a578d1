"""Errors in units of those of normal images at the same position."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import CONFIG, pictures, request

from lafite_core import sweep
from lafite_core.fit import fit
from lafite_core.model import LafiteModel
from lafite_core.sweep import knn_normal_errors, lafite_errors, lafite_normal_errors
from pseudoval.detectors.banks import training_features
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.errors import UserError

CONFIGS = [{"t": 200, "k": 0}, {"t": 200, "k": 3}]
INFO = {"categories": ["a"], "split_sha256": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL of six images."""
    out = tmp_path_factory.mktemp("model")
    fit(pictures(6, seed=1), request(out, info=INFO))
    return out


def detector(folder: Path, **score: object) -> LafiteDetector:
    model = LafiteModel.load(folder)
    for name, value in score.items():
        object.__setattr__(model.config.score, name, value)
    return LafiteDetector(model, seed=5, folder=folder)


@pytest.fixture
def fresh(folder: Path, tmp_path: Path) -> Path:
    """The same MODEL with nothing measured yet."""
    for file in folder.glob("*.*"):
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_a_training_image_is_compared_with_the_others_alone(folder: Path) -> None:
    model, raw = LafiteModel.load(folder), training_features(folder)
    maps = model.standardised(raw)
    patches = maps.permute(0, 2, 3, 1).reshape(6, -1, maps.shape[1]).double()
    members = model.bank.vectors.double()
    found = knn_normal_errors(model, raw, [1, 2])
    left_out = 0
    for number, own in enumerate(patches):
        far = torch.cdist(own, members)
        theirs = [row for row in range(len(members)) if not (members[row] == own).all(1).any()]
        left_out += len(members) - len(theirs)
        nearest = far[:, theirs].sort(dim=1).values
        assert np.allclose(found[0, number].ravel(), nearest[:, 0], atol=1e-4)
        assert np.allclose(found[1, number].ravel(), nearest[:, :2].mean(1), atol=1e-4)
    assert left_out == len(members), "every member is a patch of one of the images"
    assert (knn_normal_errors(model, raw, [10_000])[0] > found[1]).all(), "as many as there are"


def test_without_editing_a_training_image_is_an_image_like_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, raw = LafiteModel.load(folder), training_features(folder)
    noise = torch.randn(1, *raw.shape[1:], generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr("lafite_core.sweep.image_noise", lambda *_, **__: noise)
    plain = lafite_errors(model, pictures(6, seed=1), [(200, 0)], seed=0)
    assert np.allclose(lafite_normal_errors(model, raw, [(200, 0)]), plain, rtol=1e-5)
    edited = lafite_errors(model, pictures(6, seed=1), [(200, 1)], seed=0)
    assert lafite_normal_errors(model, raw, [(200, 1)]).mean() > edited.mean()


def test_scores_are_made_of_deviations_from_normal_images(fresh: Path) -> None:
    images = pictures(3, seed=8)
    plain = detector(fresh, standardise="none").score_block(images, CONFIGS)
    assert not (fresh / "fits").exists()
    one = detector(fresh, standardise_images=4)
    found = one.score_block(images, CONFIGS)
    assert np.array_equal(found.coarse, plain.coarse), "maps keep the errors"
    chosen = training_features(fresh)[[0, 2, 3, 5]]
    normal = lafite_normal_errors(one.model, chosen, [(200, 0), (200, 3)]).astype(np.float64)
    variance = normal.var(axis=1, ddof=1)
    shrunk = (variance + variance.mean(axis=(1, 2), keepdims=True)) / 2
    far = (plain.coarse - normal.mean(axis=1)[:, None]) / np.sqrt(shrunk)[:, None]
    wanted = sweep.scores(one.model, far.astype(np.float32))
    assert np.allclose(found.scores, wanted, rtol=1e-4, atol=1e-4)
    assert not np.allclose(found.scores, plain.scores, rtol=0.1)


def test_what_was_measured_is_kept_and_depends_on_nothing_else(fresh: Path) -> None:
    images = pictures(2, seed=8)
    first = detector(fresh)
    assert first.unfitted(CONFIGS) == CONFIGS
    found = first.score_block(images, CONFIGS)
    files = sorted((fresh / "fits").iterdir())
    assert len(files) == 2 and first.unfitted(CONFIGS) == []
    before = [file.read_bytes() for file in files]
    files[0].write_bytes(b"damaged")
    files[1].unlink()
    again = detector(fresh)
    again.fit_bank(CONFIGS[1])
    alone = [again.score_block(images, [config]) for config in CONFIGS[::-1]]
    assert np.array_equal(found.scores, np.concatenate([alone[1].scores, alone[0].scores]))
    assert [file.read_bytes() for file in files] == before
    other = detector(fresh, standardise_images=3)
    assert other.unfitted(CONFIGS) == CONFIGS, "other options, other files"


def test_a_bank_is_fitted_before_what_is_measured_with_it(fresh: Path) -> None:
    one = detector(fresh)
    kept = [{**config, "keep": keep} for keep in (30, 60) for config in CONFIGS]
    assert one.unfitted(kept) == [kept[0], kept[2]], "a task for each bank"
    for config in one.unfitted(kept):
        one.fit_bank(config)
    assert one.unfitted(kept) == [kept[1], kept[3]], "then one for each configuration"


def test_a_model_that_cannot_be_compared_with_says_so(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    fit(pictures(1, seed=1), request(tmp_path / "one", keys=["0"], info=INFO))
    with pytest.raises(UserError, match=r"a single image.*--set score.standardise=none"):
        detector(tmp_path / "one").score_block(pictures(1, seed=8), CONFIGS)
    (fresh / "train_features.safetensors").unlink()
    with pytest.raises(UserError, match="training features, which belong to the model"):
        detector(fresh).score_block(pictures(1, seed=8), CONFIGS)
    plain = detector(fresh, standardise="none").score_block(pictures(1, seed=8), CONFIGS)
    assert plain.scores.shape == (2, 1)


def test_the_default_is_for_models_with_a_noise_predictor(folder: Path) -> None:
    assert CONFIG.score.standardise == "auto"
    model = LafiteModel.load(folder)
    assert LafiteDetector(model, 0, folder).normal_errors.wanted
    model.network = None
    assert not LafiteDetector(model, 0, folder).normal_errors.wanted
