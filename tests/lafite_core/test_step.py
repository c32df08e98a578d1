"""Parts of a batch, memory that runs out, compilers that are missing."""

from typing import Any

import pytest
import torch
from tiny_training import CONFIG, features, with_train

from lafite_core import step
from lafite_core.errors import LafiteError
from lafite_core.train import Trained, train_network
from lafite_core.unet import UNet


def close(one: Trained, two: Trained) -> bool:
    return one.losses == pytest.approx(two.losses, rel=1e-4)


@pytest.mark.parametrize("micro", [1, 3])
def test_accumulated_parts_train_like_the_whole_batch(micro: int) -> None:
    whole = train_network(features(), CONFIG, seed=1)
    parts = train_network(features(), with_train(micro_batch=micro), seed=1)
    assert close(whole, parts)
    assert parts.how["micro_batch"] == micro


class Memory:
    """Makes the network run out of memory above a number of images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        self.sizes: list[int] = []
        forward = UNet.forward

        def limited(network: UNet, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(x))
            if len(x) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(network, x, t)

        monkeypatch.setattr(UNet, "forward", limited)


def test_out_of_memory_halves_the_parts_and_keeps_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train_network(features(), CONFIG, seed=1)
    memory = Memory(monkeypatch, limit=1)
    notices: list[str] = []
    trained = train_network(features(), CONFIG, seed=1, notice=notices.append)
    assert memory.sizes[:2] == [4, 2]
    assert max(memory.sizes[3:]) == 1, "a size that did not fit is not tried again"
    assert close(whole, trained)
    assert trained.how["micro_batch"] == 1
    assert len(notices) == 2
    assert "with 4 images at a time; going on with 2 at a time and the same batch" in notices[0]


def test_out_of_memory_for_one_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(monkeypatch, limit=0)
    with pytest.raises(LafiteError, match="with a single image; choose a smaller grid"):
        train_network(features(), CONFIG, seed=1)


class CompilerError(RuntimeError):
    """As those that torch raises in compiling, which have no public name."""

    __module__ = "torch._inductor.exc"


def raising(error: Exception) -> Any:
    """A ``torch.compile`` whose functions raise it."""

    def compiled(network: Any, **options: Any) -> Any:
        def call(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            raise error

        return call

    return compiled


def test_a_missing_compiler_is_said_and_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    error = CompilerError("no compiler found\nand more lines")
    monkeypatch.setattr(step.torch, "compile", raising(error))
    notices: list[str] = []
    trained = train_network(features(), with_train(compile="on"), seed=1, notice=notices.append)
    assert notices == ["torch.compile does not work here (no compiler found); training without it."]
    assert trained.how["compiled"] is False
    assert trained.losses == train_network(features(), CONFIG, seed=1).losses


def test_an_error_of_the_device_is_not_taken_for_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    monkeypatch.setattr(step.torch, "compile", raising(error))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        train_network(features(), with_train(compile="on"), seed=1)


def test_bfloat16_trains_nearly_alike() -> None:
    single = train_network(features(), CONFIG, seed=1)
    half = train_network(features(), with_train(precision="bfloat16"), seed=1)
    assert half.losses != single.losses
    assert half.losses == pytest.approx(single.losses, rel=0.02)
    assert half.how["precision"] == "bfloat16"
    assert all(p.dtype == torch.float32 for p in half.network.parameters())
