"""Files that are whole or absent, and folders that are ours or left alone."""

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pseudoval.errors import UserError

MARKER = ".pseudoval.json"
LOCK = ".lock.json"
"""In a folder of ours while a command works there, see ``pseudoval.data.locks``."""

ALWAYS_THERE = (MARKER, LOCK)
"""Files that are no content of a folder of ours."""

FORMAT_VERSION = 1


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of all files below a folder, hidden ones left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            digest.update(f"{sha256_file(path)}  {name.as_posix()}\n".encode())
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value in its canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it becomes ``path`` when the block ends well.

    The temporary name keeps the suffix of ``path``, for writers that look at it. A block that
    raises leaves neither the temporary file nor a changed ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{writer()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def writer() -> str:
    """Part of the name of what is not finished, another each time.

    Several machines may write into one folder, and containers share names and process numbers.
    """
    return f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"


def remove_unfinished(paths: Iterable[Path]) -> None:
    """Remove, of some paths, what a process of this machine had begun to write and was killed.

    That is known by its name, which ``writer`` or ``lafite_core.files`` has made.
    """
    machine = re.escape(platform.node())
    name = re.compile(rf"\..*\.{machine}[-.](\d+)[-.]\w+(\.\w+)?\.tmp(\.\w+)?")
    for path in paths:
        found = name.fullmatch(path.name)
        if found and not psutil.pid_exists(int(found[1])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically, newlines as given."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON atomically; a NaN is a programming error and raises ``ValueError``."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read the object in a JSON file; ``what`` names it in the error, as in 'the manifest'."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{what} is missing: there is no {path}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{what} cannot be read from {path}: {error}.") from None
    if not isinstance(found, dict):
        raise UserError(f"{what} in {path} is not a JSON object; make it again.")
    return found


def read_versioned(path: Path, what: str) -> dict[str, Any]:
    """``read_json`` of a file whose ``format_version`` must be this version's."""
    found = read_json(path, what)
    if found.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{what} in {path} has format version {found.get('format_version')}; this version "
            f"reads {FORMAT_VERSION}. Make it again with this version."
        )
    return found


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], *, compress: bool = True) -> None:
    """Write arrays without pickle, atomically; the same arrays give the same bytes.

    Args:
        compress: False for what is soon read again and removed, where compressing is wasted time.

    Raises:
        ValueError: an array holds Python objects, which only pickle could write.
    """
    plain: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    objects = [name for name, array in plain.items() if array.dtype.hasobject]
    if objects:
        raise ValueError(f"{objects[0]} holds Python objects")
    with atomic_path(path) as temporary:
        (np.savez_compressed if compress else np.savez)(temporary, **plain)


def read_npz(path: Path, what: str) -> dict[str, np.ndarray]:
    """Read every array of an npz file without pickle; ``what`` names the file in the error."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"{what} is missing: there is no {path}.") from None
    except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged file
        raise UserError(f"{what} cannot be read from {path}: {error}.") from None


def claim_folder(folder: Path, kind: str) -> None:
    """Make ``folder`` ours: ``pseudo``, ``model``, ``run``, ``report``, ``audit`` or ``demo``.

    A missing or empty folder is created with its marker inside in one rename, so that there is no
    moment at which it exists unmarked. A folder that is already ours and of the same kind is left
    as it is.

    Raises:
        UserError: the folder holds something else; nothing in it is touched.
    """
    if folder.is_dir() and any(folder.iterdir()):
        found = folder_kind(folder)
        if found == kind:
            return
        held = f"is a {found} folder" if found else "holds files that pseudoval did not write"
        raise UserError(
            f"The output folder {folder} exists and {held}; choose another --out or move it away."
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"The output {folder} is a file, not a folder; choose another --out.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder.parent.glob(f".{folder.name}.*"))
        prefix = f".{folder.name}.{writer()}."
        fresh = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=folder.parent))
    except OSError as error:
        raise UserError(f"The output folder {folder} cannot be created: {error}.") from None
    try:
        fresh.chmod(0o755)
        write_json(fresh / MARKER, {"format_version": FORMAT_VERSION, "kind": kind})
        fresh.replace(folder)
    except OSError as error:
        if folder_kind(folder) != kind:  # another process may have made it meanwhile
            raise UserError(f"The output folder {folder} cannot be created: {error}.") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def claimed(folder: Path, kind: str) -> Iterator[None]:
    """Claim ``folder`` for the block; if the block fails before anything is in it, it goes again.

    Raises:
        UserError: as ``claim_folder``.
    """
    claim_folder(folder, kind)
    try:
        yield
    except BaseException:
        if [child.name for child in folder.iterdir()] == [MARKER]:
            shutil.rmtree(folder)
        raise


def folder_kind(folder: Path) -> str | None:
    """The kind that the marker of ``folder`` names, or None if the folder is not ours."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(marker["kind"]) if isinstance(marker, dict) and "kind" in marker else None


def require_folder(folder: Path, kind: str, made_by: str) -> None:
    """Check that ``folder`` is one of ours of the given kind.

    Args:
        made_by: the command that makes such a folder, for the error.
    """
    found = folder_kind(folder)
    if found == kind:
        return
    if not folder.is_dir():
        raise UserError(f"There is no {kind} folder at {folder}; make one with '{made_by}'.")
    other = f"a {found} folder" if found else "not a folder that pseudoval made"
    raise UserError(f"{folder} is {other}; expected a {kind} folder, made with '{made_by}'.")


def clear_folder(folder: Path, *, first: str = "", keep: str = "") -> None:
    """Empty a folder of ours, keeping its marker: for ``--overwrite``.

    Args:
        first: what goes before all else, such as what says that the rest is complete.
        keep: what stays, to be replaced in one step.
    """
    for child in sorted(folder.iterdir(), key=lambda child: child.name != first):
        if child.name in (*ALWAYS_THERE, keep):
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
