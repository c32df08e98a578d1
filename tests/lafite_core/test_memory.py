"""Work is repeated in halves where memory runs out, and refused only for a single piece."""

from itertools import pairwise

import pytest
import torch

from lafite_core.memory import halving, near


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
