"""Networks of earlier epochs are kept, chosen among, and refitted to."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import contents, refused, road_commands, with_options
from safetensors.torch import load_file

from lafite_core.errors import LafiteError
from lafite_core.model import LafiteModel
from pseudoval.cli.commands import run
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.detectors.per_category import PerCategoryDetector
from pseudoval.models.open import open_detector


@pytest.fixture(scope="module")
def made(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model`` of 4 epochs that keeps 1 and 2, tuned and evaluated in ``run``."""
    root = tmp_path_factory.mktemp("epochs")
    _, train, tune, _, _ = road_commands(road)
    for arguments in [
        with_options(train, "--keep-epochs", "1,2", out=root / "model", epochs=4),
        with_options(tune, model=root / "model", out=root / "run"),
        ["evaluate", str(root / "run"), str(road / "data")],
        ["report", str(root / "run")],
    ]:
        assert run(arguments) == 0, arguments
    return root


def test_a_kept_epoch_is_the_training_that_stops_there(
    made: Path, road: Path, tmp_path: Path
) -> None:
    kept = contents(made / "model" / "epochs")
    assert sorted(kept) == ["unet-1.safetensors", "unet-2.safetensors"]
    train = road_commands(road)[1]
    stopped = with_options(train, "--set", "train.stop_epoch=2", out=tmp_path / "m", epochs=4)
    assert run(stopped) == 0
    found = load_file(tmp_path / "m" / "unet.safetensors")
    wanted = load_file(made / "model" / "epochs" / "unet-2.safetensors")
    assert all(found[name].equal(weights) for name, weights in wanted.items())
    assert (tmp_path / "m" / "losses.csv").read_text() == "".join(
        (made / "model" / "losses.csv").read_text().splitlines(keepends=True)[:3]
    ), "the same schedule"


def test_the_epoch_is_chosen_last(made: Path) -> None:
    best = json.loads((made / "run" / "best.json").read_text())
    assert best["study"] == "t_then_k_then_epoch"
    found = json.loads((made / "run" / "report" / "correlation.json").read_text())
    stage = found["stages"][2]
    assert (stage["param"], stage["values"], stage["default"]) == ("epoch", [1, 2, 4], 4)
    assert stage["selected"] == best["params"]["epoch"]
    assert stage["default_regret"] is not None and stage["oracle"] in (1, 2, 4)


def test_a_configuration_takes_the_network_of_its_epoch(made: Path) -> None:
    detector = open_detector(made / "model", seed=0)
    images = list(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    configs = [{"t": 300, "k": 0, "epoch": epoch} for epoch in (1, 2, 4)]
    block = detector.score_block(images, [*configs, {"t": 300, "k": 0}])
    assert np.array_equal(block.scores[2], block.scores[3]), "without one it is the last"
    assert len({float(score) for score in block.scores[:3, 0]}) == 3
    alone = LafiteModel.load(made / "model")
    alone.network.load_state_dict(load_file(made / "model" / "epochs" / "unet-1.safetensors"))
    scored = type(detector)(alone, 0, made / "nowhere").score_block(images, [{"t": 300, "k": 0}])
    assert np.array_equal(scored.scores[0], block.scores[0])
    bank = {"t": 300, "k": 2, "keep": 50}
    other = detector.score_block(images, [{**bank, "epoch": 1}, bank]).scores
    assert not np.array_equal(other[0], other[1])


def test_categories_of_different_lengths_share_the_epochs_that_both_have(
    made: Path,
) -> None:
    """Those that ``min_steps`` adds depend on the images of a category."""
    detectors = {}
    for category, last in (("fabric", 3), ("flange", 4)):
        model = LafiteModel.load(made / "model")
        model.info = {**model.info, "categories": [category], "losses": [1.0] * last}
        detectors[category] = LafiteDetector(model, 0, made / "model")
    both = PerCategoryDetector(detectors)
    epoch = next(parameter for parameter in both.parameters if parameter.name == "epoch")
    assert (epoch.grid, epoch.high) == ((1, 2), 3)
    for value in epoch.grid:
        both.check({"t": 300, "k": 0, "epoch": value})


def test_a_refit_stops_at_the_chosen_epoch_of_the_whole_schedule(
    made: Path, road: Path, tmp_path: Path
) -> None:
    best = json.loads((made / "run" / "best.json").read_text())["params"]
    data, out = str(road / "data"), tmp_path / "refit"
    assert run(["train", data, "--refit", str(made / "run"), "--out", str(out)]) == 0
    about = json.loads((out / "model.json").read_text())
    assert len(about["info"]["losses"]) == best["epoch"]
    assert about["config"]["train"]["epochs"] == 4
    assert not (out / "epochs").exists()
    assert run(["evaluate", str(made / "run"), data, "--model", str(out)]) == 0
    assert run(["predict", str(out), str(road / "data" / "fabric" / "test" / "good"),
                "--out", str(tmp_path / "predictions")]) == 0  # fmt: skip


def test_what_cannot_be_is_refused(
    made: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, train, tune, _, _ = road_commands(road)
    keep = with_options(train, "--keep-epochs", "2,9", out=tmp_path / "n")
    refused(capsys, keep, "ends after epoch 3, and train.keep_epochs asks for 9")
    refused(capsys, with_options(train, "--keep-epochs", "0", out=tmp_path / "n"), "at least 1")
    knn = with_options(train, "--keep-epochs", "1", "--detector", "knn", out=tmp_path / "n")
    refused(capsys, knn, "knn is not trained in epochs")
    study = with_options(tune, "--study", "t_then_k_then_epoch", out=tmp_path / "r")
    refused(capsys, study, "train it with --keep-epochs")
    three = with_options(tune, "--grid", "epoch=1,3", model=made / "model", out=tmp_path / "r")
    refused(capsys, three, "no network of epoch 3, only of 1, 2, 4")
    assert not (tmp_path / "n").exists() and not (tmp_path / "r").exists()


def test_a_kept_network_belongs_to_the_hash_of_the_model(made: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(made / "model", model, ignore=shutil.ignore_patterns("cache", "fits"))
    assert LafiteModel.load(model).sha256() == LafiteModel.load(made / "model").sha256()
    (model / "epochs" / "unet-2.safetensors").unlink()
    with pytest.raises(LafiteError, match="does not match its hash"):
        LafiteModel.load(model)
