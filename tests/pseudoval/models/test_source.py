"""Detectors that are opened again where they are needed."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from pseudoval.errors import UserError
from pseudoval.models import source
from pseudoval.models.open import open_detector
from pseudoval.models.source import Judges

CONFIG = {"t": 25, "k": 1}


class Own:
    """A detector of one's own, which is in no folder."""

    def of(self, category: str) -> "Own":
        return self


@pytest.fixture(autouse=True)
def nothing_at_hand() -> None:
    source.opened.cache_clear()


def test_a_detector_travels_as_its_folder(
    several: Path, road: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = several / "model" / "seed-3"
    monkeypatch.chdir(folder.parent)
    settings = {"diffusion.sampling_steps": "1"}
    detector = open_detector(Path("seed-3"), seed=7, device="cpu", settings=settings)
    judges = Judges.among(detector, ["flange", "fabric", "flange"])
    assert judges.of("fabric") is detector.of("fabric"), "here it is the one that is open"
    sent = pickle.dumps(judges)
    assert len(sent) < 3000, "not the weights"
    monkeypatch.chdir("/")
    there = pickle.loads(sent)
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    for category in ("fabric", "flange"):
        one, other = (of.of(category).score_block([image], [CONFIG]) for of in (judges, there))
        assert np.array_equal(one.scores, other.scores), "seed and settings came along"
    assert there.of("fabric") is there.of("fabric"), "it stays open"
    assert pickle.loads(pickle.dumps(there)) == there, "it may travel on"


def test_an_object_travels_itself() -> None:
    judges = pickle.loads(pickle.dumps(Judges.among(Own(), ["a"])))
    assert isinstance(judges.of("a"), Own)


def test_few_models_stay_open(several: Path) -> None:
    names = ("seed-3/fabric", "seed-3/flange", "seed-4/fabric")
    folders = [several / "model" / name for name in names]
    for folder in folders:
        pickle.loads(pickle.dumps(Judges.among(open_detector(folder, seed=0), ["x"]))).of("x")
    assert source.opened.cache_info().currsize == source.AT_HAND


def test_a_model_that_is_missing_or_another_is_refused(several: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(several / "model" / "seed-3" / "fabric", folder)
    sent = pickle.dumps(Judges.among(open_detector(folder, seed=0), ["x"]))
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=f"no model folder at {folder}"):
        pickle.loads(sent).of("x")
    shutil.copytree(several / "model" / "seed-4" / "fabric", folder)
    with pytest.raises(UserError, match=f"model in {folder} is not the one"):
        pickle.loads(sent).of("x")
