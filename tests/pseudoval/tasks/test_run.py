"""Work handed out to this process, to threads and to processes."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pseudoval.errors import UserError
from pseudoval.tasks import Workers, run_tasks
from pseudoval.tasks import run as running


@dataclass(frozen=True)
class Square:
    """A task that may fail in the ways that tasks do."""

    number: int
    fails: str = ""

    def __str__(self) -> str:
        return f"Squaring {self.number}"

    def run(self) -> int:
        if self.fails == "input":
            raise UserError(f"{self.number} is no image.")
        if self.fails == "memory":
            raise MemoryError
        if self.fails == "disk":
            raise OSError(28, "No space left on device", "block.npz")
        if self.fails == "bug":
            raise ZeroDivisionError
        if self.fails == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.number**2


def squares(executor: Executor | None, *more: Square, **options: Any) -> dict[int, int]:
    """What is kept of five tasks and more."""
    found: dict[int, int] = {}

    def keep(task: Square, result: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        found[task.number] = result

    run_tasks([*map(Square, range(5)), *more], executor, keep, **options)
    return found


SQUARES = {0: 0, 1: 1, 2: 4, 3: 9, 4: 16}


def test_nobody_threads_and_processes_find_the_same() -> None:
    assert squares(None) == SQUARES
    with ThreadPoolExecutor(2) as threads:
        assert squares(threads) == SQUARES
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        workers = Workers(executor=processes)
        assert squares(processes, kinds=workers.kinds) == SQUARES
        assert len(workers.kinds) == 1
        assert workers.difference() is None
        for fails, sentence in {
            "input": "7 is no image.", "memory": "Squaring 7: .* not enough memory",
            "disk": "Squaring 7: .*No space left on device.*block.npz",
        }.items():  # fmt: skip
            with pytest.raises(UserError, match=sentence):
                squares(processes, Square(7, fails))
        with pytest.raises(ZeroDivisionError) as error:
            squares(processes, Square(7, "bug"))
        assert "in run" in error.value.__notes__[0], "where it happened comes along"
        with pytest.raises(UserError, match=r"are gone.*goes on from here"):
            squares(processes, Square(7, "dies"))
        with pytest.raises(UserError, match="are gone"):
            squares(processes)


@dataclass
class Counting(Executor):
    """Does nothing before it is asked to, and counts what is in flight."""

    workers: int
    waiting: list[tuple[Future[Any], Callable[..., Any], Any]] = field(default_factory=list)
    most: int = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, fn, args))
        self.most = max(self.most, len(self.waiting))
        threading.Timer(0.001, self.do_one).start()
        return future

    def do_one(self) -> None:
        future, fn, args = self.waiting.pop(0)
        if future.set_running_or_notify_cancel():
            future.set_result(fn(*args))


def test_a_few_tasks_for_each_worker_are_in_flight() -> None:
    counting = Counting(workers=1)
    assert squares(counting) == SQUARES
    assert counting.most == running.DEPTH
    made: list[int] = []

    def tasks() -> Any:
        for number in range(100):
            made.append(number)
            yield Square(number)

    def keep(task: Square, result: int) -> None:
        assert len(made) <= task.number + 1 + 3 * running.DEPTH, "tasks are made as they are needed"

    run_tasks(tasks(), Counting(workers=2), keep)


def test_what_has_not_begun_is_taken_back() -> None:
    with ThreadPoolExecutor(1) as threads:
        begun: list[int] = []

        @dataclass(frozen=True)
        class Slow:
            number: int

            def run(self) -> None:
                begun.append(self.number)
                threading.Event().wait(0.05)

        def full(task: Any, result: None) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_tasks(map(Slow, range(100)), threads, full)
    assert len(begun) < 5


def test_another_version_on_a_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = running.work(Square(1), "0.0.7")
    assert isinstance(answer.error, UserError)
    assert "0.0.7" in str(answer.error)


def test_workers_that_differ_are_named_once() -> None:
    assert Workers(kinds={"A, torch 1", "B, torch 1"}).difference() == (
        "The workers differ (A, torch 1; B, torch 1): scores may differ in the last bit from one "
        "to another."
    )


def test_one_at_a_time_in_a_process() -> None:
    at_work, most = 0, 0
    guard = threading.Lock()

    @dataclass(frozen=True)
    class Counted:
        number: int

        def run(self) -> None:
            nonlocal at_work, most
            with guard:
                at_work += 1
                most = max(most, at_work)
            threading.Event().wait(0.002)
            with guard:
                at_work -= 1

    with ThreadPoolExecutor(4) as threads:
        run_tasks(map(Counted, range(20)), threads, lambda task, result: None)
    assert most == 1


def test_answers_are_small(tmp_path: Path) -> None:
    answer = running.work(Square(3), running.__version__)
    assert len(pickle.dumps(answer)) < 1000
