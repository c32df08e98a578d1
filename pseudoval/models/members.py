"""MODEL folders that hold several models: one per seed, one per category, or both."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pseudoval.data.files import (
    ALWAYS_THERE,
    FORMAT_VERSION,
    claim_folder,
    read_versioned,
    remove_unfinished,
    sha256_json,
    write_json,
)
from pseudoval.detectors.base import read_model_json
from pseudoval.errors import UserError

MEMBERS = "members.json"
Kind = Literal["seeds", "per_category"]


@dataclass(frozen=True, kw_only=True)
class Members:
    """The content of ``members.json``.

    Attributes:
        kind: what sets the members apart.
        names: of the members, ``seed-0`` or a category, and of their folders below the MODEL.
    """

    kind: Kind
    names: list[str]

    def describe(self) -> str:
        """For a person."""
        what = "several seeds" if self.kind == "seeds" else "one model per category"
        return f"{what} ({', '.join(self.names)})"


def read_members(folder: Path) -> Members | None:
    """The members of a MODEL folder; None if it holds a single model.

    Raises:
        UserError: ``members.json`` is damaged or of another format.
    """
    path = folder / MEMBERS
    if not path.exists():
        return None
    found = read_versioned(path, "The list of models")
    if found["kind"] not in get_args(Kind):
        raise UserError(f"{path} is of an unknown kind {found['kind']!r}; train again.")
    return Members(kind=found["kind"], names=[*found["members"]])


def layout(folder: Path) -> tuple[Path, dict[Kind, list[str]]]:
    """The first single model in a MODEL folder, and the names of its members of each kind."""
    names: dict[Kind, list[str]] = {}
    while (members := read_members(folder)) is not None:
        names[members.kind] = members.names
        folder = folder / members.names[0]
    return folder, names


@contextmanager
def listed(folder: Path, members: Members) -> Iterator[None]:
    """Write ``members.json`` before any member is trained.

    If the block fails before there is any member, the list goes again.
    """
    names = members.names
    value: Any = {name: name for name in names} if members.kind == "per_category" else names
    content = {"format_version": FORMAT_VERSION, "kind": members.kind, "members": value}
    write_json(folder / MEMBERS, content)
    try:
        yield
    except BaseException:
        if {child.name for child in folder.iterdir()} <= {*ALWAYS_THERE, MEMBERS}:
            (folder / MEMBERS).unlink()
        raise


def cache_folder(model: Path, cache: Path | bool) -> Path | None:
    """The folder of the feature cache for a MODEL; None for none.

    What was being written there by a process that is gone is removed.

    Args:
        model: a MODEL folder, or that of a member: members share the cache of the whole.
        cache: the folder that was asked for; True is ``cache`` in the MODEL, False is none.

    Raises:
        UserError: the folder holds something else.
    """
    if not cache:
        return None
    if isinstance(cache, Path):
        claim_folder(cache, "cache")
    else:
        whole = model.absolute()
        while whole.parent != whole and (whole.parent / MEMBERS).exists():
            whole = whole.parent
        cache = whole / "cache"
    remove_unfinished(cache.glob(".*"))
    return cache


def recorded_sha256(folder: Path) -> str:
    """The hash that a MODEL folder says it has, without reading the weights.

    That of several models is the hash of theirs by name.

    Raises:
        UserError: a model in it is missing or damaged.
    """
    members = read_members(folder)
    if members is None:
        return str(read_model_json(folder)["model_sha256"])
    return sha256_json({name: recorded_sha256(folder / name) for name in members.names})


def check_layout(folder: Path, wanted: Members | None) -> None:
    """Refuse to go on in a folder that holds models of another layout; None is a single model.

    Raises:
        UserError: naming both layouts.
    """
    found = read_members(folder)
    if found == wanted or {child.name for child in folder.iterdir()} <= {*ALWAYS_THERE}:
        return
    there, requested = ("a single model" if m is None else m.describe() for m in (found, wanted))
    raise UserError(
        f"{folder} is a folder of {there}, not of {requested}; choose another --out, or pass "
        "--overwrite instead of --resume."
    )
