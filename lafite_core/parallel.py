"""Work spread over the cores of a CPU, so that the number of cores does not change a result."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def single_threaded(device: str = "cpu") -> Iterator[int]:
    """Arithmetic on one thread within the block; yields how many threads there were.

    On a GPU, whose work one thread feeds, nothing changes, and it yields 1.

    A sum over several threads is added up in another order than over one, and differs in its last
    bits. Work that is done on one thread a piece, several pieces side by side, gives the same bits
    on any number of cores, and on small tensors it is faster too.
    """
    if device != "cpu":
        yield 1
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def on_each_core(
    function: Callable[[Item], Result], items: Iterable[Item], *, device: str = "cpu"
) -> Iterator[Result]:
    """``map``, in order, on as many cores as torch has threads, with one thread a piece.

    Items are taken as they are needed, two a core ahead. On a GPU, whose work one thread feeds,
    it is a plain ``map``. Whoever consumes the results runs on one thread meanwhile, and should
    do little between them.
    """
    with single_threaded(device) as cores:
        if cores == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting: deque[Future[Result]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) > 2 * cores:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
