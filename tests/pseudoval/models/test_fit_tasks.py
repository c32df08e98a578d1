"""What workers refuse to train, and how commands name those who do the work."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import refused, road_commands, with_options

from pseudoval.errors import UserError
from pseudoval.models.train import train
from pseudoval.tasks import SharedFolder


def knn(road: Path, out: Path, **more: object) -> str:
    """Train the quickest of models on threads."""
    with ThreadPoolExecutor(2) as executor:
        return train(
            road / "data", road / "pseudo", out, detector="knn", preset="demo", device="cpu",
            settings={"features.image_size": "64", "features.grid": "8"}, per_category=True,
            executor=executor, **more,
        )  # fmt: skip


def test_a_training_needs_a_disk_that_all_share(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    monkeypatch.setattr(SharedFolder, "is_here", lambda self: False)
    with pytest.raises(UserError, match=f"does not see {out}.*all workers share"):
        knn(road, out)
    monkeypatch.undo()
    told: list[tuple[str, int, int]] = []
    sha256 = knn(road, out, resume=True, progress=lambda *call: told.append(call))
    assert ("models", 2, 2) in told
    assert ("features", 12, 12) in told
    assert knn(road, tmp_path / "again") == sha256


def test_one_model_by_many_or_many_models(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun"):
        knn(road, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--workers", "0"], "--workers"),
        (["--workers", "two"], "--workers"),
        (["--workers", "2", "--cluster", "tcp://127.0.0.1:9"], "not both"),
        (["--workers", "2", "--device", "cuda:1"], "CUDA_VISIBLE_DEVICES"),
        (["--cluster", "file:///nowhere"], "no Dask cluster at file:///nowhere"),
    ],
)
def test_workers_that_are_none_are_refused(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str],
    sentence: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    _, training, tune, _, _ = road_commands(road)
    for command in (
        with_options(training, *options, out=out),
        with_options(tune, *options, out=out),
    ):
        refused(capsys, command, sentence)
    assert not out.exists()
    refused(capsys, ["evaluate", str(road / "run"), str(road / "data"), *options], sentence)
