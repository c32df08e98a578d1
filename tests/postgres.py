"""A PostgreSQL server of the tests' own, from the distribution's programs."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def server() -> Iterator[str]:
    """The URL of an empty database on a server that runs for the block; or a skip with a reason."""
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
        run("pg_ctl", "-o", options, "-l", str(Path(temporary) / "log"), "-w", "start")
        try:
            yield f"postgresql://tester:secret@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
