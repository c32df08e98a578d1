"""Spreading work over cores changes neither the order nor a bit, and leaves torch as it was."""

import threading

import pytest
import torch

from lafite_core.parallel import on_each_core, single_threaded


@pytest.fixture(params=[1, 3])
def cores(request: pytest.FixtureRequest) -> int:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_equal_those_of_one_thread(cores: int) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(300, 300, generator=generator) for _ in range(10)]
    with single_threaded():
        expected = [(m @ m).sum() for m in matrices]
    found = list(on_each_core(lambda m: (m @ m).sum(), matrices))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.get_num_threads() == cores


def test_pieces_run_on_one_thread_each(cores: int) -> None:
    told = list(on_each_core(lambda _: (torch.get_num_threads(), threading.get_ident()), range(20)))
    assert {threads for threads, _ in told} == {1}
    assert len({who for _, who in told}) <= cores


def test_an_error_reaches_the_caller_and_torch_is_left_as_it_was(cores: int) -> None:
    def refuse(item: int) -> int:
        if item == 4:
            raise ValueError("four")
        return item

    found = []
    with pytest.raises(ValueError, match="four"):
        found.extend(on_each_core(refuse, range(100)))
    assert found == [0, 1, 2, 3]
    assert torch.get_num_threads() == cores


def test_items_are_taken_only_as_needed(cores: int) -> None:
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = on_each_core(lambda item: item, items())
    assert next(results) == 0
    assert len(taken) <= 2 * cores + 1
    results.close()
    assert torch.get_num_threads() == cores
