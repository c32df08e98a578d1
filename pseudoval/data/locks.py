"""One command at a time in a folder."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from pseudoval.data.files import LOCK, MARKER, remove_unfinished, write_json
from pseudoval.errors import UserError


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Keep other commands out of a folder of ours during the block.

    A lock whose process is gone is taken over; of another machine one cannot know. What commands
    and workers that were killed had begun to write in the folder is removed.

    Raises:
        UserError: another command is at work there; it is named.
    """
    process = psutil.Process()
    own = {
        "command": command,
        "pid": process.pid,
        "started": process.create_time(),
        "host": platform.node(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    with _one_taker(folder):
        holder = _read(folder / LOCK)
        if holder is not None and not _is_gone(holder):
            raise UserError(
                f"'pseudoval {holder['command']}' has been at work in {folder} since "
                f"{holder['since']} (process {holder['pid']} on {holder['host']}); wait for it or "
                f"stop it. If that machine is gone, remove {folder / LOCK}."
            )
        write_json(folder / LOCK, own)
    try:
        remove_unfinished(_files_in(folder))
        yield
    finally:
        remove_unfinished(_files_in(folder))
        (folder / LOCK).unlink(missing_ok=True)


def _files_in(folder: Path) -> Iterator[Path]:
    """The files below a folder; of a feature cache, which may hold very many, those on top.

    What is not finished lies there.
    """
    for base, folders, names in os.walk(folder):
        if Path(base).name == "cache":
            folders.clear()
        yield from (Path(base, name) for name in names)


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the process that holds a lock is seen to be gone: it is, or is another by now."""
    if holder["host"] != platform.node():
        return False
    try:
        return bool(abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) > 1)
    except psutil.NoSuchProcess:
        return True


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock says; None if there is none, or if a crash left half of it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if {"command", "pid", "started", "host", "since"} <= set(found) else None


@contextmanager
def _one_taker(folder: Path) -> Iterator[None]:
    """Let two that find the lock of a dead process not both take it over."""
    marker = os.open(folder / MARKER, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(marker, fcntl.LOCK_EX)
        yield
    finally:
        os.close(marker)
