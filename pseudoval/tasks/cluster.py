"""Dask clusters as executors: workers of this machine, or a cluster that the user has started."""

import logging
import math
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Nanny, Status
from distributed.security import Security

from pseudoval import __version__
from pseudoval.errors import UserError

LOCAL = {
    "distributed.scheduler.worker-ttl": "60s",  # then a worker that gives no sign is given up
    "distributed.scheduler.allowed-failures": 2,  # the third worker that a task ends is the last
}
"""Dask's settings for the workers of this machine. Those of a cluster are its scheduler's."""

COUNTED_EVERY = 5.0
"""Seconds between two looks at how many workers there are."""

STARTS = 3
"""How often a worker of this machine is started that ends before it is ready."""

ANSWERS_WITHIN = 20
"""Seconds to wait for a scheduler, and then for its first worker."""


class ClusterExecutor(Executor):
    """Tasks on the workers of a Dask client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks = client.get_executor(pure=False)
        self._counted, self._count = -math.inf, 1

    @property
    def workers(self) -> int:
        """How many there were a moment ago, at least 1."""
        if time.monotonic() - self._counted > COUNTED_EVERY:
            known = self._client.scheduler_info(n_workers=-1)  # empty when the scheduler is gone
            self._counted, self._count = time.monotonic(), max(1, len(known.get("workers", ())))
        return self._count

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See ``Executor``."""
        found: Future[Any] = self._tasks.submit(fn, *args, **kwargs)
        return found


class _Nanny(Nanny):
    """Starts a worker again that ends while it starts, as Dask does with one that was ready."""

    async def instantiate(self) -> Status:
        """See ``Nanny``."""
        for _ in range(STARTS):
            found = await super().instantiate()
            if found == Status.running:
                break
        return found


class _Machine(LocalCluster):
    """Workers that have an environment each, which their nannies keep when they restart them."""

    def __init__(self, environments: list[dict[str, str]], **options: Any) -> None:
        self._environments = environments
        # The first ones would not be asked for below.
        super().__init__(n_workers=0, worker_class=_Nanny, **options)
        self.scale(len(environments))

    def wait(self, client: Client) -> None:
        """Wait until all workers are ready.

        Raises:
            UserError: one is not to be started.
        """
        while True:
            try:
                return client.wait_for_workers(len(self._environments), timeout=2)
            except TimeoutError:
                given_up = {Status.failed, Status.closed}
                if given_up & {worker.status for worker in self.workers.values()}:
                    raise UserError(
                        "The workers of this machine do not start: they end before they are ready."
                    ) from None

    def new_worker_spec(self) -> dict[Any, Any]:
        """The next worker."""
        return {
            number: {**worker, "options": {**worker["options"], "env": self._environments[number]}}
            for number, worker in super().new_worker_spec().items()
        }


@contextmanager
def local_workers(count: int | None, device: str) -> Iterator[Executor]:
    """Worker processes on this machine, during the block.

    They talk over the loopback, encrypted with a certificate of their own, because whoever reaches
    a scheduler can run code.

    Args:
        count: None is one for each visible GPU on CUDA, else one for each core.
        device: of ``pseudoval.models.settings.find_device``.

    Raises:
        UserError: they do not start.
    """
    gpus = _visible_gpus() if device != "cpu" else []
    count = count or len(gpus) or _cores()
    threads = {"OMP_NUM_THREADS": str(max(1, _cores() // count))}  # torch's, and those of MKL
    environments = [
        {**threads, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else threads
        for number in range(count)
    ]
    _quiet()
    with dask.config.set(LOCAL):
        # Ctrl-C goes to all processes of a terminal; workers hear of it from this one.
        resource_tracker.ensure_running()  # else the first process starts it, and lets it through
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            machine = _Machine(
                environments, threads_per_worker=1, memory_limit=0,
                dashboard_address="127.0.0.1:0",  # not asked for, and else on a port for all to see
                security=Security.temporary(), silence_logs=logging.CRITICAL,
            )  # fmt: skip
        except (OSError, TimeoutError, RuntimeError) as error:
            raise UserError(f"The workers of this machine do not start: {error}.") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        with machine, Client(machine) as client:
            machine.wait(client)
            yield ClusterExecutor(client)


@contextmanager
def cluster_at(address: str) -> Iterator[Executor]:
    """A cluster that the user has started, during the block. Security is as Dask's settings say.

    Args:
        address: of its scheduler, ``tcp://HOST:8786``, or the path of its ``--scheduler-file``.

    Raises:
        UserError: there is none, or it has no workers, or a worker has another Python, another
            pseudoval or none.
    """
    is_file = Path(address).is_file()
    _quiet()
    try:
        client = Client(
            **{"scheduler_file" if is_file else "address": address}, timeout=ANSWERS_WITHIN
        )
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"There is no Dask cluster at {address}: {reason.rstrip('.')}. Start one with "
            "'dask scheduler' and 'dask worker', and give its address or its scheduler file."
        ) from None
    with client:
        _require_workers(client, address)
        yield ClusterExecutor(client)


def _require_workers(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=ANSWERS_WITHIN)
    except TimeoutError:
        raise UserError(
            f"The Dask cluster at {address} has no workers; start some with 'dask worker'."
        ) from None
    for worker, found in client.run(installed, on_error="return").items():
        if isinstance(found, Exception):
            raise UserError(
                f"The worker {worker} cannot import pseudoval ({found}); install version "
                f"{__version__} there."
            )
        for what, there, here in zip(("Python", "pseudoval"), found, installed(), strict=True):
            if there != here:
                raise UserError(
                    f"The worker {worker} has {what} {there}, and this command {here}; use the "
                    "same everywhere."
                )


def installed() -> tuple[str, str]:
    """What must be the same everywhere: the version of Python to its second number, and ours."""
    return ".".join(platform.python_version_tuple()[:2]), __version__


def _quiet() -> None:
    """Keep Dask's log off the terminal: what a person has to know is said in a sentence.

    It stays so: what a lost connection leaves behind is logged when it is collected.
    """
    # Dask gives some of them a level of their own.
    for name in ("distributed", "distributed.client", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` names, or the numbers of all GPUs."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return []
    return named.split(",") if named else [str(n) for n in range(torch.cuda.device_count())]


def _cores() -> int:
    """The cores that this process may use: what the user set, or what the system allows it."""
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return int(os.environ["OMP_NUM_THREADS"])
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
