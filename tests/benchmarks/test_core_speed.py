"""The benchmarks of backbone, cache and core set run, and say what they say they say."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import backbone
import cache
import coreset
from lafite_core.coreset import greedy_coreset


def points(count: int = 1500, channels: int = 24) -> Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(0))


def test_memory_of_the_cache_does_not_grow_with_the_images(tmp_path: Path) -> None:
    found = cache.measure((32, 96), tmp_path)
    figure, checks = found["figures"]["cache_memory_mb"], found["checks"]
    held = 96 * cache.bytes_per_image(cache.SHAPE) / 1e6
    assert figure["peer"] > held
    assert figure["ours"] < held / 3
    assert checks["same_features"]
    assert checks["real_iad_gb_on_disk"]["14x14"] == pytest.approx(32, rel=0.01)
    assert checks["real_iad_gb_on_disk"]["32x32"] == pytest.approx(167, rel=0.01)
    assert not list(tmp_path.iterdir())


def test_core_sets_beside_the_matrix_vector_form() -> None:
    found: dict[str, Any] = {"figures": {}, "checks": {}}
    coreset.small_bank(points(), "cpu", found, peers=False)
    checks = found["checks"]
    assert checks["radius_no_worse"]
    assert checks["same_picks_as_matrix_vector"] == 1
    assert checks["coreset_41k_points"] == 1500
    coreset.large_bank(points(), "cpu", found, peers=False)
    assert 1 <= found["checks"]["largest_sharded_radius_over_exact"] < 1.5
    curve = coreset.cost_curve(points(), "cpu", [500, 1500])
    flops = 2 * 1500 * 150 * 24
    assert curve["1500"]["gflops"] == pytest.approx(flops / curve["1500"]["seconds"] / 1e9)


def test_what_bounds_leave_is_at_least_what_is_needed() -> None:
    picks = greedy_coreset(points(1500, 80), 300, seed=0)
    left = coreset.left_to_compute(points(1500, 80), picks)
    assert left["needed"] <= left["components_64"] <= left["components_32"] <= 1
    assert left["needed"] <= left["triangle"] <= 1


def test_the_share_of_the_peers_picks_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("anomalib") is None:
        pytest.skip("no anomalib here; it is a peer of the benchmarks only")
    picks, seconds, share = coreset.anomalib_picks(points(), 0.1, None)
    assert len(picks) == 150
    assert share == 1
    assert seconds > 0
    _, _, share = coreset.anomalib_picks(points(), 0.1, 30)
    assert share == pytest.approx(0.2)


def test_features_of_the_backbone_equal_those_of_timm(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "backbone.json"
    weights = shared / "weights" / "tf_efficientnet_b4.stages1-4.safetensors"
    data = shared / "data" / "real" / "bottle"
    backbone.main([str(data), "--weights", str(weights), "--quick", "--out", str(out)])
    found = json.loads(out.read_text())
    assert {"figures", "checks", "versions", "device", "seed", "command"} <= set(found)
    assert found["checks"]["largest_difference_relative"] < 1e-5
    assert found["checks"]["one_image_alone_is_bit_equal"]
    assert found["checks"]["gmacs_cut"] < 0.7 * found["checks"]["gmacs_peer"]
    assert found["figures"]["backbone_b4"]["ours"] > 0
