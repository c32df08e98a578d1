"""The benchmark of the generators times both sides on the same images, in turns."""

import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import make_data, texture

import generators as benchmark


class FakePerlin:
    """Stands for anomalib's augmenter; remembers what it was given."""

    seen: ClassVar[list[torch.Tensor]] = []

    def __init__(self, probability: float) -> None:
        assert probability in (0.5, 1.0)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(image)
        return image * 0


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> type[FakePerlin]:
    name = "anomalib.data.utils.generators.perlin"
    module = ModuleType(name)
    module.PerlinAnomalyGenerator = FakePerlin  # type: ignore[attr-defined]
    parts = name.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(parts[end - 1]))
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(FakePerlin, "seen", [])
    return FakePerlin


def test_speed_of_ours_and_the_peer_on_the_same_images(peer: type[FakePerlin]) -> None:
    pictures = [[texture(10 * c + i, 64) for i in range(3)] for c in range(2)]
    threads = torch.get_num_threads()
    try:
        figure, checks = benchmark.measure_speed(pictures, quick=True)
    finally:
        torch.set_num_threads(threads)
    assert figure["ratio"] == pytest.approx(figure["ours"] / figure["peer"])
    assert checks["images_per_s"].keys() > {"lafite", "nsa", "anomalib perlin"}
    assert all(speed > 0 for speed in checks["images_per_s"].values())
    assert len(peer.seen) == 2 * 4 * 4  # two peers, three rounds and one to warm up
    given = {image.numpy().tobytes() for image in peer.seen}
    floats = [np.moveaxis(p, 2, 0).astype(np.float32) / 255 for row in pictures for p in row]
    assert given == {image.tobytes() for image in floats}


def test_turns_leave_the_first_round_out() -> None:
    calls: list[tuple[str, int]] = []
    makers = {name: (lambda n, name=name: calls.append((name, n)), 2) for name in "ab"}
    seconds = benchmark.take_turns(makers, rounds=3)
    assert [len(times) for times in seconds.values()] == [3, 3]
    assert [name for name, _ in calls] == ["a", "a", "b", "b"] * 4
    assert [n for name, n in calls if name == "a"] == list(range(8))


def test_workers_and_memory(tmp_path: Path) -> None:
    found = benchmark.measure_workers(make_data(tmp_path / "data"), tmp_path, quick=True)
    speeds = found["written_images_per_s_by_workers"]
    assert found["two_workers_over_one"] == pytest.approx(speeds["2"] / speeds["1"])
    memory = benchmark.measure_memory(tmp_path, quick=True)["resident_mb_after_anomalies"]
    assert memory.keys() == {"10", "50"} and 20 < memory["10"] < 20_000
