"""Several processes of one machine at one study.

The process that the user started is one of the workers. The others are spawned, take the same
steps, and score blocks as it does; it alone writes what RUN keeps. They end with it: told to when
it is done or interrupted, and by themselves when it is gone.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

import torch

from pseudoval.errors import UserError

ENDING_SECONDS = 10.0
"""A helper that is told to end lets go of its block; after this it is killed."""

Help = Callable[..., None]


@contextmanager
def helped(
    count: int, work: Help, arguments: Sequence[Any], notice: Callable[[str], None]
) -> Iterator[None]:
    """Have ``work(*arguments)`` done by so many processes while the block runs.

    Each gets an equal share of this process's threads.
    """
    threads = threads_of_one(count + 1)
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads may hang
    processes = [
        spawn.Process(target=_help, args=(threads, work, *arguments), daemon=True)
        for _ in range(count)
    ]
    resource_tracker.ensure_running()  # else the first start does it, and lets Ctrl-C through
    # Ctrl-C goes to all processes of a terminal; helpers hear of it from this one.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when a helper loads its libraries
    try:
        for process in processes:
            process.start()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    try:
        yield
        lost = [process for process in processes if process.exitcode not in (None, 0)]
        if lost:
            notice(f"{len(lost)} of {count + 1} workers ended early; the others did their blocks.")
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(ENDING_SECONDS)
            process.kill()
            process.join()


def threads_of_one(workers: int) -> int:
    """The threads that each of some workers on this machine gets."""
    return max(1, torch.get_num_threads() // workers)


def _help(threads: int, work: Help, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        work(*arguments)
    except UserError as error:
        sys.exit(f"A worker ended: {error}")


def _leave(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # being told twice must not stop the clearing up
    raise SystemExit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # its blocks are free at once: the others see that it is gone
