"""The code for CUDA on a pretended GPU: values are those of the CPU, on every device, and also
where memory does not hold what is tried first.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from safetensors import safe_open
from tiny_model import GRID, pictures, request
from tiny_training import features, with_train

from lafite_core import sweep
from lafite_core.bank import MemoryBank
from lafite_core.config import EditConfig
from lafite_core.coreset import greedy_coreset
from lafite_core.errors import LafiteError
from lafite_core.fit import fit
from lafite_core.model import LafiteModel
from lafite_core.supply import Supply
from lafite_core.train import train_network
from lafite_core.train_features import FEATURES

DEVICES = pytest.mark.parametrize("device", ["cuda", "cuda:1"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    fit(pictures(6, 0), request(path))
    return path


def opened(folder: Path, device: str, **score: Any) -> LafiteModel:
    model = LafiteModel.load(folder, device)
    score = {"precision": "float32"} | score
    model.config = replace(model.config, score=replace(model.config.score, **score))
    return model


def test_what_a_gpu_refuses_is_refused() -> None:
    with pretended_gpu(memory=1000) as gpu:
        there = torch.ones(4, device="cuda:1")
        assert (there.device, (there[1:] * 2).device) == (torch.device("cuda:1"),) * 2
        for wrong in [
            lambda: there + torch.ones(4),
            lambda: there + torch.ones(4, device="cuda"),
            lambda: torch.ones(4)[torch.zeros(1, dtype=torch.long, device="cuda:1")],
            lambda: torch.randn(4, device="cuda:1", generator=torch.Generator("cuda")),
            lambda: torch.ones(4, device="cuda:2"),
        ]:
            with pytest.raises(RuntimeError, match="pretended"):
                wrong()
        with pytest.raises(TypeError, match="cannot be an array"):
            np.asarray(there)
        with pytest.raises(torch.OutOfMemoryError, match="16 of them in use, and 400 more"):
            [there.new_zeros(100) for _ in range(3)]
        assert gpu.used["cuda:1"] == 16
    assert there.device.type == "cpu", "it ends with the block"


def test_a_copy_arrives_when_it_is_waited_for() -> None:
    with pretended_gpu() as gpu:
        there, here = torch.ones(4, device="cuda:1"), torch.empty(4, pin_memory=True)
        here.copy_(there, non_blocking=True)
        torch.cuda.synchronize("cuda:0")
        assert here.isnan().all()
        assert gpu.waits.total() == 1
        torch.cuda.synchronize("cuda:1")
        assert here.equal(torch.ones(4))
        assert float(there.sum()) == 4
        assert gpu.waits.total() == 3


@DEVICES
def test_scores_are_those_of_the_cpu(folder: Path, device: str) -> None:
    def everything(model: LafiteModel) -> list[np.ndarray]:
        explained = sweep.explain(model, pictures(2, 1), 200, 5, 0, noised_t=900)[1]
        return [
            sweep.lafite_errors(model, pictures(3, 1), GRID, seed=0),
            sweep.knn_errors(model, pictures(3, 1), [1, 4]),
            *vars(explained).values(),
        ]

    base = everything(opened(folder, "cpu"))
    with pretended_gpu():
        found = everything(opened(folder, device))
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(base, found, strict=True))


@DEVICES
def test_errors_of_training_images_are_those_of_the_cpu(folder: Path, device: str) -> None:
    with safe_open(folder / FEATURES, "pt") as file:
        raw = file.get_tensor("features")
    here = opened(folder, "cpu")
    lafite = sweep.lafite_normal_errors(here, raw, GRID)
    knn = sweep.knn_normal_errors(here, raw, [1, 3])
    with pretended_gpu():
        there = opened(folder, device)
        assert np.allclose(sweep.lafite_normal_errors(there, raw, GRID), lafite, rtol=1e-4)
        assert np.allclose(sweep.knn_normal_errors(there, raw, [1, 3]), knn, rtol=1e-4)


def test_on_a_gpu_the_network_scores_in_float16_as_one_graph(folder: Path) -> None:
    images = pictures(3, 1)
    base = sweep.lafite_errors(opened(folder, "cpu", precision="auto"), images, GRID, seed=0)
    with pretended_gpu() as gpu:
        model = opened(folder, "cuda", precision="auto")
        found = sweep.lafite_errors(model, images, GRID, seed=0)
        sweep.lafite_errors(model, images[:1], GRID[:1], seed=0)
    assert len(gpu.shapes) == 1
    assert gpu.shapes.total() == (math.ceil(3 * 6 / 4) + 1) * 3
    moved = np.abs(found - base).max() / base.std()
    assert 0 < moved < 0.01
    exact = sweep.lafite_errors(opened(folder, "cpu"), images, GRID, seed=0)
    assert np.array_equal(base, exact), "on a CPU it is float32"


def test_without_a_compiler_scoring_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiled(*given: Any, **options: Any) -> Any:
        def call(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no compiler\nat all")

        return call

    with pretended_gpu() as gpu:
        base = sweep.lafite_errors(opened(folder, "cuda"), pictures(2, 1), GRID, seed=0)
        monkeypatch.setattr(torch, "compile", compiled)
        found = sweep.lafite_errors(opened(folder, "cuda"), pictures(2, 1), GRID, seed=0)
        off = opened(folder, "cuda", compile="off")
        gpu.shapes.clear()
        sweep.lafite_errors(off, pictures(1, 1), GRID, seed=0)
        assert not gpu.shapes
    assert np.array_equal(base, found)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["torch.compile does not work here (no compiler); scoring goes on without it."]


def test_scoring_waits_once_for_a_block(folder: Path) -> None:
    """And once more where features are new; nothing is copied that it would wait for."""
    with pretended_gpu() as gpu:
        model = opened(folder, "cuda:1")
        waits = []
        for images in (pictures(3, 1), pictures(3, 2), pictures(3, 2)):
            model.prepare(images)
            for score in (
                lambda shown: sweep.lafite_errors(model, shown, GRID, seed=0),
                lambda shown: sweep.knn_errors(model, shown, [1, 4]),
                lambda shown: sweep.explain(model, shown, 200, 5, 0, noised_t=900),
            ):
                gpu.waits.clear()
                score(images)
                waits.append(dict(gpu.waits))
        model.prepare(pictures(3, 2))
        gpu.waits.clear()
        model.prepare(pictures(3, 3))
        assert gpu.waits.total() == 1
    assert [sum(found.values()) for found in waits[1:]] == [1] * 8, waits
    assert {line.split(":")[0] for found in waits[1:] for line in found} == {"sweep.py"}


def test_scoring_without_memory_for_a_batch_goes_on_in_pieces(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = pictures(3, 1)
    base = sweep.lafite_errors(opened(folder, "cpu"), images, GRID, seed=0)
    with pretended_gpu() as gpu:
        model = opened(folder, "cuda:1", batch_size=32)
        model.prepare(images)
        gpu.peak.clear()
        sweep.lafite_errors(model, images, GRID, seed=0)
        gpu.memory = 0.8 * gpu.peak["cuda:1"]
        found = sweep.lafite_errors(model, images, GRID, seed=0)
        assert "does not hold batches of 32" in caplog.text
        assert np.allclose(base, found, atol=1e-5)
        gpu.memory = gpu.used["cuda:1"]
        with pytest.raises(LafiteError, match="does not hold the model and one trajectory"):
            sweep.lafite_errors(model, images, GRID, seed=0)


def test_networks_give_way_to_the_one_that_scores(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As those of a MODEL of many categories and seeds, which a GPU does not hold at once."""
    images = pictures(1, 1)
    base = sweep.lafite_errors(opened(folder, "cpu"), images, GRID[:2], seed=0)
    with pretended_gpu() as gpu:
        one, other = opened(folder, "cuda"), opened(folder, "cuda")
        for model in (one, other):
            model.prepare(images)
        gpu.peak.clear()
        sweep.lafite_errors(one, images, GRID[:2], seed=0)
        gpu.memory = gpu.peak["cuda:0"] + 1000  # for a network and its work, not for two
        for model in (other, one, other):
            found = sweep.lafite_errors(model, images, GRID[:2], seed=0)
            assert np.allclose(base, found, atol=1e-5)
    assert not caplog.records, "in whole batches"


