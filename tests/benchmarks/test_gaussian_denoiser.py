"""The benchmark of the best linear denoiser."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lafite_core.config import LafiteConfig
from lafite_core.diffusion import add_noise, cosine_schedule


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("gaussian_denoiser")


def test_no_linear_denoiser_errs_less_on_its_features(benchmark: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(5, 5, generator=generator)
    features = torch.einsum("nchw,cd->ndhw", torch.randn(200, 5, 6, 6, generator=generator), mix)
    network = benchmark.GaussianDenoiser(features, LafiteConfig())
    t = torch.full((200,), 300)
    noise = torch.randn(features.shape, generator=generator)
    x = add_noise(features, noise, cosine_schedule(LafiteConfig().diffusion)[t])
    rows, wanted = (one.transpose(0, 1).flatten(1).T for one in (x, noise))
    best = rows @ torch.linalg.lstsq(rows, wanted).solution
    error = (network(x, t) - noise).square().mean()
    assert float(error) == pytest.approx(float((best - wanted).square().mean()), rel=0.01)


def test_it_compares_every_row_with_nearest_neighbours(
    benchmark: Any, road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["gaussian_denoiser.py"])
    small = ["--set", "features.image_size=64", "--set", "features.grid=8", "--set", "score.pool=8"]
    assert benchmark.main([str(road / "data"), "--pseudo", str(road / "pseudo"), "--preset", "demo",
                           "--work", str(tmp_path / "work"), "--out", str(out),
                           *small]) == 0  # fmt: skip
    found = json.loads(out.read_text())["checks"]["tables"]
    assert set(found) == {"fabric", "flange", "mean"}
    assert [*found["mean"]][:2] == ["knn none k=1", "lafite none t=100;k=0"]
    assert len(found["mean"]) == 10
    for name, row in found["mean"].items():
        both = [found[category][name]["image_auroc"] for category in ("fabric", "flange")]
        assert row["image_auroc"] == pytest.approx(sum(both) / 2)
        low, high = row["interval"]
        assert low <= row["minus_knn"] <= high
