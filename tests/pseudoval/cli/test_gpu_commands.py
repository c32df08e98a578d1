"""Every command on a pretended GPU: what it leaves is what it leaves on the CPU."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import contents, refused, road_commands, with_options
from pretended_gpu import pretended_gpu

from lafite_core.model import LafiteModel
from pseudoval.cli.commands import run
from pseudoval.metrics.score_matrix import ScoreMatrix

SCORES = "pseudo_scores.npz"
STUDIES = [("t_then_k", "cuda"), ("k_then_t", "cuda:1"), ("joint", "cuda"), ("joint_tpe", "cuda:1")]
KNN_STUDIES = [("k", "cuda"), ("stages_then_k", "cuda:1")]


def on(device: str, arguments: list[str], memory: float = 1e9) -> int:
    """Run a command on a device that is pretended; how many bytes it took there."""
    with pretended_gpu(memory) as gpu:
        assert run([*arguments, "--device", device]) == 0, arguments
    assert {*gpu.peak} == {"cuda:1" if device == "cuda:1" else "cuda:0"}
    return max(gpu.peak.values())


def without(arguments: list[str], name: str) -> list[str]:
    place = arguments.index(name)
    return arguments[:place] + arguments[place + 2 :]


def losses(model: Path) -> list[float]:
    return LafiteModel.load(model).info["losses"]


def scores(folder: Path, name: str = SCORES) -> dict[str, np.ndarray]:
    """Scores by configuration."""
    matrix = ScoreMatrix.load(folder / name)
    return {str(c): row for c, row in zip(matrix.configs, matrix.scores, strict=True)}


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Whatever was scored here has the scores that it has there, up to rounding."""
    assert set(found) <= set(wanted)
    assert all(np.allclose(row, wanted[config], rtol=1e-4) for config, row in found.items())


@pytest.fixture(scope="module")
def knn(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model`` of nearest neighbours, ``fresh`` (the same before anything was fitted in it)."""
    root = tmp_path_factory.mktemp("knn")
    train = with_options(road_commands(road)[1], "--detector", "knn", out=root / "model")
    assert run(train) == 0
    shutil.copytree(root / "model", root / "fresh")
    return root


@pytest.fixture(scope="module")
def of_cpu(road: Path, knn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Scores of every configuration of the studies below, computed on the CPU."""
    root = tmp_path_factory.mktemp("cpu")
    tune = road_commands(road)[2]
    for study in ("joint", "k_then_t"):
        assert run([*with_options(tune, out=root / study), "--study", study]) == 0
    tune = without(with_options(tune, model=knn / "model", out=root / "knn"), "--t")
    assert run([*tune, "--study", "stages_then_k"]) == 0
    assert run([*with_options(tune, out=root / "k"), "--study", "k"]) == 0
    folders = (road / "run", *root.iterdir())
    return {config: row for folder in folders for config, row in scores(folder).items()}


@pytest.mark.parametrize(("study", "device"), STUDIES)
def test_tune(road: Path, of_cpu: dict, tmp_path: Path, study: str, device: str) -> None:
    tune = with_options(road_commands(road)[2], out=tmp_path / "run")
    on(device, [*tune, "--study", study, "--set", "score.precision=float32"])
    same(scores(tmp_path / "run"), of_cpu)


def test_tune_without_memory_for_what_is_tried_first(
    road: Path, of_cpu: dict, tmp_path: Path
) -> None:
    tune = [*road_commands(road)[2], "--set", "score.precision=float32", "--no-cache"]
    needed = on("cuda:1", with_options(tune, out=tmp_path / "run"))
    on("cuda:1", with_options(tune, out=tmp_path / "again"), memory=0.6 * needed)
    same(scores(tmp_path / "again"), of_cpu)


@pytest.mark.parametrize(("study", "device"), KNN_STUDIES)
def test_tune_nearest_neighbours(
    road: Path, knn: Path, of_cpu: dict, tmp_path: Path, study: str, device: str
) -> None:
    """With memory banks that are fitted on the device."""
    tune = without(road_commands(road)[2], "--t")
    tune = with_options(tune, "--study", study, model=knn / "fresh", out=tmp_path / "run")
    on(device, tune)
    same(scores(tmp_path / "run"), of_cpu)
    if study == "stages_then_k":
        assert contents(knn / "fresh" / "fits") == contents(knn / "model" / "fits")


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_train(road: Path, tmp_path: Path, device: str) -> None:
    train = with_options(road_commands(road)[1], out=tmp_path / "model")
    on(device, [*train, "--set", "train.precision=float32"])
    assert np.allclose(losses(tmp_path / "model"), losses(road / "model"), rtol=1e-4)


def test_train_per_category_and_seeds_and_refit(road: Path, several: Path, tmp_path: Path) -> None:
    train = with_options(road_commands(road)[1], "--seed", "3", "--seeds", "2", "--per-category",
                         out=tmp_path / "model")  # fmt: skip
    on("cuda:1", [*train, "--set", "train.precision=float32"])
    on("cuda", ["train", str(road / "data"), "--refit", str(several / "run"),
                "--out", str(tmp_path / "refit")])  # fmt: skip
    for kind in ("model", "refit"):
        for name in ("seed-3/fabric", "seed-4/flange"):
            wanted = losses(several / kind / name)
            tolerance = 1e-4 if kind == "model" else 0.1  # of bfloat16
            assert np.allclose(losses(tmp_path / kind / name), wanted, rtol=tolerance)


def test_evaluate_and_predict(road: Path, tmp_path: Path) -> None:
    shutil.copytree(road / "run", tmp_path / "run")
    (tmp_path / "run" / "test_scores.npz").unlink()
    (tmp_path / "model").symlink_to(road / "model")
    on("cuda:1", ["evaluate", str(tmp_path / "run"), str(road / "data")])
    wanted = scores(road / "run", "test_scores.npz")
    same(scores(tmp_path / "run", "test_scores.npz"), wanted)
    out = tmp_path / "predictions"
    on("cuda", ["predict", str(road / "model"), str(road / "data" / "fabric" / "test"),
                "--run", str(road / "run"), "--out", str(out)])  # fmt: skip
    with (out / "scores.csv").open(newline="") as file:
        found = [float(row["score"]) for row in csv.DictReader(file)]
    best = json.loads((road / "run" / "best.json").read_text())["params"]
    assert np.allclose(np.sort(found), np.sort(wanted[str(best)][: len(found)]), rtol=1e-4)


def test_audit(road: Path, tmp_path: Path) -> None:
    pseudo = str(road / "pseudo")
    for name, more in [("data", ["--data", str(road / "data")]),
                       ("model", ["--model", str(road / "model")])]:  # fmt: skip
        found = []
        for device in ("cpu", "cuda:1"):
            command = ["audit", pseudo, *more, "--out", str(tmp_path / f"{name}-{device}")]
            if device == "cpu":
                assert run(command) == 0
            else:
                on(device, command)
            content = json.loads((tmp_path / f"{name}-{device}" / "audit.json").read_text())
            found.append([image["score"] for image in content["images"]])
        assert np.allclose(found[0], found[1], rtol=1e-4)


def test_a_device_that_is_not_there(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = with_options(road_commands(road)[2], out=tmp_path / "run")
    refused(capsys, [*tune, "--device", "cuda"], "torch sees no GPU; use --device cpu")
    refused(capsys, [*tune, "--device", "gpu"], "no device 'gpu'; give auto, cpu, cuda, or cuda:N")
    with pretended_gpu():
        refused(capsys, [*tune, "--device", "cuda:2"], "sees 2 GPUs, numbered from cuda:0")
    assert not (tmp_path / "run").exists()