def test_features_without_memory_for_a_batch_come_in_smaller_ones(folder: Path) -> None:
    images = pictures(9, 1)
    base = opened(folder, "cpu").features(images)
    with pretended_gpu() as gpu:
        model = opened(folder, "cuda")
        assert np.allclose(model.features(images).cpu(), base, atol=1e-5)
        gpu.memory = 0.5 * gpu.peak["cuda:0"]
        assert np.allclose(model.features(images).cpu(), base, atol=1e-5)
        gpu.memory = gpu.used["cuda:0"]
        with pytest.raises(LafiteError, match="does not hold the backbone and one image"):
            model.features(images)


@pytest.mark.parametrize("room", [0.4, 1.5])
def test_a_search_without_memory_goes_on_in_parts(room: float) -> None:
    """Also where the members themselves have no room; nearly equal ones need a second look."""
    draw = torch.Generator().manual_seed(0)
    members, queries = torch.randn(5000, 16, generator=draw), torch.randn(1024, 16, generator=draw)
    members[1000:1100] = members[1000] + 1e-6 * torch.randn(100, 16, generator=draw)
    queries[7] = members[1000]
    base = MemoryBank(members).search(queries, 5)
    with pretended_gpu(memory=room * members.nbytes + 2 * queries.nbytes + 500_000) as gpu:
        bank, there = MemoryBank(members, "cuda:1"), queries.to("cuda:1")
        assert not bank.search(there, 5).sure
        found = bank.search(there, 5, spare=200)
        assert found.sure
        assert gpu.peak["cuda:1"] < gpu.memory < 1024 * 5000 * 4
        edited = [
            one.edit(near, EditConfig()).cpu()
            for one, near in ((bank, found), (MemoryBank(members), base))
        ]
        found = replace(found, index=found.index.cpu(), distance=found.distance.cpu())
    assert torch.equal(base.index, found.index)
    assert torch.allclose(base.distance, found.distance)
    assert torch.allclose(*edited)


