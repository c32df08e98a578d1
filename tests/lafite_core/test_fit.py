"""From images to a bank: what a training does before the network comes."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import texture

from lafite_core.backbones import make_backbone
from lafite_core.config import EditConfig, FeatureConfig, LafiteConfig
from lafite_core.fit import fit
from lafite_core.model import LafiteModel

FEATURES = FeatureConfig(backbone="filterbank", image_size=64, grid=16)
SHARDED = EditConfig(coreset="sharded", shard_patches=1000)


def fitted(folder: Path, **edit: object) -> LafiteModel:
    folder.mkdir(exist_ok=True)
    config = LafiteConfig(features=FEATURES, edit=dataclasses.replace(EditConfig(), **edit))
    images = [texture(seed, 64) for seed in range(12)]
    keys = [str(seed) for seed in range(12)]
    return fit(images, keys, config, make_backbone(FEATURES), folder, seed=0, diffusion=False)


def test_a_sharded_bank_has_the_size_and_nearly_the_radius_of_an_exact_one(tmp_path: Path) -> None:
    everything = fitted(tmp_path / "all", keep_rate=1.0).bank.vectors
    banks = [
        fitted(tmp_path / name, coreset=name, shard_patches=1000).bank.vectors
        for name in ("exact", "sharded")
    ]
    assert [len(bank) for bank in banks] == [round(0.1 * 12 * 256)] * 2
    nearest = [torch.cdist(everything.double(), bank.double()).amin(1) for bank in banks]
    assert float(nearest[1].max()) < 1.3 * float(nearest[0].max())
    members = {row.numpy().tobytes() for row in everything}
    assert all(row.numpy().tobytes() in members for row in banks[1])
    assert not torch.equal(*banks)


def test_a_sharded_bank_of_few_patches_is_the_exact_one(tmp_path: Path) -> None:
    exact, sharded = (
        fitted(tmp_path / name, coreset=name, shard_patches=3072).bank.vectors
        for name in ("exact", "sharded")
    )
    assert torch.equal(exact, sharded)


def test_a_sharded_bank_comes_out_the_same_again(tmp_path: Path) -> None:
    first, again = (
        fitted(tmp_path / name, coreset="sharded", shard_patches=1000) for name in ("a", "b")
    )
    assert first.sha256() == again.sha256()


def test_progress_of_the_core_set_reaches_its_end(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    config = LafiteConfig(features=FEATURES, edit=SHARDED)
    images = [texture(seed, 64) for seed in range(12)]
    fit(images, [str(n) for n in range(12)], config, make_backbone(FEATURES), tmp_path, seed=0,
        diffusion=False, progress=lambda *step: told.append(step))  # fmt: skip
    steps = [(done, total) for name, done, total in told if name == "core set"]
    assert steps[-1][0] == steps[-1][1]
    assert all(a[0] < b[0] for a, b in pairwise(steps))


def test_an_image_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="uint8 RGB"):
        fit([np.zeros((8, 8))], ["x"], LafiteConfig(features=FEATURES), make_backbone(FEATURES),
            tmp_path, seed=0, diffusion=False)  # fmt: skip
