"""Workers of this machine, with tasks that need no torch."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pseudoval import __version__
from pseudoval.errors import UserError
from pseudoval.tasks import cluster, run_tasks


@dataclass(frozen=True)
class Where:
    """Says where it was run, or ends its worker: always, or the first time."""

    number: int
    ends: str = ""
    ended: Path | None = None

    def __str__(self) -> str:
        return f"Task {self.number}"

    def run(self) -> tuple[int, str | None, str | None]:
        if self.ends == "always":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.ended is not None and not self.ended.exists():
            self.ended.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        return os.getpid(), *(os.environ.get(name) for name in names)


def test_each_worker_has_its_gpu_also_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_visible_gpus", lambda: ["3", "5"])
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    found: list[tuple[int, str | None, str | None]] = []
    with cluster.local_workers(None, "auto") as executor:
        assert executor.workers == 2
        where = executor._client.scheduler.address
        assert where.startswith("tls://127.0.0.1:"), "nobody else can run code with it"
        run_tasks(map(Where, range(40)), executor, lambda task, result: found.append(result))
        before = {(pid, gpu) for pid, gpu, _ in found}
        assert sorted(str(gpu) for _, gpu in before) == ["3", "5"]
        assert {threads for *_, threads in found} == {"3"}
        found.clear()
        tasks = [Where(0, ended=tmp_path / "ended"), *map(Where, range(1, 200))]
        done: list[int] = []

        def keep(task: Where, result: tuple[int, str | None, str | None]) -> None:
            found.append(result)
            done.append(task.number)

        run_tasks(tasks, executor, keep)
        assert Counter(done) == dict.fromkeys(range(200), 1), "what was lost is done again, once"
        run_tasks(map(Where, range(40)), executor, keep)
        pids = {gpu: pid for pid, gpu, _ in found[-40:]}
        assert set(pids) == {"3", "5"}
        assert len({pid for pid, _ in before} - set(pids.values())) == 1


def test_a_task_that_ends_every_worker_is_named_when_the_others_are_done() -> None:
    done: list[int] = []
    with cluster.local_workers(2, "cpu") as executor:
        tasks = [Where(number, ends="always" if number == 3 else "") for number in range(12)]
        with pytest.raises(UserError, match=r"^Task 3: every worker that tries this ends"):
            run_tasks(tasks, executor, lambda task, result: done.append(task.number))
    assert sorted(done) == [number for number in range(12) if number != 3]


class Client:
    """What is asked of Dask's client before a command begins."""

    def __init__(self, **found: object) -> None:
        self.found = found

    def wait_for_workers(self, count: int, timeout: float) -> None:
        if not self.found:
            raise TimeoutError

    def run(self, function: object, on_error: str) -> dict[str, object]:
        return self.found


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({}, "at a-file has no workers"),
        ({"w": ModuleNotFoundError("No module named 'pseudoval'")}, "w cannot import pseudoval"),
        ({"w": ("3.8", __version__)}, "w has Python 3.8, and this command 3"),
        ({"w": (cluster.installed()[0], "0.0.7")}, "w has pseudoval 0.0.7, and this command"),
    ],
)
def test_workers_that_are_none_or_others_are_refused(
    found: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        cluster._require_workers(Client(**found), "a-file")
    cluster._require_workers(Client(w=cluster.installed()), "a-file")


@contextmanager
def killing(workers: int) -> Iterator[list[int]]:
    """Kill so many worker processes at once when they begin; those that were killed."""
    known, killed, over = {p.pid for p in psutil.Process().children()}, [], threading.Event()

    def kill() -> None:
        while len(killed) < workers and not over.wait(0.01):
            for process in psutil.Process().children():
                if process.pid not in known and "--multiprocessing-fork" in process.cmdline():
                    known.add(process.pid)
                    killed.append(process.pid)
                    process.kill()
                    break

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_a_worker_that_ends_while_it_starts_is_started_again() -> None:
    found: list[int] = []
    with killing(2) as killed, cluster.local_workers(2, "cpu") as executor:
        assert len(killed) == 2
        run_tasks(map(Where, range(20)), executor, lambda task, result: found.append(result[0]))
    assert len(found) == 20 and not set(found) & set(killed)


def test_workers_that_never_start_are_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "STARTS", 1)
    with (
        killing(1),
        pytest.raises(UserError, match=r"^The workers of this machine do not start: they end"),
        cluster.local_workers(1, "cpu"),
    ):
        pass


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "ANSWERS_WITHIN", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense", str(tmp_path / "none.json")):
        with (
            pytest.raises(UserError, match=f"no Dask cluster at {address}"),
            cluster.cluster_at(address),
        ):
            pass
