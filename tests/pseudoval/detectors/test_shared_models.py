"""Detectors that differ in the seed of the noise share what takes time and memory."""

from pathlib import Path

import numpy as np
from helpers import copied, texture

from lafite_core.model import LafiteModel
from pseudoval.models.open import open_detector


def test_a_model_in_use_is_not_loaded_again(road: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    copied(road / "model", folder)
    one, other = (open_detector(folder, seed=seed) for seed in (0, 1))
    assert one.model is other.model
    assert (one.seed, other.seed) == (0, 1)
    image, config = texture(1), {"t": 300, "k": 1}
    scores = [detector.score_block([image], [config]).scores for detector in (one, other, one)]
    assert np.array_equal(scores[0], scores[2])
    assert not np.array_equal(scores[0], scores[1])
    for options in ({"settings": {"score.pool": "4"}}, {"cache": False}):
        assert open_detector(folder, seed=0, **options).model is not one.model
    changed = LafiteModel.load(folder)
    changed.seed += 1
    changed.save(folder)
    assert open_detector(folder, seed=0).model is not one.model


def test_scores_say_in_which_arithmetic_they_were_computed(road: Path) -> None:
    detector = open_detector(road / "model", seed=0)
    assert detector.provenance()["precision"] == "float32"
    half = open_detector(road / "model", seed=0, settings={"score.precision": "bfloat16"})
    assert half.provenance()["precision"] == "bfloat16"
    assert half.model_sha256 != detector.model_sha256
