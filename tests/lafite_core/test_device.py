"""Which arithmetic an option means on which device; work is halved where memory runs out."""

from itertools import pairwise

import pytest
import torch

from lafite_core.device import autocast, exact_convolutions, halving, near, uses_bfloat16


@pytest.mark.parametrize(
    ("precision", "device", "capable", "wanted"),
    [
        ("auto", "cpu", (8, 0), False),
        ("auto", "cuda:1", (8, 0), True),
        ("auto", "cuda:1", (7, 5), False),
        ("bfloat16", "cpu", (7, 5), True),
        ("float32", "cuda", (8, 0), False),
    ],
)
def test_automatic_precision_is_bfloat16_where_the_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    device: str,
    capable: tuple[int, int],
    wanted: bool,
) -> None:
    """A GPU that emulates bfloat16 does not have it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", {device: capable}.__getitem__)
    assert uses_bfloat16(precision, device) is wanted  # type: ignore[arg-type]


def test_autocast_halves_products_only_where_asked() -> None:
    a = torch.ones(2, 2)
    for precision, kind in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with autocast(precision, "cpu"):  # type: ignore[arg-type]
            assert (a @ a).dtype == kind


def test_exact_convolutions_are_a_matter_of_the_gpu_and_leave_no_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a user has set a precision for all backends, which torch's own switch yields
    to."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")

    def switches() -> tuple[str, bool]:
        return cudnn.conv.fp32_precision, cudnn.deterministic

    before = switches()
    with exact_convolutions("cpu"):
        assert switches() == before
    with exact_convolutions("cuda:0"):
        assert switches() == ("ieee", True)
    assert switches() == before == ("tf32", False)


def holding(most: int, tried: list[int]):
    def work(size: int) -> int:
        tried.append(size)
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return size

    return work


@pytest.mark.parametrize(("most", "expected"), [(9, [9]), (3, [9, 5, 3]), (1, [9, 5, 3, 2, 1])])
def test_a_size_is_halved_until_memory_holds_it(most: int, expected: list[int]) -> None:
    tried: list[int] = []
    pairs: list[tuple[int, int]] = []
    found = halving(holding(most, tried), 9, halved=lambda *pair: pairs.append(pair))
    assert found == expected[-1]
    assert tried == expected
    assert pairs == list(pairwise(expected))


def test_libraries_run_out_of_memory_in_their_own_words() -> None:
    def work(size: int) -> int:
        if size > 2:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return size

    assert halving(work, 8) == 2

    def broken(size: int) -> int:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM")

    with pytest.raises(RuntimeError, match="BAD_PARAM"):
        halving(broken, 8)


def test_what_one_piece_does_not_fit_into_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        halving(holding(0, []), 4)


@pytest.mark.parametrize(("free", "moved"), [(1000, True), (100, False)])
def test_only_what_leaves_half_of_the_memory_free_is_moved(
    monkeypatch: pytest.MonkeyPatch, free: int, moved: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2000))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: asked.append(device) or tensor)
    near(torch.zeros(100), "cuda:1")
    assert asked == (["cuda:1"] if moved else [])
