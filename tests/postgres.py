"""A PostgreSQL server of the tests' own, from the distribution's programs."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Server:
    """A server that runs, until it is stopped.

    Attributes:
        url: of its database.
    """

    url: str
    stop: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def server() -> Iterator[Server]:
    """A server with an empty database that runs for the block; or a skip with a reason."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    found = shutil.which("initdb")
    if found is None and not programs:
        pytest.skip("no PostgreSQL server: neither initdb on the path nor in /usr/lib/postgresql")
    folder = Path(found).parent if found else programs[-1]
    # PostgreSQL refuses to be run by root.
    user = "nobody" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as temporary:
        if user is not None:
            shutil.chown(temporary, user)
        data = Path(temporary) / "data"

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [folder / program, "-D", data, *arguments], user=user, cwd=temporary, check=True,
                timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

        run("initdb", "--auth=trust", "--username=tester", "--no-sync")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-k '' -h 127.0.0.1 -p {port} -c fsync=off"

        def start() -> None:
            run("pg_ctl", "-o", options, "-l", str(Path(temporary) / "log"), "-w", "start")

        def stop() -> None:
            run("pg_ctl", "-m", "immediate", "stop")

        start()
        try:
            url = f"postgresql://tester:secret@127.0.0.1:{port}/postgres"
            yield Server(url=url, stop=stop, start=start)
        finally:
            stop()