@DEVICES
def test_training_is_that_of_the_cpu(device: str) -> None:
    config = with_train(precision="float32")
    base = train_network(features(), config, seed=1).losses
    with pretended_gpu() as gpu:
        found = train_network(features(), config, seed=1, device=device).losses
    assert np.allclose(base, found, atol=1e-5)
    assert gpu.used.total() == 0, "nothing of it stays on the GPU"


def many(count: int) -> torch.Tensor:
    return torch.randn(count, 6, 5, 5, generator=torch.Generator().manual_seed(0))


def trained(count: int, device: str, memory: float = 1e9, **options: Any) -> tuple[Any, Any]:
    """A training of two epochs, and what the GPU saw of it."""
    config = with_train(epochs=2, **options)
    with pretended_gpu(memory=memory) as gpu:
        return train_network(many(count), config, seed=1, device=device), gpu


@pytest.mark.parametrize("streamed", [True, False])
def test_training_never_waits_for_the_device_within_an_epoch(
    monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    """Waits are those of an epoch, however many steps it has; bringing all features is another."""
    if streamed:
        monkeypatch.setattr(Supply, "settle", lambda supply: None)
    waits = [
        {line: times for line, times in gpu.waits.items() if "supply" not in line}
        for _, gpu in (trained(count, "cuda:1") for count in (8, 24))
    ]
    assert waits[0] == waits[1]


def test_one_graph_is_compiled_whatever_the_number_of_images() -> None:
    shapes = [set(trained(count, "cuda")[1].shapes) for count in (2, 8, 11)]
    assert shapes[0] == shapes[1] == shapes[2] and len(shapes[0]) == 1
    base = train_network(many(11), with_train(epochs=2), seed=1).losses
    found, _ = trained(11, "cuda", precision="float32")
    assert np.allclose(base, found.losses, atol=1e-5)


@pytest.mark.parametrize(
    ("memory", "half", "there"),
    [(2.0, True, torch.float32), (1.2, True, torch.float16), (1.2, False, None), (0.3, True, None)],
)
def test_features_lie_on_the_device_in_32_or_16_bits_or_are_streamed(
    memory: float, half: bool, there: torch.dtype | None
) -> None:
    """With a device that has memory for so many times the features."""
    values, rows = many(20), torch.tensor([3, 1, 19])
    with pretended_gpu(memory=memory * values.nbytes) as gpu:
        supply = Supply(values, "cuda:1", half=half)
        first = supply.batch(rows)
        supply.settle()
        assert supply.features.is_cuda is (there is not None)
        assert supply.features.dtype == (there or torch.float32)
        gpu.waits.clear()
        batch = supply.batch(rows.to(supply.features.device))
        assert (batch.device, batch.dtype) == (torch.device("cuda:1"), torch.float32)
        assert not gpu.waits or there is not None
        found = [first.cpu(), batch.cpu()]
    assert torch.equal(found[0], values[rows])
    assert torch.allclose(found[1], values[rows], atol=2e-3 if there == torch.float16 else 0)


def test_a_network_without_memory_is_refused() -> None:
    with pytest.raises(LafiteError, match="out of memory with a single image; choose a smaller"):
        trained(8, "cuda:1", memory=1e6)


def test_training_without_memory_for_a_batch_goes_on_in_pieces() -> None:
    options: dict[str, Any] = {"batch_size": 32, "precision": "float32"}
    base, gpu = trained(32, "cuda:1", **options)
    found, _ = trained(32, "cuda:1", 0.7 * max(gpu.peak.values()), **options)
    assert found.how["micro_batch"] < base.how["micro_batch"] == 32
    assert np.allclose(base.losses, found.losses, atol=1e-5)


def test_a_core_set_without_memory_goes_on_in_parts() -> None:
    points = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0))
    with pretended_gpu(memory=points.nbytes / 2):
        found = greedy_coreset(points, 100, seed=0, device="cuda", block=64)
    assert torch.equal(found, greedy_coreset(points, 100, seed=0, block=64))
