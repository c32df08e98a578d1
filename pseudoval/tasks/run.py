"""The one place where work is handed out: to this process, or to any executor.

A **task** is a small frozen record and a pure function of what it holds: it may be run anywhere,
and twice, with the same result. The process that hands tasks out, the driver, keeps every result
as it comes; a driver that is killed goes on from what was kept. An **executor** is anything with
the interface of ``concurrent.futures.Executor``: it starts the processes, carries tasks and
results, and says which of them are lost.
"""

import itertools
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

from pseudoval import __version__
from pseudoval.errors import UserError

WINDOW = 128
"""Tasks in flight on an executor that does not say how many workers it has: two for each of 64.
Results wait in memory until they are kept, so that there should not be many more."""

DEPTH = 2
"""Tasks in flight for each worker: one at work, and one that is there when it is done."""

Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")


class Task(Protocol[Result_co]):
    """A piece of work; it can be pickled, and says in ``str`` what it works on."""

    def run(self) -> Result_co:
        """Do the work.

        Raises:
            UserError: what it works on is missing, or not what it was when the task was made.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Those who do the work.

    Attributes:
        executor: None is this process alone.
        kinds: what the last bit of a result may depend on, of every worker that gave one.
    """

    executor: Executor | None = None
    kinds: set[str] = field(default_factory=set)

    def difference(self) -> str | None:
        """A sentence if there was more than one kind of worker; else None."""
        if len(self.kinds) < 2:
            return None
        return (
            f"The workers differ ({'; '.join(sorted(self.kinds))}): scores may differ in the last "
            "bit from one to another."
        )


ALONE = Workers()
"""This process alone."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What comes back from a worker: a result, or why there is none."""

    result: Any = None
    error: Exception | None = None
    host: str
    kind: str = ""


def run_tasks(
    tasks: Iterable[Task[Result]],
    executor: Executor | None,
    keep: Callable[[Any, Result], None],
    *,
    kinds: set[str] | None = None,
) -> None:
    """Run every task, and keep the results in the order in which they come.

    Args:
        executor: None runs one task after another in this process.
        keep: is given each task with its result, in this thread; what it raises ends the run.
        kinds: notes what kinds of worker there were.

    Raises:
        UserError: what a task says of its input; a task that ends every worker that tries it, when
            all others are done; an executor that broke. Nothing that was kept is lost.
    """
    if executor is None:
        for task in tasks:
            keep(task, task.run())
        return

    def try_them(given: Iterable[Task[Result]]) -> list[Task[Result]]:
        """Run and keep tasks; those are returned whose workers ended."""
        ended = []
        for task, future in _in_flight(executor, iter(given)):
            if _ended_workers(future):
                ended.append(task)
            else:
                keep(task, _result(task, future, kinds))
        return ended

    # Some were only in the company of one that ends its worker: each is tried once more alone.
    deadly = [str(task) for suspect in try_them(tasks) for task in try_them([suspect])]
    if deadly:
        raise UserError(
            f"{'; '.join(deadly)}: every worker that tries this ends, for lack of memory or by a "
            "fault in a library. All else is done and kept; give the workers more memory or mend "
            "these files, and repeat the command, which goes on from here."
        )


def _in_flight(
    executor: Executor, tasks: Iterator[Task[Result]]
) -> Iterator[tuple[Task[Result], Future[_Answer]]]:
    """Hand tasks out, some for each worker; each comes with its future when that is done.

    However the caller ends, what has not begun is taken back.
    """
    running: dict[Future[_Answer], Task[Result]] = {}
    try:
        while True:
            window = DEPTH * getattr(executor, "workers", 0) or WINDOW  # workers come and go
            for task in itertools.islice(tasks, max(0, window - len(running))):
                try:
                    running[executor.submit(work, task, __version__)] = task
                except (BrokenExecutor, RuntimeError) as error:  # it broke, or was shut down
                    raise _gone(error) from None
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future
    finally:
        for future in running:
            future.cancel()


def _ended_workers(future: Future[_Answer]) -> bool:
    """Whether Dask gave a task up because every worker that had it ended."""
    distributed = sys.modules.get("distributed")  # if it is not there, no executor is Dask's
    if distributed is None or future.cancelled():
        return False
    return isinstance(future.exception(), distributed.KilledWorker)


def _result(task: Task[Result], future: Future[_Answer], kinds: set[str] | None) -> Result:
    try:
        answer = future.result()
    except (CancelledError, BrokenExecutor) as error:
        raise _gone(error) from None
    if answer.error is None:
        if kinds is not None:
            kinds.add(answer.kind)
        result: Result = answer.result
        return result
    problem = answer.error
    where = "" if answer.host == platform.node() else f" (On the worker {answer.host}.)"
    if isinstance(problem, UserError):
        raise UserError(f"{problem}{where}")
    if isinstance(problem, MemoryError):
        raise UserError(
            f"{task}: a worker has not enough memory for this; start fewer workers on a machine, "
            f"and repeat the command, which goes on from here.{where}"
        )
    if isinstance(problem, OSError):  # such as a full disk
        raise UserError(
            f"{task}: {problem}. Mend that, and repeat the command, which goes on from here.{where}"
        )
    raise problem


def _gone(error: BaseException) -> UserError:
    reason = f" ({error})" if str(error) else ""
    return UserError(
        f"The workers or their scheduler are gone{reason}. Nothing that was finished is lost: "
        "start them again, and repeat the command, which goes on from here."
    )


_ONE_AT_A_TIME = threading.Lock()


def work(task: Task[Any], version: str) -> _Answer:
    """What a worker does with a task; one at a time in a process, with all of its threads.

    Args:
        version: of pseudoval in the driver.
    """
    host = platform.node()
    if version != __version__:
        wrong = UserError(
            f"A worker has pseudoval {__version__}, and this command {version}; install the same "
            "version everywhere."
        )
        return _Answer(error=wrong, host=host)
    with _ONE_AT_A_TIME:
        try:
            return _Answer(result=task.run(), host=host, kind=kind_of_worker())
        except Exception as error:
            error.add_note(f"On the worker {host}:\n{traceback.format_exc()}")
            return _Answer(error=error, host=host)


def kind_of_worker() -> str:
    """What the last bit of a result depends on, beside the task: processor, GPU, versions."""
    if "torch" not in sys.modules:  # nothing was computed with it
        return platform.machine()
    import torch

    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if torch.cuda.is_available():
        processor = torch.cuda.get_device_name()
    return f"{processor}, torch {torch.__version__}, timm {version('timm')}"
