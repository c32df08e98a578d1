"""From images to a bank: what a training does before the network comes."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import texture

from lafite_core import coreset
from lafite_core.backbones import make_backbone
from lafite_core.config import EditConfig, FeatureConfig, LafiteConfig, TrainConfig, UNetConfig
from lafite_core.coreset import shards_needed
from lafite_core.errors import LafiteError
from lafite_core.fit import FitRequest, fit
from lafite_core.model import LafiteModel

FEATURES = FeatureConfig(backbone="filterbank", image_size=64, grid=16)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which an exact core set would take more than an hour."""
    monkeypatch.setattr(coreset, "OPERATIONS", {"cpu": 1.0})
    monkeypatch.setattr(coreset, "SHARD", 1000)


def fitted(folder: Path, keep_rate: float = 0.1, **options: Any) -> LafiteModel:
    folder.mkdir(exist_ok=True)
    config = LafiteConfig(features=FEATURES, edit=EditConfig(keep_rate=keep_rate))
    keys = [str(seed) for seed in range(12)]
    request = FitRequest(keys=keys, config=config, backbone=make_backbone(FEATURES), folder=folder,
                         seed=0, network=None, **options)  # fmt: skip
    return fit([texture(seed, 64) for seed in range(12)], request)


def test_a_bank_that_takes_too_long_is_sharded_and_says_so(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It has the size and nearly the radius of an exact one, and comes out the same again."""
    notices: list[str] = []
    everything = fitted(tmp_path / "all", keep_rate=1.0).bank.vectors
    exact = fitted(tmp_path / "exact", notice=notices.append).bank.vectors
    assert not notices
    request.getfixturevalue("slow")
    sharded = fitted(tmp_path / "sharded", notice=notices.append).bank.vectors
    assert len(notices) == 1
    assert "in 4 parts" in notices[0]
    assert len(exact) == len(sharded) == round(0.1 * 12 * 256)
    radii = [
        float(torch.cdist(everything.double(), bank.double()).amin(1).max())
        for bank in (exact, sharded)
    ]
    assert radii[1] < 1.3 * radii[0]
    members = {row.numpy().tobytes() for row in everything}
    assert all(row.numpy().tobytes() in members for row in sharded)
    assert not torch.equal(exact, sharded)
    assert torch.equal(fitted(tmp_path / "again").bank.vectors, sharded)


def test_an_exact_core_set_is_for_what_memory_and_an_hour_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shards_needed(2_500_000, 250_000, 272, "cpu") == 1
    assert shards_needed(2_700_000, 270_000, 272, "cpu") == 14
    assert shards_needed(2_700_000, 270_000, 272, "cuda:1") == 1
    monkeypatch.setattr(coreset.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 100}.get)
    assert shards_needed(1000, 100, 50, "cpu") == 1
    assert shards_needed(1100, 100, 50, "cpu") == 1  # one shard holds them all


@pytest.mark.usefixtures("slow")
def test_progress_of_the_core_set_reaches_its_end(tmp_path: Path) -> None:
    reported: list[tuple[str, int, int]] = []
    fitted(tmp_path, progress=lambda *step: reported.append(step))
    steps = [(done, total) for name, done, total in reported if name == "core set"]
    assert steps[-1][0] == steps[-1][1]
    assert all(a[0] < b[0] for a, b in pairwise(steps))


def test_an_image_of_another_kind_is_refused(tmp_path: Path) -> None:
    request = FitRequest(keys=["x"], config=LafiteConfig(features=FEATURES), folder=tmp_path,
                         backbone=make_backbone(FEATURES), seed=0)  # fmt: skip
    with pytest.raises(LafiteError, match="uint8 RGB"):
        fit([np.zeros((8, 8))], request)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}], ids=["plain", "dropout"])
def test_a_model_does_not_depend_on_the_number_of_cores(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Ten images are two passes, the widths those of real products, which torch would share out."""
    config = LafiteConfig(
        features=FeatureConfig(backbone="filterbank", image_size=64, grid=8),
        unet=UNetConfig(base_channels=32, multipliers=(1, 2, 4), **options),
        train=TrainConfig(epochs=3, min_steps=0),
    )
    images = [texture(seed, 64) for seed in range(10)]
    found, before = set(), torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        request = FitRequest(
            keys=[str(seed) for seed in range(10)], config=config, seed=0,
            backbone=make_backbone(config.features), folder=tmp_path / str(threads),
        )  # fmt: skip
        request.folder.mkdir()
        try:
            found.add(fit(images, request).sha256())
        finally:
            torch.set_num_threads(before)
    assert len(found) == 1
