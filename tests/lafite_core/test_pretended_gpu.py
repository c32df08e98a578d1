"""The code for CUDA on a pretended GPU: values are those of the CPU, on every device, and also
where memory does not hold what is tried first.
"""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from tiny_model import GRID, pictures, request
from tiny_training import features, with_train

from lafite_core import sweep
from lafite_core.coreset import greedy_coreset
from lafite_core.fit import fit
from lafite_core.model import LafiteModel
from lafite_core.train import train_unet

DEVICES = pytest.mark.parametrize("device", ["cuda", "cuda:1"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    fit(pictures(6, 0), request(path))
    return path


def peak(work: Callable[[], object]) -> int:
    """Bytes that some work on a GPU takes at most."""
    with pretended_gpu() as gpu:
        work()
    return max(gpu.peak.values())


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

    base = everything(LafiteModel.load(folder))
    with pretended_gpu():
        found = everything(LafiteModel.load(folder, device))
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(base, found, strict=True))


def test_scoring_without_memory_for_a_batch_goes_on_in_pieces(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def score(device: str = "cuda:1") -> np.ndarray:
        model = LafiteModel.load(folder, device)
        larger = dataclasses.replace(model.config.score, batch_size=32)
        model.config = dataclasses.replace(model.config, score=larger)
        return sweep.lafite_errors(model, pictures(3, 1), GRID, seed=0)

    with pretended_gpu(memory=0.8 * peak(score)), caplog.at_level(logging.WARNING):
        found = score()
    assert "does not hold batches of 32" in caplog.text
    assert np.allclose(score("cpu"), found, atol=1e-5)


@DEVICES
def test_training_is_that_of_the_cpu(device: str) -> None:
    config = with_train(precision="float32")
    base = train_unet(features(), config, seed=1).losses
    with pretended_gpu() as gpu:
        found = train_unet(features(), config, seed=1, device=device).losses
    assert np.allclose(base, found, atol=1e-5)
    assert gpu.used.total() == 0, "nothing of it stays on the GPU"


def test_a_core_set_without_memory_goes_on_in_parts() -> None:
    points = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0))
    with pretended_gpu(memory=points.nbytes / 2):
        found = greedy_coreset(points, 100, seed=0, device="cuda", block=64)
    assert torch.equal(found, greedy_coreset(points, 100, seed=0, block=64))
